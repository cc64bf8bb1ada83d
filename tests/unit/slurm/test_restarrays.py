"""Arrays: what queue and accounting say of their tasks, put together."""

from __future__ import annotations

import pytest

from unit.slurm.replay import NEW, OLD, body_of
from westward.model.job import JobState
from westward.slurm import restdata
from westward.slurm.restarrays import Part, accounted, listing, merged, split, task_indices, whole_array

RUNNING, PENDING = JobState.RUNNING, JobState.PENDING
COMPLETED, FAILED = JobState.COMPLETED, JobState.FAILED


def test_the_state_list_names_jobs_by_text() -> None:
    listed = listing(body_of("jobs_state")["jobs"])
    assert listed.plain[2] is RUNNING
    assert not listed.tasks


def test_a_part_of_a_heterogeneous_job_is_left_out() -> None:
    told = [{"job_id": "12+1", "state": ["RUNNING"]}, {"job_id": 13, "state": ["BOGUS"]}, {"job_id": "14", "state": []}]
    listed = listing(told)
    assert (listed.plain, listed.tasks) == ({13: JobState.UNKNOWN, 14: JobState.UNKNOWN}, {})


def test_flags_of_a_listed_state_count() -> None:
    told = [{"job_id": "13", "state": ["PENDING", "REVOKED"]}, {"job_id": "14", "state": ["COMPLETED", "COMPLETING"]}]
    assert listing(told).plain == {13: JobState.REVOKED, 14: RUNNING}


@pytest.mark.parametrize(
    ("release", "answer"),
    [(OLD, "jobs_state_array"), (NEW, "jobs_state"), *((NEW, f"jobs_state_v0.0.{v}") for v in (42, 43, 44))],
)
def test_a_task_that_runs_is_listed_under_an_id_of_its_own(release: str, answer: str) -> None:
    listed = listing(body_of(answer, release)["jobs"])
    (array,) = {job for job, tasks in listed.tasks.items() if PENDING in tasks.values()}
    assert listed.tasks[array] == dict.fromkeys((2, 3, 4), PENDING)
    others = {job: dict(tasks) for job, tasks in listed.tasks.items() if job != array}
    assert list(others.values()) == [{0: RUNNING}, {1: RUNNING}]


@pytest.mark.parametrize(
    ("release", "suffix"), [(OLD, ""), (NEW, ""), (NEW, "_v0.0.42"), (NEW, "_v0.0.43"), (NEW, "_v0.0.44")]
)
def test_an_ended_array_is_as_bad_as_its_worst_task(release: str, suffix: str) -> None:
    plain, arrays = accounted(body_of(f"accounted_array{suffix}", release)["jobs"])
    assert not plain
    ((array, parts),) = arrays.items()
    status = whole_array(parts, merged({}, {}, parts))
    assert (status.job_id, status.state, status.exit_code) == (array, FAILED, 4)
    assert status.tasks == {COMPLETED: 4, FAILED: 1}
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.started_at < status.ended_at
    assert status.ended_at == max(part.status.ended_at for part in parts if part.status.ended_at)


@pytest.mark.parametrize(
    ("release", "suffix"), [(OLD, ""), (NEW, ""), (NEW, "_v0.0.42"), (NEW, "_v0.0.43"), (NEW, "_v0.0.44")]
)
def test_tasks_that_never_started_share_one_record(release: str, suffix: str) -> None:
    (parts,) = accounted(body_of(f"accounted_array_cancelled{suffix}", release)["jobs"])[1].values()
    assert [part.indices for part in parts] == [{1, 3, 7}]
    assert whole_array(parts, merged({}, {}, parts)).tasks == {JobState.CANCELLED: 3}


@pytest.mark.parametrize(
    ("text", "indices"), [("0x8A", {1, 3, 7}), ("0x8A%2", {1, 3, 7}), ("[4-5]", {4, 5}), ("", set()), ("?", set())]
)
def test_indices_of_a_record(text: str, indices: set[int]) -> None:
    unset = {"set": False, "infinite": False, "number": 0}
    assert task_indices({"task_id": unset, "task": text}) == indices
    assert task_indices({"task_id": {"set": True, "infinite": False, "number": 9}, "task": text}) == {9}


def test_what_is_listed_goes_before_what_was_seen_and_that_before_the_accounting() -> None:
    _, arrays = accounted(body_of("accounted_array")["jobs"])
    (parts,) = arrays.values()  # task 0 failed, the others completed
    tasks = merged({1: RUNNING}, {0: JobState.TIMEOUT, 2: RUNNING}, parts)
    assert tasks == {0: JobState.TIMEOUT, 1: RUNNING, 2: COMPLETED, 3: COMPLETED, 4: COMPLETED}


@pytest.mark.parametrize("release", [OLD, NEW])
def test_an_array_in_the_queue(release: str) -> None:
    records = [
        (restdata.queued_status(job), {"job_id": restdata.array_id(job), "task_id": job["array_task_id"]})
        for job in body_of("job_array", release)["jobs"]
    ]
    _, arrays = split(records)
    ((array, parts),) = arrays.items()
    status = whole_array(parts, {0: RUNNING, 1: RUNNING, 2: PENDING, 3: PENDING, 4: PENDING})
    assert (status.job_id, status.state, status.name) == (array, RUNNING, "array~ffffffffffff")
    assert status.tasks == {RUNNING: 2, PENDING: 3}
    assert (status.exit_code, status.ended_at, status.reason) == (None, None, "")
    assert status.started_at is not None


def test_the_reason_of_an_array_that_waits_is_that_of_its_tasks() -> None:
    job = body_of("job_held", NEW)["jobs"][0]
    part = Part(restdata.queued_status(job), frozenset())
    status = whole_array([part], {1: PENDING, 2: PENDING})
    assert (status.state, status.reason, status.held, status.tasks) == (PENDING, "JobHeldUser", True, {PENDING: 2})
