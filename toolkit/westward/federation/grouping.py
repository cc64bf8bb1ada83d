"""Points of a sweep -> as few jobs as it takes: those that ask for the same at the same place become tasks of one array. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from westward.model.decision import Decision, Offer, Policy
from westward.model.job import Array, JobSpec, Task
from westward.slurm.script import task_lines

# what the tasks of one array may differ in; in everything else they are the same, whatever keys a job may still get
OWN = frozenset({"name", "command", "env", "tasks", "config"})
# slurmctld's own limit where SchedulerParameters sets no max_script_size
SCRIPT_BYTES = 4 * 1024**2
# of a script's bytes, those that are not its tasks: options, variables, setup
_REST_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a sweep, as a job of its own would be.

    Attributes:
        label: how it differs from the others, in the user's words.
        overrides: `key=value`; the keys in which points differ are columns of the sweep's table.
    """

    label: str
    overrides: tuple[str, ...]
    spec: JobSpec
    policy: Policy
    region: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One job of a sweep, not submitted yet.

    Attributes:
        points: which points it is, by their places; of an array in the order of its tasks.
    """

    spec: JobSpec
    decision: Decision
    points: tuple[int, ...]

    def task_of(self, number: int) -> int | None:
        """The index of the `number`-th of its points in the array; None where it is no array of points."""
        return number if self.spec.tasks else None


@dataclass(frozen=True, slots=True)
class Most:
    """How much goes into one array: tasks, and bytes of the script."""

    tasks: int
    script_bytes: int = SCRIPT_BYTES


def grouped(
    points: Sequence[Point],
    decisions: Sequence[Decision],
    left_out: Collection[int],
    most: Callable[[JobSpec, Offer], Most],
) -> list[Planned]:
    """The jobs that these points become, in the order of their first points.

    Args:
        decisions: of each point; the same object where it is the same decision.
        left_out: places of points that become no job.
        most: what an array of such jobs may have at the site of an offer.
    """
    alike: dict[Hashable, list[int]] = {}
    for place, (point, decision) in enumerate(zip(points, decisions, strict=True)):
        if place in left_out:
            continue
        alone = point.spec.array is not None or point.spec.script is not None
        alike.setdefault((place,) if alone else (id(decision), signature(point.spec)), []).append(place)
    jobs = []
    for places in alike.values():
        decision = decisions[places[0]]
        assert decision.chosen is not None, "what goes nowhere is left out"
        specs = [points[place].spec for place in places]
        limit = most(specs[0], decision.chosen) if len(places) > 1 else Most(1)
        start = 0
        for some in _cut(specs, limit):
            jobs.append(Planned(joined(some), decision, tuple(places[start : start + len(some)])))
            start += len(some)
    return sorted(jobs, key=lambda job: job.points)


def signature(spec: JobSpec) -> Hashable:
    """What has to be the same in the tasks of one array."""
    return comparable(spec, OWN)


def comparable(value: JobSpec | Policy, left_out: Collection[str] = ()) -> Hashable:
    """All fields of a value but some, so that equal ones can be found."""
    return tuple(_hashable(getattr(value, item.name)) for item in fields(value) if item.name not in left_out)


def _hashable(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _hashable(inner)) for name, inner in value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def joined(specs: Sequence[JobSpec]) -> JobSpec:
    """One job of several of the same signature: an array, each task of which runs what one of them does. A single one is itself."""
    first = specs[0]
    if len(specs) == 1:
        return first
    common = dict(set.intersection(*(set(spec.env.items()) for spec in specs)))
    tasks = tuple(
        Task(spec.command, {name: value for name, value in spec.env.items() if name not in common}) for spec in specs
    )
    names = {spec.name for spec in specs}
    return replace(
        first,
        name=first.name if len(names) == 1 else first.template or first.name,
        command=(),
        env=dict(sorted(common.items())),
        array=Array(f"0-{len(specs) - 1}"),
        tasks=tasks,
        config=common_config(specs),
    )


def common_config(specs: Sequence[JobSpec]) -> Mapping[str, Any]:
    """What the configurations of all say alike."""
    first = specs[0].config
    return {key: value for key, value in first.items() if all(spec.config.get(key) == value for spec in specs)}


def _cut(specs: Sequence[JobSpec], most: Most) -> Iterator[Sequence[JobSpec]]:
    """As many at a time as one array may have."""
    start, room = 0, most.script_bytes - _REST_BYTES
    for place, spec in enumerate(specs):
        size = _bytes(spec)
        if place > start and (place - start >= most.tasks or size > room):
            yield specs[start:place]
            start, room = place, most.script_bytes - _REST_BYTES
        room -= size
    yield specs[start:]


def _bytes(spec: JobSpec) -> int:
    """How much of the script one task takes, at most: all its variables may be its own."""
    return sum(len(line.encode()) + 3 for line in task_lines(Task(spec.command, spec.env))) + 16
