"""Waiting for jobs: whoever waits, and for however many, each site is asked once a turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from unit.jobs.world import KNOWN, SILENT, World, many, submit
from westward.errors import JobFailed, NotEnded, StorageError
from westward.faces import session, watcher
from westward.faces.job import Job, as_completed
from westward.faces.sweeping import Point, Sweep
from westward.model.job import Array, JobState, Task
from westward.model.sweep import SweepPoint
from westward.store.ledger import Ledger


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A user's own ledger, where every call of the API finds it, and two clusters in memory."""
    made = World(Ledger(), Ledger)
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    monkeypatch.setattr(session, "open_client", made.connect)
    monkeypatch.setattr(session, "known_sites", lambda: KNOWN.sites)
    monkeypatch.setattr("westward.faces.job.known_sites", lambda: KNOWN.sites)
    monkeypatch.setattr(watcher, "FIRST_TICK_S", 0.02)
    monkeypatch.setattr(watcher, "LAST_TICK_S", 0.05)
    monkeypatch.setattr(watcher, "LINGERS_S", 0.2)
    yield made
    for thread in threading.enumerate():
        if thread.name == "westward-watcher":
            thread.join(5)
            assert not thread.is_alive()  # nobody waits any more


def later(seconds: float, do: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()


def test_jobs_come_as_they_end_wherever_they_are(world: World) -> None:
    jobs = [Job(submit(world, where)) for where in ("west", "east", "west")]
    later(0.1, lambda: world.cluster.set(2, JobState.COMPLETED))
    later(0.3, lambda: world.east.set(1, JobState.FAILED, exit_code=7))
    later(0.5, lambda: world.cluster.set(1, JobState.CANCELLED))
    came = [(job, job.state) for job in as_completed(jobs, 10)]
    assert came == [(jobs[2], JobState.COMPLETED), (jobs[1], JobState.FAILED), (jobs[0], JobState.CANCELLED)]
    assert list(as_completed(jobs, 0)) == jobs  # they have ended: nobody is asked


def test_a_site_is_asked_once_a_turn_about_all_jobs_of_all_who_wait(world: World) -> None:
    rows = world.jobs().submit_many(many(40))
    before = world.cluster.asked.count("poll")
    later(0.4, lambda: [world.cluster.set(job_id, JobState.COMPLETED) for job_id in list(world.cluster.jobs)])
    with ThreadPoolExecutor(40) as pool:
        states = list(pool.map(lambda row: Job(row).wait(10), rows))  # type: ignore[arg-type]
    assert set(states) == {JobState.COMPLETED}
    assert world.cluster.asked.count("poll") - before < 40


def test_who_waits_no_longer_is_told_so_and_the_job_goes_on(world: World) -> None:
    job = Job(submit(world))
    for wait in (job.wait, job.result, lambda timeout: list(as_completed([job], timeout))):
        begun = time.monotonic()
        with pytest.raises(NotEnded, match=job.key) as told:
            wait(0.1)
        assert isinstance(told.value, TimeoutError) and 0.1 <= time.monotonic() - begun < 2
    assert not job.done() and world.cluster.alive() == [1]


def test_a_site_that_goes_away_is_waited_for(world: World) -> None:
    job = Job(submit(world))
    world.cluster.before["any"] = silent = lambda: (_ for _ in ()).throw(SILENT)  # type: ignore[assignment]
    assert job.status().state is JobState.UNKNOWN
    later(0.3, lambda: (world.cluster.set(1, JobState.COMPLETED), world.cluster.before.clear()))
    assert silent is not None and job.wait(10) is JobState.COMPLETED


def test_one_handle_twice_comes_twice(world: World) -> None:
    job = Job(submit(world))
    later(0.1, lambda: world.cluster.set(1, JobState.COMPLETED))
    assert list(as_completed([job, job], 10)) == [job, job]


def test_a_job_that_nobody_has_taken_further_is(world: World) -> None:
    """A submission in doubt is settled by whoever waits for it."""
    world.cluster.after["release"] = lambda: (_ for _ in ()).throw(SILENT)  # type: ignore[assignment]
    with pytest.raises(type(SILENT)):
        submit(world)
    world.cluster.after.clear()
    job = Job(world.only())
    later(0.2, lambda: world.cluster.set(1, JobState.COMPLETED))
    assert job.wait(10) is JobState.COMPLETED


def test_a_ledger_that_fails_ends_the_waiting_with_its_words(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(submit(world))

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(Ledger, "get_many", full)
    with pytest.raises(StorageError, match="the disk is full"):
        job.wait(10)
    monkeypatch.undo()


def test_what_failed_says_so_and_cancel_is_harmless_afterwards(world: World) -> None:
    job = Job(submit(world))
    later(0.1, lambda: world.cluster.set(1, JobState.FAILED, exit_code=7))
    with pytest.raises(JobFailed, match="FAILED with exit code 7"):
        job.result(10)
    job.cancel()
    assert job.state is JobState.FAILED and job.done()


def test_cancel(world: World) -> None:
    job = Job(submit(world))
    job.cancel()
    assert job.wait(10) is JobState.CANCELLED


def test_the_points_of_an_array_come_as_its_tasks_end(world: World) -> None:
    job = Job(submit(world, array=Array("0-2")))
    points = [Point(SweepPoint(task, f"size={task}", (), 0, Task(()), job.key, task), job) for task in range(3)]

    def now(state: JobState, **tasks: str) -> None:
        ids = {JobState(name): which for name, which in tasks.items()}
        world.cluster.set(1, state, tasks={name: Array(which).tasks for name, which in ids.items()}, task_ids=ids)

    later(0.1, lambda: now(JobState.RUNNING, RUNNING="0,2", FAILED="1"))
    later(0.4, lambda: now(JobState.FAILED, FAILED="1", COMPLETED="0,2"))
    came = [(point.number, point.state) for point in Sweep("k", points).as_completed(10)]
    assert came == [(1, JobState.FAILED), (0, JobState.COMPLETED), (2, JobState.COMPLETED)]
    assert points[1].slurm_id == "1_1" and points[1].directory == f"{job.directory}/1"


def test_who_waits_for_points_no_longer_is_told_how_many_go_on(world: World) -> None:
    job = Job(submit(world, array=Array("0-1")))
    points = [Point(SweepPoint(task, f"size={task}", (), 0, Task(()), job.key, task), job) for task in range(2)]
    with pytest.raises(NotEnded, match="2 points have not ended yet, 'size=0' among them"):
        Sweep("k", points).wait(0.1)
    with pytest.raises(NotEnded, match="'size=1' has not ended yet"):
        points[1].result(0.1)


def test_a_handle_is_known_by_its_key(world: World) -> None:
    row = submit(world)
    assert {Job(row), Job(row)} == {Job(row)}
    assert repr(Job(row)) == f"<Job {row.key} {row.name!r} at west: PENDING>"
