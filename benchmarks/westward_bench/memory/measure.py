"""Timing and verification of the loops."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from westward_bench.memory.kernels import KERNELS, Kernel
from westward_bench.record import Column, Metric, Scalar, Verification
from westward_bench.timing import percentile, time_interleaved
from westward_bench.verify import POISON, count_wrong, pattern

RATE_METHOD = "bytes read and written, as STREAM counts them, / t; GB are 1e9 bytes; median = p50 by nearest rank"
VERIFY_METHOD = "exact comparison of every element: the arrays hold whole numbers, so that no rounding enters"
DTYPES = {"f32": np.float32, "f64": np.float64}
CLOCK_RESOLUTION_S = time.get_clock_info("perf_counter").resolution

COLUMNS = (
    Column("kernel"), Column("dtype"), Column("array", "B"), Column("moved", "B"), Column("threads"),
    Column("median", "GB/s"), Column("best", "GB/s"), Column("wrong", "elements"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One loop's timings in seconds, and how many elements were checked and found wrong."""

    kernel: Kernel
    dtype: str
    array_bytes: int
    threads: int
    seconds: tuple[float, ...]
    checked: int
    wrong: int

    def row(self) -> dict[str, Scalar]:
        """The table row."""
        moved = self.kernel.arrays * self.array_bytes
        median_s, best_s = (max(each, CLOCK_RESOLUTION_S) for each in (percentile(self.seconds, 50), min(self.seconds)))
        return {
            "kernel": self.kernel.name, "dtype": self.dtype, "array": self.array_bytes, "moved": moved, "threads": self.threads,
            "median": moved / median_s / 1e9, "best": moved / best_s / 1e9, "wrong": self.wrong,
        }  # fmt: skip


class Arrays:
    """The three arrays; each page is first written by the thread that works on it later, so that it lies in that thread's memory."""

    def __init__(self, count: int, dtype: str) -> None:
        kind = np.dtype(DTYPES[dtype])
        self.a, self.b, self.c = (np.empty(count, kind) for _ in range(3))
        for rank, own in enumerate((self.b, self.c)):
            KERNELS["copy"].loop(own, pattern(count, rank, kind, salt=0), own)
        self.poison()

    def poison(self) -> None:
        """Fills `a` with what no loop leaves there."""
        self.a.fill(POISON)

    def run(self, kernel: Kernel) -> None:
        """One pass of a loop."""
        kernel.loop(self.a, self.b, self.c)

    def wrong(self, kernel: Kernel) -> int:
        """How many elements of `a` are not what one more pass must leave."""
        self.poison()
        self.run(kernel)
        return count_wrong(self.a, kernel.expected(self.b, self.c))


def measure(
    names: Sequence[str],
    count: int,
    dtype: str,
    threads: int,
    repeats: int,
    warmup: int,
    after_round: Callable[[], None],
) -> list[Result]:
    """Times the loops in turn on arrays of `count` elements, and then checks every element that each leaves.

    The first untimed call compiles: there is one at least.
    """
    arrays = Arrays(count, dtype)
    kernels = [KERNELS[name] for name in names]
    samples = time_interleaved(
        {kernel.name: lambda kernel=kernel: arrays.run(kernel) for kernel in kernels},  # type: ignore[misc]
        repeats,
        max(warmup, 1),
        after_round=after_round,
    )
    return [
        Result(kernel, dtype, arrays.a.nbytes, threads, samples[kernel.name], count, arrays.wrong(kernel))
        for kernel in kernels
    ]


def verification_of(results: Sequence[Result]) -> Verification:
    """One verification for a whole run."""
    return Verification(
        sum(result.checked for result in results), sum(result.wrong for result in results), VERIFY_METHOD
    )


def metrics_of(row: dict[str, Scalar]) -> tuple[Metric, ...]:
    """The row's figures of merit."""
    labels = {name: row[name] for name in ("kernel", "dtype", "array", "threads")}
    return tuple(
        Metric(f"bandwidth_{key}", float(value), "GB/s", "higher", labels)
        for key in ("median", "best")
        if isinstance(value := row[key], float)
    )
