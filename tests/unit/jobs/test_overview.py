"""Many jobs watched at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from unit.jobs.world import SILENT, World, fails, submit
from westward.jobs.overview import Overview, progress
from westward.model.job import Array, JobState
from westward.store.ledger import Phase

MINUTE = timedelta(minutes=1)


class TestLooking:
    def test_only_what_is_otherwise_is_told(self, world: World) -> None:
        first, second = submit(world), submit(world, "east")
        overview = Overview(world.jobs(), world.ledger)
        changed, turned = overview.look()
        assert ({job.key for job in changed}, turned) == ({first.key, second.key}, [])
        assert overview.look() == ([], [])
        world.cluster.set(first.job_id or 0, JobState.RUNNING)
        changed, _ = overview.look()
        assert [(job.key, job.state) for job in changed] == [(first.key, JobState.RUNNING)]

    def test_each_site_is_asked_once(self, world: World) -> None:
        for _ in range(5):
            submit(world)
        overview = Overview(world.jobs(), world.ledger)
        world.cluster.asked.clear()
        overview.look()
        assert world.cluster.asked == ["poll"]

    def test_jobs_that_come_meanwhile_are_seen_where_none_is_named(self, world: World) -> None:
        first = submit(world)
        everything, named = (Overview(world.jobs(), world.ledger, keys) for keys in (None, [first.key]))
        second = submit(world)
        everything.look()
        named.look()
        assert {job.key for job in everything.jobs} == {first.key, second.key}
        assert [job.key for job in named.jobs] == [first.key]

    def test_those_that_have_ended_stay_until_all_have(self, world: World) -> None:
        first, second = submit(world), submit(world)
        overview = Overview(world.jobs(), world.ledger)
        world.cluster.set(first.job_id or 0, JobState.COMPLETED)
        overview.look()
        assert ([job.key for job in overview.jobs], overview.over) == ([second.key, first.key], False)
        world.cluster.set(second.job_id or 0, JobState.FAILED)
        overview.look()
        assert overview.over

    def test_a_site_that_falls_silent_and_answers_again(self, world: World) -> None:
        submit(world)
        overview = Overview(world.jobs(), world.ledger)
        overview.look()
        world.cluster.before["any"] = fails(SILENT)
        _, turned = overview.look()
        assert [(word.name, bool(word.silent_since)) for word in turned] == [("west", True)]
        (line,) = overview.sites()
        assert (line.others, line.waiting) == (1, 0)
        del world.cluster.before["any"]
        _, turned = overview.look()
        assert [(word.name, word.silent_since) for word in turned] == [("west", None)]


def test_tasks_of_arrays_count_each(world: World) -> None:
    job = submit(world, array=Array("0-9"))
    tasks = {JobState.COMPLETED: 4, JobState.RUNNING: 2, JobState.PENDING: 4}
    world.cluster.set(job.job_id or 0, JobState.RUNNING, tasks=tasks)
    overview = Overview(world.jobs(), world.ledger)
    overview.look()
    (line,), (job,) = overview.sites(), overview.jobs
    assert (line.running, line.waiting, line.others) == (2, 4, 0)
    told = progress(job, job.created_at)
    assert (told.done, told.tasks, told.ends_by) == (4, 10, None)


def test_how_far_a_job_is(world: World) -> None:
    job = submit(world)
    now = job.created_at + 10 * MINUTE
    waits = progress(replace(job, estimated_start=now + MINUTE), now)
    assert (waits.starts_at, waits.ran_s, waits.ends_by) == (now + MINUTE, None, None)
    running = replace(job, state=JobState.RUNNING, started_at=now - 5 * MINUTE)
    told = progress(running, now)
    assert (told.ran_s, told.limit_s, told.ends_by) == (300.0, 3600, now + 55 * MINUTE)
    over = progress(replace(running, phase=Phase.ENDED, state=JobState.COMPLETED, ended_at=now - MINUTE), now)
    assert (over.ran_s, over.ends_by) == (240.0, None)
