"""The loop that acts when its user does not: it settles submissions in doubt, releases what waited for a job elsewhere, and watches.

One lease in the ledger lets one process do this at a time, on whatever host. Every step is one that any command could take, recorded
in the ledger before and after; so the loop may be killed at any moment, and the next one, or the next command, goes on from there.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping

from westward.errors import StorageError, WestwardError
from westward.federation.presence import LEASE, LEASE_LASTS
from westward.jobs.lifecycle import Jobs, Step
from westward.jobs.steps import TWIN_WINDOW
from westward.model.site import Site
from westward.slurm.client import SlurmClient, open_client
from westward.store.ledger import OPEN, Ledger

FIRST_TICK_S = 1.0
LAST_TICK_S = 30.0
SLOWER = 1.5
LISTEN_S = 0.5

log = logging.getLogger("westward.agent")


class Broker:
    """One agent.

    Args:
        sites: called each turn, so that a site described anew is taken up.
        until_idle_s: end when no job has been open for so many seconds; None to go on for ever.
        connect, on_step: as for `Jobs`.
    """

    def __init__(
        self,
        ledger: Ledger,
        sites: Callable[[], Mapping[str, Site]],
        until_idle_s: float | None = None,
        connect: Callable[[Site], SlurmClient] = open_client,
        on_step: Step | None = None,
    ) -> None:
        self._ledger = ledger
        self._sites = sites
        self._connect = connect
        self._on_step = on_step
        self._until_idle_s = until_idle_s
        self._stop = threading.Event()
        self._told: dict[str, str] = {}

    def stop(self) -> None:
        """End after the present turn. Safe to call from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> bool:
        """Act until stopped or idle; False where another agent holds the lease.

        Raises:
            StorageError: the ledger cannot be used at the start. Later on it is waited for.
        """
        if not self._ledger.take_lease(LEASE, LEASE_LASTS):
            return False
        try:
            self._loop()
        finally:
            try:
                self._ledger.drop_lease(LEASE)
            except StorageError as error:
                log.warning("%s", error)
        return True

    def _loop(self) -> None:
        tick_s, idle_since = FIRST_TICK_S, time.monotonic()
        sites: Mapping[str, Site] = {}
        jobs = self._jobs(sites)
        try:
            while not self._stop.is_set():
                seen = None
                try:
                    fresh = self._sites()
                    if fresh != sites:
                        jobs.close()
                        sites, jobs = fresh, self._jobs(fresh)
                    if not self._ledger.take_lease(LEASE, LEASE_LASTS):
                        log.warning("another agent has taken over")
                        return
                    seen = self._ledger.pulse()  # before the turn: what comes during it is not overlooked
                    changed, still_open = self.turn(jobs)
                except WestwardError as error:  # a full disk, a site file half written: it may pass
                    self.say("turn", str(error))
                    changed, still_open = 0, 1
                if still_open:
                    idle_since = time.monotonic()
                elif self._until_idle_s is not None and time.monotonic() - idle_since > self._until_idle_s:
                    log.info("nothing is left to do")
                    return
                tick_s = FIRST_TICK_S if changed else min(tick_s * SLOWER, LAST_TICK_S)
                if self._pause(tick_s * random.uniform(0.9, 1.1), seen):
                    tick_s = FIRST_TICK_S
        finally:
            jobs.close()

    def _jobs(self, sites: Mapping[str, Site]) -> Jobs:
        return Jobs(self._ledger, sites, self._connect, self._on_step)

    def turn(self, jobs: Jobs) -> tuple[int, int]:
        """Do once what is to be done now; how many jobs are otherwise than before, and how many are open or may have late twins."""
        before = self._on_their_way()
        for job, error in jobs.settle(thorough=False):
            self.say(job.key, f"job {job.key}: {error}")
        changed = jobs.watch() + len(before - self._on_their_way())
        still_open = sum(count for (phase, _), count in self._ledger.counts().items() if phase in OPEN)
        twins = self._ledger.perhaps_twins(TWIN_WINDOW)
        return changed, still_open + sum(map(len, twins.values()))

    def _on_their_way(self) -> set[str]:
        return {key for keys in self._ledger.unsettled().values() for key in keys}

    def _pause(self, seconds: float, seen: tuple[int, float] | None) -> bool:
        """Wait, but not when the ledger's pulse is another than the one seen: True then."""
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0 and not self._stop.wait(min(LISTEN_S, left)):
                if seen is not None and self._ledger.pulse() != seen:
                    return True
        except StorageError:
            self._stop.wait(max(0.0, until - time.monotonic()))
        return False

    def say(self, about: str, text: str) -> None:
        """Into the log, unless the same was said of it before. Also for what `sites` has to say, turn after turn."""
        if self._told.get(about) != text:
            self._told[about] = text
            log.warning("%s", text)
