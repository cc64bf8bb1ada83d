"""The collectives' benchmark on a world of threads: figures, verification and the world-size trap."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from westward_bench.collectives import __main__ as command
from westward_bench.collectives.measure import Measurement, Sizes, measure
from westward_bench.collectives.operations import OPERATIONS
from westward_bench.collectives.world import WorldSizeError, check_world_size, expected_ranks
from westward_bench.record import Record


class World:
    """What the ranks of a world of threads share: a barrier and a place to leave things for each other."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self.barrier = threading.Barrier(ranks, timeout=10)
        self.slots: list[Any] = [None] * ranks

    def run(self, work: Callable[[ThreadComm], Any], comm: type[ThreadComm] | None = None) -> list[Any]:
        """What `work` returns on each rank."""
        with ThreadPoolExecutor(self.ranks) as pool:
            return list(pool.map(lambda rank: work((comm or ThreadComm)(self, rank)), range(self.ranks)))


class ThreadComm:
    """A communicator between threads, with mpi4py's names."""

    def __init__(self, world: World, rank: int) -> None:
        self.world, self.rank = world, rank

    def Get_rank(self) -> int:
        return self.rank

    def Get_size(self) -> int:
        return self.world.ranks

    def Barrier(self) -> None:
        self.world.barrier.wait()

    def allgather(self, value: Any) -> list[Any]:
        self.world.slots[self.rank] = value.copy() if isinstance(value, np.ndarray) else value
        self.Barrier()
        values = list(self.world.slots)
        self.Barrier()
        return values

    def Allreduce(self, send: Any, receive: Any) -> None:
        receive[:] = sum(self.allgather(send))

    def Bcast(self, buffer: Any, root: int) -> None:
        buffer[:] = self.allgather(buffer)[root]

    def Reduce(self, send: Any, receive: Any, *, root: int) -> None:
        total = sum(self.allgather(send))
        if self.rank == root:
            receive[:] = total
        else:
            assert receive is None

    def Reduce_scatter_block(self, send: Any, receive: Any) -> None:
        receive[:] = np.split(sum(self.allgather(send)), self.world.ranks)[self.rank]

    def Allgather(self, send: Any, receive: Any) -> None:
        receive[:] = np.concatenate(self.allgather(send))

    def Alltoall(self, send: Any, receive: Any) -> None:
        receive[:] = np.concatenate([np.split(part, self.world.ranks)[self.rank] for part in self.allgather(send)])

    def Sendrecv(self, send: Any, dest: int, *, recvbuf: Any, source: int) -> None:
        assert dest == (self.rank + 1) % self.world.ranks
        recvbuf[:] = self.allgather(send)[source]


class OneBitWrong(ThreadComm):
    """Rank 1 receives one wrong element."""

    def Allreduce(self, send: Any, receive: Any) -> None:
        super().Allreduce(send, receive)
        if self.rank == 1:
            receive[-1] += 1


class Lazy(ThreadComm):
    """Does its work the first time only: what was received before stays there."""

    def Allreduce(self, send: Any, receive: Any) -> None:
        if not getattr(self, "done", False):
            super().Allreduce(send, receive)
        self.done = True


def run_command(ranks: int, output: Path, comm: type[ThreadComm] = ThreadComm, *arguments: str) -> list[int]:
    options = command.parse(["--output", str(output), "--max-bytes", "64", "--iterations", "3", *arguments])
    return World(ranks).run(lambda rank: command.Run(options, rank, {"mpi": "threads 1"}).execute(rank), comm)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_right_collective_has_nothing_wrong(name: str, ranks: int, dtype: str) -> None:
    count = 400 * ranks
    results = World(ranks).run(lambda comm: measure(comm, OPERATIONS[name], count, np.dtype(dtype), 2, 1))
    assert all(result == results[0] for result in results)
    assert results[0].wrong == 0
    assert results[0].checked >= 2 * count
    assert len(results[0].seconds) == 2


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("allreduce", 1.75),
        ("broadcast", 1),
        ("reduce", 1),
        ("sendrecv", 1),
        ("all_gather", 0.875),
        ("reduce_scatter", 0.875),
        ("alltoall", 0.875),
    ],
)
def test_bus_factors_of_eight_ranks_are_those_of_nccl_tests(name: str, factor: float) -> None:
    assert OPERATIONS[name].bus_factor(8) == factor


def test_a_row_is_computed_from_the_median() -> None:
    row = Measurement("allreduce", 1_000_000, 250_000, "f32", (1e-3, 2e-3, 9e-3), 1, 0).row(1.5)
    assert row == {
        "op": "allreduce", "bytes": 1_000_000, "count": 250_000, "dtype": "f32", "latency_p50": 2000.0, "latency_p99": 9000.0,
        "algbw": 0.5, "busbw": 0.75, "wrong": 0,
    }  # fmt: skip


def test_the_slowest_rank_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "westward_bench.collectives.measure._time_iterations",
        lambda comm, call, iterations, warmup: np.array([[1.0, 5.0], [3.0, 2.0]])[comm.Get_rank()],
    )
    result = World(2).run(lambda comm: measure(comm, OPERATIONS["broadcast"], 4, np.dtype("f4"), 2, 0))[0]
    assert result.seconds == (3.0, 5.0)


def test_sizes_are_whole_elements_of_each_rank() -> None:
    assert list(Sizes(8, 64, 2).counts(itemsize=4, ranks=3, divided=False)) == [2, 4, 8, 16]
    assert list(Sizes(1, 64, 2).counts(itemsize=8, ranks=1, divided=False)) == [1, 2, 4, 8]
    assert list(Sizes(8, 64, 2).counts(itemsize=4, ranks=3, divided=True)) == [3, 6, 15]


def test_a_good_run_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(2, tmp_path / "r.json", ThreadComm, "--expect-ranks", "2") == [0, 0]
    record = Record.from_json((tmp_path / "r.json").read_text())
    assert record.status == "ok"
    assert [row["bytes"] for row in record.rows] == [8, 16, 32, 64]
    assert [len(seconds) for seconds in record.samples] == [3, 3, 3, 3]
    assert {metric.name: metric.direction for metric in record.metrics} == {
        "latency_p50": "lower", "latency_p99": "lower", "algbw": "higher", "busbw": "higher",
    }  # fmt: skip
    assert capsys.readouterr().out.count("latency_p50") == 1


def test_a_suite_is_one_table_of_all_its_operations(tmp_path: Path) -> None:
    assert run_command(3, tmp_path / "r.json", ThreadComm, "--expect-ranks", "3", "--op", *OPERATIONS) == [0, 0, 0]
    record = Record.from_json((tmp_path / "r.json").read_text())
    assert list(dict.fromkeys(row["op"] for row in record.rows)) == list(OPERATIONS)
    assert {row["wrong"] for row in record.rows} == {0}
    assert {metric.labels["op"] for metric in record.metrics} == set(OPERATIONS)
    assert record.parameters["op"] == list(OPERATIONS)


@pytest.mark.parametrize("comm", [OneBitWrong, Lazy])
def test_a_wrong_element_fails_the_run_on_every_rank(tmp_path: Path, comm: type[ThreadComm]) -> None:
    assert run_command(2, tmp_path / "r.json", comm) == [1, 1]
    record = Record.from_json((tmp_path / "r.json").read_text())
    assert record.status == "failed"
    assert record.message is not None
    assert "elements were wrong" in record.message
    assert record.verification is not None
    assert record.verification.wrong > 0


def test_two_singletons_fail_where_slurm_started_two_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    (tmp_path / "r.json").write_text("the record of an earlier run")
    assert run_command(1, tmp_path / "r.json") == [1]
    record = Record.from_json((tmp_path / "r.json").read_text())
    assert record.status == "failed"
    assert record.rows == ()
    assert record.message is not None
    assert "the MPI world has 1 rank(s), SLURM_NTASKS says 2" in record.message
    assert "srun --mpi" in record.message


def test_a_rank_that_raises_aborts_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aborted: list[int] = []
    comm = ThreadComm(World(1), 0)
    comm.Abort = aborted.append  # type: ignore[attr-defined]
    monkeypatch.setattr(command, "start_mpi", lambda: (argparse.Namespace(COMM_WORLD=comm), {}))
    monkeypatch.setattr(command, "measure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command.main(["--output", str(tmp_path / "r.json"), "--expect-ranks", "1"])
    assert aborted == [1]
    assert Record.from_json((tmp_path / "r.json").read_text()).message == "ZeroDivisionError: division by zero"


def test_no_mpi_is_a_failed_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise RuntimeError("cannot load MPI library")

    monkeypatch.setattr(command, "start_mpi", no_library)
    assert command.main(["--output", str(tmp_path / "r.json")]) == 1
    assert (
        Record.from_json((tmp_path / "r.json").read_text()).message == "MPI cannot be loaded: cannot load MPI library"
    )


def test_the_command_line_counts_before_slurm() -> None:
    assert expected_ranks(3, {"SLURM_NTASKS": "2"}) == (3, "--expect-ranks")
    assert expected_ranks(None, {"SLURM_NTASKS": "2"}) == (2, "SLURM_NTASKS")
    assert expected_ranks(None, {}) == (None, "nobody")
    with pytest.raises(WorldSizeError, match="SLURM_NTASKS"):
        expected_ranks(None, {"SLURM_NTASKS": "two"})


@pytest.mark.parametrize(("actual", "expected"), [(1, 2), (3, 2)])
def test_a_world_of_another_size_is_refused(actual: int, expected: int) -> None:
    check_world_size(actual, actual, "--expect-ranks")
    check_world_size(actual, None, "nobody")
    with pytest.raises(WorldSizeError, match=f"{actual} rank"):
        check_world_size(actual, expected, "--expect-ranks")
