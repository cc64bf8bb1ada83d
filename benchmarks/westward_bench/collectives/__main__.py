"""``python3 -m westward_bench.collectives``: collectives over a range of message sizes, as an MPI program."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from westward_bench import provenance
from westward_bench.arguments import (
    EXIT_FAILED,
    EXIT_OK,
    OneLineParser,
    add_output_options,
    growth_factor,
    launched_rank,
    message_bytes,
    non_negative_int,
    positive_int,
)
from westward_bench.collectives.measure import (
    BANDWIDTH_METHOD,
    COLUMNS,
    TIMING_METHOD,
    Measurement,
    Sizes,
    measure,
    metrics_of,
    verification_of,
)
from westward_bench.collectives.operations import OPERATIONS, Communicator
from westward_bench.collectives.world import WorldSizeError, check_world_size, expected_ranks
from westward_bench.output import Progress, deliver, remove_earlier
from westward_bench.record import Parameter, Record
from westward_bench.timing import PERCENTILE_METHOD

DTYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}

EPILOG = f"""
columns:
  op           the operation
  bytes        size of the message: a rank's buffer, or the whole array in all_gather (received) and reduce_scatter (sent)
  latency_p50, latency_p99
               percentiles (by {PERCENTILE_METHOD}) over the iterations; {TIMING_METHOD}
  algbw, busbw {BANDWIDTH_METHOD};
               factors for n ranks: allreduce 2(n-1)/n; all_gather, reduce_scatter, alltoall (n-1)/n; others 1
  wrong        elements that were not exactly what they must be, over all ranks

exit codes: 0 measured and right; 1 wrong elements, a world of the wrong size, or no MPI; 2 bad usage
"""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="westward_bench.collectives", allow_abbrev=False, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Times and verifies MPI collectives on host memory. Start one process a rank, with srun or mpirun:\n"
        "  srun -N2 --ntasks-per-node=1 --mpi=pmix python3 -m westward_bench.collectives --op allreduce --output r.json",
    )  # fmt: skip
    parser.add_argument(
        "--op", choices=list(OPERATIONS), nargs="+", default=["allreduce"], metavar="OP",
        help=f"operations: {', '.join(OPERATIONS)} (default: allreduce)",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=list(DTYPES), default="f32", help="element type (default: %(default)s)")
    parser.add_argument(
        "--min-bytes", type=message_bytes, default=8, metavar="SIZE", help="smallest message, e.g. 8 (default)"
    )
    parser.add_argument(
        "--max-bytes",
        type=message_bytes,
        default=2**20,
        metavar="SIZE",
        help="largest message, e.g. 64K or 1M (default)",
    )
    parser.add_argument("--factor", type=growth_factor, default=2, help="each size is this times the last (default: 2)")
    parser.add_argument("--iterations", type=positive_int, default=100, help="timed iterations a size (default: 100)")
    parser.add_argument("--warmup", type=non_negative_int, default=10, help="untimed iterations a size (default: 10)")
    parser.add_argument(
        "--expect-ranks", type=positive_int, metavar="N",
        help="fail unless the MPI world has N ranks (default: SLURM_NTASKS where it is set)",
    )  # fmt: skip
    add_output_options(parser)
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process with code 2 and one line if they are not right."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.min_bytes > options.max_bytes:
        parser.error(
            f"argument --min-bytes: expected at most --max-bytes ({options.max_bytes}), got {options.min_bytes}"
        )
    return options


class Run:
    """One run of the benchmark on this rank; rank 0 reports, the others are silent."""

    def __init__(self, options: argparse.Namespace, comm: Communicator | None, libraries: dict[str, str]) -> None:
        self.options, self.comm, self.libraries = options, comm, libraries
        self.started = provenance.utc_now()
        self.hosts = [socket.gethostname()]
        self.expected: int | None = options.expect_ranks

    def execute(self, comm: Communicator) -> int:
        """Checks the world, measures every size and delivers the record; returns the exit code, on every rank the same."""
        if comm.Get_rank() == 0:
            remove_earlier(self.options.output)
        self.hosts = sorted(set(comm.allgather(self.hosts[0])))
        try:
            self.expected, said_by = expected_ranks(self.options.expect_ranks, os.environ)
            check_world_size(comm.Get_size(), self.expected, said_by)
            record = self._record(self._measure_all(comm), comm.Get_size())
        except WorldSizeError as error:
            record = self._failed(str(error))
        code = self._deliver(record) if comm.Get_rank() == 0 else EXIT_OK
        # A rank that ends early with an error makes some launchers kill the others: all wait for the record.
        return int(max(comm.allgather(code)))

    def fail(self, message: str) -> int:
        """Delivers a failed record without figures; returns the exit code."""
        return self._deliver(self._failed(message))

    def _failed(self, message: str) -> Record:
        return Record(
            benchmark="collectives", status="failed", message=message, parameters=self._parameters(),
            columns=COLUMNS, provenance=provenance.collect(self.started, self.libraries, self.hosts),
        )  # fmt: skip

    def _measure_all(self, comm: Communicator) -> list[Measurement]:
        options, dtype = self.options, np.dtype(DTYPES[self.options.dtype])
        sizes = Sizes(options.min_bytes, options.max_bytes, options.factor)
        messages = [
            (operation, count)
            for operation in map(OPERATIONS.__getitem__, dict.fromkeys(options.op))
            for count in sizes.counts(dtype.itemsize, comm.Get_size(), operation.divided)
        ]
        progress = Progress("collectives", len(messages), enabled=comm.Get_rank() == 0)
        measurements = []
        for operation, count in messages:
            measurements.append(measure(comm, operation, count, dtype, options.iterations, options.warmup))
            progress.step(f"{operation.name} {count * dtype.itemsize} B")
        return measurements

    def _record(self, measurements: list[Measurement], ranks: int) -> Record:
        rows = tuple(measurement.row(OPERATIONS[measurement.op].bus_factor(ranks)) for measurement in measurements)
        verification = verification_of(measurements)
        failed = f"{verification.wrong} of {verification.checked} elements were wrong" if verification.wrong else None
        return Record(
            benchmark="collectives", status="failed" if failed else "ok", message=failed, parameters=self._parameters(),
            metrics=tuple(metric for row in rows for metric in metrics_of(ranks, row)),
            columns=COLUMNS, rows=rows, samples=tuple(measurement.seconds for measurement in measurements),
            verification=verification, provenance=provenance.collect(self.started, self.libraries, self.hosts),
        )  # fmt: skip

    def _parameters(self) -> dict[str, Parameter]:
        options = self.options
        return {
            "op": options.op[0] if len(options.op) == 1 else list(options.op), "dtype": options.dtype, "min_bytes": options.min_bytes, "max_bytes": options.max_bytes,
            "factor": options.factor, "iterations": options.iterations, "warmup": options.warmup,
            "expect_ranks": self.expected, "ranks": self.comm.Get_size() if self.comm else None,
            "nodes": len(self.hosts), "timing": TIMING_METHOD, "percentiles": PERCENTILE_METHOD,
            "bandwidth": BANDWIDTH_METHOD,
        }  # fmt: skip

    def _deliver(self, record: Record) -> int:
        return deliver(record, self.options.output, self.options.json)


def start_mpi() -> tuple[Any, dict[str, str]]:
    """Initialises MPI for a single thread; returns mpi4py's MPI module and the library's name and version.

    Raises:
        ImportError, RuntimeError: there is no mpi4py, or no MPI library that it can load.
    """
    import mpi4py

    mpi4py.rc.threads = False
    from mpi4py import MPI

    return MPI, {"mpi": MPI.Get_library_version().partition("\n")[0].partition(",")[0].strip("\0 ")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark on this rank. If one rank raises, all are aborted: the others would wait for it for ever."""
    options = parse(arguments)
    try:
        mpi, libraries = start_mpi()
    except (ImportError, RuntimeError) as error:
        first = launched_rank() == 0
        return Run(options, None, {}).fail(f"MPI cannot be loaded: {error}") if first else EXIT_FAILED
    comm = mpi.COMM_WORLD
    run = Run(options, comm, libraries)
    try:
        return run.execute(comm)
    except BaseException as error:
        traceback.print_exc()
        if comm.Get_rank() == 0:
            run.fail(f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        sys.stderr.flush()
        comm.Abort(EXIT_FAILED)
        raise


if __name__ == "__main__":
    sys.exit(main())
