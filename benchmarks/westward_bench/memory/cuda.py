"""Bandwidth of GPUs' memory by copy and triad, and of copies between host and device, on every GPU of the node; slow ones are flagged.

Copy is the driver's own (cudaMemcpyAsync), triad one elementwise kernel that CuPy makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from westward_bench import gpu, provenance
from westward_bench.memory.kernels import SCALAR
from westward_bench.memory.measure import DTYPES, VERIFY_METHOD
from westward_bench.output import Progress
from westward_bench.record import Column, Metric, Parameter, Record, Scalar, Verification
from westward_bench.timing import percentile
from westward_bench.verify import POISON, Array, count_wrong, pattern

ARRAYS_MOVED = {"copy": 2, "triad": 3, "h2d_pinned": 1, "h2d_pageable": 1, "d2h_pinned": 1, "d2h_pageable": 1}
"""Each test, and how many arrays it moves: on the device what is read and written, between host and device what crosses."""
SLOW = 0.95
RATE_METHOD = "bytes moved / t by CUDA events, L2 flushed before; copy moves 2 arrays, triad 3, between host and device 1; median = p50 by nearest rank"
SLOW_METHOD = f"median rate below {SLOW} of the median of all devices of the node, of three at least"

COLUMNS = (
    Column("device"), Column("test"), Column("dtype"), Column("array", "B"), Column("moved", "B"), Column("median", "GB/s"),
    Column("best", "GB/s"), Column("to_median"), Column("slow"), Column("wrong", "elements"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One test's timings on one device, in seconds, and how many elements were checked and found wrong."""

    device: int
    test: str
    dtype: str
    array_bytes: int
    seconds: tuple[float, ...]
    checked: int
    wrong: int

    @property
    def rate(self) -> float:
        """GB/s by the median time."""
        return ARRAYS_MOVED[self.test] * self.array_bytes / percentile(self.seconds, 50) / 1e9


def rows_of(results: Sequence[Result]) -> tuple[dict[str, Scalar], ...]:
    """The table; a device is compared with the median of all of them, if they are three at least: of two neither is known to be the slow one."""
    rows: list[dict[str, Scalar]] = []
    for result in results:
        rates = [other.rate for other in results if other.test == result.test]
        share = result.rate / float(np.median(rates)) if len(rates) >= 3 else None
        moved = ARRAYS_MOVED[result.test] * result.array_bytes
        rows.append({
            "device": result.device, "test": result.test, "dtype": result.dtype, "array": result.array_bytes, "moved": moved,
            "median": result.rate, "best": moved / min(result.seconds) / 1e9, "to_median": share,
            "slow": None if share is None else share < SLOW, "wrong": result.wrong,
        })  # fmt: skip
    return tuple(rows)


def missing_rows(dtype: str, array_bytes: int) -> tuple[dict[str, Scalar], ...]:
    """The table of what could not be run: no figure in it."""
    nothing: dict[str, Scalar] = {column.name: None for column in COLUMNS}
    return tuple(nothing | {"test": test, "dtype": dtype, "array": array_bytes} for test in ARRAYS_MOVED)


class Arrays:
    """Three arrays on the current device, and one on the host in pinned and one in pageable memory."""

    def __init__(self, count: int, dtype: str) -> None:
        import cupy

        kind = np.dtype(DTYPES[dtype])
        host = pattern(count, 0, kind, salt=0)
        self.count = count
        self.b, self.c = cupy.asarray(host), cupy.asarray(pattern(count, 1, kind, salt=0))
        self.a = cupy.empty_like(self.b)
        self.pageable = np.empty(count, kind)
        self.pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(host.nbytes), kind, count)
        self._triad = cupy.ElementwiseKernel("T b, T c, T s", "T a", "a = b + s * c", "westward_triad")

    def calls(self) -> dict[str, Callable[[], object]]:
        """Each test as a call that returns before its work is done, on the null stream."""
        import cupy

        stream, nbytes = cupy.cuda.Stream.null, self.a.nbytes
        return {
            "copy": lambda: self.a.data.copy_from_device_async(self.b.data, nbytes, stream),
            "triad": lambda: self._triad(self.b, self.c, self.a.dtype.type(SCALAR), self.a),
            "h2d_pinned": lambda: self.a.set(self.pinned, stream),
            "h2d_pageable": lambda: self.a.set(self.pageable, stream),
            "d2h_pinned": lambda: self.b.get(stream, out=self.pinned, blocking=False),
            "d2h_pageable": lambda: self.b.get(stream, out=self.pageable, blocking=False),
        }  # fmt: skip

    def wrong(self, test: str, call: Callable[[], object]) -> int:
        """How many elements are not what one more call must leave."""
        import cupy

        b, c = gpu.to_host(self.b), gpu.to_host(self.c)
        self.a.fill(POISON)
        for host in (self.pinned, self.pageable):
            host[...] = POISON if test.startswith("d2h") else b
        call()
        cupy.cuda.Stream.null.synchronize()
        expected: Array = b + b.dtype.type(SCALAR) * c if test == "triad" else b
        left: Mapping[str, Any] = {"d2h_pinned": self.pinned, "d2h_pageable": self.pageable}
        return count_wrong(left[test] if test in left else gpu.to_host(self.a), expected)


def measure(device: int, count: int, dtype: str, repeats: int, warmup: int) -> list[Result]:
    """Every test on one device; what each leaves is compared element by element."""
    import cupy

    with cupy.cuda.Device(device):
        arrays = Arrays(count, dtype)
        calls = arrays.calls()
        samples = gpu.time_by_events(calls, repeats, max(warmup, 1), lambda: None)
        return [
            Result(device, test, dtype, arrays.a.nbytes, samples[test], count, arrays.wrong(test, call))
            for test, call in calls.items()
        ]


def run(options: argparse.Namespace) -> Record:
    """Measures and verifies every device, one after the other; without a GPU a failed record that says so, whose rows hold no figure."""
    started = provenance.utc_now()
    parameters: dict[str, Parameter] = {
        "device": "cuda", "array": options.array, "dtype": options.dtype, "repeats": options.repeats, "warmup": options.warmup,
        "rate": RATE_METHOD, "slow": SLOW_METHOD,
    }  # fmt: skip
    if reason := gpu.why_none():
        rows = missing_rows(options.dtype, options.array)
        return Record(
            benchmark="memory", status="failed", message=reason, parameters=parameters, columns=COLUMNS, rows=rows,
            samples=((),) * len(rows), provenance=provenance.collect(started, {}),
        )  # fmt: skip
    return _measured(options, parameters, started)


def _measured(options: argparse.Namespace, parameters: dict[str, Parameter], started: str) -> Record:
    import cupy

    devices = range(cupy.cuda.runtime.getDeviceCount())
    count = max(1, options.array // np.dtype(DTYPES[options.dtype]).itemsize)
    progress = Progress("memory", len(devices))
    results: list[Result] = []
    parameters["state"] = gpu.STATE_METHOD
    for device in devices:
        results += measure(device, count, options.dtype, options.repeats, options.warmup)
        parameters[f"state_after_{device}"] = [*gpu.state(device)]
        progress.step(f"device {device}")
    rows = rows_of(results)
    checked, wrong = sum(result.checked for result in results), sum(result.wrong for result in results)
    failed = f"{wrong} of {checked} elements were wrong" if wrong else None
    return Record(
        benchmark="memory", status="failed" if failed else "ok", message=failed, parameters=parameters,
        metrics=tuple(metric for row in rows for metric in metrics_of(row)), columns=COLUMNS, rows=rows,
        samples=tuple(result.seconds for result in results), verification=Verification(checked, wrong, VERIFY_METHOD),
        provenance=provenance.collect(started, {f"device_{n}_{key}": text for n in devices for key, text in gpu.versions(n).items()}),
    )  # fmt: skip


def metrics_of(row: Mapping[str, Scalar]) -> tuple[Metric, ...]:
    """The row's figures of merit."""
    labels = {name: row[name] for name in ("device", "test", "dtype", "array")}
    return tuple(
        Metric(f"bandwidth_{key}", value, "GB/s", "higher", labels)
        for key in ("median", "best")
        if isinstance(value := row[key], float)
    )
