"""Verification: exact patterns for collectives, an error bound for matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from westward_bench.record import Verification

Array = np.ndarray[Any, np.dtype[Any]]

PERIOD = 251
"""The patterns' period and largest value: a prime, so that no power-of-two shift of a buffer maps it on itself."""
RANK_STRIDE = 31
SALT_STRIDE = 7
POISON = -1
"""What a receive buffer is filled with beforehand; no pattern and no sum of patterns holds it."""

PATTERN_METHOD = "exact comparison with integer patterns, whose sums over the ranks are exact in every element type"


def pattern(count: int, rank: int, dtype: np.dtype[Any], salt: int, start: int = 0) -> Array:
    """Elements `start` to `start + count` of what `rank` contributes: whole numbers from 1 to 251.

    None is zero, so that a contribution left out changes every sum. Different ranks (up to 251) and different salts
    give different values at each element.
    """
    return np.resize(_one_period(rank, salt, start).astype(dtype), count)


def pattern_sum(count: int, ranks: int, dtype: np.dtype[Any], salt: int, start: int = 0) -> Array:
    """The sum of the patterns of ranks 0 to `ranks` - 1, exact in `dtype` whatever the order of summation.

    Raises:
        ValueError: `ranks` is so large that a sum may not be exact in `dtype`.
    """
    if ranks * PERIOD > largest_exact_integer(dtype):
        raise ValueError(f"sums over {ranks} ranks are not exact in {dtype}; use a wider element type")
    total = np.zeros(PERIOD, np.int64)
    for rank in range(ranks):
        total += _one_period(rank, salt, start)
    return np.resize(total.astype(dtype), count)


def _one_period(rank: int, salt: int, start: int) -> Array:
    return (np.arange(PERIOD) + start + RANK_STRIDE * rank + SALT_STRIDE * salt) % PERIOD + 1


def largest_exact_integer(dtype: np.dtype[Any]) -> int:
    """The integer up to which `dtype` holds every integer: 2^24 for f32, 2^53 for f64 (IEEE 754 significands)."""
    if dtype.kind == "f":
        return 1 << (int(np.finfo(dtype).nmant) + 1)
    return int(np.iinfo(dtype).max)


def count_wrong(actual: Array, expected: Array) -> int:
    """How many elements differ; a NaN differs from everything."""
    return int(np.count_nonzero(actual != expected))


@dataclass(frozen=True, slots=True)
class ProductCheck:
    """A product's largest error relative to |A||B|, the bound on it, and how many elements exceed that bound."""

    checked: int
    wrong: int
    max_relative_error: float
    bound: float

    METHOD = (
        "|C - C_ref| <= bound |A||B| elementwise (Higham 2002, eq. 3.13): all elements beside NumPy's product in float64, and those of "
        "some rows beside sums in extended precision, which alone tell an error of f64"
    )


def gamma(terms: int, unit_roundoff: float) -> float:
    """Higham's gamma_n = n u / (1 - n u): the relative rounding error of a sum of n products, in any order.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 3.1 and eq. 3.13
    (for a matrix product, |C - fl(AB)| <= gamma_k |A||B|).
    """
    return terms * unit_roundoff / (1 - terms * unit_roundoff)


def product_bound(depth: int, dtype: np.dtype[Any]) -> float:
    """The error that a k = `depth` product in `dtype` may have against one in float64, relative to |A||B|.

    gamma_k of the element type, and of float64 for the reference, whose |A||B| is also rounded.
    """
    unit, reference = float(np.finfo(dtype).eps) / 2, float(np.finfo(np.float64).eps) / 2
    return gamma(depth, unit) + 2 * gamma(depth, reference)


EXTENDED_ROWS = 8
"""Rows of C that are summed in extended precision: spread over the matrix, the first and the last among them."""


@dataclass(frozen=True, slots=True)
class ProductReference:
    """A B and |A||B| in float64, to check several products of the same matrices against.

    Attributes:
        rows: of C, for which `extended` has A B as longdouble: 80 bits on x86-64, 128 on Arm, whose own error is far below float64's.
    """

    product: Array
    magnitude: Array
    bound: float
    rows: Array
    extended: Array

    @classmethod
    def of(cls, a: Array, b: Array) -> ProductReference:
        """The reference for A B; the bound is for products in A's element type."""
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        rows = np.unique(np.linspace(0, max(0, len(a) - 1), min(EXTENDED_ROWS, len(a))).astype(np.int64))
        # einsum goes through B in the order in which it lies; matmul of this type does not
        extended = np.einsum("ik,kj->ij", a[rows].astype(np.longdouble), b.astype(np.longdouble))
        bound = product_bound(a.shape[1], a.dtype)
        return cls(wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b), bound, rows, extended)

    def check(self, c: Array) -> ProductCheck:
        """Compares `c` with the reference; a NaN or infinity counts as wrong, and as an infinite error.

        Of a float64 product that is right, the largest error is that of the rows in extended precision: NumPy's own product errs as much as it.
        """
        error = np.abs(c.astype(np.float64) - self.product)
        bad = ~(error <= self.bound * self.magnitude)
        precise = np.abs(c[self.rows] - self.extended).astype(np.float64)
        bad[self.rows] |= ~(precise <= self.bound * self.magnitude[self.rows])
        wrong = int(np.count_nonzero(bad))
        largest = _largest(precise, self.magnitude[self.rows])
        if wrong or c.dtype != np.float64:
            largest = max(largest, _largest(error, self.magnitude))
        return ProductCheck(error.size, wrong, largest, self.bound)


def _largest(error: Array, magnitude: Array) -> float:
    relative = np.divide(error, magnitude, out=np.where(error == 0, 0.0, np.inf), where=magnitude > 0)
    return float(np.max(np.where(np.isnan(relative), np.inf, relative), initial=0.0))


def combine(checks: list[ProductCheck]) -> Verification:
    """One verification for a whole run: the sums, and the largest finite error with the loosest bound."""
    largest = max((check.max_relative_error for check in checks), default=0.0)
    return Verification(
        checked=sum(check.checked for check in checks),
        wrong=sum(check.wrong for check in checks),
        method=ProductCheck.METHOD,
        max_relative_error=largest if np.isfinite(largest) else None,
        bound=max((check.bound for check in checks), default=None),
    )
