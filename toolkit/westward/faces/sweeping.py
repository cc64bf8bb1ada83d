"""`westward.sweep`: a job for every combination of values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import overload

from westward.catalogue.load import load_catalogue
from westward.errors import SweepFailed, WestwardError
from westward.faces.job import Job, as_completed
from westward.faces.quoting import Value, swept_of
from westward.faces.session import session
from westward.federation.router import chosen_offer, route_all
from westward.federation.snapshot import take_snapshot
from westward.jobs.sweep import labels, sweep_points
from westward.jobs.template import Composed, compose_job
from westward.model.result import JobResult


@dataclass(frozen=True, slots=True)
class Point:
    """One combination.

    Attributes:
        label: how it differs from the others, as overrides.
        overrides: all that was asked for.
        job: None where its cluster refused it; `problem` says why.
    """

    label: str
    overrides: tuple[str, ...]
    job: Job | None
    problem: WestwardError | None = None


@dataclass(frozen=True, slots=True)
class Sweep(Sequence[Point]):
    """The points of a sweep, in order: the last key changes fastest."""

    points: tuple[Point, ...]

    @property
    def jobs(self) -> list[Job]:
        """Those that were submitted."""
        return [point.job for point in self.points if point.job is not None]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended, in whatever way.

        Raises:
            NotEnded: one has not after so many seconds (a TimeoutError too).
        """
        for _ in as_completed(self.jobs, timeout):
            pass

    def results(self, timeout: float | None = None) -> list[JobResult | WestwardError]:
        """For each point, in order, what it left behind, or why it did not succeed: a failed point stops none of the others.

        Raises:
            NotEnded: one has not ended after so many seconds (a TimeoutError too).
        """
        self.wait(timeout)
        return [_result(point) for point in self.points]

    def cancel(self) -> None:
        """End all that go on. Raises as `Job.cancel` does, for the first that it could not be done for; the wish for the others is carried out."""
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


def sweep(template: str, /, *, site: str | None = None, overrides: Sequence[str] = (), **values: Value) -> Sweep:
    """Submit a job for every combination, and return as soon as they may start.

    Args:
        template: the name of a job template.
        site: run them here, whatever the policy prefers.
        overrides: more `key=value` texts in Hydra's multirun grammar: "size=range(1,9)".
        values: keys of the template. A list, tuple or range is an axis of the sweep; anything else is one value. A list as one value is
            an axis with a list in it: command=[["hostname"]].

    Raises:
        SweepFailed: a point cannot be composed, or no site can run it; none was submitted. What a cluster refuses afterwards stops none of
            the others: it is the `problem` of its point.
        InputError: the overrides make no sweep.
    """
    catalogue = load_catalogue()
    wanted = sweep_points([*overrides, *swept_of(values)])
    named = labels(wanted)
    composed = [_composed(template, point, label) for point, label in zip(wanted, named, strict=True)]
    jobs = [(one.spec, one.policy, one.region) for one in composed]
    decisions = route_all(jobs, catalogue, take_snapshot(catalogue.sites), datetime.now(UTC), site)
    for label, decision in zip(named, decisions, strict=True):
        try:
            chosen_offer(decision, site)
        except WestwardError as error:
            raise SweepFailed(f"point '{label}' cannot be submitted, so none was: {error}", error) from error
    with session(catalogue.sites) as opened:
        opened.running.settle(thorough=False)
        pairs = [(one.spec, decision) for one, decision in zip(composed, decisions, strict=True)]
        answers = list(opened.running.submit_stream(pairs))
    return Sweep(
        tuple(
            Point(label, tuple(point), None, answer)
            if isinstance(answer, WestwardError)
            else Point(label, tuple(point), Job(answer))
            for label, point, answer in zip(named, wanted, answers, strict=True)
        )
    )


def _composed(template: str, point: Sequence[str], label: str) -> Composed:
    try:
        return compose_job(template, point)
    except WestwardError as error:
        raise SweepFailed(f"point '{label}' cannot be composed: {error}", error) from error


def _result(point: Point) -> JobResult | WestwardError:
    if point.job is None:
        assert point.problem is not None
        return point.problem
    try:
        return point.job.result()
    except WestwardError as error:
        return error
