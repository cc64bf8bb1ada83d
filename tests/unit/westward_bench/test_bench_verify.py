"""Verification finds a single wrong element, and nothing where all is right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from westward_bench.verify import ProductReference, combine, count_wrong, gamma, pattern, pattern_sum

DTYPES = [np.dtype(name) for name in ("f4", "f8", "i4", "i8")]


@given(
    st.sampled_from(DTYPES),
    st.integers(1, 60),
    st.integers(1, 600),
    st.integers(0, 9),
    st.integers(0, 900),
    st.randoms(),
)
def test_sums_are_exact_in_any_order(dtype, ranks, count, salt, start, random) -> None:  # type: ignore[no-untyped-def]
    order = random.sample(range(ranks), ranks)
    total = np.zeros(count, dtype)
    for rank in order:
        total += pattern(count, rank, dtype, salt, start)
    assert count_wrong(total, pattern_sum(count, ranks, dtype, salt, start)) == 0


@pytest.mark.parametrize("missing", range(5))
def test_a_rank_left_out_makes_every_element_wrong(missing: int) -> None:
    expected = pattern_sum(1000, 5, np.dtype("f4"), 0)
    assert count_wrong(expected - pattern(1000, missing, np.dtype("f4"), 0), expected) == 1000


@given(st.integers(0, 499))
def test_one_wrong_element_is_counted(index: int) -> None:
    expected = pattern_sum(500, 3, np.dtype("f4"), 1)
    received = expected.copy()
    received[index] = np.nextafter(received[index], np.float32(0))
    assert count_wrong(received, expected) == 1
    received[index] = np.nan
    assert count_wrong(received, expected) == 1


def test_a_world_too_large_for_exact_sums_is_refused() -> None:
    assert pattern_sum(4, 66_000, np.dtype("f4"), 0).max() < 2**24
    with pytest.raises(ValueError, match="not exact in float32"):
        pattern_sum(4, 67_000, np.dtype("f4"), 0)


def test_an_error_of_f64_is_told_by_extended_precision_and_not_by_the_product_of_numpy() -> None:
    # 1 + 2^-53 - 1: float64 forgets the middle term, whichever program adds them up in this order
    a, b = np.array([[1.0, 2.0**-53, -1.0]]), np.ones((3, 1))
    check = ProductReference.of(a, b).check(np.zeros((1, 1)))
    assert check.max_relative_error == pytest.approx(2.0**-53 / 2) and check.wrong == 0


def test_the_rows_in_extended_precision_are_spread_over_the_matrix() -> None:
    b = np.ones((3, 2))
    assert [list(ProductReference.of(np.ones((m, 3)), b).rows) for m in (0, 1, 3)] == [[], [0], [0, 1, 2]]
    rows = ProductReference.of(np.ones((1000, 3)), b).rows
    assert (len(rows), rows[0], rows[-1]) == (8, 0, 999)


def test_gamma_is_highams() -> None:
    assert gamma(1024, 2.0**-53) == pytest.approx(1024 * 2.0**-53)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_within_rounding_passes_and_one_wrong_element_does_not(dtype: type) -> None:
    random = np.random.default_rng(1)
    a, b = random.uniform(-1, 1, (40, 70)).astype(dtype), random.uniform(-1, 1, (70, 30)).astype(dtype)
    reference = ProductReference.of(a, b)
    product = a @ b
    right = reference.check(product)
    assert right.wrong == 0
    assert right.max_relative_error <= right.bound
    product[3, 4] += a[3, 5] * b[5, 4]  # one term twice
    product[6, 7] = np.nan
    assert reference.check(product).wrong == 2
    assert combine([right, reference.check(product)]).wrong == 2
    assert combine([reference.check(product)]).max_relative_error is None
