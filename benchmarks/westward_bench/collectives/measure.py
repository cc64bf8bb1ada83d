"""Sizes, timing and verification of one collective operation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from westward_bench.collectives.operations import ROOT, Communicator, Operation, Place
from westward_bench.record import Column, Metric, Scalar, Verification
from westward_bench.timing import percentile
from westward_bench.verify import PATTERN_METHOD, POISON, Array, count_wrong

TIMING_METHOD = (
    "barrier before each iteration; time of an iteration = maximum over the ranks of each rank's own duration"
)
"""A collective is done when the last rank has its result, so the slowest rank counts (as max_time of the OSU
benchmarks does). A rank that leaves the barrier early also waits for the others: the figure is an upper bound."""

BANDWIDTH_METHOD = "algbw = bytes / p50 latency; busbw = algbw x bus factor (nccl-tests, doc/PERFORMANCE.md)"

CLOCK_RESOLUTION_S = time.get_clock_info("perf_counter").resolution

COLUMNS = (
    Column("op"), Column("bytes", "B"), Column("count", "elements"), Column("dtype"),
    Column("latency_p50", "us"), Column("latency_p99", "us"), Column("algbw", "GB/s"), Column("busbw", "GB/s"),
    Column("wrong", "elements"),
)  # fmt: skip
DIRECTIONS = {"latency_p50": "lower", "latency_p99": "lower", "algbw": "higher", "busbw": "higher"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """A range of message sizes in bytes, each `factor` times the one before."""

    min_bytes: int
    max_bytes: int
    factor: int

    def counts(self, itemsize: int, ranks: int, divided: bool) -> Iterator[int]:
        """Elements of each message: rounded down to whole elements (of each rank, if divided), one at least, no repeats."""
        unit = ranks if divided else 1
        size, last = self.min_bytes, 0
        while size <= self.max_bytes:
            count = max(size // (itemsize * unit), 1) * unit
            if count != last:
                yield count
            size, last = size * self.factor, count


@dataclass(frozen=True, slots=True)
class Measurement:
    """One operation with one message size on all ranks: seconds of each iteration, and elements compared and found wrong."""

    op: str
    bytes: int
    count: int
    dtype: str
    seconds: tuple[float, ...]
    checked: int
    wrong: int

    def row(self, bus_factor: float) -> dict[str, Scalar]:
        """The table row; GB are 1e9 bytes."""
        p50_s = max(percentile(self.seconds, 50), CLOCK_RESOLUTION_S)
        algbw = self.bytes / p50_s / 1e9
        return {
            "op": self.op, "bytes": self.bytes, "count": self.count, "dtype": self.dtype,
            "latency_p50": p50_s * 1e6, "latency_p99": percentile(self.seconds, 99) * 1e6,
            "algbw": algbw, "busbw": algbw * bus_factor, "wrong": self.wrong,
        }  # fmt: skip


def measure(
    comm: Communicator, operation: Operation, count: int, dtype: np.dtype[Any], iterations: int, warmup: int
) -> Measurement:
    """Times and verifies one message of `count` elements; every rank gets the same answer.

    What the last timed iteration left is verified, and then one more round with another pattern and a poisoned buffer,
    so that a call that does nothing cannot pass on what was there before.
    """
    place = Place(comm.Get_rank(), comm.Get_size(), count, dtype, salt=0)
    call, receive = _prepare(comm, operation, place)
    own = _time_iterations(comm, call, iterations, warmup)
    wrong = count_wrong(receive, operation.expected(place))
    place = Place(place.rank, place.ranks, count, dtype, salt=1)
    call, receive = _prepare(comm, operation, place)
    call()
    wrong += count_wrong(receive, operation.expected(place))
    per_rank = comm.allgather((own, wrong, 2 * receive.size))
    return Measurement(
        op=operation.name,
        bytes=count * dtype.itemsize,
        count=count,
        dtype=f"{dtype.kind}{8 * dtype.itemsize}",
        seconds=tuple(np.max([rank[0] for rank in per_rank], axis=0).tolist()),
        checked=sum(rank[2] for rank in per_rank),
        wrong=sum(rank[1] for rank in per_rank),
    )


def _prepare(comm: Communicator, operation: Operation, place: Place) -> tuple[Callable[[], None], Array]:
    """The call on filled buffers, and the buffer it receives into."""
    send = operation.sent(place)
    shared = operation.in_place and place.rank == ROOT
    receive = send if shared else np.full_like(operation.expected(place), POISON)
    return lambda: operation.call(comm, send, receive), receive


def _time_iterations(comm: Communicator, call: Callable[[], None], iterations: int, warmup: int) -> Array:
    """Seconds that each iteration took on this rank."""
    seconds = np.empty(iterations)
    for number in range(-warmup, iterations):
        comm.Barrier()
        started = time.perf_counter()
        call()
        elapsed = time.perf_counter() - started
        if number >= 0:
            seconds[number] = elapsed
    return seconds


def metrics_of(ranks: int, row: dict[str, Scalar]) -> tuple[Metric, ...]:
    """The row's figures of merit."""
    labels: dict[str, Scalar] = {"op": row["op"], "bytes": row["bytes"], "dtype": row["dtype"], "ranks": ranks}
    units = {column.name: column.unit for column in COLUMNS}
    return tuple(
        Metric(name, float(value), units[name], direction, labels)
        for name, direction in DIRECTIONS.items()
        if isinstance(value := row[name], float)
    )


def verification_of(measurements: list[Measurement]) -> Verification:
    """The verification of a whole run."""
    return Verification(
        checked=sum(measurement.checked for measurement in measurements),
        wrong=sum(measurement.wrong for measurement in measurements),
        method=PATTERN_METHOD,
    )
