"""The agent's loop: what a turn does, when it ends, and what it survives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest

from unit.jobs.world import (
    DOUBT,
    KNOWN,
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
    submit,
)
from unit.jobs.world import world as world  # a fixture
from unit.store.databases import database as database  # a fixture
from westward.errors import InputError, StorageError
from westward.federation import broker
from westward.federation.broker import Broker
from westward.federation.presence import LEASE, alive, waiting_for_agent
from westward.jobs import steps
from westward.model.job import After, Dependency, JobState
from westward.model.site import Site
from westward.store.ledger import Phase


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("FIRST_TICK_S", 0.01), ("LAST_TICK_S", 0.05), ("LISTEN_S", 0.01)):
        monkeypatch.setattr(broker, name, seconds)
    monkeypatch.setattr(steps, "FIRST_RETRY_S", 0.0)


def an_agent(world: World, sites: Callable[[], Mapping[str, Site]] = lambda: KNOWN.sites, **more: Any) -> Broker:
    return Broker(more.pop("ledger", world.ledger), sites, connect=world.connect, **{"until_idle_s": 0.05, **more})


@pytest.fixture
def in_background() -> Iterator[Callable[[Broker], threading.Thread]]:
    """Runs agents in threads; they are stopped at the end."""
    started: list[tuple[Broker, threading.Thread]] = []

    def start(agent: Broker) -> threading.Thread:
        thread = threading.Thread(target=agent.run, daemon=True)
        started.append((agent, thread))
        thread.start()
        return thread

    yield start
    for agent, thread in started:
        agent.stop()
        thread.join(10)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestTurn:
    def test_it_settles_releases_and_watches(self, world: World) -> None:
        world.cluster.after["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        agent, jobs = an_agent(world), world.jobs()
        changed, still_open = agent.turn(jobs)
        assert (changed > 0, still_open, world.cluster.started) == (True, 1, [1])
        world.cluster.set(1, JobState.RUNNING)
        assert agent.turn(jobs) == (1, 1)
        assert agent.turn(jobs) == (0, 1)
        world.cluster.set(1, JobState.COMPLETED)
        assert agent.turn(jobs) == (1, 0)

    def test_a_job_that_waits_elsewhere_is_let_go_when_its_time_has_come(self, world: World) -> None:
        first = submit(world, "east")
        submit(world, depends_on=(Dependency(After.ANY, first.key),))
        agent, jobs = an_agent(world), world.jobs()
        agent.turn(jobs)
        assert agent.turn(jobs) == (0, 2), "that it waits is nothing new"
        assert [job.phase for job in waiting_for_agent(world.ledger)] == [Phase.HELD]
        world.east.set(1, JobState.TIMEOUT)
        for _ in range(2):
            agent.turn(jobs)
        assert world.cluster.started == [1]
        assert waiting_for_agent(world.ledger) == []

    def test_what_stays_in_doubt_is_nothing_new(self, world: World) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        world.cluster.before["any"] = fails(SILENT)
        agent, jobs = an_agent(world), world.jobs()
        agent.turn(jobs)
        assert agent.turn(jobs) == (0, 1)

    def test_the_same_trouble_is_told_once(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.cluster.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many(many(1))
        world.cluster.before["any"] = fails(SILENT)
        agent, jobs = an_agent(world), world.jobs()
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                agent.turn(jobs)
        assert [record.getMessage() for record in caplog.records] == [f"job {world.only().key}: {SILENT}"]


class TestRun:
    def test_it_ends_when_nothing_is_left_to_do(self, world: World) -> None:
        world.jobs().submit_many(many(3))
        for job_id in (1, 2, 3):
            world.cluster.set(job_id, JobState.COMPLETED)
        assert an_agent(world).run() is True
        assert {job.phase for job in world.ledger.jobs()} == {Phase.ENDED}
        assert world.ledger.lease(LEASE) is None

    def test_it_goes_on_while_a_job_does(
        self, world: World, in_background: Callable[[Broker], threading.Thread]
    ) -> None:
        submit(world)
        thread = in_background(an_agent(world))
        time.sleep(0.3)
        assert thread.is_alive()
        assert alive(world.again())
        world.cluster.set(1, JobState.COMPLETED)
        thread.join(10)
        assert not thread.is_alive()
        assert not alive(world.again())

    def test_it_ends_when_it_is_told_to(
        self, world: World, in_background: Callable[[Broker], threading.Thread]
    ) -> None:
        submit(world)
        agent = an_agent(world, until_idle_s=None)
        thread = in_background(agent)
        until(lambda: alive(world.ledger))
        agent.stop()
        thread.join(10)
        assert world.ledger.lease(LEASE) is None

    def test_a_new_job_does_not_wait_for_the_next_tick(
        self, world: World, in_background: Callable[[Broker], threading.Thread], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("FIRST_TICK_S", "LAST_TICK_S"):
            monkeypatch.setattr(broker, name, 3600.0)
        in_background(an_agent(world, until_idle_s=None, ledger=world.again()))
        until(lambda: alive(world.ledger))
        with pytest.raises(Killed):
            world.jobs(killed_at("held")).submit(a_job(), decision())
        until(lambda: world.cluster.started == [1])

    def test_a_second_one_is_refused_and_leaves_the_first_s_lease(self, world: World) -> None:
        other = world.other_process()
        assert other.take_lease(LEASE, timedelta(minutes=5))
        assert an_agent(world).run() is False
        lease = other.lease(LEASE)
        assert lease is not None
        assert lease.holder == other._owner

    def test_one_that_was_late_ends_when_another_has_taken_over(
        self, world: World, in_background: Callable[[Broker], threading.Thread], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        submit(world)
        monkeypatch.setattr(broker, "LEASE_LASTS", timedelta(seconds=-1))
        late = world.other_process()
        thread = in_background(an_agent(world, ledger=late, until_idle_s=None))
        until(lambda: world.ledger.lease(LEASE) is not None)
        assert world.ledger.take_lease(LEASE, timedelta(minutes=5))
        thread.join(10)
        assert not thread.is_alive()
        lease = world.ledger.lease(LEASE)
        assert lease is not None
        assert lease.holder == world.ledger._owner

    def test_sites_that_are_described_anew_are_taken_up(
        self, world: World, in_background: Callable[[Broker], threading.Thread]
    ) -> None:
        made = submit(world)
        described: dict[str, Site] = {}
        in_background(an_agent(world, lambda: dict(described), ledger=world.again()))
        until(lambda: world.ledger.get(made.key).state is JobState.UNKNOWN)
        world.cluster.set(1, JobState.RUNNING)
        described.update(KNOWN.sites)
        until(lambda: world.ledger.get(made.key).state is JobState.RUNNING)

    def test_a_site_file_that_is_half_written_passes(
        self, world: World, in_background: Callable[[Broker], threading.Thread], caplog: pytest.LogCaptureFixture
    ) -> None:
        made = submit(world)
        left = iter([None] * 3)

        def sites() -> Mapping[str, Site]:
            if next(left, 1) is None:
                raise InputError("site file 'west.yaml': not YAML")
            return KNOWN.sites

        world.cluster.set(1, JobState.COMPLETED)
        in_background(an_agent(world, sites, ledger=world.again())).join(10)
        assert world.ledger.get(made.key).phase is Phase.ENDED
        assert [record.getMessage() for record in caplog.records].count("site file 'west.yaml': not YAML") == 1

    def test_a_full_disk_passes(
        self, world: World, in_background: Callable[[Broker], threading.Thread], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = submit(world)
        ledger = world.again()
        full = [True]
        for name in ("take_lease", "unsettled", "pulse"):
            monkeypatch.setattr(ledger, name, failing_while(full, getattr(ledger, name)))
        full[0] = False
        thread = in_background(an_agent(world, ledger=ledger))
        until(lambda: alive(world.ledger))
        full[0] = True
        world.cluster.set(1, JobState.COMPLETED)
        time.sleep(0.2)
        assert thread.is_alive()
        full[0] = False
        thread.join(10)
        assert world.ledger.get(made.key).phase is Phase.ENDED

    def test_a_ledger_that_cannot_be_used_at_the_start_is_told(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(world.ledger, "take_lease", failing_while([True], world.ledger.take_lease))
        with pytest.raises(StorageError):
            an_agent(world).run()


def failing_while(full: list[bool], call: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **more: Any) -> Any:
        if full[0]:
            raise StorageError("the ledger cannot be used: its disk is full")
        return call(*args, **more)

    return called


@pytest.mark.parametrize("step", STEPS[1:])
def test_killed_at_any_step_of_a_turn_the_next_one_goes_on(world: World, step: str) -> None:
    world.cluster.before["submit"] = fails(DOUBT, times=2)
    world.jobs().submit_many(many(3))
    with pytest.raises(Killed):
        an_agent(world).turn(world.jobs(killed_at(step, 1)))
    agent, jobs = an_agent(world), world.jobs()
    agent.turn(jobs)
    world.cluster.deliver()
    world.settle()
    assert [job.phase for job in world.ledger.jobs()] == [Phase.RELEASED] * 3
    assert_started_once(world)


def test_a_command_and_the_agent_settle_the_same_jobs_once(
    world: World, in_background: Callable[[Broker], threading.Thread]
) -> None:
    in_background(an_agent(world, ledger=world.other_process()))
    for _ in range(10):
        world.cluster.after["submit"] = fails(DOUBT, times=2)
        world.jobs().submit_many(many(3))
        world.settle()
    until(lambda: not world.ledger.unsettled())
    assert_started_once(world)
