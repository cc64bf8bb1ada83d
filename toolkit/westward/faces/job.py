"""A job as a Python program holds it, and waiting for several."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from westward.catalogue.load import known_sites
from westward.errors import JobFailed, NotFound, Unreachable, WestwardError
from westward.faces.session import session
from westward.faces.watcher import watcher
from westward.jobs.collect import collect, open_log
from westward.jobs.following import take_further
from westward.model.job import JobState
from westward.model.result import JobResult
from westward.model.site import Site
from westward.store import ledger

# of the log of a job that failed: so many lines in the error's words, and so many characters with it
_LINES = 10
_TAIL = 8_192
# `done` in a loop asks a site no more often than this
_ASKS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a job. Times are UTC.

    Attributes:
        phase: how far its submission got: intent, submitting, held, released; ended, or refused where no cluster took it.
        tasks: of an array, how many tasks are in each state.
        slurm_job_id: None while its cluster has given it none.
        seen_at: when its site last said anything of it.
    """

    state: JobState
    phase: str
    reason: str = ""
    slurm_job_id: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    tasks: Mapping[JobState, int] = field(default_factory=dict)
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    estimated_start: datetime | None = None
    seen_at: datetime | None = None


class Job:
    """One job, by its key in the ledger. Two handles of one job are equal; several threads may use one.

    Every method may raise StorageError (the ledger cannot be used). A site that does not answer raises nothing while a job is watched:
    the job is UNKNOWN, and comes back when the site does. Ctrl-C while waiting ends the waiting, never the job.
    """

    def __init__(self, row: ledger.Job) -> None:
        self._row = row
        self._asked_at = float("-inf")

    @property
    def key(self) -> str:
        """12 characters, by which it is known everywhere."""
        return self._row.key

    @property
    def name(self) -> str:
        """The user's own name for it."""
        return self._row.name

    @property
    def site(self) -> str:
        """The site that it was submitted at."""
        return self._row.site

    @property
    def directory(self) -> str:
        """Its own directory at its site."""
        return self._row.submission.directory

    @property
    def outputs(self) -> tuple[str, ...]:
        """The files that it promised, relative to its directory; `result().files` says where they lie when they have been fetched."""
        return self._row.outputs

    @property
    def state(self) -> JobState:
        """As this handle last heard; nobody is asked."""
        return self._row.state

    def status(self) -> Status:
        """Ask its site now; of a job that has ended nobody is asked."""
        if self._row.phase in ledger.OPEN:
            with session() as opened:
                (row,) = opened.ledger.get_many([self.key])
                take_further(opened.running, opened.ledger, [row])
                (self._row,) = opened.running.refresh([row])
            self._asked_at = time.monotonic()
        return _status(self._row)

    def done(self) -> bool:
        """Whether it has ended, in whatever way. Asks its site once a second at most."""
        if self._row.phase in ledger.OPEN and time.monotonic() - self._asked_at >= _ASKS_EVERY_S:
            self.status()
        return self._row.phase not in ledger.OPEN

    def wait(self, timeout: float | None = None) -> JobState:
        """Wait until it has ended, in whatever way; the state in which it did.

        Args:
            timeout: seconds; None to wait for ever.

        Raises:
            NotEnded: it has not by then (a TimeoutError too).
        """
        if self._row.phase in ledger.OPEN:
            next(as_completed([self], timeout))
        return self._row.state

    def result(self, timeout: float | None = None) -> JobResult:
        """Wait for it, and fetch what it left behind.

        Raises:
            JobFailed: it did not succeed: another end than COMPLETED, a promised file that is missing, a record that says so. Its `log` is
                the end of what the job wrote.
            Unreachable: it has ended, and its site does not give its outputs now: nobody knows yet. Call again later.
            NotEnded: it has not ended by then (a TimeoutError too).
        """
        self.wait(timeout)
        site = known_sites().get(self.site)
        result = collect(self._row, site)
        if result.problem:
            raise failure(self, result.problem, site)
        if result.away:
            raise Unreachable(
                f"job {self.key} at {self.site} ended {result.state}, but its outputs could not be fetched: {result.away}",
                result.away.next_step or "call result() again later",
            ) from result.away
        return result

    def logs(self, task: int | None = None) -> str:
        """What it has written so far, stdout and stderr of its batch script; empty where it has written nothing yet.

        Args:
            task: which task of an array.

        Raises:
            InputError: it is an array and no task is named, or the other way round.
            Unreachable: its site's files cannot be read here now.
        """
        if self._row.job_id is None:
            self.status()
        try:
            with open_log(self._row, self._described(), task) as log:
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def cancel(self) -> None:
        """End it, wherever it is on its way. Harmless for one that has ended.

        Raises:
            WestwardError: that could not be done now. The wish is recorded: the next command, or the agent, carries it out.
        """
        with session() as opened:
            (row,) = opened.ledger.get_many([self.key])
            self._row = opened.running.cancel(row) if row.phase in ledger.OPEN else row

    def __repr__(self) -> str:
        return f"<Job {self.key} {self.name!r} at {self.site}: {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def _described(self) -> Site:
        sites = known_sites()
        if self.site not in sites:
            raise NotFound(
                f"site '{self.site}' of job {self.key} is no longer described here",
                "put its description back, or bring its lab up again",
            )
        return sites[self.site]


def failure(job: Job, problem: str, site: Site | None, task: int | None = None) -> JobFailed:
    """What is raised for a job, or a task of an array, that did not succeed: with the end of its log, where that can be had."""
    log = "" if site is None else _tail(job._row, site, task)
    ends = "".join(f"\n  {_printable(line)}" for line in log.splitlines()[-_LINES:])
    of, more = ("", "") if task is None else (f"task {task} of ", f" --task {task}")
    return JobFailed(
        f"{of}job {job.key} at {job.site}: {problem}{'; its log ends:' + ends if ends else ''}",
        f"read all of its output: westward logs {job.key}{more}",
        log,
    )


def as_completed(jobs: Iterable[Job], timeout: float | None = None) -> Iterator[Job]:
    """The jobs as they end, in whatever way; those that have ended already first. Each site is asked once a turn about all of them.

    Args:
        timeout: seconds from the first `next`; None to wait for ever.

    Raises:
        NotEnded: one has not ended by then (a TimeoutError too). Those that had were yielded.
    """
    until = None if timeout is None else time.monotonic() + timeout
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        waiting.setdefault(job.key, []).append(job)
    for key in [key for key, (job, *_) in waiting.items() if job._row.phase not in ledger.OPEN]:
        yield from waiting.pop(key)
    if not waiting:
        return
    ours = watcher()
    with ours.following(list(waiting)):
        while waiting:
            for row in ours.wait(waiting.keys(), until):
                for job in waiting.pop(row.key):
                    job._row = row
                    yield job


def _status(row: ledger.Job) -> Status:
    return Status(
        row.state,
        str(row.phase),
        row.reason,
        row.job_id,
        row.exit_code,
        row.signal,
        row.restarts,
        row.tasks,
        row.created_at,
        row.started_at,
        row.ended_at,
        row.estimated_start,
        row.seen_at,
    )


def _tail(row: ledger.Job, site: Site, task: int | None) -> str:
    """The end of its log; empty where it cannot be had, and for an array as a whole, whose tasks each have one."""
    if (row.submission.array is not None and task is None) or row.job_id is None:
        return ""
    try:
        with open_log(row, site, task) as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - _TAIL))
            return log.read().decode(errors="replace")
    except (WestwardError, FileNotFoundError):
        return ""


def _printable(line: str) -> str:
    """What a job wrote reaches a terminal through the error's words: nothing in it may move the cursor."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "\N{REPLACEMENT CHARACTER}" for letter in line)
