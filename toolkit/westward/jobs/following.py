"""Following jobs to their end: a turn of a watcher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from westward.jobs.lifecycle import Jobs
from westward.store.ledger import OPEN, UNSETTLED, Job, Ledger

FIRST_TICK_S = 0.5
LAST_TICK_S = 10.0
SLOWER = 1.2


def take_further(running: Jobs, ledger: Ledger, jobs: Sequence[Job]) -> None:
    """Where some of these are on their way to their clusters: take them further, as an agent would, and ask about what they wait for."""
    if any(job.phase in UNSETTLED for job in jobs):
        running.refresh(waited_for(ledger, jobs))
        running.settle(thorough=False)


def waited_for(ledger: Ledger, jobs: Iterable[Job]) -> list[Job]:
    """The jobs that have to go on so that these can: those they wait for, and those that these wait for."""
    found: dict[str, Job] = {}
    nearest = list(jobs)
    while keys := {after.key for one in nearest if one.phase in UNSETTLED for after in one.waits_for} - found.keys():
        nearest = ledger.get_many(sorted(keys))
        found |= {one.key: one for one in nearest}
    return [one for one in found.values() if one.phase in OPEN]
