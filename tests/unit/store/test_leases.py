"""One process at a time, on whatever host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from unit.store.databases import Fresh
from westward.store import owner
from westward.store.ledger import Ledger

LASTS = timedelta(minutes=5)


@pytest.fixture
def ledger(database: Fresh) -> Ledger:
    return database.ledger()


@pytest.fixture
def other(database: Fresh) -> Ledger:
    """The ledger as a process of another host has it."""
    made = database.ledger()
    made._owner = "elsewhere/1/1"
    return made


def test_nobody_holds_it_at_first(ledger: Ledger) -> None:
    assert ledger.lease("agent") is None


def test_one_at_a_time(ledger: Ledger, other: Ledger) -> None:
    assert ledger.take_lease("agent", LASTS)
    assert not other.take_lease("agent", LASTS)
    assert other.take_lease("another", LASTS)
    lease = other.lease("agent")
    assert lease is not None
    assert (lease.holder, lease.alive) == (ledger._owner, True)
    ledger.drop_lease("agent")
    assert other.take_lease("agent", LASTS)


def test_it_is_renewed_by_its_holder_who_has_held_it_since_then(ledger: Ledger) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert ledger.take_lease("agent", timedelta(seconds=1))
    first = ledger.lease("agent")
    assert ledger.take_lease("agent", LASTS)
    second = ledger.lease("agent")
    assert first is not None
    assert second is not None
    assert before < first.since == second.since
    assert first.until < second.until


def test_nobody_gives_up_another_s(ledger: Ledger, other: Ledger) -> None:
    ledger.take_lease("agent", LASTS)
    other.drop_lease("agent")
    assert ledger.lease("agent") is not None


def test_another_host_s_ends_by_time(ledger: Ledger, other: Ledger) -> None:
    assert other.take_lease("agent", timedelta(seconds=-1))
    lease = ledger.lease("agent")
    assert lease is not None
    assert not lease.alive
    assert ledger.take_lease("agent", LASTS)
    assert not other.take_lease("agent", LASTS), "the one that was late is told so"


def test_one_of_this_host_ends_with_its_process(ledger: Ledger, database: Fresh) -> None:
    code = (
        "import sys; from datetime import timedelta; from westward.store.ledger import Ledger\n"
        "print(Ledger().take_lease('agent', timedelta(minutes=1)), flush=True); sys.stdin.readline()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "WESTWARD_LEDGER": database.url},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert not ledger.take_lease("agent", LASTS)
    lease = ledger.lease("agent")
    assert lease is not None
    assert (lease.alive, owner.pid_here(lease.holder)) == (True, holder.pid)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    lease = ledger.lease("agent")
    assert lease is not None
    assert (lease.alive, owner.pid_here(lease.holder)) == (False, None)
    assert ledger.take_lease("agent", LASTS)


def test_one_that_hangs_ends_by_time(ledger: Ledger, database: Fresh) -> None:
    """A stopped process, one that waits for a file system that is gone: it runs, and does nothing."""
    hanging = database.ledger()
    assert hanging.take_lease("agent", timedelta(seconds=-1))
    lease = ledger.lease("agent")
    assert lease is not None
    assert (lease.alive, owner.pid_here(lease.holder)) == (False, os.getpid())
    assert ledger.take_lease("agent", LASTS)
    assert not hanging.take_lease("agent", LASTS), "when it goes on, it is told so"


class TestOwner:
    def test_this_process_runs(self) -> None:
        assert owner.runs(owner.claimant()) is True
        assert owner.pid_here(owner.claimant()) == os.getpid()

    def test_a_pid_that_was_given_to_another_process_is_not_the_one(self) -> None:
        host, pid, started = owner.claimant().rsplit("/", 2)
        assert owner.runs(f"{host}/{pid}/{int(started.partition('.')[0]) - 1}.0") is False

    def test_two_in_one_process_are_not_the_same(self) -> None:
        assert owner.claimant() != owner.claimant()

    def test_of_another_host_nothing_is_known(self) -> None:
        assert owner.runs("elsewhere/1/1") is None
        assert owner.pid_here("elsewhere/1/1") is None
