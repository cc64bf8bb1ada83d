"""Following jobs to their end: a turn of a watcher, and a log that is read on until its job has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from westward.errors import Unreachable
from westward.jobs.gathering import VISIBLE_WITHIN_S
from westward.jobs.lifecycle import Jobs
from westward.jobs.logs import Log, Readable, stderr_path, stdout_path
from westward.jobs.watching import MAY_COME_BACK
from westward.model.job import Array, JobState
from westward.store.ledger import OPEN, UNSETTLED, Job, Ledger

FIRST_TICK_S = 0.5
LAST_TICK_S = 10.0
SLOWER = 1.2
# a log is looked at this often while it grows, and more and more seldom while it does not
FIRST_LOOK_S = 0.2
LAST_LOOK_S = 2.0
# and its job this often, since nobody sees the end of it in the log
LAST_ASK_S = 5.0

Write = Callable[[bytes, bool], None]
Tell = Callable[[str], None]


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


class Follower:
    """Reads on in what a job writes, until it has ended.

    Its site may go away and come back, and the job may be put back and start anew: each is told once, and the following goes on.

    Args:
        files: of the job's site.
        task: of an array, the one that is followed.
        lines: of what is there already, so many lines from the end; None for all.
        write: takes what was written, and whether that is of a file for stderr alone.
        tell: takes what the user should know beside it.
    """

    def __init__(
        self,
        running: Jobs,
        ledger: Ledger,
        job: Job,
        files: Readable,
        *,
        write: Write,
        tell: Tell,
        task: int | None = None,
        lines: int | None = None,
    ) -> None:
        self.job = job
        self._running, self._ledger, self._files = running, ledger, files
        self._write, self._tell = write, tell
        self._task, self._lines = task, lines
        self._logs: list[tuple[Log, bool]] = []
        self._answered = False  # whether its files were ever looked at
        self._silent = False
        self._written = False
        self._waiting_told: tuple[JobState, str] | None = None

    def follow(self) -> JobState:
        """Follow it to its end; the state in which it, or its task, ended.

        Raises:
            Unreachable: its files cannot be read at all. Once they could, it is waited for instead.
            InputError: which task is not said, or where it writes cannot be told.
        """
        look, ask, asked = FIRST_LOOK_S, FIRST_TICK_S, time.monotonic()
        state = self._ended()
        while state is None:
            news = self._read()
            look = FIRST_LOOK_S if news else min(look * SLOWER, LAST_LOOK_S)
            time.sleep(look)
            if time.monotonic() - asked >= ask:
                self._ask()
                state, asked = self._ended(), time.monotonic()
                ask = FIRST_TICK_S if state else min(ask * SLOWER, LAST_ASK_S)
        self._read_the_rest()
        return state

    def _ask(self) -> None:
        before = self.job
        take_further(self._running, self._ledger, [self.job])
        self.job = self._running.refresh([self.job])[0]
        if self.job.restarts > before.restarts:
            self._tell(
                f"job {self.job.key} was put back into the queue of '{self.job.site}' (restart {self.job.restarts})"
            )
            self._waiting_told = None

    def _ended(self) -> JobState | None:
        """The final state of the job, or of the task that is followed; None while it goes on."""
        over = self.job.phase not in OPEN
        task = next(
            (state for state, ids in self.job.task_ids.items() if self._task in Array.parse(ids).task_ids), None
        )
        if task is not None and task.final and (over or task not in MAY_COME_BACK):
            return task
        return self.job.state if over else None

    def _read(self) -> bool:
        """Whether there was something new."""
        try:
            if not self._logs:
                self._open()
            news = [self._read_one(log, is_stderr) for log, is_stderr in self._logs]
        except FileNotFoundError:  # its name is not known before its cluster has given it an id
            self._tell_waiting()
            return False
        except Unreachable as error:
            if not self._answered:
                raise
            if not self._silent:
                self._silent = True
                self._tell(f"{error}; job {self.job.key} may well go on there, and is followed again once it answers")
            return False
        self._answered = True
        if self._silent:
            self._silent = False
            self._tell(f"site '{self.job.site}' answers again")
        if not self._written:
            self._tell_waiting()
        return any(news)

    def _open(self) -> None:
        paths = [(stdout_path(self.job, self._task), False)]
        other = stderr_path(self.job, self._task)
        paths += [(other, True)] if other else []
        self._logs = [(Log(self._files, path, self._lines), is_stderr) for path, is_stderr in paths]

    def _read_one(self, log: Log, is_stderr: bool) -> bool:
        news = False
        try:
            for piece in log.more():
                self._write(piece, is_stderr)
                self._written = news = True
        except FileNotFoundError:  # not yet, or it was taken away
            pass
        return news

    def _read_the_rest(self) -> None:
        """What its last moments left: a file system that is shared may show it later than its cluster tells of the end."""
        until, quiet = time.monotonic() + VISIBLE_WITHIN_S, 0
        while quiet < (1 if self._written else 4) and time.monotonic() < until:
            quiet = 0 if self._read() else quiet + 1
            if quiet:
                time.sleep(FIRST_TICK_S)

    def _tell_waiting(self) -> None:
        """Why there is nothing to be read yet, once for each reason."""
        job = self.job
        told = (job.state, job.reason)
        if job.phase not in OPEN or self._waiting_told == told:
            return
        self._waiting_told = told
        why = f" ({job.reason})" if job.reason else ""
        what = "has not started" if job.started_at is None else "has written nothing yet"
        self._tell(f"job {job.key} {what}: {job.state}{why} at '{job.site}'")
