"""Watching: one question a tick and site, silence, what may come back, what is lost, and how little is written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from unit.federation.worlds import job
from unit.jobs.world import DOUBT, SILENT, World, decision, fails, many, submit
from unit.store.databases import noted
from westward.errors import Unreachable
from westward.jobs import watching
from westward.jobs.lifecycle import Jobs
from westward.model.job import JobState, JobStatus, new_key
from westward.store.ledger import Phase


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOST_AFTER", timedelta(0))


class TestUnheard:
    """The queue answers and the accounting does not."""

    def test_what_left_the_queue_is_unknown_and_never_lost(self, world: World, no_grace: None) -> None:
        stays, leaves = (submit(world) for _ in range(2))
        world.cluster.set(1, JobState.RUNNING)
        left = world.cluster.jobs.pop(2)
        world.cluster.backlog = Unreachable("slurmdbd is down")
        for _ in range(3):
            running, unknown = world.jobs().refresh([stays, leaves])
            assert running.state is JobState.RUNNING
            assert (unknown.state, unknown.reason, unknown.phase) == (
                JobState.UNKNOWN,
                "slurmdbd is down",
                Phase.RELEASED,
            )
        world.cluster.backlog = 0
        world.cluster.jobs[2] = replace(left, state=JobState.COMPLETED, held=False)
        assert world.jobs().refresh([leaves])[0].state is JobState.COMPLETED

    @pytest.mark.parametrize("state", sorted(watching.MAY_COME_BACK))
    def test_an_end_that_has_lasted_is_the_end_though_the_accounting_is_down(
        self, world: World, state: JobState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        world.cluster.set(1, state)
        world.jobs().refresh([made])
        monkeypatch.setattr(watching, "FINAL_AFTER", timedelta(0))
        world.cluster.jobs.clear()
        world.cluster.backlog = Unreachable("slurmdbd is down")
        (ended,) = world.jobs().refresh([made])
        assert (ended.phase, ended.state) == (Phase.ENDED, state)


class TestTick:
    def test_it_follows_the_cluster_to_the_end(self, world: World) -> None:
        made = submit(world)
        started, planned = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
        world.cluster.set(1, JobState.PENDING, reason="Priority", estimated_start=planned)
        (waiting,) = world.jobs().refresh([made])
        assert (waiting.state, waiting.reason, waiting.estimated_start) == (JobState.PENDING, "Priority", planned)
        world.cluster.set(1, JobState.RUNNING, started_at=started, restarts=2, estimated_start=None)
        (running,) = world.jobs().refresh([made])
        assert (running.state, running.started_at, running.phase) == (JobState.RUNNING, started, Phase.RELEASED)
        assert (running.restarts, running.estimated_start) == (2, None)
        world.cluster.set(1, JobState.FAILED, exit_code=3, signal=9, ended_at=started)
        (ended,) = world.jobs().refresh([running])
        assert (ended.state, ended.exit_code, ended.signal, ended.phase) == (JobState.FAILED, 3, 9, Phase.ENDED)
        assert ended.ended_at == started

    def test_one_question_per_site_whatever_the_number_of_jobs(self, world: World) -> None:
        world.jobs().submit_many(many(40))
        for _ in range(3):
            submit(world, "east")
        for cluster in (world.cluster, world.east):
            cluster.asked.clear()
        world.jobs().watch()
        assert world.cluster.asked == world.east.asked == ["poll"]

    def test_only_what_changed_is_written(self, world: World) -> None:
        world.jobs().submit_many(many(60))
        world.jobs().watch()
        with noted(world.ledger, reads=False) as written:
            assert world.jobs().watch() == 0
        assert len(written) == 1, "the site answered"
        world.cluster.set(7, JobState.RUNNING)
        with noted(world.ledger, reads=False) as written:
            assert world.jobs().watch() == 1
        assert len(written) == 2

    def test_ten_thousand_jobs_of_which_nothing_is_new(self, world: World) -> None:
        intent = world.jobs()._intent(job(), decision())
        keys = [new_key() for _ in range(10_000)]
        intents = [replace(intent, key=key, submission=replace(intent.submission, name=f"job~{key}")) for key in keys]
        world.ledger.add(intents)
        world.ledger.handles({key: i for i, key in enumerate(keys)})
        world.ledger.released(keys)
        world.cluster.jobs = {i: JobStatus(i, f"job~{key}", JobState.PENDING) for i, key in enumerate(keys)}
        world.jobs().watch()
        with noted(world.ledger, reads=False) as written:
            assert world.jobs().watch() == 0
        assert len(written) == 1

    def test_a_site_where_nothing_goes_on_is_not_asked(self, world: World) -> None:
        submit(world)
        world.cluster.set(1, JobState.COMPLETED)
        world.jobs().watch()
        world.cluster.asked.clear()
        world.jobs().watch()
        assert world.cluster.asked == []

    def test_an_older_word_changes_nothing_about_a_job_that_has_ended(self, world: World) -> None:
        """Two watchers: one asked before the end, and writes after the other one has recorded it."""
        made = submit(world)
        old = {made.key: JobStatus(1, made.submission.name, JobState.RUNNING)}
        world.cluster.set(1, JobState.COMPLETED)
        world.jobs().watch()
        world.ledger.seen(old, ended=set())
        world.ledger.missing({made.key: "nobody knows it"})
        world.ledger.lost({made.key: "nobody knows it"})
        assert (world.only().phase, world.only().state) == (Phase.ENDED, JobState.COMPLETED)

    def test_an_array_with_its_tasks(self, world: World) -> None:
        made = submit(world)
        tasks = {JobState.RUNNING: 2, JobState.PENDING: 5, JobState.FAILED: 1}
        world.cluster.set(1, JobState.RUNNING, tasks=tasks)
        assert world.jobs().refresh([made])[0].tasks == tasks
        tasks = {JobState.COMPLETED: 7, JobState.FAILED: 1}
        world.cluster.set(1, JobState.FAILED, tasks=tasks)
        (ended,) = world.jobs().refresh([made])
        assert (ended.phase, ended.tasks) == (Phase.ENDED, tasks)

    def test_an_array_that_is_asked_about_again_and_again_ends_too(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each command opens its door anew, and a new door tells of every array: that is no news of it."""
        made, world.cluster.talkative = submit(world), True
        world.cluster.set(1, JobState.NODE_FAIL, tasks={JobState.NODE_FAIL: 2}, ended_at=datetime.now(UTC))
        seen = [(world.jobs().watch(), world.ledger.watched()["west"][0].seen_at)[1] for _ in range(3)]
        assert len(set(seen)) == 1 and world.only().phase is Phase.RELEASED
        monkeypatch.setattr(watching, "FINAL_AFTER", timedelta(0))
        assert world.jobs().refresh([made])[0].phase is Phase.ENDED

    def test_an_array_is_not_over_while_a_task_of_it_may_come_back(self, world: World) -> None:
        """A task that failed stands for the whole before one whose node died, which its cluster may put back into the queue."""
        made = submit(world)
        tasks = {JobState.FAILED: 1, JobState.NODE_FAIL: 1}
        ids = {JobState.FAILED: "0", JobState.NODE_FAIL: "1"}
        world.cluster.set(1, JobState.FAILED, tasks=tasks, task_ids=ids, ended_at=datetime.now(UTC))
        (now,) = world.jobs().refresh([made])
        assert (now.phase, now.state, now.task_ids) == (Phase.RELEASED, JobState.FAILED, ids)
        world.cluster.set(1, JobState.RUNNING, tasks={JobState.FAILED: 1, JobState.RUNNING: 1}, ended_at=None)
        assert world.jobs().refresh([made])[0].state is JobState.RUNNING


class TestSilence:
    def test_its_jobs_are_unknown_last_seen_when_it_answered_last_and_come_back(self, world: World) -> None:
        made = submit(world)
        world.cluster.set(1, JobState.RUNNING)
        (running,) = world.jobs().refresh([made])
        world.cluster.before["any"] = fails(SILENT)
        (unknown,) = world.jobs().refresh([running])
        assert (unknown.state, unknown.reason) == (JobState.UNKNOWN, str(SILENT))
        assert unknown.seen_at == running.seen_at
        assert unknown.phase is Phase.RELEASED
        world.cluster.before.clear()
        (back,) = world.jobs().refresh([unknown])
        assert (back.state, back.reason) == (JobState.RUNNING, "")
        assert back.seen_at is not None
        assert unknown.seen_at is not None
        assert back.seen_at > unknown.seen_at

    def test_it_is_one_row_whatever_the_number_of_jobs(self, world: World) -> None:
        world.jobs().submit_many(many(40))
        world.jobs().watch()
        world.cluster.before["any"] = fails(SILENT)
        with noted(world.ledger, reads=False) as written:
            world.jobs().watch()
        assert len(written) == 1
        assert {job.state for job in world.ledger.jobs()} == {JobState.UNKNOWN}
        assert world.ledger.counts() == {(Phase.RELEASED, JobState.UNKNOWN): 40}

    def test_the_other_site_and_what_has_ended_stay_as_they_are(self, world: World) -> None:
        gone, here = submit(world), submit(world, "east")
        over = submit(world)
        world.cluster.set(2, JobState.COMPLETED)
        world.jobs().watch()
        world.cluster.before["any"] = fails(SILENT)
        world.jobs().watch()
        states = {job.key: job.state for job in world.ledger.jobs()}
        assert states == {gone.key: JobState.UNKNOWN, here.key: JobState.PENDING, over.key: JobState.COMPLETED}

    def test_what_changed_in_the_silence_is_seen_after_it(self, world: World) -> None:
        made = submit(world)
        world.jobs().watch()
        world.cluster.before["any"] = fails(SILENT, times=1)
        world.jobs().watch()
        world.cluster.set(1, JobState.TIMEOUT)
        assert world.jobs().refresh([made])[0].state is JobState.TIMEOUT

    def test_a_site_that_is_no_longer_described_is_told(self, world: World) -> None:
        made = submit(world)
        (job,) = Jobs(world.ledger, {}, world.connect).refresh([made])
        assert job.state is JobState.UNKNOWN
        assert "no longer described" in job.reason


@pytest.mark.parametrize("state", sorted(watching.MAY_COME_BACK))
class TestMayComeBack:
    def test_it_is_final_when_it_has_lasted(
        self, world: World, state: JobState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        world.cluster.set(1, state, ended_at=datetime.now(UTC))
        for _ in range(2):
            (job,) = world.jobs().refresh([made])
            assert (job.state, job.phase) == (state, Phase.RELEASED)
        monkeypatch.setattr(watching, "FINAL_AFTER", timedelta(0))
        (job,) = world.jobs().refresh([made])
        assert (job.state, job.phase) == (state, Phase.ENDED)

    def test_it_goes_back_to_the_queue_and_ends_later(self, world: World, state: JobState) -> None:
        made = submit(world)
        world.cluster.set(1, state, ended_at=datetime.now(UTC), exit_code=1)
        world.jobs().watch()
        world.cluster.set(1, JobState.PENDING, reason="BeginTime", restarts=1, ended_at=None, exit_code=None)
        (job,) = world.jobs().refresh([made])
        assert (job.state, job.phase, job.restarts) == (JobState.PENDING, Phase.RELEASED, 1)
        assert (job.ended_at, job.exit_code) == (None, None)
        world.cluster.set(1, JobState.COMPLETED, ended_at=datetime.now(UTC))
        assert world.jobs().refresh([made])[0].phase is Phase.ENDED

    def test_what_ended_long_ago_is_final_at_once(self, world: World, state: JobState) -> None:
        made = submit(world)
        world.cluster.set(1, state, ended_at=datetime.now(UTC) - timedelta(hours=1))
        assert world.jobs().refresh([made])[0].phase is Phase.ENDED

    def test_a_clock_that_is_behind_makes_nothing_final(self, world: World, state: JobState) -> None:
        made = submit(world)
        world.cluster.set(1, state, ended_at=datetime.now(UTC) - timedelta(minutes=2))
        assert world.jobs().refresh([made])[0].phase is Phase.RELEASED

    def test_when_it_has_lasted_and_is_forgotten_it_stays_what_it_was(
        self, world: World, state: JobState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        world.cluster.set(1, state, ended_at=None)
        world.jobs().watch()
        world.cluster.jobs.clear()
        monkeypatch.setattr(watching, "FINAL_AFTER", timedelta(0))
        (job,) = world.jobs().refresh([made])
        assert (job.state, job.phase) == (state, Phase.ENDED)

    def test_it_is_not_the_end_where_another_watcher_has_seen_it_wait_again(
        self, world: World, state: JobState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        world.cluster.set(1, state)
        world.jobs().refresh([made])
        monkeypatch.setattr(watching, "FINAL_AFTER", timedelta(0))
        back = JobStatus(1, made.submission.name, JobState.PENDING)
        world.cluster.before["poll"] = lambda: world.again().seen({made.key: back}, ended=set())
        world.jobs().watch()
        assert (world.only().phase, world.only().state) == (Phase.RELEASED, JobState.PENDING)


class TestMissing:
    def test_it_is_unknown_then_lost_after_the_grace_period(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        world.jobs().watch()
        (seen,) = world.jobs().refresh([made])
        del world.cluster.jobs[1]
        for _ in range(2):
            (missing,) = world.jobs().refresh([made])
            assert (missing.state, missing.phase) == (JobState.UNKNOWN, Phase.RELEASED)
        assert "neither queue nor accounting" in missing.reason
        assert missing.seen_at is not None
        assert seen.seen_at is not None
        assert missing.seen_at <= seen.seen_at, "it was not seen since"
        monkeypatch.setattr(watching, "LOST_AFTER", timedelta(0))
        (lost,) = world.jobs().refresh([missing])
        assert (lost.state, lost.phase, lost.ended_at is None) == (JobState.LOST, Phase.ENDED, False)

    @pytest.mark.usefixtures("no_grace")
    @pytest.mark.parametrize("backlog", [3, Unreachable("site 'west': slurmdbd does not answer")], ids=str)
    def test_while_the_accounting_may_still_tell_of_it_it_is_not_lost(self, world: World, backlog: Any) -> None:
        made, other = submit(world), submit(world)
        del world.cluster.jobs[1]
        world.cluster.backlog = backlog
        for _ in range(3):
            (job, beside) = world.jobs().refresh([made, other])
        assert (job.state, job.phase) == (JobState.UNKNOWN, Phase.RELEASED)
        assert beside.state is JobState.PENDING, "its site answers"
        world.cluster.backlog = 0
        world.jobs().refresh([made])
        assert world.jobs().refresh([made])[0].state is JobState.LOST

    @pytest.mark.usefixtures("no_grace")
    def test_a_record_that_arrives_while_it_is_asked_whether_any_is_on_its_way(self, world: World) -> None:
        made = submit(world)
        record = replace(world.cluster.jobs.pop(1), state=JobState.FAILED, exit_code=2)
        world.jobs().watch()
        world.cluster.before["backlog"] = lambda: world.cluster.jobs.update({1: record})
        world.jobs().watch()
        job = world.ledger.get(made.key)
        assert (job.phase, job.state, job.exit_code) == (Phase.ENDED, JobState.FAILED, 2)

    @pytest.mark.usefixtures("no_grace")
    def test_one_that_turns_up_again_is_what_it_was(self, world: World) -> None:
        made = submit(world)
        kept = world.cluster.jobs.pop(1)
        assert world.jobs().refresh([made])[0].state is JobState.UNKNOWN
        world.cluster.jobs[1] = kept
        assert world.jobs().refresh([made])[0].state is JobState.PENDING
        del world.cluster.jobs[1]
        assert world.jobs().refresh([made])[0].state is JobState.UNKNOWN, "its grace begins anew"

    def test_nothing_is_said_to_have_changed_while_it_stays_missing(self, world: World) -> None:
        submit(world)
        del world.cluster.jobs[1]
        assert [world.jobs().watch() for _ in range(3)] == [1, 0, 0]


class TestReusedIds:
    def test_an_id_that_now_belongs_to_another_job_is_not_ours(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        world.cluster.jobs[1] = JobStatus(1, "somebody-elses", JobState.COMPLETED)
        (other,) = world.jobs().refresh([made])
        assert other.state is JobState.UNKNOWN
        assert "belongs to another job" in other.reason
        monkeypatch.setattr(watching, "LOST_AFTER", timedelta(0))
        assert world.jobs().refresh([other])[0].state is JobState.LOST

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_of_two_jobs_with_one_id_the_cluster_knows_the_newer(self, world: World, newest_first: bool) -> None:
        """A lab that was made anew counts its jobs from one again; the older job of that id is no longer anywhere."""
        old = submit(world)
        world.cluster.set_up_anew()
        new = submit(world)
        world.cluster.set(1, JobState.COMPLETED)
        order = [new, old] if newest_first else [old, new]
        found = {job.key: job for job in world.jobs().refresh(order)}
        assert found[new.key].state is JobState.COMPLETED
        assert found[old.key].state is JobState.UNKNOWN
        assert f"belongs to job {new.key}" in found[old.key].reason


@pytest.mark.usefixtures("no_wait")
def test_a_twin_is_not_mistaken_for_the_job(world: World) -> None:
    world.cluster.before["submit"] = fails(DOUBT, times=1)
    world.jobs().submit_many(many(1))
    world.settle()
    world.cluster.deliver()
    world.settle()
    world.jobs().watch()
    assert (world.only().job_id, world.only().state) == (1, JobState.PENDING)
