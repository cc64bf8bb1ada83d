"""Many jobs watched at once: how they and their sites stand, and what changed since the last look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from westward.errors import QuantityError
from westward.jobs.following import take_further
from westward.jobs.lifecycle import Jobs
from westward.model.job import Array, JobState
from westward.model.units import parse_walltime
from westward.store.ledger import OPEN, Job, Ledger, SiteWord

_ORDER = (JobState.RUNNING, JobState.SUSPENDED, JobState.PENDING, JobState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. None where it is not known, or does not apply.

    Attributes:
        done, tasks: of an array, how many tasks have ended, and how many there are.
        ran_s, limit_s: since its start, and its time limit.
        starts_at: when its cluster means to start it.
        ends_by: when its time limit ends it.
    """

    done: int | None
    tasks: int | None
    ran_s: float | None
    limit_s: int | None
    starts_at: datetime | None
    ends_by: datetime | None


def progress(job: Job, now: datetime) -> Progress:
    """How far a job is at that moment."""
    array = job.submission.array
    limit = limit_s(job)
    going_on = job.phase in OPEN
    started = job.started_at if job.state is not JobState.PENDING or not going_on else None
    return Progress(
        done=sum(count for state, count in job.tasks.items() if state.final) if array else None,
        tasks=Array.parse(array).tasks if array else None,
        ran_s=max(0.0, ((job.ended_at or now) - started).total_seconds()) if started else None,
        limit_s=limit,
        starts_at=job.estimated_start if job.state is JobState.PENDING and going_on else None,
        # the tasks of an array start one after another
        ends_by=started + timedelta(seconds=limit) if started and limit and going_on and not array else None,
    )


def limit_s(job: Job) -> int | None:
    """The time limit that a job was submitted with, in seconds; None where it is its partition's own, or not known."""
    if job.submission.walltime_s is not None:
        return job.submission.walltime_s
    try:
        return parse_walltime(job.submission.options.get("time") or "")
    except QuantityError:
        return None


@dataclass(frozen=True, slots=True)
class SiteLine:
    """A site, and how many of the jobs that are watched are in which state there; of arrays each task counts."""

    name: str
    word: SiteWord | None
    running: int
    waiting: int
    others: int


class Overview:
    """The jobs that are watched, those that ended meanwhile among them.

    Args:
        keys: of these jobs; None for all that go on, those that come later too.
    """

    def __init__(self, running: Jobs, ledger: Ledger, keys: Sequence[str] | None = None) -> None:
        self._running, self._ledger, self._all = running, ledger, keys is None
        self._jobs: dict[str, Job] = {}
        self._words: dict[str, SiteWord] = {}
        self._told: dict[str, tuple[object, ...]] = {}
        self._add(self._open_keys() if keys is None else keys)

    @property
    def jobs(self) -> list[Job]:
        """Running ones first, then those that wait, then those that have ended, the latest first."""
        return sorted(self._jobs.values(), key=_place)

    @property
    def over(self) -> bool:
        """Whether all of them have ended."""
        return not self._going_on()

    def sites(self) -> list[SiteLine]:
        """The sites of these jobs, by name."""
        lines = []
        for name in sorted({job.site for job in self._jobs.values()}):
            counts = {"running": 0, "waiting": 0, "others": 0}
            for job in self._jobs.values():
                if job.site == name and job.phase in OPEN:
                    for state, count in _states(job).items():
                        counts[_kind(state)] += count
            lines.append(SiteLine(name, self._words.get(name), **counts))
        return lines

    def look(self) -> tuple[list[Job], list[SiteWord]]:
        """Take a turn: each site is asked once. The jobs, and the sites, that are otherwise than at the last look; at first all jobs."""
        words = dict(self._words)
        going_on = self._going_on()
        take_further(self._running, self._ledger, going_on)
        if self._all:
            self._running.watch()
            self._add(self._open_keys())
        else:
            self._running.refresh(going_on)
        self._jobs |= {job.key: job for job in self._ledger.again(self._going_on())}
        self._words = {word.name: word for word in self._ledger.sites()}
        changed = [job for job in self.jobs if self._told.get(job.key) != _told(job)]
        self._told |= {job.key: _told(job) for job in changed}
        here = {job.site for job in self._jobs.values()}
        turned = [
            word for name, word in self._words.items() if name in here and _silent(word) != _silent(words.get(name))
        ]
        return changed, turned

    def _going_on(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.phase in OPEN]

    def _open_keys(self) -> list[str]:
        sites = [
            *self._ledger.unsettled().values(),
            *([job.key for job in jobs] for jobs in self._ledger.watched().values()),
        ]
        return [key for keys in sites for key in keys]

    def _add(self, keys: Sequence[str]) -> None:
        new = [key for key in keys if key not in self._jobs]
        if new:
            self._jobs |= {job.key: job for job in self._ledger.get_many(new)}


def _told(job: Job) -> tuple[object, ...]:
    return job.phase, job.state, job.reason, dict(job.tasks), job.restarts


def _silent(word: SiteWord | None) -> bool:
    return word is not None and word.silent_since is not None


def _states(job: Job) -> dict[JobState, int]:
    """The states of its tasks that have not ended; of a job that is no array its own."""
    if job.state is JobState.UNKNOWN or not job.tasks:
        return {job.state: 1}
    return {state: count for state, count in job.tasks.items() if not state.final}


def _kind(state: JobState) -> str:
    if state in (JobState.RUNNING, JobState.SUSPENDED):
        return "running"
    return "waiting" if state is JobState.PENDING else "others"


def _place(job: Job) -> tuple[int, float, str]:
    moment = (job.ended_at or job.created_at).timestamp()
    if job.phase not in OPEN:
        return len(_ORDER) + 1, -moment, job.key
    return _ORDER.index(job.state) if job.state in _ORDER else len(_ORDER), moment, job.key
