"""Our GEMM and NumPy's BLAS on the same matrices, in turn, in one process, with the same number of threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import threadpoolctl

from westward_bench.gemm.product import Gemm
from westward_bench.record import Column, Metric, Scalar
from westward_bench.timing import percentile, ratio_interval, time_interleaved
from westward_bench.verify import ProductCheck, ProductReference

OURS = "westward"
SETTLE_S = 0.1
"""Pause before each call when there are several threads: OpenBLAS's keep spinning for a while after their work."""

RATE_METHOD = "2 n^3 / t; median = p50 by nearest rank, ratio = median rate / median rate of the BLAS"
EVEN = 0.02
"""A ratio whose whole interval is that near to 1 is called even."""

COLUMNS = (
    Column("size"), Column("dtype"), Column("kernel"), Column("median", "GFLOP/s"), Column("best", "GFLOP/s"),
    Column("ratio", "to BLAS"), Column("ratio_low"), Column("ratio_high"), Column("verdict"),
    Column("max_relative_error"), Column("wrong", "elements"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Blas:
    """NumPy's BLAS: its name as threadpoolctl gives it ("openblas"), version and the kernel it chose ("SkylakeX")."""

    name: str
    version: str
    architecture: str

    @classmethod
    def of_numpy(cls) -> Blas:
        """The one that is loaded; "numpy" stands for one that threadpoolctl does not know."""
        loaded: list[dict[str, Any]] = threadpoolctl.threadpool_info()
        found: dict[str, Any] = next((library for library in loaded if library["user_api"] == "blas"), {})
        return cls(
            str(found.get("internal_api", "numpy")),
            str(found.get("version") or "unknown"),
            str(found.get("architecture") or "unknown"),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """One kernel's timings of one product, in seconds, and the check of its answer."""

    size: int
    dtype: str
    kernel: str
    seconds: tuple[float, ...]
    blas_seconds: tuple[float, ...]
    check: ProductCheck

    def row(self) -> dict[str, Scalar]:
        """The table row; GFLOP are 1e9 floating point operations."""
        gflop = 2 * self.size**3 / 1e9
        error = self.check.max_relative_error
        low, high = ratio_interval(self.blas_seconds, self.seconds)
        return {
            "size": self.size, "dtype": self.dtype, "kernel": self.kernel,
            "median": gflop / percentile(self.seconds, 50), "best": gflop / min(self.seconds),
            "ratio": percentile(self.blas_seconds, 50) / percentile(self.seconds, 50),
            "ratio_low": low, "ratio_high": high, "verdict": verdict(low, high) if self.kernel == OURS else None,
            "max_relative_error": error if np.isfinite(error) else None, "wrong": self.check.wrong,
        }  # fmt: skip


def verdict(low: float, high: float) -> str:
    """What the interval of a ratio of rates says: "faster", "slower", "even", or "too noisy" where it says none of these."""
    if low > 1:
        return "faster"
    if high < 1:
        return "slower"
    return "even" if low >= 1 - EVEN and high <= 1 + EVEN else "too noisy"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a product is timed."""

    repeats: int
    warmup: int
    threads: int
    seed: int


def measure(gemm: Gemm, blas: Blas, size: int, plan: Plan, after_round: Callable[[], None]) -> tuple[Result, Result]:
    """Times both kernels on square matrices of `size` with elements uniform in [-1, 1), and checks both answers."""
    random = np.random.default_rng(plan.seed)
    a, b = (random.uniform(-1, 1, (size, size)).astype(gemm.scalar.dtype) for _ in range(2))
    ours, theirs = np.full_like(a, np.nan), np.full_like(a, np.nan)
    with threadpoolctl.threadpool_limits(plan.threads, user_api="blas"):
        samples = time_interleaved(
            {OURS: lambda: gemm(a, b, ours), blas.name: lambda: np.matmul(a, b, out=theirs)},
            plan.repeats,
            plan.warmup,
            settle_s=SETTLE_S if plan.threads > 1 else 0.0,
            after_round=after_round,
        )
    reference = ProductReference.of(a, b)
    return (
        _result(gemm, OURS, size, samples[OURS], samples[blas.name], reference.check(ours)),
        _result(gemm, blas.name, size, samples[blas.name], samples[blas.name], reference.check(theirs)),
    )


def _result(
    gemm: Gemm, kernel: str, size: int, seconds: tuple[float, ...], blas_seconds: tuple[float, ...], check: ProductCheck
) -> Result:
    return Result(size, gemm.scalar.name, kernel, seconds, blas_seconds, check)


def metrics_of(row: dict[str, Scalar], threads: int) -> tuple[Metric, ...]:
    """The row's figures of merit; the ratio only for our own kernel, since the BLAS's own is 1."""
    labels: dict[str, Scalar] = {"threads": threads, **{name: row[name] for name in ("size", "dtype", "kernel")}}
    of_the_ratio = {key: f"{key.replace('ratio', 'ratio_to_blas')}" for key in ("ratio", "ratio_low", "ratio_high")}
    names = {"median": "gflops_median", "best": "gflops_best"} | (of_the_ratio if row["kernel"] == OURS else {})
    units = {"median": "GFLOP/s", "best": "GFLOP/s"}
    return tuple(
        Metric(name, float(value), units.get(key, ""), "higher", labels)
        for key, name in names.items()
        if isinstance(value := row[key], float)
    )
