"""A template and overrides that name several values -> the points of a sweep, all composed before one of them is routed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from westward.errors import SweepFailed, WestwardError
from westward.federation.grouping import Point
from westward.jobs.sweep import labels, sweep_points
from westward.jobs.template import Composed, compose_job


def template_points(template: str, overrides: Sequence[str]) -> list[Point]:
    """The points, in the order of the overrides: the last key changes fastest.

    Raises:
        InputError: the overrides make no sweep.
        SweepFailed: a point cannot be composed.
    """
    wanted, now = sweep_points(overrides), datetime.now(UTC)
    points = []
    for point, label in zip(wanted, labels(wanted), strict=True):
        one = _composed(template, point, label, now)
        points.append(Point(label, tuple(point), one.spec, one.policy, one.region))
    return points


def _composed(template: str, point: Sequence[str], label: str, now: datetime) -> Composed:
    try:
        return compose_job(template, point, now)
    except WestwardError as error:
        raise SweepFailed(f"point '{label}' cannot be composed: {error}", error) from error
