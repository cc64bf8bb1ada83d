"""A job starts exactly once, whatever breaks on the way: a cluster in memory, and a client that dies at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from unit.federation.worlds import job
from unit.jobs.world import (
    DOUBT,
    KNOWN,
    SILENT,
    STEPS,
    Killed,
    World,
    assert_started_once,
    decision,
    fails,
    killed_at,
    submit,
)
from westward.errors import NotFound, SiteRefused, StorageError, Unreachable, WestwardError
from westward.jobs import steps, watching
from westward.jobs.lifecycle import Jobs
from westward.model.job import JobState, JobStatus
from westward.model.site import Site
from westward.slurm.client import InDoubt, TakenInPart
from westward.store.ledger import Job, Ledger, Phase


class TestSubmit:
    def test_every_step_is_told_in_order(self, world: World) -> None:
        steps: list[tuple[str, Phase]] = []
        world.jobs(lambda step, job: steps.append((step, world.only().phase))).submit(job(), decision())
        assert steps == [
            ("intent", Phase.INTENT),
            ("attempt", Phase.SUBMITTING),
            ("sent", Phase.SUBMITTING),
            ("held", Phase.HELD),
            ("released", Phase.RELEASED),
        ]

    def test_it_is_held_under_its_key_until_it_is_recorded(self, world: World) -> None:
        made = submit(world)
        assert world.cluster.started == [made.job_id] == [1]
        assert world.cluster.jobs[1].name == made.submission.name == f"job~{made.key}"
        assert (made.phase, made.attempts, made.site) == (Phase.RELEASED, 1, "west")
        assert made.decision["chosen"]["site"] == "west"

    def test_a_refusal_is_recorded_and_leaves_nothing(self, world: World) -> None:
        world.cluster.before["submit"] = fails(SiteRefused("site 'west' refuses: Invalid account"))
        with pytest.raises(SiteRefused):
            submit(world)
        assert (world.only().phase, world.only().reason) == (Phase.REFUSED, "site 'west' refuses: Invalid account")
        del world.cluster.before["submit"]
        assert world.settle() == []
        assert world.cluster.jobs == {}

    @pytest.mark.parametrize("request_", ["any", "submit"])
    def test_a_site_that_is_away_leaves_nothing(self, world: World, request_: str) -> None:
        world.cluster.before[request_] = fails(SILENT)
        with pytest.raises(Unreachable):
            submit(world)
        assert world.only().phase is Phase.REFUSED
        world.cluster.before.clear()
        assert world.settle() == []
        assert world.cluster.jobs == {}

    @pytest.mark.parametrize("error", [StorageError("others can read the token file"), NotFound("no such site")])
    def test_an_error_before_anything_was_sent_leaves_nothing(self, world: World, error: WestwardError) -> None:
        """The user saw that it failed, mends it and submits again: the first one must not start as well."""

        def connect(_: Site) -> Any:
            raise error

        with pytest.raises(type(error)):
            Jobs(world.ledger, KNOWN.sites, connect).submit(job(), decision())
        world.settle()
        assert world.cluster.jobs == {}

    @pytest.mark.parametrize("error", [SILENT, DOUBT], ids=["away", "no answer"])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_release_that_was_not_answered_is_repeated(self, world: World, error: WestwardError, when: str) -> None:
        """The job is at the cluster, held or already let go: it is ours, and is neither forgotten nor started twice."""
        getattr(world.cluster, when)["release"] = fails(error, times=1)
        with pytest.raises(Unreachable):
            submit(world)
        assert world.only().phase is Phase.HELD
        assert world.settle() == []
        assert world.cluster.started == [1]
        assert (world.only().phase, len(world.cluster.jobs)) == (Phase.RELEASED, 1)

    def test_a_release_that_is_refused_is_told(self, world: World) -> None:
        world.cluster.before["release"] = fails(SiteRefused("site 'west' refuses: Access denied"))
        with pytest.raises(SiteRefused):
            submit(world)
        told = world.settle()
        assert [str(error) for _, error in told] == ["site 'west' refuses: Access denied"] or (
            "Access denied" in world.only().reason
        )

    @pytest.mark.parametrize(
        "error", [StorageError("the token is for all to read"), WestwardError("no more processes")]
    )
    def test_a_request_that_could_not_leave_leaves_nothing(self, world: World, error: WestwardError) -> None:
        """The door says so as its answer: a token that others can read, a host that starts no program."""
        world.cluster.before["submit"] = fails(error, times=1)
        with pytest.raises(type(error)):
            submit(world)
        assert world.only().phase is Phase.REFUSED
        assert world.settle() == []
        assert world.cluster.jobs == {}, "its user has submitted it again by now"

    @pytest.mark.parametrize("error", [SILENT, DOUBT, SiteRefused("site 'west' refuses: Access denied")])
    def test_one_that_is_there_and_not_let_go_says_that_it_is_there(self, world: World, error: WestwardError) -> None:
        world.cluster.before["release"] = fails(error)
        with pytest.raises(type(error)) as caught:
            submit(world)
        assert f"job {world.only().key} is at site 'west', held" in str(caught.value)
        assert "do not submit it again" in caught.value.next_step

    @pytest.mark.parametrize("step", ["attempt", "handles", "released"])
    def test_a_disk_that_fills_on_the_way_says_which_job_is(
        self, world: World, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = fails(StorageError("its disk is full"))
        with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
            patch.setattr(world.ledger, step, lambda *_a, **_k: full())
            submit(world)
        assert f"job {world.only().key} may be on the way" in str(caught.value)
        assert "westward jobs" in caught.value.next_step
        assert world.settle() == []
        assert_started_once(world)


@pytest.mark.usefixtures("no_wait")
class TestDoubt:
    def test_it_stays_in_the_ledger_and_is_found_by_its_key(self, world: World) -> None:
        world.cluster.after["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        assert world.only().phase is Phase.SUBMITTING
        assert world.settle() == []
        assert (world.only().phase, world.only().attempts) == (Phase.RELEASED, 1)
        assert world.cluster.started == [1]

    def test_it_is_submitted_again_where_the_cluster_does_not_have_it(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        assert world.settle() == []
        assert (world.only().phase, world.only().attempts) == (Phase.RELEASED, 2)
        assert world.cluster.started == [1]

    def test_a_twin_that_comes_late_is_cancelled_and_never_started(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        world.settle()
        world.cluster.deliver()
        assert len(world.cluster.alive()) == 2
        assert world.settle() == []
        assert world.cluster.alive() == [world.only().job_id]
        assert world.cluster.started == [world.only().job_id]

    def test_a_twin_of_a_job_that_has_ended_is_cancelled_too(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        world.settle()
        world.cluster.set(1, JobState.COMPLETED)
        world.jobs().refresh(world.ledger.jobs())
        world.cluster.deliver()
        world.settle()
        assert world.cluster.alive() == []
        assert world.cluster.started == [1]

    def test_of_two_that_are_found_one_is_started(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=2)
        with pytest.raises(InDoubt):
            submit(world)
        assert len(world.settle()) == 1
        world.cluster.deliver()
        for _ in range(2):
            assert world.settle() == []
        assert world.cluster.started == [1]
        assert world.cluster.alive() == [1]

    def test_one_that_was_taken_in_part_is_cancelled_and_never_started(self, world: World) -> None:
        world.cluster.after["submit"] = fails(TakenInPart("site 'west' took a part of the job only"), times=1)
        with pytest.raises(TakenInPart):
            submit(world)
        assert world.settle() == []
        assert (world.cluster.started, world.cluster.alive()) == ([], [])

    def test_a_site_that_is_still_away_is_told_and_tried_again(self, world: World) -> None:
        world.cluster.after["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        world.cluster.before["any"] = fails(SILENT)
        ((undecided, error),) = world.settle()
        assert (undecided.key, error) == (world.only().key, SILENT)
        world.cluster.before.clear()
        assert world.settle() == []
        assert world.cluster.started == [1]

    def test_one_job_that_cannot_be_decided_does_not_stop_the_others(self, world: World) -> None:
        for _ in range(2):
            with pytest.raises(Killed):
                world.jobs(killed_at("held")).submit(job(), decision())
        world.cluster.before["release"] = fails(SILENT, times=1)
        assert len(world.settle()) == 1
        assert len(world.cluster.started) == 1


@pytest.mark.usefixtures("no_wait")
class TestKilled:
    @pytest.mark.parametrize("step", STEPS)
    def test_after_any_step_the_next_command_finishes_it(self, world: World, step: str) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at(step)).submit(job(), decision())
        assert world.settle() == []
        assert world.settle() == []
        assert world.only().phase is Phase.RELEASED
        assert world.cluster.started == [world.only().job_id]
        assert world.cluster.alive() == [world.only().job_id]

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("request_", ["submit", "release"])
    def test_within_any_request_too(self, world: World, request_: str, when: str) -> None:
        getattr(world.cluster, when)[request_] = fails(Killed(), times=1)
        with pytest.raises(Killed):
            submit(world)
        assert world.settle() == []
        assert world.only().phase is Phase.RELEASED
        assert world.cluster.started == [world.only().job_id]
        assert world.cluster.alive() == [world.only().job_id]

    @pytest.mark.parametrize("second", STEPS[1:])
    @pytest.mark.parametrize("first", STEPS[:-1])
    def test_and_so_it_is_when_that_one_is_killed_as_well(self, world: World, first: str, second: str) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at(first)).submit(job(), decision())
        try:
            world.jobs(killed_at(second)).settle()
        except Killed:
            pass
        world.settle()
        world.settle()
        assert world.cluster.started == [world.only().job_id]
        assert world.cluster.alive() == [world.only().job_id]


def before_the_claim(ledger: Ledger, meanwhile: Callable[[], None]) -> Ledger:
    """A ledger in which something happens between looking at a job and claiming it."""
    claim, left = ledger.claim, [meanwhile]

    def claim_later(keys: Sequence[str]) -> Any:
        while left:
            left.pop()()
        return claim(keys)

    ledger.claim = claim_later  # type: ignore[method-assign]
    return ledger

    def test_held_and_its_accounting_is_down(self, world: World) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at("held")).submit(job(), decision())
        world.cluster.backlog = Unreachable("slurmdbd is down")
        assert world.settle() == []
        assert world.cluster.started == [1]

    def test_let_go_unrecorded_and_over_before_its_accounting_tells(self, world: World) -> None:
        """It ran and left the queue while slurmctld owed slurmdbd: its record comes later."""
        world.cluster.after["release"] = fails(Killed(), times=1)
        with pytest.raises(Killed):
            submit(world)
        record = replace(world.cluster.jobs.pop(1), state=JobState.COMPLETED)
        world.cluster.backlog = 7
        for _ in range(3):
            world.settle()
            world.jobs().watch()
        assert (world.only().phase, world.only().state) == (Phase.RELEASED, JobState.UNKNOWN)
        world.cluster.backlog, world.cluster.jobs[1] = 0, record
        world.jobs().watch()
        assert (world.only().phase, world.only().state) == (Phase.ENDED, JobState.COMPLETED)
        assert world.cluster.started == [1]


class TestTwoProcesses:
    def test_two_in_one_process_submit_it_once(self, world: World) -> None:
        """Threads of a service, each with a ledger of its own."""
        with pytest.raises(Killed):
            world.jobs(killed_at("intent")).submit(job(), decision())
        other = world.again()
        told: list[str] = []
        world.jobs(lambda step, _: told.append(step) or Jobs(other, KNOWN.sites, world.connect).settle()).settle()  # type: ignore[func-returns-value]
        assert len(told) > 1
        assert_started_once(world)

    def test_a_second_id_is_never_the_handle(self, world: World) -> None:
        made = submit(world)
        with world.ledger.claim([made.key]):
            assert world.ledger.handles({made.key: 99}) == set()
        assert world.only().job_id == made.job_id

    def test_one_that_finishes_while_another_looks_is_not_submitted_again(self, world: World) -> None:
        """`westward jobs` lists an unfinished submission; before it claims it, the submitter is through."""
        with pytest.raises(Killed):
            world.jobs(killed_at("held")).submit(job(), decision())
        looker = before_the_claim(world.again(), lambda: assert_nothing(world.settle()))
        world.jobs(ledger=looker).settle()
        assert world.cluster.started == [1]
        assert len(world.cluster.jobs) == 1
        assert (world.only().phase, world.only().attempts) == (Phase.RELEASED, 1)

    @pytest.mark.parametrize("moment", ["intent", "sent", "held"])
    def test_a_cancellation_that_arrives_while_it_is_submitted_counts(self, world: World, moment: str) -> None:
        """`westward cancel` of another process cannot have the claim then; it leaves its wish in the ledger."""

        def wish(step: str, told: Job) -> None:
            if step == moment:
                world.ledger.cancel_wanted(told.key)

        world.jobs(wish).submit(job(), decision())
        world.settle()
        world.jobs().refresh(world.ledger.jobs())
        assert world.cluster.alive() == []
        assert world.only().state is JobState.CANCELLED

    @pytest.mark.parametrize("step", ["intent", "attempt", "held"])
    def test_a_cancellation_goes_by_where_the_job_is_now(self, world: World, step: str) -> None:
        """The command looked the job up a moment ago; meanwhile it was let go."""
        looked_up: list[Job] = []

        def look(reached: str, told: Job) -> None:
            if reached == step:
                looked_up.append(world.ledger.get(told.key))

        world.jobs(look).submit(job(), decision())
        cancelled = world.jobs().cancel(looked_up[0])
        assert world.cluster.alive() == []
        assert cancelled.state is JobState.CANCELLED


def assert_nothing(told: list[tuple[Job, WestwardError]]) -> None:
    assert told == []


class TestCancel:
    def test_before_anything_was_sent(self, world: World) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at("intent")).submit(job(), decision())
        cancelled = world.jobs().cancel(world.only())
        assert (cancelled.phase, cancelled.state) == (Phase.REFUSED, JobState.CANCELLED)
        assert world.settle() == []
        assert world.cluster.jobs == {}

    def test_in_doubt_it_is_cancelled_when_it_is_found(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        with pytest.raises(InDoubt, match="will be cancelled then"):
            world.jobs().cancel(world.only())
        world.cluster.deliver()
        assert world.settle() == []
        assert world.cluster.alive() == []
        assert world.cluster.started == []
        assert world.jobs().refresh([world.only()])[0].state is JobState.CANCELLED

    def test_in_doubt_it_is_given_up_when_nothing_can_arrive_any_more(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world)
        monkeypatch.setattr(steps, "TWIN_WINDOW", timedelta(0))
        assert world.jobs().cancel(world.only()).phase is Phase.REFUSED
        assert world.cluster.jobs == {}

    def test_held(self, world: World) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at("held")).submit(job(), decision())
        cancelled = world.jobs().cancel(world.only())
        assert (cancelled.phase, cancelled.state) == (Phase.ENDED, JobState.CANCELLED)
        assert world.cluster.started == []

    @pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
    def test_let_go(self, world: World, state: JobState) -> None:
        made = submit(world)
        world.cluster.set(1, state)
        cancelled = world.jobs().cancel(made)
        assert (cancelled.phase, cancelled.state) == (Phase.ENDED, JobState.CANCELLED)
        assert world.jobs().cancel(cancelled).state is JobState.CANCELLED, "twice is harmless"

    def test_ended(self, world: World) -> None:
        made = submit(world)
        world.cluster.set(1, JobState.COMPLETED)
        (ended,) = world.jobs().refresh([made])
        assert world.jobs().cancel(ended).state is JobState.COMPLETED

    def test_at_a_site_that_is_away_it_is_told_and_can_be_repeated(self, world: World) -> None:
        made = submit(world)
        world.cluster.before["any"] = fails(SILENT)
        with pytest.raises(Unreachable, match="is cancelled when that is over"):
            world.jobs().cancel(made)
        world.cluster.before.clear()
        assert world.jobs().cancel(made).state is JobState.CANCELLED

    def test_the_wish_is_carried_out_by_whoever_comes_next(self, world: World) -> None:
        made = submit(world)
        world.cluster.set(1, JobState.RUNNING)
        world.cluster.before["any"] = fails(SILENT)
        with pytest.raises(Unreachable):
            world.jobs().cancel(made)
        assert [job.key for job, _ in world.settle()] == [made.key]
        world.cluster.before.clear()
        assert world.settle() == []
        assert world.cluster.jobs[1].state is JobState.CANCELLED
        world.cluster.asked.clear()
        world.settle()
        assert world.cluster.asked == [], "its site has been told"

    @pytest.mark.parametrize("phase", ["held", "released"])
    def test_without_its_accounting_the_queue_is_enough(self, world: World, phase: str) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at(phase)).submit(job(), decision())
        world.cluster.backlog = Unreachable("slurmdbd is down")
        assert world.jobs().cancel(world.only()).state is JobState.CANCELLED
        assert world.cluster.alive() == []


class TestSetUpAnew:
    """A cluster that lost its state counts its ids from one again: an id we know may be somebody else's job."""

    def other(self, world: World, job_id: int) -> None:
        world.cluster.jobs = {job_id: JobStatus(job_id, "other~bbbbbbbbbbbb", JobState.RUNNING)}

    def test_cancel_ends_nobody_else_s_job(self, world: World) -> None:
        told = submit(world)
        self.other(world, told.job_id or 0)
        world.jobs().cancel(told)
        assert world.cluster.alive() == [told.job_id]

    def test_settle_releases_nobody_else_s_job(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watching, "LOST_AFTER", timedelta(0))
        with pytest.raises(Killed):
            world.jobs(killed_at("held")).submit(job(), decision())
        held = world.only()
        world.cluster.jobs = {
            held.job_id or 0: JobStatus(held.job_id or 0, "other~bbbbbbbbbbbb", JobState.PENDING, held=True)
        }
        world.settle()
        assert world.cluster.started == []
        assert (world.only().state, world.only().phase) == (JobState.UNKNOWN, Phase.RELEASED)
        world.jobs().watch()
        assert world.only().state is JobState.LOST

    def test_what_was_never_sent_can_be_cancelled_when_its_site_is_gone(self, world: World) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at("intent")).submit(job(), decision())
        assert Jobs(world.ledger, {}).cancel(world.only()).phase is Phase.REFUSED
