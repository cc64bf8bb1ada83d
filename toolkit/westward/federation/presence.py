"""Whether an agent acts on a ledger, and what waits for one. Apart from the agent itself, so that who only asks loads nothing of it."""

from __future__ import annotations

from datetime import timedelta

from westward.store.ledger import Job, Ledger

LEASE = "agent"
# how long the agent is believed to live without a sign of it: longer than its longest turn, which a silent site stretches
LEASE_LASTS = timedelta(minutes=5)


def alive(ledger: Ledger) -> bool:
    """Whether an agent acts on this ledger."""
    lease = ledger.lease(LEASE)
    return lease is not None and lease.alive


def waiting_for_agent(ledger: Ledger) -> list[Job]:
    """The jobs that go no further unless an agent, or another command, acts: in doubt, or waiting for a job at another site."""
    keys = [key for site in ledger.unsettled().values() for key in site]
    return ledger.get_many(keys)
