"""Several jobs together: each of them starts exactly once, and none stands in another's way."""

from __future__ import annotations

import threading

import pytest

from unit.jobs.world import (
    DOUBT,
    SILENT,
    STEPS,
    Killed,
    World,
    a_job,
    assert_started_once,
    decision,
    fails,
    killed_at,
    many,
)
from westward.errors import InputError, SiteRefused, Unreachable, WestwardError
from westward.jobs import steps
from westward.model.job import JobState
from westward.slurm.client import InDoubt
from westward.store.ledger import Job, Phase

REFUSAL = SiteRefused("site 'west' refuses: Invalid account")
COUNT = 7


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """More jobs than go together."""
    monkeypatch.setattr(steps, "TOGETHER", 3)


def phases(world: World) -> list[Phase]:
    return [job.phase for job in reversed(world.ledger.jobs())]


def test_each_comes_back_in_its_order(world: World) -> None:
    made = world.jobs().submit_many(
        [(a_job(name=f"job-{i}"), decision("east" if i % 2 else "west")) for i in range(COUNT)]
    )
    assert [job.name for job in made if isinstance(job, Job)] == [f"job-{i}" for i in range(COUNT)]
    assert [job.site for job in made if isinstance(job, Job)] == ["west", "east"] * 3 + ["west"]
    assert (sorted(world.cluster.started), sorted(world.east.started)) == ([1, 2, 3, 4], [1, 2, 3])
    assert_started_once(world)


def test_none_at_all_is_nothing(world: World) -> None:
    assert world.jobs().submit_many([]) == []
    assert world.ledger.jobs() == []


def test_one_that_cannot_be_rendered_stops_all_before_anything_is_sent(world: World) -> None:
    with pytest.raises(InputError, match="not a long option"):
        world.jobs().submit_many([(a_job(), decision()), (a_job(options={"--x": "1"}), decision())])
    assert (world.ledger.jobs(), world.cluster.submissions) == ([], [])


@pytest.mark.usefixtures("no_wait")
def test_some_refused_some_in_doubt_some_away_some_fine(world: World) -> None:
    world.cluster.before |= {"submit 1": fails(REFUSAL), "submit 2": fails(DOUBT), "submit 4": fails(SILENT)}
    world.cluster.after["submit 5"] = fails(DOUBT, times=1)
    told = world.jobs().submit_many(many(COUNT))
    assert [type(each) for each in told] == [Job, SiteRefused, InDoubt, Job, Unreachable, InDoubt, Job]
    assert phases(world) == [
        Phase.RELEASED, Phase.REFUSED, Phase.SUBMITTING, Phase.RELEASED, Phase.REFUSED, Phase.SUBMITTING, Phase.RELEASED,
    ]  # fmt: skip
    assert world.settle() == []
    world.cluster.deliver()
    assert world.settle() == []
    fine = [job for job in world.ledger.jobs() if job.phase is Phase.RELEASED]
    assert len(fine) == len(world.cluster.started) == len(world.cluster.alive()) == 5
    assert {job.job_id for job in fine} == set(world.cluster.started) == set(world.cluster.alive())


def test_a_release_that_fails_for_one_holds_none_of_the_others(world: World) -> None:
    world.cluster.before["release 2"] = fails(SILENT, times=1)
    told = world.jobs().submit_many(many(3))
    assert [isinstance(each, WestwardError) for each in told] == [False, True, False]
    assert phases(world) == [Phase.RELEASED, Phase.HELD, Phase.RELEASED]
    assert world.settle() == []
    assert_started_once(world)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("after", [0, 1, 4])
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_of_any_of_them(world: World, step: str, after: int) -> None:
    with pytest.raises(Killed):
        world.jobs(killed_at(step, after)).submit_many(many(COUNT))
    for _ in range(2):
        assert world.settle() == []
    assert phases(world) == [Phase.RELEASED] * COUNT
    assert_started_once(world)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("place", ["submit 0", "submit 2", "submit 4", "release", "release 5"])
def test_killed_within_any_request_of_any_of_them(world: World, place: str, when: str) -> None:
    """A request that dies takes the answers of all that went out with it along."""
    getattr(world.cluster, when)[place] = fails(Killed(), times=1)
    try:
        world.jobs().submit_many(many(COUNT))
    except Killed:
        pass
    for _ in range(2):
        assert world.settle() == []
    assert phases(world) == [Phase.RELEASED] * COUNT
    assert_started_once(world)


@pytest.mark.usefixtures("no_wait")
@pytest.mark.parametrize("second", STEPS[1:])
@pytest.mark.parametrize("first", STEPS[:-1])
def test_killed_twice_in_a_row(world: World, first: str, second: str) -> None:
    with pytest.raises(Killed):
        world.jobs(killed_at(first, 2)).submit_many(many(COUNT))
    try:
        world.jobs(killed_at(second, 1)).settle()
    except Killed:
        pass
    for _ in range(2):
        assert world.settle() == []
    assert_started_once(world)


@pytest.mark.usefixtures("no_wait")
def test_every_answer_lost_and_every_request_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "TOGETHER", COUNT)
    world.cluster.before["submit"] = fails(DOUBT, times=COUNT)
    world.jobs().submit_many(many(COUNT))
    assert world.settle() == []
    world.cluster.deliver()
    assert len(world.cluster.alive()) == 2 * COUNT
    assert world.settle() == []
    assert_started_once(world)


@pytest.mark.parametrize("moment", STEPS)
def test_a_wish_to_cancel_counts_whenever_it_comes(world: World, moment: str) -> None:
    """`westward cancel` of another process leaves its wish while the submitter holds the claims."""

    def wish(step: str, told: Job) -> None:
        if step == moment:
            world.ledger.cancel_wanted(told.key)

    world.jobs(wish).submit_many(many(COUNT))
    assert world.settle() == []
    world.jobs().watch()
    assert [job.state for job in world.ledger.jobs()] == [JobState.CANCELLED] * COUNT
    assert world.cluster.alive() == []


def test_a_site_that_is_away_is_asked_once_whatever_the_number_of_jobs(world: World) -> None:
    world.cluster.before["submit"] = fails(DOUBT)
    for _ in range(COUNT):
        world.jobs().submit_many(many(1))
    world.cluster.asked.clear()
    world.cluster.before["find"] = fails(SILENT)
    looks = iter(range(99))
    world.cluster.before["any"] = lambda: next(looks) and None  # type: ignore[func-returns-value]
    assert len(world.settle()) == COUNT
    assert next(looks) == 1


def test_a_site_that_answers_no_submission_gets_no_more_of_them(world: World) -> None:
    world.cluster.before["submit"] = fails(DOUBT)
    answers = world.jobs().submit_many(many(COUNT))
    assert len(world.cluster.submissions) == steps.TOGETHER
    assert [type(answer) for answer in answers] == [InDoubt] * 3 + [Unreachable] * 4
    assert phases(world) == [Phase.SUBMITTING] * 3 + [Phase.REFUSED] * 4


def test_a_site_that_hangs_keeps_no_other_one_waiting(world: World) -> None:
    asked = threading.Event()
    world.east.after["submit"] = asked.set
    world.cluster.before["submit 0"] = lambda: None if asked.wait(10) else pytest.fail("east was not asked meanwhile")
    made = world.jobs().submit_many([(a_job(), decision("west")), (a_job(), decision("east"))])
    assert [job.phase for job in made if isinstance(job, Job)] == [Phase.RELEASED] * 2


def test_one_commit_and_one_call_for_each_step_whatever_their_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "TOGETHER", 64)
    written: list[str] = []
    transaction = world.ledger._database.transaction

    def counted():  # type: ignore[no-untyped-def]
        written.append("commit")
        return transaction()

    world.ledger._transaction = counted  # type: ignore[method-assign]
    world.jobs().submit_many(many(1))
    once = len(written)
    written.clear()
    world.jobs().submit_many(many(40))
    assert len(written) == once <= 5
