"""Our kernels and cuBLAS on the same matrices, in turn, on one GPU; and the search for the shape that cuBLAS multiplies fastest."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from westward_bench import gpu
from westward_bench.record import Column, Metric, Scalar
from westward_bench.timing import percentile, ratio_interval
from westward_bench.verify import Array, ProductCheck, gamma

Shape = tuple[int, int, int]
OURS, CUBLAS = "westward", "cublas"
DTYPES = ("f32", "f16", "bf16")
RATE_METHOD = "2 m n k / t by CUDA events, L2 flushed and A and B drawn anew before each call; C in f32, sums in f32, no TF32; median = p50 by nearest rank"
CHECK_METHOD = "rows of C beside products in float64: |C - C_ref| <= gamma_k |A||B| (Higham 2002, eq. 3.13), u as `unit_roundoff` of the element type"
SEARCH_SIDES = (1024, 2048, 4096, 6144, 8192, 12288, 13312, 16384)
SEARCH_REPEATS = 10
CHECKED_ROWS = 16

COLUMNS = (
    Column("m"), Column("n"), Column("k"), Column("dtype"), Column("kernel"), Column("median", "TFLOP/s"), Column("best", "TFLOP/s"),
    Column("ratio", "to cuBLAS"), Column("ratio_low"), Column("ratio_high"), Column("max_relative_error"), Column("wrong", "elements"),
)  # fmt: skip


def unit_roundoff(dtype: str) -> float:
    """Of the sums in f32. Tensor cores cut off instead of rounding, and align before they add: two bits less.

    Source: Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ Computer Science 7:e330, 2021.
    """
    return 2.0**-24 if dtype == "f32" else 2.0**-22


def check_rows(a_rows: Array, b: Array, c_rows: Array, dtype: str) -> ProductCheck:
    """Some rows of a product beside the same in float64; products of f16 and bf16 are exact in f32, so only the sums err."""
    wide_a, wide_b = a_rows.astype(np.float64), b.astype(np.float64)
    magnitude = np.abs(wide_a) @ np.abs(wide_b)
    error = np.abs(c_rows.astype(np.float64) - wide_a @ wide_b)
    bound = gamma(b.shape[0], unit_roundoff(dtype))
    wrong = int(np.count_nonzero(~(error <= bound * magnitude)))
    relative = np.divide(error, magnitude, out=np.where(error == 0, 0.0, np.inf), where=magnitude > 0)
    return ProductCheck(
        error.size, wrong, float(np.max(np.where(np.isnan(relative), np.inf, relative), initial=0.0)), bound
    )


@dataclass(frozen=True, slots=True)
class Result:
    """One kernel's timings of one product, in seconds, and the check of its answer."""

    shape: Shape
    dtype: str
    kernel: str
    seconds: tuple[float, ...]
    cublas_seconds: tuple[float, ...]
    check: ProductCheck

    def row(self) -> dict[str, Scalar]:
        """The table row; TFLOP are 1e12 floating point operations."""
        m, n, k = self.shape
        tflop = 2 * m * n * k / 1e12
        low, high = ratio_interval(self.cublas_seconds, self.seconds)
        error = self.check.max_relative_error
        return _row(self.shape, self.dtype, self.kernel) | {
            "median": tflop / percentile(self.seconds, 50), "best": tflop / min(self.seconds),
            "ratio": percentile(self.cublas_seconds, 50) / percentile(self.seconds, 50), "ratio_low": low, "ratio_high": high,
            "max_relative_error": error if np.isfinite(error) else None, "wrong": self.check.wrong,
        }  # fmt: skip


def _row(shape: Shape, dtype: str, kernel: str) -> dict[str, Scalar]:
    """A row in which nothing is measured."""
    known: dict[str, Scalar] = {"m": shape[0], "n": shape[1], "k": shape[2], "dtype": dtype, "kernel": kernel}
    return {column.name: known.get(column.name) for column in COLUMNS}


def missing_rows(shapes: Sequence[Shape], dtypes: Sequence[str]) -> tuple[dict[str, Scalar], ...]:
    """The table of what was asked for and could not be run: no figure in it."""
    return tuple(_row(shape, dtype, kernel) for dtype in dtypes for shape in shapes for kernel in (OURS, CUBLAS))


def metrics_of(row: dict[str, Scalar]) -> tuple[Metric, ...]:
    """The row's figures of merit; the ratio only for our own kernel. None of a row in which nothing is measured."""
    labels = {name: row[name] for name in ("m", "n", "k", "dtype", "kernel")}
    names = {"median": ("tflops_median", "TFLOP/s"), "best": ("tflops_best", "TFLOP/s")}
    if row["kernel"] == OURS:
        names |= {key: (key.replace("ratio", "ratio_to_cublas"), "") for key in ("ratio", "ratio_low", "ratio_high")}
    return tuple(
        Metric(name, value, unit, "higher", labels)
        for key, (name, unit) in names.items()
        if isinstance(value := row[key], float)
    )


class Matrices:
    """A and B in one element type and C in f32, on the current device; bf16 lies in arrays of uint16, as CuPy's own type is experimental."""

    def __init__(self, shape: Shape, dtype: str) -> None:
        import cupy

        m, n, k = shape
        kind = {"f32": cupy.float32, "f16": cupy.float16, "bf16": cupy.uint16}[dtype]
        self.shape, self.dtype = shape, dtype
        self.a, self.b, self.c = cupy.empty((m, k), kind), cupy.empty((k, n), kind), cupy.empty((m, n), cupy.float32)

    def renew(self) -> None:
        """Fills A and B with other numbers of [-1, 1), and C with what no product leaves."""
        import cupy

        for matrix in (self.a, self.b):
            drawn = cupy.random.random(matrix.shape, cupy.float32)
            drawn *= 2
            drawn -= 1
            matrix[...] = drawn.view(cupy.uint32) >> 16 if self.dtype == "bf16" else drawn
        self.c.fill(cupy.nan)

    def check(self, multiply: Callable[[], object]) -> ProductCheck:
        """One more product, of which some rows are compared."""
        self.renew()
        multiply()
        rows = np.unique(np.linspace(0, self.shape[0] - 1, CHECKED_ROWS).astype(np.int64))
        return check_rows(self._wide(self.a[rows]), self._wide(self.b), gpu.to_host(self.c[rows]), self.dtype)

    def _wide(self, matrix: Any) -> Array:
        values: Array = gpu.to_host(matrix)
        return (values.astype(np.uint32) << 16).view(np.float32) if self.dtype == "bf16" else values


def cublas_call(of: Matrices) -> Callable[[], object]:
    """cublasGemmEx; it counts matrices by columns, so that it is given B^T A^T = C^T, which are the same bytes."""
    import cupy
    from cupy_backends.cuda.libs import cublas

    m, n, k = of.shape
    # cudaDataType and cublasComputeType_t: CUBLAS_COMPUTE_32F takes no TF32; cublasGemmAlgo_t CUBLAS_GEMM_DEFAULT
    kind, as_f32, compute, algorithm = {"f32": 0, "f16": 2, "bf16": 14}[of.dtype], 0, 68, -1
    handle, factors = cupy.cuda.device.get_cublas_handle(), np.array([1, 0], np.float32)
    one, zero = factors.ctypes.data, factors.ctypes.data + 4

    def call(keep: Array = factors) -> None:
        cublas.gemmEx(
            handle, 0, 0, n, m, k, one, of.b.data.ptr, kind, n, of.a.data.ptr, kind, k, zero, of.c.data.ptr, as_f32, n, compute, algorithm
        )  # fmt: skip

    return call


def our_call(of: Matrices) -> Callable[[], object]:
    """The Numba-CUDA kernel for f32, the tensor-core kernel otherwise; compiled by the first call."""
    m, n, k = of.shape
    if of.dtype == "f32":
        from numba import cuda

        from westward_bench.gemm.cuda.simt import multiply

        a, b, c = (cuda.as_cuda_array(matrix) for matrix in (of.a, of.b, of.c))
        return lambda: multiply(a, b, c)
    import cupy

    options = ("--std=c++17", *(["-DWESTWARD_BF16"] if of.dtype == "bf16" else []))
    source = Path(__file__).with_name("tensorcore.cu").read_text()
    kernel = cupy.RawModule(code=source, options=options, backend="nvrtc").get_function("tensorcore_gemm")
    grid, one, zero = (-(-n // 128), -(-m // 128)), np.float32(1), np.float32(0)
    return lambda: kernel(grid, (256,), (of.a, of.b, of.c, np.int32(m), np.int32(n), np.int32(k), one, zero))


def measure(shape: Shape, dtype: str, repeats: int, warmup: int) -> tuple[Result, Result]:
    """Times both kernels on matrices of that shape, and checks both answers."""
    matrices = Matrices(shape, dtype)
    calls = {OURS: our_call(matrices), CUBLAS: cublas_call(matrices)}
    samples = gpu.time_by_events(calls, repeats, max(warmup, 1), matrices.renew)
    ours, theirs = (
        Result(shape, dtype, name, samples[name], samples[CUBLAS], matrices.check(call)) for name, call in calls.items()
    )
    return ours, theirs


def cublas_rate(shape: Shape, dtype: str) -> float:
    """FLOP/s of cuBLAS by the median of a few calls."""
    matrices = Matrices(shape, dtype)
    seconds = gpu.time_by_events({CUBLAS: cublas_call(matrices)}, SEARCH_REPEATS, 2, matrices.renew)[CUBLAS]
    return 2 * shape[0] * shape[1] * shape[2] / percentile(seconds, 50)


def search(
    rate: Callable[[Shape], float], budget_s: float, seed: int, clock: Callable[[], float] = time.monotonic
) -> tuple[Shape, int]:
    """The shape of the highest rate among those tried in `budget_s`, one at least, in an order drawn by `seed`; and how many were tried."""
    shapes = list(itertools.product(SEARCH_SIDES, SEARCH_SIDES, SEARCH_SIDES))
    random.Random(seed).shuffle(shapes)
    rates: dict[Shape, float] = {}
    until = clock() + budget_s
    for shape in shapes:
        if rates and clock() >= until:
            break
        rates[shape] = rate(shape)
    return max(rates, key=lambda shape: rates[shape]), len(rates)
