"""Sweeps from plan to retry, on clusters in memory and every kind of database: nothing runs twice, whoever is killed or comes second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from unit.federation.worlds import NOW, cluster, snapshot
from unit.jobs.world import DOUBT, KNOWN, SILENT, STEPS, Killed, World, fails, killed_at, no_wait, world
from unit.store.databases import database
from westward.errors import InputError, NoSiteFits, SiteRefused, WestwardError
from westward.federation.grouping import Point
from westward.federation.sweeping import (
    Submitted,
    SweepPlan,
    plan_sweep,
    points_again,
    retry_sweep,
    submit_sweep,
)
from westward.jobs.sweepstate import IN_DOUBT, NOT_SUBMITTED, missing, whereabouts
from westward.jobs.template import compose_job
from westward.model.job import Array, JobState
from westward.model.limits import Cap, Charge, Limits
from westward.model.sweep import Sweep, SweepPoint
from westward.store.ledger import Job, Ledger, Phase

__all__ = ["database", "no_wait", "world"]
REFUSAL = SiteRefused("site 'west' refuses: Invalid account")
ENDED = {JobState.COMPLETED: "0", JobState.FAILED: "1", JobState.CANCELLED: "2"}


def points(count: int = 3, *more: Sequence[str]) -> list[Point]:
    """Points of one signature, then one for each of `more`."""
    found = []
    for overrides in [*([f"size={size}"] for size in range(1, count + 1)), *more]:
        one = compose_job("gemm", [*overrides, 'env.N="it is"'], NOW)
        found.append(Point(" ".join(overrides), tuple(overrides), one.spec, one.policy, one.region))
    return found


def planned(world: World, wanted: Sequence[Point], site: str | None = "west") -> SweepPlan:
    look = snapshot({"west": cluster(), "east": cluster()})
    return plan_sweep(wanted, KNOWN, site, look, world.connect)


def submitted(world: World, wanted: Sequence[Point] | None = None, **more: Any) -> Submitted:
    plan = planned(world, wanted or points())
    return submit_sweep(
        world.jobs(**more), world.ledger, plan, name="it's mine", template="gemm", overrides=["size=1,2,3"]
    )


def missing_points(found: Sequence[SweepPoint], jobs: Mapping[str, Job]) -> list[SweepPoint]:
    return [point for point in found if missing(whereabouts(point, jobs[point.job]))]


def retried(world: World, sweep: Sweep, ledger: Ledger | None = None, **more: Any) -> Submitted | None:
    """As `westward retry` does it; None where nothing is missing."""
    ledger = ledger or world.ledger
    found = ledger.sweeps.points(sweep.key)
    wanted = missing_points(found, jobs_of(world, found))
    if not wanted:
        return None
    plan = planned(world, points_again(sweep, wanted))
    return retry_sweep(world.jobs(ledger=ledger, **more), ledger, sweep, wanted, plan)


def jobs_of(world: World, found: Sequence[SweepPoint]) -> dict[str, Job]:
    keys = list(dict.fromkeys(point.job for point in found))
    return {job.key: job for job in world.jobs().refresh(world.ledger.get_many(keys))}


def states(world: World, sweep: Sweep) -> list[str]:
    found = world.ledger.sweeps.points(sweep.key)
    jobs = jobs_of(world, found)
    return [str(whereabouts(point, jobs[point.job])[0]) for point in found]


def ends(world: World, job_id: int, tasks: dict[JobState, str]) -> None:
    """The tasks of an array end so."""
    counts = {state: Array.parse(ids).tasks for state, ids in tasks.items()}
    worst = next(state for state in (JobState.RUNNING, JobState.NODE_FAIL, JobState.FAILED, *counts) if state in counts)
    world.cluster.set(job_id, worst, tasks=counts, task_ids=tasks)


class TestPlan:
    def test_an_array_is_cut_where_its_cluster_says(self, world: World) -> None:
        world.cluster.allowance = Limits("u", {}, max_array_size=2)
        plan = planned(world, points(5))
        assert [len(job.points) for job in plan.jobs] == [2, 2, 1]
        assert (plan.notes, plan.problems) == ((), {})

    def test_what_is_not_known_is_assumed_and_said(self, world: World) -> None:
        world.cluster.before["limits"] = fails(SILENT)
        plan = planned(world, points(1002))
        assert [len(job.points) for job in plan.jobs] == [1001, 1]
        (note,) = plan.notes
        assert (
            "MaxArraySize of 'west' is not known (site 'west': nobody answers): arrays are cut at 1,001 tasks" in note
        )

    def test_a_site_s_description_may_know_it(self, world: World) -> None:
        world.cluster.before["limits"] = fails(SILENT)
        known = replace(KNOWN, sites={**KNOWN.sites, "west": replace(KNOWN.sites["west"], max_array_size=4)})
        look = snapshot({"west": cluster(), "east": cluster()})
        plan = plan_sweep(points(6), known, "west", look, world.connect)
        assert ([len(job.points) for job in plan.jobs], plan.notes) == ([4, 2], ())

    def test_no_more_go_together_than_may_be_submitted(self, world: World) -> None:
        """An array counts as so many jobs as it has tasks: of one that is too long the cluster would take none."""
        own = (
            Charge("research", "u", caps=(Cap("MaxSubmitJobs", 2),)),
            Charge("teaching", "u", caps=(Cap("MaxSubmitJobs", 1),)),
        )
        world.cluster.allowance = Limits("u", {}, charges=own, default_account="research", max_array_size=1001)
        plan = planned(world, points(3))
        assert [len(job.points) for job in plan.jobs] == [2, 1]
        (note,) = plan.notes
        assert "'west' takes 2 jobs of yours at once (MaxSubmitJobs), each point counted, and 3 points go there" in note

    def test_a_single_point_asks_nobody(self, world: World) -> None:
        planned(world, points(1))
        assert world.cluster.asked == []

    def test_a_point_that_goes_nowhere_is_said_and_the_others_are_planned(self, world: World) -> None:
        plan = planned(world, points(2, ["nodes=64"]))
        assert isinstance(plan.problems[2], NoSiteFits)
        assert [job.points for job in plan.jobs] == [(0, 1)]
        with pytest.raises(NoSiteFits):
            submit_sweep(world.jobs(), world.ledger, plan, name="x")
        assert (world.ledger.jobs(), world.ledger.sweeps.newest(9)) == ([], [])

    def test_one_that_cannot_be_rendered_takes_all_of_its_kind_with_it(self, world: World) -> None:
        plan = planned(world, points(1, ["size=2", "+options.Nope=1"], ["size=3", "+options.Nope=1"]))
        assert sorted(plan.problems) == [1, 2] and "not a long option" in str(plan.problems[1])
        assert [job.points for job in plan.jobs] == [(0,)]


class TestSubmit:
    def test_each_point_is_a_task_of_its_job(self, world: World) -> None:
        done = submitted(world, points(3, ["walltime=9"]))
        assert all(isinstance(answer, Job) for answer in done.answers)
        array, alone = reversed(world.ledger.jobs())
        assert (array.submission.array, alone.submission.array) == ("0-2", None)
        found = world.ledger.sweeps.points(done.sweep.key)
        assert [(point.job, point.task) for point in found] == [
            *((array.key, task) for task in range(3)),
            (alone.key, None),
        ]
        assert {array.sweep, alone.sweep} == {done.sweep.key}
        sweep = world.ledger.sweeps.find(done.sweep.key)
        assert sweep is not None and (sweep.name, sweep.template, sweep.overrides) == (
            "it's mine",
            "gemm",
            ("size=1,2,3",),
        )
        assert world.cluster.started == [1, 2]

    @pytest.mark.parametrize("step", STEPS)
    def test_killed_after_any_step_every_point_still_runs_once(self, world: World, step: str, no_wait: None) -> None:
        with pytest.raises(Killed):
            submitted(world, points(3, ["walltime=9"]), on_step=killed_at(step, after=1))
        (sweep,) = world.ledger.sweeps.newest(9)
        world.settle()
        assert sorted(world.cluster.started) == [1, 2] and len(world.cluster.jobs) == 2
        assert len(world.ledger.sweeps.points(sweep.key)) == 4
        assert retried(world, sweep) is None
        assert len(world.cluster.jobs) == 2

    def test_killed_while_it_is_written_it_never_was(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("westward.store.sweeps._row", fails(Killed()))
        monkeypatch.setattr("westward.store.sweeps._row", lambda point: fails(Killed())())
        with pytest.raises(Killed):
            submitted(world)
        assert (world.ledger.jobs(), world.ledger.sweeps.newest(9), world.cluster.asked[1:]) == ([], [], [])

    def test_a_job_that_is_refused_stops_none_of_the_others(self, world: World) -> None:
        world.cluster.before["submit 0"] = fails(REFUSAL)
        done = submitted(world, points(3, ["walltime=9"]))
        assert [type(answer) for answer in done.answers] == [SiteRefused, Job]
        assert states(world, done.sweep) == [NOT_SUBMITTED] * 3 + ["PENDING"]


class TestStates:
    def test_each_task_has_its_own(self, world: World) -> None:
        done = submitted(world)
        assert states(world, done.sweep) == ["PENDING"] * 3
        ends(world, 1, {JobState.COMPLETED: "0", JobState.RUNNING: "1", JobState.PENDING: "2"})
        assert states(world, done.sweep) == ["COMPLETED", "RUNNING", "PENDING"]
        ends(world, 1, ENDED)
        assert states(world, done.sweep) == ["COMPLETED", "FAILED", "CANCELLED"]

    def test_one_in_doubt_is_not_missing(self, world: World) -> None:
        world.cluster.after["submit"] = fails(DOUBT)
        done = submitted(world)
        assert states(world, done.sweep) == [IN_DOUBT] * 3
        assert retried(world, done.sweep) is None

    def test_a_task_nobody_knows_of_is_never_run_again(self, world: World) -> None:
        """Its array has ended, and its cluster told of the others only: it may have run."""
        done = submitted(world)
        ends(world, 1, {JobState.COMPLETED: "0,2"})
        assert states(world, done.sweep) == ["COMPLETED", "UNKNOWN", "COMPLETED"]
        assert retried(world, done.sweep) is None

    def test_a_lost_array_keeps_what_its_tasks_had_come_to(self, world: World) -> None:
        done = submitted(world)
        ends(world, 1, {JobState.COMPLETED: "1", JobState.RUNNING: "0,2"})
        states(world, done.sweep)
        world.ledger.abandon(["west"], "the lab is gone")
        assert states(world, done.sweep) == ["LOST", "COMPLETED", "LOST"]

    def test_what_its_cluster_may_put_back_is_not_at_an_end_while_its_array_goes_on(self, world: World) -> None:
        done = submitted(world)
        ends(world, 1, {JobState.NODE_FAIL: "0", JobState.FAILED: "1", JobState.RUNNING: "2"})
        found = world.ledger.sweeps.points(done.sweep.key)
        jobs = jobs_of(world, found)
        assert [missing(whereabouts(point, jobs[point.job])) for point in found] == [False, True, False]


class TestRetry:
    def test_only_what_is_missing_is_submitted_again(self, world: World) -> None:
        done = submitted(world, points(3, ["walltime=9"]))
        ends(world, 1, ENDED)
        world.cluster.set(2, JobState.TIMEOUT)
        again = retried(world, done.sweep)
        assert again is not None and len(again.answers) == 2
        first, second = again.answers
        assert isinstance(first, Job) and isinstance(second, Job)
        assert (first.submission.array, second.submission.array, first.sweep) == ("0-1", None, done.sweep.key)
        assert "--size=2" in first.submission.script and "--size=3" in first.submission.script
        assert "--size=1 " not in first.submission.script and "N='it is'" in first.submission.script
        assert states(world, done.sweep) == ["COMPLETED", "PENDING", "PENDING", "PENDING"]
        assert [(point.job, point.task) for point in world.ledger.sweeps.points(done.sweep.key)][1:] == [
            (first.key, 0), (first.key, 1), (second.key, None),
        ]  # fmt: skip

    def test_said_twice_nothing_runs_twice(self, world: World) -> None:
        done = submitted(world)
        ends(world, 1, ENDED)
        assert retried(world, done.sweep) is not None
        assert retried(world, done.sweep) is None
        assert world.cluster.started == [1, 2]

    def test_it_may_fail_again_and_be_tried_again(self, world: World) -> None:
        done = submitted(world)
        ends(world, 1, ENDED)
        retried(world, done.sweep)
        ends(world, 2, {JobState.FAILED: "0", JobState.COMPLETED: "1"})
        retried(world, done.sweep)
        world.cluster.set(3, JobState.COMPLETED)
        assert states(world, done.sweep) == ["COMPLETED"] * 3
        assert retried(world, done.sweep) is None

    def test_of_two_at_once_one_submits(self, world: World) -> None:
        done = submitted(world)
        ends(world, 1, ENDED)
        other = world.other_process()
        found = other.sweeps.points(done.sweep.key)
        seen = missing_points(found, jobs_of(world, found))
        plan = planned(world, points_again(done.sweep, seen))
        retried(world, done.sweep)
        with pytest.raises(InputError, match="submitted by somebody else just now"):
            retry_sweep(world.jobs(ledger=other), other, done.sweep, seen, plan)
        assert world.cluster.started == [1, 2]
        assert len(world.ledger.jobs()) == 2

    @pytest.mark.parametrize("step", STEPS)
    def test_killed_after_any_step_nothing_runs_twice(self, world: World, step: str, no_wait: None) -> None:
        done = submitted(world)
        ends(world, 1, ENDED)
        with pytest.raises(Killed):
            retried(world, done.sweep, on_step=killed_at(step))
        assert retried(world, done.sweep) is None
        world.settle()
        assert world.cluster.started == [1, 2]
        assert states(world, done.sweep) == ["COMPLETED", "PENDING", "PENDING"]

    def test_what_was_refused_is_submitted_when_its_cluster_takes_it(self, world: World) -> None:
        world.cluster.before["submit 1"] = fails(REFUSAL)
        done = submitted(world, points(2, ["walltime=9"]))
        again = retried(world, done.sweep)
        assert again is not None and [type(answer) for answer in again.answers] == [Job]
        assert states(world, done.sweep) == ["PENDING"] * 3
        assert Counter(job.phase for job in world.ledger.jobs()) == {Phase.RELEASED: 2, Phase.REFUSED: 1}

    def test_a_cancelled_sweep_can_be_taken_up(self, world: World) -> None:
        done = submitted(world)
        (job,) = done.answers
        assert isinstance(job, Job)
        world.jobs().cancel(job)
        assert states(world, done.sweep) == ["CANCELLED"] * 3
        assert retried(world, done.sweep) is not None
        assert states(world, done.sweep) == ["PENDING"] * 3

    def test_one_that_was_written_by_another_version_is_said(self, world: World) -> None:
        done = submitted(world)
        strange = replace(
            done.sweep, shapes=({"spec": {"name": "x", "command": [], "array": 7}, "policy": {}, "region": "a"},)
        )
        with pytest.raises(InputError, match="written by a version of Westward whose jobs are others") as caught:
            points_again(strange, world.ledger.sweeps.points(done.sweep.key))
        assert caught.value.next_step == "submit it anew: westward submit gemm size=1,2,3 -m"

    def test_what_goes_wrong_is_an_error_of_ours(self) -> None:
        assert issubclass(SiteRefused, WestwardError)
