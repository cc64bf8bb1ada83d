"""`westward.sweep`: a point for every combination of values. Points that ask for the same at the same site share an array of Slurm's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from westward.catalogue.load import known_sites, load_catalogue
from westward.errors import JobFailed, NotEnded, NotFound, SweepFailed, Unreachable, WestwardError
from westward.faces.job import Job, failure
from westward.faces.quoting import Value, swept_of
from westward.faces.session import Session, session
from westward.faces.watcher import watcher
from westward.federation.sweeping import SweepPlan, plan_sweep, submit_sweep
from westward.federation.templatepoints import template_points
from westward.jobs.gathering import Wanted, at_task, gather, results_dir
from westward.jobs.sweepstate import NOT_SUBMITTED, Word, whereabouts
from westward.model import sweep as model
from westward.model.job import JobState
from westward.model.result import JobResult
from westward.model.site import Catalogue
from westward.store import ledger

_NAMED = 3  # jobs that a sweep's repr names


class Point:
    """One combination of a sweep: a job of its own, or a task of an array. Several threads may use one."""

    def __init__(self, where: model.SweepPoint, job: Job) -> None:
        self._where = where
        self.job = job

    @property
    def number(self) -> int:
        """Its place in the sweep, from 0."""
        return self._where.number

    @property
    def label(self) -> str:
        """How it differs from the others, as overrides."""
        return self._where.label

    @property
    def overrides(self) -> tuple[str, ...]:
        """All that was asked for, one value for each key."""
        return self._where.overrides

    @property
    def task(self) -> int | None:
        """Its index in the array that `job` is; None where that job is this point alone."""
        return self._where.task

    @property
    def directory(self) -> str:
        """Its own directory at its site."""
        return self.job.directory if self.task is None else f"{self.job.directory}/{self.task}"

    @property
    def slurm_id(self) -> str | None:
        """As Slurm names it: 123, or 123_4 for a task; None while it has none."""
        job_id = self.job._row.job_id
        return None if job_id is None else str(job_id) if self.task is None else f"{job_id}_{self.task}"

    @property
    def state(self) -> Word:
        """As this handle last heard: a JobState, or NOT_SUBMITTED where its cluster refused it, or IN_DOUBT."""
        return whereabouts(self._where, self.job._row)[0]

    @property
    def over(self) -> bool:
        """Whether it has ended, as this handle last heard."""
        return self.job._row.phase not in ledger.OPEN or whereabouts(self._where, self.job._row)[1]

    def wait(self, timeout: float | None = None) -> Word:
        """Wait until it has ended, in whatever way; how it did.

        Raises:
            NotEnded: it has not after so many seconds (a TimeoutError too).
        """
        next(as_they_end([self], timeout))
        return self.state

    def result(self, timeout: float | None = None) -> JobResult:
        """Wait for it, and fetch what it left behind. Raises as `Job.result` does, and JobFailed where it was not submitted."""
        state = self.wait(timeout)
        if state == NOT_SUBMITTED:
            raise not_submitted(self)
        if self.task is None:
            return self.job.result()
        sites = known_sites()
        ended = JobState.parse(str(state))
        (found,) = gather([Wanted(self.job._row, self.task, ended is JobState.COMPLETED)], sites)
        problem = found.problem if ended is JobState.COMPLETED else f"ended {ended}"
        if problem:
            raise failure(self.job, problem, sites.get(self.job.site), self.task)
        if found.away:
            raise Unreachable(
                f"task {self.task} of job {self.job.key} at {self.job.site} ended {ended}, but its outputs could not be fetched: {found.away}",
                found.away.next_step or "call result() again later",
            ) from found.away
        return JobResult(self.job.key, ended, found.record, found.files)

    def fetched(self, name: str) -> Path:
        """Where a file that it promised lies here, once `result` has fetched it."""
        return results_dir(self.job.key) / at_task(self.task, name)

    def logs(self) -> str:
        """What it has written so far. Raises as `Job.logs` does."""
        return self.job.logs(self.task)

    def __repr__(self) -> str:
        of = f"job {self.job.key}" + ("" if self.task is None else f" task {self.task}")
        return f"<Point {self.number} {self.label!r}, {of} at {self.job.site}: {self.state}>"


class Sweep(Sequence[Point]):
    """The points of a sweep, in order: the last key changes fastest. Of one that was run again in part, as it is now."""

    def __init__(self, key: str, points: Sequence[Point]) -> None:
        self.key = key
        self.points = tuple(points)

    @property
    def jobs(self) -> list[Job]:
        """The jobs that its points are: arrays, most of them."""
        return list(dict.fromkeys(point.job for point in self.points))

    def as_completed(self, timeout: float | None = None) -> Iterator[Point]:
        """The points as they end, in whatever way; those that have ended already first.

        Raises:
            NotEnded: one has not after so many seconds (a TimeoutError too). Those that had were yielded.
        """
        return as_they_end(self.points, timeout)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended, in whatever way. Raises as `as_completed` does."""
        for _ in self.as_completed(timeout):
            pass

    def results(self, timeout: float | None = None) -> list[JobResult | WestwardError]:
        """For each point, in order, what it left behind, or why it did not succeed: a failed point stops none of the others.

        Raises:
            NotEnded: one has not ended after so many seconds (a TimeoutError too).
        """
        self.wait(timeout)
        return [_result(point) for point in self.points]

    def cancel(self) -> None:
        """End all that go on. Raises as `Job.cancel` does, for the first job that it could not be done for; the others are cancelled."""
        problem: WestwardError | None = None
        for job in self.jobs:
            try:
                job.cancel()
            except WestwardError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        return self.points[index]

    def __repr__(self) -> str:
        return (
            f"<Sweep {self.key}: {len(self.points):,} points, jobs {', '.join(job.key for job in self.jobs[:_NAMED])}>"
        )


def sweep(template: str, /, *, site: str | None = None, overrides: Sequence[str] = (), **values: Value) -> Sweep:
    """Submit a point for every combination, and return as soon as they may start.

    Args:
        template: the name of a job template.
        site: run them here, whatever the policy prefers.
        overrides: more `key=value` texts in Hydra's multirun grammar: "size=range(1,9)".
        values: keys of the template. A list, tuple or range is an axis of the sweep; anything else is one value. A list as one value is
            an axis with a list in it: command=[["hostname"]].

    Raises:
        SweepFailed: a point cannot be composed, or no site can run it; none was submitted. What a cluster refuses afterwards stops none of
            the others: such a point is NOT_SUBMITTED, and 'westward retry' submits it again.
        InputError: the overrides make no sweep.
    """
    wanted = [*overrides, *swept_of(values)]
    catalogue = load_catalogue()
    points = template_points(template, wanted)
    plan = plan_sweep(points, catalogue, site)
    for place, error in plan.problems.items():
        raise SweepFailed(f"point '{points[place].label}' cannot be submitted, so none was: {error}", error) from error
    return submitted(plan, catalogue, points[0].spec.name, template, wanted, site)


def find_sweep(key: str) -> Sweep:
    """The sweep of that key, or the beginning of it.

    Raises:
        NotFound: there is none.
        InputError: several keys begin so.
    """
    with session({}) as opened:
        found = opened.ledger.sweeps.find(key)
        if found is None:
            raise NotFound(f"no sweep here has a key that begins with {key!r}", "westward sweeps lists them")
        return _of_ledger(opened, found.key)


def submitted(
    plan: SweepPlan, catalogue: Catalogue, name: str, template: str | None, overrides: Sequence[str], site: str | None
) -> Sweep:
    """Submit a plan without problems."""
    with session(catalogue.sites) as opened:
        opened.running.settle(thorough=False)
        done = submit_sweep(
            opened.running, opened.ledger, plan, name=name, template=template, overrides=overrides, site=site
        )
        return _of_ledger(opened, done.sweep.key)


def _of_ledger(opened: Session, key: str) -> Sweep:
    points = opened.ledger.sweeps.points(key)
    keys = list(dict.fromkeys(point.job for point in points))
    jobs = {row.key: Job(row) for row in opened.ledger.get_many(keys)}
    return Sweep(key, [Point(point, jobs[point.job]) for point in points])


def not_submitted(point: Point) -> JobFailed:
    """What is raised for a point that its cluster refused."""
    return JobFailed(f"{point.job.site} refused the point '{point.label}': {point.job._row.reason}")


def as_they_end(points: Iterable[Point], timeout: float | None) -> Iterator[Point]:
    """As `Sweep.as_completed`, for whatever points."""
    until = None if timeout is None else time.monotonic() + timeout
    waiting = []
    for point in points:
        if point.over:
            yield point
        else:
            waiting.append(point)
    if not waiting:
        return
    ours, turn = watcher(), -1
    keys = {point.job.key for point in waiting}
    with ours.following(keys):
        while waiting:
            try:
                turn, rows = ours.news({point.job.key for point in waiting}, until, turn)
            except NotEnded as error:
                said = f"'{waiting[0].label}' has not ended yet"
                if len(waiting) > 1:
                    said = f"{len(waiting):,} points have not ended yet, '{waiting[0].label}' among them"
                raise NotEnded(said, error.next_step) from None
            still = []
            for point in waiting:
                point.job._row = rows.get(point.job.key, point.job._row)
                if point.over:
                    yield point
                else:
                    still.append(point)
            waiting = still


def _result(point: Point) -> JobResult | WestwardError:
    try:
        return point.result()
    except WestwardError as error:
        return error
