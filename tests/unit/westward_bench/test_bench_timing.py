"""Percentiles and interleaved timing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from westward_bench.timing import percentile, ratio_interval, time_interleaved


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        (1, 50, 1),
        (2, 50, 1),
        (3, 50, 2),
        (100, 99, 99),
        (100, 99.9, 100),
        (1000, 99.9, 999),
        (10, 99, 10),
        (10, 100, 10),
    ],
)
def test_percentiles_of_1_to_n(count: int, percent: float, expected: int) -> None:
    assert percentile(list(range(count, 0, -1)), percent) == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_the_smallest_sample_that_enough_do_not_exceed(samples: list[float], percent: int) -> None:
    found = percentile(samples, percent)
    assert found in samples
    assert 100 * sum(sample <= found for sample in samples) >= percent * len(samples)
    assert 100 * sum(sample < found for sample in samples) < percent * len(samples)


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_that_does_not_exist_is_refused(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(samples, percent)


def test_interleaving_alternates_the_order_and_leaves_out_the_warmup() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    samples = time_interleaved(calls, repeats=2, warmup=1)
    assert "".join(order) == "abbaab"
    assert {name: len(values) for name, values in samples.items()} == {"a": 2, "b": 2}


def test_an_interval_holds_the_ratio_is_the_same_again_and_narrows_with_the_rounds() -> None:
    draws = random.Random(7)
    over = [2 * draws.lognormvariate(0, 0.05) for _ in range(60)]
    under = [draws.lognormvariate(0, 0.05) for _ in range(60)]
    few, many = ratio_interval(over[:7], under[:7]), ratio_interval(over, under)
    assert many == ratio_interval(over, under)
    assert few[0] < many[0] < 2 < many[1] < few[1]
    assert ratio_interval([3.0], [2.0]) == (1.5, 1.5)


def test_what_slows_a_whole_round_alike_does_not_widen_the_interval() -> None:
    slow = [1.0, 4.0, 2.0, 8.0, 1.5]
    assert ratio_interval([2 * one for one in slow], slow) == (2.0, 2.0)


@pytest.mark.parametrize(("over", "under"), [([], []), ([1.0], [1.0, 2.0])])
def test_an_interval_of_nothing_is_refused(over: list[float], under: list[float]) -> None:
    with pytest.raises(ValueError, match="no interval"):
        ratio_interval(over, under)
