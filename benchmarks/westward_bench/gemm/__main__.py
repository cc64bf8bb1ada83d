"""``python3 -m westward_bench.gemm``: GFLOP/s of our GEMM beside NumPy's BLAS."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import numba

from westward_bench import provenance
from westward_bench.arguments import OneLineParser, add_output_options, non_negative_int, parse_threads, positive_int
from westward_bench.gemm.cuda import command as on_gpu
from westward_bench.gemm.cuda.measure import DTYPES as GPU_DTYPES
from westward_bench.gemm.emit import SCALARS
from westward_bench.gemm.measure import COLUMNS, EVEN, RATE_METHOD, SETTLE_S, Blas, Plan, Result, measure, metrics_of
from westward_bench.gemm.product import Gemm
from westward_bench.gemm.tiling import host_vector_unit
from westward_bench.output import Progress, deliver, remove_earlier
from westward_bench.record import Metric, Parameter, Record
from westward_bench.timing import INTERVAL_METHOD
from westward_bench.verify import ProductCheck, combine

EPILOG = f"""
columns:
  kernel       "westward" is ours; the other is NumPy's BLAS, by the name that threadpoolctl gives it
  median, best {RATE_METHOD}
  ratio_low, ratio_high
               {INTERVAL_METHOD}
  verdict      what that interval says: faster, slower, even (within {EVEN:.0%} of 1), or too noisy to tell; more --repeats narrow it
  max_relative_error
               {ProductCheck.METHOD}
The two kernels are timed in turn, every other round in reverse order; with several threads each call is preceded by a
pause of {SETTLE_S} s, because OpenBLAS's threads spin for a while after their work. Compile time is reported apart.
OpenBLAS chooses its kernel by the CPU unless OPENBLAS_CORETYPE is set; the record says which it chose.

On a GPU (--device cuda) the other kernel is cuBLAS, without TF32; "westward" is a Numba-CUDA kernel for f32 and one for tensor cores for
f16 and bf16. A and B are drawn anew and the L2 is flushed before each call, and some rows of C are checked. Without a GPU the table is
of what was not run, without figures, and the exit code is 1.

exit codes: 0 measured and right; 1 wrong elements, no GPU for --device cuda, or the record could not be written; 2 bad usage
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="westward_bench.gemm", allow_abbrev=False, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Times and verifies C = A B for square matrices: a Numba GEMM with an LLVM vector micro-kernel, compiled\n"
        "for this CPU, beside NumPy's BLAS in the same process with the same number of threads:\n"
        "  srun -n1 -c1 python3 -m westward_bench.gemm --size 512 1024 2048 --dtype f64 --output r.json",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=positive_int, nargs="+", default=[1024], metavar="N", help="matrix sizes (default: 1024)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="what multiplies (default: cpu)")
    parser.add_argument(
        "--dtype", choices=["f64", "f32", "f16", "bf16"], nargs="+",
        help="element types: f64 (default) and f32 on the CPU; f32 (default), f16 and bf16 on a GPU",
    )  # fmt: skip
    parser.add_argument(
        "--search-s", type=non_negative_int, default=0, metavar="SECONDS",
        help="on a GPU, for each element type: look for so long for the shape that cuBLAS multiplies fastest, and measure that too",
    )  # fmt: skip
    parser.add_argument("--repeats", type=positive_int, default=5, help="timed products of each kernel (default: 5)")
    parser.add_argument(
        "--warmup", type=non_negative_int, default=1, help="untimed products of each kernel (default: 1)"
    )
    parser.add_argument("--threads", type=positive_int, default=1, help="threads of each kernel (default: 1)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="seed of the random matrices (default: 0)")
    add_output_options(parser)
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process with code 2 and one line if they are not right."""
    parser = build_parser()
    options = parse_threads(parser, arguments, numba.get_num_threads())
    known = GPU_DTYPES if options.device == "cuda" else tuple(SCALARS)
    options.dtype = options.dtype or ["f32" if options.device == "cuda" else "f64"]
    for name in options.dtype:
        if name not in known:
            parser.error(
                f"argument --dtype: invalid choice: {name!r} (on --device {options.device} choose from {', '.join(known)})"
            )
    if options.search_s and options.device != "cuda":
        parser.error("argument --search-s: expected --device cuda beside it")
    return options


def parameters_of(options: argparse.Namespace, gemms: Sequence[Gemm], blas: Blas) -> dict[str, Parameter]:
    """What was asked for, and what it was run with."""
    return {
        "size": list(options.size), "dtype": list(options.dtype), "repeats": options.repeats, "warmup": options.warmup,
        "threads": options.threads, "seed": options.seed, "rate": RATE_METHOD, "interval": INTERVAL_METHOD, "vector_unit": host_vector_unit().name,
        "tile": [f"{gemm.scalar.name} MR={gemm.tile.rows} NR={gemm.tile.columns}" for gemm in gemms],
        "blocks": [f"{g.scalar.name} MC={g.blocks.mc} KC={g.blocks.kc} NC={g.blocks.nc}" for g in gemms],
        "blas": blas.name, "blas_architecture": blas.architecture, "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE"),
    }  # fmt: skip


def run(options: argparse.Namespace) -> Record:
    """Compiles, measures and verifies everything that was asked for."""
    started = provenance.utc_now()
    blas = Blas.of_numpy()
    plan = Plan(options.repeats, options.warmup, options.threads, options.seed)
    rounds = len(options.dtype) * (1 + len(options.size) * (plan.repeats + plan.warmup))
    progress = Progress("gemm", rounds)
    gemms: list[Gemm] = []
    results: list[Result] = []
    for name in options.dtype:
        gemm = Gemm(name, options.threads)
        gemms.append(gemm)
        progress.step(f"{name} compiled")
        for size in options.size:
            results += measure(gemm, blas, size, plan, lambda shown=f"{name} {size}": progress.step(shown))  # type: ignore[misc]
    rows = tuple(result.row() for result in results)
    verification = combine([result.check for result in results])
    failed = (
        f"{verification.wrong} of {verification.checked} elements exceed the error bound"
        if verification.wrong
        else None
    )
    compiled = [Metric("compile_time", g.compile_s, "s", "lower", {"dtype": g.scalar.name}) for g in gemms]
    return Record(
        benchmark="gemm", status="failed" if failed else "ok", message=failed,
        parameters=parameters_of(options, gemms, blas),
        metrics=(*(metric for row in rows for metric in metrics_of(row, options.threads)), *compiled),
        columns=COLUMNS, rows=rows, samples=tuple(result.seconds for result in results), verification=verification,
        provenance=provenance.collect(started, {blas.name: f"{blas.version} {blas.architecture}"}),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    options = parse(arguments)
    remove_earlier(options.output)
    record = on_gpu.run(options) if options.device == "cuda" else run(options)
    return deliver(record, options.output, options.json)


if __name__ == "__main__":
    sys.exit(main())
