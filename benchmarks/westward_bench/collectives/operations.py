"""The table of operations: what each sends and receives, how it is called, and how its bandwidth is counted.

A message of S bytes is S/itemsize elements, and S is what nccl-tests calls the size: the buffer of a rank in allreduce,
broadcast, reduce, alltoall and sendrecv, the whole array in all_gather (received) and reduce_scatter (sent).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from westward_bench.verify import Array, pattern, pattern_sum

ROOT = 0


class Communicator(Protocol):
    """What is used of an mpi4py communicator; the reductions sum, which is mpi4py's default."""

    def Get_rank(self) -> int: ...
    def Get_size(self) -> int: ...
    def Barrier(self) -> None: ...
    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None: ...
    def Bcast(self, buf: Any, root: int) -> None: ...
    def Reduce(self, sendbuf: Any, recvbuf: Any, *, root: int) -> None: ...
    def Reduce_scatter_block(self, sendbuf: Any, recvbuf: Any) -> None: ...
    def Allgather(self, sendbuf: Any, recvbuf: Any) -> None: ...
    def Alltoall(self, sendbuf: Any, recvbuf: Any) -> None: ...
    def Sendrecv(self, sendbuf: Any, dest: int, *, recvbuf: Any, source: int) -> Any: ...
    def allgather(self, sendobj: Any) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """A rank's place in one round: who it is, the elements of the whole message, and the pattern's salt."""

    rank: int
    ranks: int
    count: int
    dtype: np.dtype[Any]
    salt: int

    @property
    def part(self) -> int:
        """Elements that one rank has of a divided message."""
        return self.count // self.ranks

    def pattern(self, rank: int, count: int, start: int = 0) -> Array:
        """What `rank` contributes to elements from `start` on."""
        return pattern(count, rank, self.dtype, self.salt, start)


@dataclass(frozen=True, slots=True)
class Operation:
    """One collective.

    `bus_factor` is busbw / algbw for a number of ranks (nccl-tests, doc/PERFORMANCE.md); `divided` says that the message
    is split evenly over the ranks; `sent` is what a rank sends and `expected` what its receive buffer must then hold. With
    `in_place` the root's send buffer is the one that it passes to receive into, and the others send nothing.
    """

    name: str
    bus_factor: Callable[[int], float]
    divided: bool
    sent: Callable[[Place], Array]
    expected: Callable[[Place], Array]
    call: Callable[[Communicator, Array, Array], None]
    in_place: bool = False


def _one(ranks: int) -> float:
    return 1.0


def _all_but_own(ranks: int) -> float:
    return (ranks - 1) / ranks


def _twice_all_but_own(ranks: int) -> float:
    return 2 * (ranks - 1) / ranks


def _sent_whole(place: Place) -> Array:
    return place.pattern(place.rank, place.count)


def _alltoall_expected(place: Place) -> Array:
    start = place.rank * place.part
    return np.concatenate([place.pattern(rank, place.part, start) for rank in range(place.ranks)])


def _all_gather_expected(place: Place) -> Array:
    return np.concatenate([place.pattern(rank, place.part) for rank in range(place.ranks)])


def _reduce_expected(place: Place) -> Array:
    """The sums at the root; nothing arrives anywhere else."""
    if place.rank == ROOT:
        return pattern_sum(place.count, place.ranks, place.dtype, place.salt)
    return np.empty(0, place.dtype)


def _call_reduce(comm: Communicator, send: Array, receive: Array) -> None:
    comm.Reduce(send, receive if comm.Get_rank() == ROOT else None, root=ROOT)


def _call_sendrecv(comm: Communicator, send: Array, receive: Array) -> None:
    """A ring: each rank sends to the next and receives from the one before."""
    rank, ranks = comm.Get_rank(), comm.Get_size()
    comm.Sendrecv(send, (rank + 1) % ranks, recvbuf=receive, source=(rank - 1) % ranks)


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            "allreduce", _twice_all_but_own, divided=False,
            sent=_sent_whole,
            expected=lambda place: pattern_sum(place.count, place.ranks, place.dtype, place.salt),
            call=lambda comm, send, receive: comm.Allreduce(send, receive),
        ),
        Operation(
            "broadcast", _one, divided=False, in_place=True,
            sent=_sent_whole,
            expected=lambda place: place.pattern(ROOT, place.count),
            call=lambda comm, _send, receive: comm.Bcast(receive, root=ROOT),
        ),
        Operation(
            "reduce", _one, divided=False,
            sent=_sent_whole,
            expected=_reduce_expected,
            call=_call_reduce,
        ),
        Operation(
            "reduce_scatter", _all_but_own, divided=True,
            sent=_sent_whole,
            expected=lambda place: pattern_sum(
                place.part, place.ranks, place.dtype, place.salt, place.rank * place.part
            ),
            call=lambda comm, send, receive: comm.Reduce_scatter_block(send, receive),
        ),
        Operation(
            "all_gather", _all_but_own, divided=True,
            sent=lambda place: place.pattern(place.rank, place.part),
            expected=_all_gather_expected,
            call=lambda comm, send, receive: comm.Allgather(send, receive),
        ),
        Operation(
            "alltoall", _all_but_own, divided=True,
            sent=_sent_whole,
            expected=_alltoall_expected,
            call=lambda comm, send, receive: comm.Alltoall(send, receive),
        ),
        Operation(
            "sendrecv", _one, divided=False,
            sent=_sent_whole,
            expected=lambda place: place.pattern((place.rank - 1) % place.ranks, place.count),
            call=_call_sendrecv,
        ),
    )
}  # fmt: skip
"""Every operation by its name on the command line; a new one is one entry."""
