"""``python3 -m westward_bench.memory``: GB/s of main memory by copy, scale, add and triad."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numba
import numpy as np

from westward_bench import provenance
from westward_bench.arguments import (
    OneLineParser,
    add_output_options,
    message_bytes,
    non_negative_int,
    parse_threads,
    positive_int,
)
from westward_bench.memory import cuda as on_gpu
from westward_bench.memory.kernels import KERNELS
from westward_bench.memory.measure import COLUMNS, DTYPES, RATE_METHOD, Result, measure, metrics_of, verification_of
from westward_bench.output import Progress, deliver, remove_earlier
from westward_bench.record import Parameter, Record

EPILOG = f"""
columns:
  array        size of one array; none of the three may fit into a cache: four times the last-level cache is usual
  moved        bytes of one pass: 2 arrays for copy and scale, 3 for add and triad
  median, best {RATE_METHOD}
  wrong        elements that were not exactly what they must be
The loops are timed in turn, every other round in reverse order. Each thread has written first the pages that it works on. Without
streaming stores a processor also reads what it is about to write, which is not counted: the wires carry up to 1.5 times as much.

On GPUs (--device cuda): copy and triad in the memory of every GPU of the node, and copies between host and device, from pinned and from
pageable memory. "slow": {on_gpu.SLOW_METHOD}. Without a GPU the table has no figures, and the exit code is 1.

exit codes: 0 measured and right; 1 wrong elements, no GPU for --device cuda, or the record could not be written; 2 bad usage
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="westward_bench.memory", allow_abbrev=False, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Times and verifies STREAM's four loops over arrays in main memory, with Numba on several threads:\n"
        "  srun -n1 -c8 python3 -m westward_bench.memory --array 512M --threads 8 --output r.json",
    )  # fmt: skip
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="whose memory (default: cpu)")
    parser.add_argument(
        "--kernel", choices=list(KERNELS), nargs="+", metavar="LOOP",
        help=f"loops on the CPU: {', '.join(KERNELS)} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--array", type=message_bytes, default=2**28, metavar="SIZE", help="bytes of one array, e.g. 256M (default)"
    )
    parser.add_argument("--dtype", choices=list(DTYPES), default="f64", help="element type (default: %(default)s)")
    parser.add_argument("--repeats", type=positive_int, default=20, help="timed passes of each loop (default: 20)")
    parser.add_argument("--warmup", type=non_negative_int, default=2, help="untimed passes, at least 1 (default: 2)")
    parser.add_argument("--threads", type=positive_int, default=1, help="threads (default: 1)")
    add_output_options(parser)
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process with code 2 and one line if they are not right."""
    parser = build_parser()
    options = parse_threads(parser, arguments, numba.get_num_threads())
    if options.kernel and options.device == "cuda":
        parser.error("argument --kernel: expected --device cpu beside it; on GPUs every test runs")
    options.kernel = options.kernel or list(KERNELS)
    return options


def run(options: argparse.Namespace) -> Record:
    """Compiles, measures and verifies everything that was asked for."""
    started = provenance.utc_now()
    numba.set_num_threads(options.threads)
    names = list(dict.fromkeys(options.kernel))
    count = max(1, options.array // np.dtype(DTYPES[options.dtype]).itemsize)
    progress = Progress("memory", options.repeats + max(options.warmup, 1))
    results = measure(
        names, count, options.dtype, options.threads, options.repeats, options.warmup, lambda: progress.step("rounds")
    )
    rows = tuple(result.row() for result in results)
    verification = verification_of(results)
    failed = f"{verification.wrong} of {verification.checked} elements were wrong" if verification.wrong else None
    return Record(
        benchmark="memory", status="failed" if failed else "ok", message=failed, parameters=_parameters(options, results),
        metrics=tuple(metric for row in rows for metric in metrics_of(row)),
        columns=COLUMNS, rows=rows, samples=tuple(result.seconds for result in results), verification=verification,
        provenance=provenance.collect(started, {}),
    )  # fmt: skip


def _parameters(options: argparse.Namespace, results: Sequence[Result]) -> dict[str, Parameter]:
    return {
        "kernel": [result.kernel.name for result in results], "array": options.array, "dtype": options.dtype,
        "repeats": options.repeats, "warmup": options.warmup, "threads": options.threads, "rate": RATE_METHOD,
        "threading_layer": numba.threading_layer(),  # type: ignore[attr-defined]
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    options = parse(arguments)
    remove_earlier(options.output)
    record = on_gpu.run(options) if options.device == "cuda" else run(options)
    return deliver(record, options.output, options.json)


if __name__ == "__main__":
    sys.exit(main())
