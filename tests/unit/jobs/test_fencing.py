"""A process that slept while another one took over records nothing and lets nothing go; no job starts twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from unit.federation.worlds import job
from unit.jobs.world import DOUBT, KNOWN, STEPS, Client, World, assert_started_once, decision, fails, many
from westward.jobs.lifecycle import Jobs
from westward.model.job import JobState, Submission
from westward.model.site import Site
from westward.slurm.client import InDoubt
from westward.store import ledger as module
from westward.store.ledger import Job, Phase

pytestmark = pytest.mark.usefixtures("no_wait")


@pytest.fixture
def claims_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim of another host counts as left behind at once."""
    monkeypatch.setattr(module, "CLAIM_LASTS", timedelta(seconds=-1))


class Sleeper(Client):
    """Sleeps after its first submit request was sent, or was answered; meanwhile somebody else does something."""

    def __init__(self, *args: Any, meanwhile: Any, answered: bool) -> None:
        super().__init__(*args)
        self.meanwhile, self.answered = [meanwhile], answered

    def submit(self, submissions: Sequence[Submission]) -> Any:
        if not self.answered:
            self._sleep()
        said = super().submit(submissions)
        if self.answered:
            self._sleep()
        return said

    def _sleep(self) -> None:
        while self.meanwhile:
            self.meanwhile.pop()()


@pytest.mark.usefixtures("claims_end")
@pytest.mark.parametrize("answered", [True, False], ids=["after the answer", "before it was sent"])
def test_one_that_sleeps_in_its_request_leaves_what_another_did(world: World, answered: bool) -> None:
    """The request of the one that slept arrives after all: its job is a twin, held, and is cancelled."""
    other = world.other_process()

    def take_over() -> None:
        world.jobs(ledger=other).settle()

    def connect(site: Site) -> Any:
        return Sleeper(world.cluster, meanwhile=take_over, answered=answered)

    Jobs(world.ledger, KNOWN.sites, connect).submit_many(many(3))
    world.settle()
    assert [job.phase for job in world.ledger.jobs()] == [Phase.RELEASED] * 3
    assert_started_once(world)


@pytest.mark.usefixtures("claims_end")
@pytest.mark.parametrize("step", STEPS)
def test_one_that_sleeps_after_any_step(world: World, step: str) -> None:
    left = [step]

    def take_over(reached: str, _: Job) -> None:
        if reached in left:
            left.clear()
            world.jobs(ledger=world.other_process()).settle()

    world.jobs(take_over).submit_many(many(3))
    world.settle()
    assert [job.phase for job in world.ledger.jobs()] == [Phase.RELEASED] * 3
    assert_started_once(world)


@pytest.mark.usefixtures("claims_end")
@pytest.mark.parametrize("step", ["attempt", "sent", "held"])
def test_what_another_cancelled_meanwhile_is_not_let_go(world: World, step: str) -> None:
    def cancel(reached: str, told: Job) -> None:
        if reached == step:
            try:
                world.jobs(ledger=world.other_process()).cancel(world.ledger.get(told.key))
            except InDoubt as error:
                assert "will be cancelled then" in str(error)

    world.jobs(cancel).submit_many(many(1))
    world.settle()
    world.jobs().watch()
    assert world.cluster.started == []
    assert world.cluster.alive() == []
    assert world.only().state is JobState.CANCELLED


def test_a_step_of_one_whose_claim_was_taken_is_not_recorded(world: World) -> None:
    made = world.ledger.add([world.jobs()._intent(job(), decision())])[0]
    mine, world.ledger._owner = world.ledger._owner, "taken/1/1"
    keys = [made.key]
    assert world.ledger.mine(keys) == {}
    assert world.ledger.attempt(keys) == set()
    assert world.ledger.handles({made.key: 7}) == set()
    assert world.ledger.released(keys) == set()
    assert world.ledger.released(keys, wanted=False) == set()
    world.ledger.refused({made.key: "no"})
    world.ledger.called_off({made.key: "no"})
    with world.ledger.keep(keys):
        pass
    world.ledger._owner = mine
    assert (world.only().phase, world.only().attempts, world.only().reason) == (Phase.INTENT, 0, "")
    assert world.ledger.mine(keys) == {made.key: False}, "its claim was not given up either"


def test_a_claim_of_another_host_ends_by_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = world.other_process()
    made = other.add([world.jobs()._intent(job(), decision())])[0]
    with world.ledger.claim([made.key]) as mine:
        assert mine == [], "that host may be at it still"
    assert world.settle() == []
    assert world.cluster.submissions == []
    monkeypatch.setattr(module, "CLAIM_LASTS", timedelta(seconds=-1))
    with world.ledger.claim([made.key]) as mine:
        assert mine == [made.key]
    assert world.settle() == []
    assert_started_once(world)


def test_of_many_claims_only_the_free_ones_are_given(world: World) -> None:
    other = world.other_process()
    theirs = other.add([world.jobs()._intent(job(), decision()) for _ in range(2)])
    ours = world.ledger.add([world.jobs()._intent(job(), decision()) for _ in range(2)])
    with world.ledger.claim([each.key for each in (*theirs, *ours)]) as mine:
        assert sorted(mine) == sorted(each.key for each in ours)


def test_two_that_settle_at_once_submit_it_once(world: World) -> None:
    world.cluster.before["submit"] = fails(DOUBT, times=1)
    world.jobs().submit_many(many(1))
    inner: list[Any] = []

    def settle_too(reached: str, _: Job) -> None:
        if reached == "attempt":
            inner.append(world.jobs(ledger=world.other_process()).settle())

    world.jobs(settle_too).settle()
    assert inner == [[]]
    assert world.only().attempts == 2
    assert_started_once(world)
