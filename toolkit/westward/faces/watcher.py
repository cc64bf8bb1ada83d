"""One thread that watches for everybody who waits: it asks each site once a turn, whatever the number of jobs and of callers.

It turns at growing intervals while nothing changes, begins with the first caller, and ends when nobody has waited for a while.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import partial

from westward.errors import NotEnded, NotFound, WestwardError
from westward.faces.session import Session, session
from westward.jobs.following import FIRST_TICK_S, LAST_TICK_S, SLOWER, take_further
from westward.store.ledger import OPEN, Job, ledger_file

# how long connections are kept for the next caller: a loop over jobs waits for one after the other
LINGERS_S = 5.0


class Watcher:
    """Follows jobs of one ledger. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._followed: Counter[str] = Counter()
        self._rows: dict[str, Job] = {}
        self._ended: dict[str, Job] = {}
        self._problem: WestwardError | None = None
        self._turns = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def following(self, keys: Collection[str]) -> Iterator[None]:
        """Have these jobs watched meanwhile."""
        with self._changed:
            self._followed.update(keys)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="westward-watcher", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._followed.subtract(keys)
                for key in [key for key, count in self._followed.items() if count <= 0]:
                    del self._followed[key]
                    self._ended.pop(key, None)
                    self._rows.pop(key, None)

    def wait(self, keys: Collection[str], until: float | None) -> list[Job]:
        """Those of these jobs, which are being followed, that have ended; at least one.

        Args:
            until: by time.monotonic(); None to wait for ever.

        Raises:
            NotEnded: none has by then.
            WestwardError: the watching itself cannot go on, because of the ledger or a description of a site.
        """
        with self._changed:
            turns = self._turns
            while not (ended := [self._ended[key] for key in keys if key in self._ended]):
                if self._problem is not None and self._turns > turns:
                    raise self._problem
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise NotEnded(_goes_on(keys), "wait again, or look: westward jobs")
                self._changed.wait(left)
            return ended

    def news(self, keys: Collection[str], until: float | None, heard: int) -> tuple[int, dict[str, Job]]:
        """These jobs, which are being followed, as they are after a turn later than the one `heard` last; with the number of that turn.

        Args:
            heard: -1 for what is known already, which may be nothing.

        Raises:
            NotEnded, WestwardError: as `wait`.
        """
        with self._changed:
            while self._turns <= heard:
                if until is not None and time.monotonic() >= until:
                    raise NotEnded(_goes_on(keys), "wait again, or look: westward jobs")
                self._changed.wait(None if until is None else until - time.monotonic())
            if self._problem is not None and heard >= 0:
                raise self._problem
            return self._turns, {key: self._rows[key] for key in keys if key in self._rows}

    def _run(self) -> None:
        """Turn until nobody has waited for a while."""
        while True:
            try:
                with session() as opened:
                    self._watch(opened)
            except WestwardError as error:
                self._tell(error)
                time.sleep(FIRST_TICK_S)
            with self._changed:
                if not self._asked_for():  # whoever comes after this line begins a thread of his own
                    self._thread = None
                    return

    def _watch(self, opened: Session) -> None:
        """Turn with open connections, for as long as somebody waits and the sites are known."""
        last: dict[str, object] = {}
        tick_s = FIRST_TICK_S
        while keys := self._wanted(LINGERS_S):
            jobs = _turn(opened, keys)
            now: dict[str, object] = {job.key: (job.state, job.reason, job.tasks) for job in jobs if job.phase in OPEN}
            tick_s = FIRST_TICK_S if now != last else min(tick_s * SLOWER, LAST_TICK_S)
            last = now
            with self._changed:
                self._rows |= {job.key: job for job in jobs if job.key in self._followed}
                self._ended |= {job.key: job for job in jobs if job.phase not in OPEN and job.key in self._followed}
                self._problem, self._turns = None, self._turns + 1
                self._changed.notify_all()
                if self._changed.wait_for(partial(self._new_since, frozenset(now)), tick_s):
                    tick_s = FIRST_TICK_S
            if any(job.phase in OPEN and job.site not in opened.sites for job in jobs):
                return  # described anew, perhaps, by the time they are read again

    def _new_since(self, asked: AbstractSet[str]) -> bool:
        return bool(self._asked_for() - asked)

    def _asked_for(self) -> AbstractSet[str]:
        return self._followed.keys() - self._ended.keys()

    def _wanted(self, within_s: float) -> Sequence[str]:
        """The jobs to ask about; none where nobody has waited for so long."""
        with self._changed:
            self._changed.wait_for(self._asked_for, within_s)
            return sorted(self._asked_for())

    def _tell(self, error: WestwardError) -> None:
        with self._changed:
            self._problem, self._turns = error, self._turns + 1
            self._changed.notify_all()


def _turn(opened: Session, keys: Sequence[str]) -> list[Job]:
    """Ask about these jobs once."""
    try:
        jobs = opened.ledger.get_many(keys)
    except KeyError as error:
        raise NotFound(f"job {error.args[0]} is not in the ledger '{_place()}'") from error
    take_further(opened.running, opened.ledger, jobs)
    return opened.running.refresh(jobs)


def _goes_on(keys: Collection[str]) -> str:
    first = min(keys)
    return f"job {first} has not ended yet" if len(keys) == 1 else f"none of {len(keys)} jobs has ended yet"


def _place() -> str:
    return os.environ.get("WESTWARD_LEDGER") or str(ledger_file())


_watchers: dict[tuple[int, str], Watcher] = {}
_making = threading.Lock()


def watcher() -> Watcher:
    """The one of this process for the ledger that is in use now; a forked process has its own."""
    with _making:
        return _watchers.setdefault((os.getpid(), _place()), Watcher())
