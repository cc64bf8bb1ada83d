"""What is sent again, when, and when no more; and jobs that are submitted without a hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from unit.jobs.world import DOUBT, SILENT, STEPS, Killed, World, a_job, decision, fails, killed_at, many, submit
from westward.errors import SiteRefused
from westward.jobs import steps
from westward.model.job import JobState, new_key
from westward.slurm.client import InDoubt
from westward.store.ledger import Job, Phase


class TestRetry:
    def test_it_is_not_sent_again_before_its_time_and_says_when(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(steps, "FIRST_RETRY_S", 100.0)
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        ((job, error),) = world.settle()
        assert isinstance(error, InDoubt)
        assert "is not at site 'west' (yet); it is submitted again at" in str(error)
        assert str(world.settle()[0][1]) == str(error), "said once, an agent does not say it again every second"
        assert world.ledger.get(job.key).reason == str(error)
        assert len(world.cluster.submissions) == 1

    def test_what_arrives_before_that_is_adopted_and_not_sent_again(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        world.cluster.deliver()
        assert world.settle() == []
        assert (world.only().attempts, world.cluster.started) == (1, [1])

    def test_the_wait_doubles_up_to_its_limit_and_differs_from_job_to_job(self, world: World) -> None:
        first, last = steps.FIRST_RETRY_S, steps.LAST_RETRY_S
        made = submit(world)
        for attempts in range(1, 40):
            waits = [steps.retry_after_s(replace(made, key=new_key(), attempts=attempts)) for _ in range(50)]
            most = min(last, first * 2 ** (attempts - 1))
            assert most / 2 <= min(waits) < max(waits) <= most

    @pytest.mark.usefixtures("no_wait")
    def test_a_request_that_could_not_leave_is_no_attempt(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        world.cluster.before["submit"] = fails(SILENT)
        for _ in range(steps.MOST_ATTEMPTS + 1):
            world.settle()
        assert (world.only().attempts, world.only().phase) == (1, Phase.SUBMITTING)
        world.cluster.before.clear()
        assert world.settle() == []
        assert world.only().attempts == 2

    @pytest.mark.usefixtures("no_wait")
    def test_it_is_not_sent_again_for_ever(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps, "MOST_ATTEMPTS", 3)
        world.cluster.before["submit"] = fails(DOUBT)
        world.jobs().submit_many(many(1))
        for _ in range(5):
            ((_, error),) = world.settle()
        assert len(world.cluster.submissions) == world.only().attempts == 3
        assert "3 submissions to site 'west' were not answered" in str(error)
        assert isinstance(error, InDoubt)
        assert f"westward cancel {world.only().key}" in error.next_step
        world.cluster.before.clear()
        world.cluster.deliver()
        assert world.settle() == []
        assert len(world.cluster.started) == len(world.cluster.alive()) == 1, "what arrives after all is adopted"

    @pytest.mark.usefixtures("no_wait")
    def test_a_late_twin_of_a_job_that_was_refused_at_last_is_cancelled(self, world: World) -> None:
        world.cluster.before["submit 0"] = fails(DOUBT)
        world.jobs().submit_many(many(1))
        world.cluster.before["submit 1"] = fails(SiteRefused("site 'west' refuses: Invalid account"))
        assert world.settle() == []
        assert world.only().phase is Phase.REFUSED
        world.cluster.deliver()
        world.settle()
        assert (world.cluster.alive(), world.cluster.started) == ([], [])

    @pytest.mark.usefixtures("no_wait")
    def test_twins_are_searched_for_at_growing_intervals_until_none_can_come(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        world.settle()
        asked = world.cluster.asked
        asked.clear()
        for _ in range(5):
            world.jobs().settle(thorough=False)
        assert asked.count("find") == 0, "it was searched for a moment ago"
        world.settle()
        assert asked.count("find") == 1, "a command searches at once"
        monkeypatch.setattr(steps, "TWIN_WINDOW", timedelta(0))
        world.settle()
        assert asked.count("find") == 1, "nothing can arrive any more"


class TestIdempotent:
    def test_one_request_and_no_hold(self, world: World) -> None:
        made = submit(world, idempotent=True)
        assert (made.phase, made.job_id, made.submission.hold) == (Phase.RELEASED, 1, False)
        assert [request for request in world.cluster.asked if " " not in request] == ["submit"]
        assert world.cluster.started == [1]

    @pytest.mark.usefixtures("no_wait")
    def test_in_doubt_it_is_looked_for_first(self, world: World) -> None:
        world.cluster.after["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world, idempotent=True)
        assert world.settle() == []
        assert (world.cluster.started, world.only().attempts, world.only().phase) == ([1], 1, Phase.RELEASED)

    @pytest.mark.usefixtures("no_wait")
    def test_a_late_twin_is_cancelled(self, world: World) -> None:
        """It may have started by then: that does no harm, the user said."""
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world, idempotent=True)
        world.settle()
        world.cluster.deliver()
        world.settle()
        assert world.cluster.alive() == [world.only().job_id]

    @pytest.mark.usefixtures("no_wait")
    @pytest.mark.parametrize("step", STEPS)
    def test_killed_after_any_step(self, world: World, step: str) -> None:
        with pytest.raises(Killed):
            world.jobs(killed_at(step, 1)).submit_many(many(3, idempotent=True))
        for _ in range(2):
            assert world.settle() == []
        assert [job.phase for job in world.ledger.jobs()] == [Phase.RELEASED] * 3
        assert sorted(world.cluster.started) == sorted(job.job_id or 0 for job in world.ledger.jobs()) == [1, 2, 3]

    @pytest.mark.parametrize("moment", ["intent", "attempt", "sent", "held"])
    def test_a_wish_to_cancel_that_comes_while_it_is_submitted_counts(self, world: World, moment: str) -> None:
        def wish(step: str, told: Job) -> None:
            if step == moment:
                world.ledger.cancel_wanted(told.key)

        world.jobs(wish).submit(a_job(idempotent=True), decision())
        world.jobs().watch()
        assert world.cluster.alive() == []
        assert world.only().state is JobState.CANCELLED

    def test_in_doubt_and_cancelled_it_is_cancelled_when_somebody_settles(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        with pytest.raises(InDoubt):
            submit(world, idempotent=True)
        with pytest.raises(InDoubt, match="will be cancelled then"):
            world.jobs().cancel(world.only())
        world.cluster.deliver()
        assert world.settle() == []
        world.jobs().watch()
        assert world.cluster.alive() == []
        assert world.only().state is JobState.CANCELLED


def test_killed_between_letting_go_and_cancelling_what_is_no_longer_wanted(world: World) -> None:
    """The wish came while the submitter had let the job go but not recorded it; then that one died."""
    world.cluster.after["release"] = lambda: world.ledger.cancel_wanted(world.only().key)
    world.cluster.before["cancel"] = fails(Killed(), times=1)
    with pytest.raises(Killed):
        world.jobs().submit_many(many(1))
    assert len(world.cluster.alive()) == 1
    world.cluster.after.clear()
    assert world.settle() == []
    world.jobs().watch()
    assert world.cluster.alive() == []
    assert world.only().state is JobState.CANCELLED
