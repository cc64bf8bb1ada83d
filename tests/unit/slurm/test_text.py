"""What Slurm's commands print, as three versions really printed it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.slurm.fakes import VERSIONS, said
from westward.errors import QuantityError
from westward.model.job import JobState, JobStatus
from westward.slurm import clustertext, complaints, text

every_version = pytest.mark.parametrize("version", VERSIONS)


def queue_of(version: str) -> dict[str, JobStatus]:
    """By name without its key."""
    extra = text.details(said(version, "squeue_details"))
    lines = text.queue(said(version, "squeue"), "TOKEN")
    jobs = [text.whole(text.detailed(text.queued(row), row[1], extra) for row in rows) for rows in lines.values()]
    return {job.name.partition("~")[0]: job for job in jobs}


def records_of(version: str) -> list[text.Record]:
    return text.records(said(version, "sacct"), "TOKEN")


@every_version
def test_jobs_of_a_queue(version: str) -> None:
    jobs = queue_of(version)
    begin, held, running = jobs["begin"], jobs["held"], jobs["run"]
    assert (begin.state, begin.reason, begin.held) == (JobState.PENDING, "BeginTime", False)
    assert begin.estimated_start is not None and begin.submitted_at is not None and begin.started_at is None
    assert (begin.estimated_start - begin.submitted_at).total_seconds() >= 3599
    assert (held.state, held.reason, held.held) == (JobState.PENDING, "JobHeldUser", True)
    assert running.state is JobState.RUNNING and running.reason == ""
    assert running.nodes == f"v{version.replace('.', '')}-n[1-2]" and running.started_at is not None
    assert (running.exit_code, running.ended_at) == (None, None)
    assert (jobs["mem"].state, jobs["mem"].exit_code, jobs["mem"].signal) == (JobState.COMPLETED, 0, None)
    assert jobs["mem"].ended_at is not None
    assert (jobs["requeued"].state, jobs["requeued"].restarts) == (JobState.PENDING, 1)
    assert (jobs["dep"].reason, jobs["dep"].estimated_start) == ("Dependency", None)


@every_version
def test_arrays_of_a_queue(version: str) -> None:
    jobs = queue_of(version)
    assert jobs["held"].tasks == {JobState.PENDING: 21}
    assert jobs["arrun"].tasks == {JobState.PENDING: 3, JobState.RUNNING: 1}
    assert jobs["arrun"].state is JobState.RUNNING


@every_version
def test_a_name_with_a_record_in_it_is_no_record(version: str) -> None:
    """The name of this job ends one line of the screen and begins another that looks like a running job 1."""
    assert "TOKEN1\x1f" in said(version, "squeue")  # it was printed as it is; only nobody can guess the real word
    honest = said(version, "squeue").replace("TOKEN", "WORD").replace("WORD1\x1f", "TOKEN1\x1f")
    assert not {1} & text.queue(honest, "WORD").keys()


def test_a_record_that_two_queries_give_is_one(version: str = "24.11") -> None:
    found = records_of(version)
    assert text.without_doubles([*found, *found]) == found


def test_a_job_that_was_put_back_counts_its_attempts_and_the_last_decides() -> None:
    """Its last record has another submit time; a job of an older cluster with the same id has another name."""
    record = records_of("24.11")[0]

    def attempt(submit: str, state: str, name: str = "job~a") -> text.Record:
        fields = {**record.fields, "Submit": submit, "State": state, "JobName": name}
        return text.Record(7, "", "", fields)

    rows = text.latest([attempt("300", "COMPLETED"), attempt("100", "NODE_FAIL"), attempt("200", "PREEMPTED"),
                        attempt("50", "FAILED", "job~b")])  # fmt: skip
    (ours,), (other,) = rows[7, "job~a"], rows[7, "job~b"]
    assert (ours.status.state, ours.status.restarts) == (JobState.COMPLETED, 2)
    assert (other.status.state, other.status.restarts) == (JobState.FAILED, 0)


@every_version
def test_attempts_of_an_accounting(version: str) -> None:
    told = {a.status.name.partition("~")[0]: a for a in text.attempts(records_of(version)) if a.task is None}
    assert (told["exit3"].status.state, told["exit3"].status.exit_code) == (JobState.FAILED, 3)
    assert (told["kill9"].status.exit_code, told["kill9"].status.signal) == (None, 9)
    mem = told["mem"]
    assert mem.status.state is JobState.COMPLETED and 12 <= mem.usage.elapsed_s <= 14
    assert mem.usage.tres == {"billing": 1, "cpu": 1, "mem": 100 * 1024**2, "node": 1}
    assert mem.usage.cpu_s is not None and 0.2 < mem.usage.cpu_s < 0.4
    assert mem.usage.energy_j is None  # nothing measures it there, which is not zero
    assert (mem.account, mem.qos) == ("research", "normal")
    requeued = told["requeued"].status
    assert requeued.state is JobState.PENDING and requeued.ended_at is not None


@pytest.mark.parametrize(
    ("tres", "raw", "energy_j"),
    [
        ("cpu=1,energy=1234", "", 1234),
        ("cpu=1,energy=1234", "1234", 1234),
        ("cpu=1", "0", None),
        ("cpu=1,energy=18446744073709551614", "18446744073709551614", None),
        ("cpu=1,energy=0", "", None),
    ],
)
def test_energy_is_told_once_and_only_where_it_was_measured(tres: str, raw: str, energy_j: int | None) -> None:
    """As slurmrestd's door tells it: see test_restdata."""
    record = next(record for record in records_of("24.11") if not record.step)
    changed = record._replace(fields={**record.fields, "AllocTRES": tres, "ConsumedEnergyRaw": raw})
    (attempt,) = text.attempts([changed])
    assert (attempt.usage.tres, attempt.usage.energy_j) == ({"cpu": 1}, energy_j)


@every_version
def test_tasks_of_an_array_are_attempts_of_their_own(version: str) -> None:
    tasks = {a.task: a.status for a in text.attempts(records_of(version)) if a.status.name.startswith("arr~")}
    assert {task: status.exit_code for task, status in tasks.items()} == {1: 1, 3: 1, 5: 1, 8: 0}
    assert len({status.job_id for status in tasks.values()}) == 1


def test_an_array_is_pieced_together_from_queue_and_accounting() -> None:
    def row(task: set[int], state: JobState, **more: Any) -> text.Row:
        return text.Row(JobStatus(12, "a~b", state, **more), task)

    ended = row({0, 1}, JobState.COMPLETED)
    old = row({2, 3}, JobState.PENDING)
    status = text.whole([ended, old, row({2}, JobState.RUNNING, nodes="n1"), row({3}, JobState.FAILED, exit_code=1)])
    assert status.tasks == {JobState.COMPLETED: 2, JobState.RUNNING: 1, JobState.FAILED: 1}
    assert (status.state, status.nodes, status.ended_at) == (JobState.RUNNING, "n1", None)


@pytest.mark.parametrize(
    ("written", "count"), [("[3-9%2]", 7), ("1-9:2,12", 6), ("0", 1), ("1-3,...", 3), ("0-1000:0", 1001)]
)
def test_tasks_of_an_expression(written: str, count: int) -> None:
    assert len(text.indices(written)) == count


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=60))
def test_indices_come_back(wanted: set[int]) -> None:
    assert text.indices("[" + ",".join(map(str, sorted(wanted))) + "%4]") == wanted


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=40))
def test_no_name_makes_a_record(name: str) -> None:
    row = ["7", "N/A", "RUNNING", "None", "1", "gpu", "1795493518", "1795493518", "1795493818", "n1", name]
    found = text.queue("w0rd" + "\x1f".join(row) + "\nw0rd" + "\x1f".join(["8", *row[1:]]), "w0rd")
    assert found.keys() == {7, 8}
    assert text.queued(found[7][0]).status.state is JobState.RUNNING


@given(st.text(max_size=60))
def test_nothing_printed_stops_a_reader(junk: str) -> None:
    for read in (
        text.details,
        clustertext.partitions,
        clustertext.config,
        clustertext.associations,
        clustertext.mpi_types,
        complaints.by_job,
    ):
        read(junk)
    text.queue(junk, "w")
    text.listed(junk, "w")
    text.records(junk, "w")
    text.moment(junk)
    text.tres(junk)
    clustertext.host_names(junk)


def test_an_unknown_state_is_unknown_and_no_more() -> None:
    row = ["7", "N/A", "SOMETHING_NEW", "None", "1", "gpu", "0", "N/A", "N/A", "", "a"]
    assert text.queued(row).status.state is JobState.UNKNOWN


def test_amounts() -> None:
    assert text.tres("billing=8,gres/gpu:a100=2,gres/gpu=2,mem=1.50G,node=1,energy=123") == {
        "billing": 8, "gres/gpu:a100": 2, "gres/gpu": 2, "mem": 1610612736, "node": 1, "energy": 123,
    }  # fmt: skip
    assert text.size("30120K") == 30120 * 1024
    with pytest.raises(QuantityError):
        text.size("many")
    assert text.cpu_seconds("1-02:03:04") == 93784.0
    assert text.cpu_seconds("00:00.295") == 0.295


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("1795493518", datetime(2026, 11, 24, 4, 11, 58, tzinfo=UTC)),
        ("2026-11-24T04:11:58", datetime(2026, 11, 24, 4, 11, 58, tzinfo=UTC)),
        ("N/A", None), ("Unknown", None), ("None", None), ("0", None), ("yesterday", None),
    ],
)  # fmt: skip
def test_points_in_time(written: str, moment: datetime | None) -> None:
    assert text.moment(written) == moment


@pytest.mark.parametrize(
    ("printed", "job_id"), [("12\n", 12), ("12;west\n", 12), ("", None), ("Submitted batch job", None)]
)
def test_the_id_of_a_new_job(printed: str, job_id: int | None) -> None:
    assert text.job_id(printed) == job_id
