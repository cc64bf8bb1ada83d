"""The four loops: compiled code, how many arrays each moves, and what it must leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba

from westward_bench.verify import Array

SCALAR = 3.0
"""What scale and triad multiply by. A whole number, as the arrays hold: every result is exact, with or without a fused multiply-add."""

Loop = Callable[[Array, Array, Array], None]


@numba.njit(parallel=True)
def _copy(a: Array, b: Array, c: Array) -> None:
    for i in numba.prange(a.size):
        a[i] = b[i]


@numba.njit(parallel=True)
def _scale(a: Array, b: Array, c: Array) -> None:
    factor = a.dtype.type(SCALAR)
    for i in numba.prange(a.size):
        a[i] = factor * b[i]


@numba.njit(parallel=True)
def _add(a: Array, b: Array, c: Array) -> None:
    for i in numba.prange(a.size):
        a[i] = b[i] + c[i]


@numba.njit(parallel=True)
def _triad(a: Array, b: Array, c: Array) -> None:
    factor = a.dtype.type(SCALAR)
    for i in numba.prange(a.size):
        a[i] = b[i] + factor * c[i]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One loop a = f(b, c).

    Attributes:
        arrays: how many arrays it moves, as STREAM counts: what is read and what is written, but not what a cache reads before it writes.
        expected: what `a` must hold, from `b` and `c`.
    """

    name: str
    arrays: int
    loop: Loop
    expected: Callable[[Array, Array], Array]


KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel("copy", 2, _copy, lambda b, c: b),
        Kernel("scale", 2, _scale, lambda b, c: b.dtype.type(SCALAR) * b),
        Kernel("add", 3, _add, lambda b, c: b + c),
        Kernel("triad", 3, _triad, lambda b, c: b + c.dtype.type(SCALAR) * c),
    )
}
"""Every loop by its name on the command line."""
