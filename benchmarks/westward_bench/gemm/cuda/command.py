"""What ``python3 -m westward_bench.gemm --device cuda`` does."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import Any

from westward_bench import gpu, provenance
from westward_bench.gemm.cuda import measure
from westward_bench.gemm.cuda.measure import COLUMNS, RATE_METHOD, Result, Shape
from westward_bench.output import Progress
from westward_bench.record import Parameter, Record, Verification
from westward_bench.timing import INTERVAL_METHOD


def run(options: argparse.Namespace) -> Record:
    """Measures and verifies everything that was asked for; without a GPU a failed record that says so, whose rows hold no figure."""
    started = provenance.utc_now()
    shapes = [(size, size, size) for size in options.size]
    parameters: dict[str, Parameter] = {
        "device": "cuda", "size": list(options.size), "dtype": list(options.dtype), "repeats": options.repeats, "warmup": options.warmup,
        "seed": options.seed, "search_s": options.search_s, "rate": RATE_METHOD, "interval": INTERVAL_METHOD,
    }  # fmt: skip
    if reason := gpu.why_none():
        rows = measure.missing_rows(shapes, options.dtype)
        return Record(
            benchmark="gemm", status="failed", message=reason, parameters=parameters, columns=COLUMNS, rows=rows,
            samples=((),) * len(rows), provenance=provenance.collect(started, {}),
        )  # fmt: skip
    return _measured(options, shapes, parameters, started)


def _measured(
    options: argparse.Namespace, shapes: Sequence[Shape], parameters: dict[str, Parameter], started: str
) -> Record:
    import cupy

    cupy.random.seed(options.seed)
    device = cupy.cuda.runtime.getDevice()
    parameters |= {"state": gpu.STATE_METHOD, "state_before": _list(gpu.state(device))}
    progress = Progress("gemm", len(options.dtype) * len(shapes))
    results: list[Result] = []
    for dtype in options.dtype:
        asked = list(shapes)
        if options.search_s:
            rate = functools.partial(measure.cublas_rate, dtype=dtype)
            best, tried = measure.search(rate, options.search_s, options.seed)
            parameters[f"search_{dtype}"] = (
                f"{' x '.join(map(str, best))}, the fastest of {tried} shapes tried with cuBLAS"
            )
            asked.append(best)
        for shape in asked:
            results += measure.measure(shape, dtype, options.repeats, options.warmup)
            progress.step(f"{dtype} {shape[0]} x {shape[1]} x {shape[2]}")
    parameters["state_after"] = _list(gpu.state(device))
    rows = tuple(result.row() for result in results)
    verification = verification_of(results)
    failed = (
        f"{verification.wrong} of {verification.checked} elements exceed the error bound"
        if verification.wrong
        else None
    )
    return Record(
        benchmark="gemm", status="failed" if failed else "ok", message=failed, parameters=parameters,
        metrics=tuple(metric for row in rows for metric in measure.metrics_of(row)), columns=COLUMNS, rows=rows,
        samples=tuple(result.seconds for result in results), verification=verification,
        provenance=provenance.collect(started, gpu.versions(device)),
    )  # fmt: skip


def verification_of(results: Sequence[Result]) -> Verification:
    """One verification for a whole run: the sums, and the largest finite error with the loosest bound."""
    checks = [result.check for result in results]
    finite = [check.max_relative_error for check in checks if check.max_relative_error < float("inf")]
    return Verification(
        sum(check.checked for check in checks), sum(check.wrong for check in checks), measure.CHECK_METHOD,
        max(finite, default=None), max((check.bound for check in checks), default=None),
    )  # fmt: skip


def _list(values: Sequence[Any]) -> list[Any]:
    return list(values) or ["unknown: nvidia-smi did not answer"]
