"""What a sweep has brought: one table of all its points, and what is wrong with which of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from westward.errors import Unreachable
from westward.jobs.gathering import Gathered, Wanted, gather
from westward.jobs.sweepstate import NOT_SUBMITTED, missing, whereabouts
from westward.jobs.sweeptable import SweepTable, Told, sweep_table
from westward.model.job import Array, JobState
from westward.model.site import Site
from westward.model.sweep import SweepPoint
from westward.store.ledger import Job


@dataclass(frozen=True, slots=True)
class Bad:
    """A point that did not succeed, and why; and the job and task whose log tells more, where it got as far."""

    label: str
    why: str
    job: str | None
    task: int | None


@dataclass(frozen=True, slots=True)
class Results:
    """The table of a sweep.

    Attributes:
        counts: how many points are in each state.
        bad: the points that did not succeed.
        missing: the numbers of those that can be submitted again: nothing came of them and nothing will, or they ended well and left no result.
        away: why some outputs could not be asked for now.
    """

    table: SweepTable
    counts: Counter[str]
    bad: tuple[Bad, ...]
    missing: frozenset[int]
    away: Unreachable | None


def sweep_results(points: Sequence[SweepPoint], jobs: Mapping[str, Job], sites: Mapping[str, Site]) -> Results:
    """Fetch what the points left that have ended, where it is not here yet, and put it together.

    Raises:
        StorageError: nothing can be written here.
    """
    now = [whereabouts(point, jobs[point.job]) for point in points]
    wanted: list[Wanted] = []
    whose: list[int] = []
    for place, (point, (state, over)) in enumerate(zip(points, now, strict=True)):
        job = jobs[point.job]
        if over and state != NOT_SUBMITTED and job.job_id is not None:
            tasks = _tasks(point, job)
            wanted += [Wanted(job, task, state is JobState.COMPLETED) for task in tasks]
            whose += [place] * len(tasks)
    left: dict[int, list[tuple[int | None, Gathered]]] = {}
    for place, one, found in zip(whose, wanted, gather(wanted, sites), strict=True):
        left.setdefault(place, []).append((one.task, found))
    told: list[Told] = []
    bad: list[Bad] = []
    again: set[int] = set()
    for place, (point, (state, over)) in enumerate(zip(points, now, strict=True)):
        job = jobs[point.job]
        ended_badly = missing((state, over)) or (over and state is JobState.UNKNOWN)
        why = _why(job, state) if ended_badly else ""
        problems = []
        for task, found in left.get(place, [(point.task, Gathered())]):
            problem = why or found.problem or (f"its outputs could not be fetched: {found.away}" if found.away else "")
            told.append(Told(point, str(state), job.site, task, problem, found.record))
            problems.append(why or found.problem)
        first = next(filter(None, problems), "")
        if missing((state, over)) or (over and state is JobState.COMPLETED and first):
            again.add(point.number)
        if first or ended_badly:
            log = job.key if state != NOT_SUBMITTED and job.started_at is not None else None
            bad.append(Bad(point.label, first or str(state), log, point.task))
    return Results(
        table=sweep_table(told),
        counts=Counter(str(state) for state, _ in now),
        bad=tuple(bad),
        missing=frozenset(again),
        away=next((found.away for each in left.values() for _, found in each if found.away is not None), None),
    )


def _tasks(point: SweepPoint, job: Job) -> list[int | None]:
    """The tasks that a point is: its own; all of them, where the point is an array itself; None where it is a plain job."""
    if point.task is not None or job.submission.array is None:
        return [point.task]
    return list(Array.parse(job.submission.array).task_ids)


def _why(job: Job, state: object) -> str:
    """Why a point did not succeed, in a few words."""
    if state == NOT_SUBMITTED:
        return f"not submitted: {job.reason}" if job.reason else "not submitted"
    if state is JobState.UNKNOWN:
        return f"nobody knows what became of it: see 'westward attempts {job.key}'"
    return f"ended {state}"
