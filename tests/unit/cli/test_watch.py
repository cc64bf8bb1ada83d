"""Following a job to its end: whoever watches takes it as far as an agent would, and says what stands still when he stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from unit.jobs.world import DOUBT, KNOWN, World, a_job, decision, fails, no_wait, submit, world
from unit.store.databases import database
from westward.cli import watch as module
from westward.cli.watch import finish, watch_to_end
from westward.errors import JobFailed, Unreachable
from westward.federation.presence import LEASE
from westward.jobs import gathering
from westward.model.job import After, Dependency, JobState
from westward.store.ledger import Job, Ledger, Phase

__all__ = ["database", "no_wait", "world"]

TURNS = 20


def after(job: Job) -> tuple[Dependency, ...]:
    return (Dependency(After.OK, job.key),)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What happens while the watcher sleeps, sleep by sleep (`int`: nothing); after the last of it nothing does, and in the end he gives up."""

    def meanwhile(*happens: Callable[[], Any]) -> None:
        left = iter(happens)
        turns = iter(range(TURNS))

        def sleep(_seconds: float) -> None:
            next(left, int)()
            if next(turns, None) is None:
                raise AssertionError("it is watched for ever")

        monkeypatch.setattr(module.time, "sleep", sleep)

    return meanwhile


def watch(world: World, job: Job) -> Job:
    return watch_to_end(world.jobs(), world.ledger, job, live=False)


def ends(world: World, job: Job, state: JobState = JobState.COMPLETED) -> Callable[[], None]:
    """The job's cluster ends it; its id is known by then."""
    cluster = world.cluster if job.site == "west" else world.east
    return lambda: cluster.set(world.ledger.get(job.key).job_id or 0, state)


class TestAJobThatWaitsForOneAtAnotherSite:
    def test_it_is_released_without_an_agent(self, world: World, meanwhile: Callable[..., None]) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        meanwhile(ends(world, first), int, ends(world, second))
        assert watch(world, second).state is JobState.COMPLETED
        assert world.cluster.started == [second.job_id]

    def test_it_ends_when_that_one_fails(self, world: World, meanwhile: Callable[..., None]) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        meanwhile(ends(world, first, JobState.FAILED))
        gone = watch(world, second)
        assert (gone.phase, gone.state) == (Phase.ENDED, JobState.CANCELLED)

    def test_a_chain_over_sites(self, world: World, meanwhile: Callable[..., None]) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        third = submit(world, "east", depends_on=after(second))
        meanwhile(ends(world, first), int, ends(world, second), int, ends(world, third))
        assert watch(world, third).state is JobState.COMPLETED

    def test_each_site_is_asked_once_a_turn_and_its_own_not_at_all(
        self, world: World, meanwhile: Callable[..., None]
    ) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        world.cluster.asked.clear()
        world.east.asked.clear()

        def stop() -> None:
            raise KeyboardInterrupt

        meanwhile(int, int, stop)
        with pytest.raises(KeyboardInterrupt):
            watch(world, second)
        assert (world.east.asked, world.cluster.asked) == (["poll"] * 3, [])


@pytest.mark.usefixtures("no_wait")
def test_twins_of_other_jobs_are_not_searched_for_at_each_turn(world: World, meanwhile: Callable[..., None]) -> None:
    world.cluster.before["submit"] = fails(DOUBT, times=1)
    world.jobs().submit_many([(a_job(), decision())])
    world.settle()
    assert (world.only().phase, world.only().attempts) == (Phase.RELEASED, 2)
    first = submit(world, "east")
    second = submit(world, depends_on=after(first))
    world.cluster.asked.clear()
    meanwhile(*[int] * 8, ends(world, first), int, ends(world, second))
    watch(world, second)
    assert world.cluster.asked.count("find") <= 3, "at growing intervals, and once before the release"


class TestCtrlC:
    @pytest.fixture(autouse=True)
    def interrupted(self, meanwhile: Callable[..., None]) -> None:
        def stop() -> None:
            raise KeyboardInterrupt

        meanwhile(stop)

    def said(self, world: World, job: Job, capsys: pytest.CaptureFixture[str]) -> str:
        with pytest.raises(KeyboardInterrupt):
            watch(world, job)
        return " ".join(capsys.readouterr().err.split())

    def test_a_job_at_its_cluster_goes_on(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        job = submit(world)
        said = self.said(world, job, capsys)
        assert f"the job goes on: 'westward watch {job.key}' follows it again" in said
        assert "agent" not in said

    def test_one_that_waits_for_another_site_does_not(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        job = submit(world, depends_on=after(submit(world, "east")))
        said = self.said(world, job, capsys)
        assert "is held until jobs at other sites have ended, and no agent is running" in said
        assert "westward agent start" in said
        assert "goes on" not in said

    def test_nor_does_one_in_doubt(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.cluster.before["submit"] = fails(DOUBT)
        world.jobs().submit_many([(a_job(), decision())])
        said = self.said(world, world.only(), capsys)
        assert "is in doubt, and no agent is running" in said
        assert "westward agent start" in said

    def test_an_agent_takes_it_further(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        job = submit(world, depends_on=after(submit(world, "east")))
        agent: Ledger = world.again()
        assert agent.take_lease(LEASE, timedelta(minutes=5))
        assert "the job goes on" in self.said(world, job, capsys)


class TestFinish:
    """How a command ends that wanted a job's outputs."""

    def ended(self, world: World, state: JobState = JobState.COMPLETED) -> Job:
        job = submit(world, outputs=("result.json",))
        ends(world, job, state)()
        return world.jobs().refresh([job])[0]

    def test_a_site_that_is_away_is_no_failure_of_the_job(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job = self.ended(world)
        away = replace(KNOWN.sites["west"], files={"/": tmp_path / "not mounted"})
        with pytest.raises(Unreachable, match=f"job {job.key} at west ended COMPLETED, but its outputs") as caught:
            finish(job, {"west": away}, as_json=True)
        assert caught.value.exit_code == 4
        assert caught.value.next_step == f"'westward results {job.key}' again later"
        facts = json.loads(capsys.readouterr().out)
        assert facts["ok"] is False
        assert "not mounted" in facts["problem"]

    def test_what_has_to_be_done_first_is_said_first(self, world: World) -> None:
        job = self.ended(world)
        with pytest.raises(Unreachable) as caught:
            finish(job, {}, as_json=False)
        assert caught.value.next_step.endswith(f"bring its lab up again; then: westward results {job.key}")

    def test_a_missing_file_is_one(self, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gathering, "VISIBLE_WITHIN_S", 0.0)
        job = self.ended(world)
        with pytest.raises(JobFailed, match=r"left no result\.json") as caught:
            finish(job, {"west": replace(KNOWN.sites["west"], files={"/": tmp_path})}, as_json=False)
        assert caught.value.exit_code == 1

    def test_a_job_that_failed_has_failed_though_its_site_is_away(self, world: World) -> None:
        with pytest.raises(JobFailed, match="ended FAILED"):
            finish(self.ended(world, JobState.FAILED), {}, as_json=False)
