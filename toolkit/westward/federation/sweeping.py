"""Sweeps: from points to the jobs that they become, submitted, and run again where something is missing.

The command line and the Hydra launcher both come in here: `plan_sweep` takes points (each the job that it would be alone), says where each
goes and which of them share an array; `submit_sweep` writes all of it into the ledger at once and sends it; `retry_sweep` does the same
with those points of a sweep that nothing has come of. Between two steps the process may be killed: any later command takes it further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from westward.errors import InputError, WestwardError
from westward.federation.checking import Checked, Connect, Told, check_all, read_limits
from westward.federation.grouping import (
    SCRIPT_BYTES,
    Most,
    Planned,
    Point,
    common_config,
    comparable,
    grouped,
    signature,
)
from westward.federation.router import chosen_offer, route_all
from westward.federation.snapshot import Snapshot, take_snapshot
from westward.jobs.allowance import most_submitted
from westward.jobs.asking import asked
from westward.jobs.lifecycle import Jobs
from westward.model.decision import Decision, Offer, Policy
from westward.model.job import KEY_LENGTH, JobSpec, Task, new_key
from westward.model.limits import Limits
from westward.model.plain import built, plain
from westward.model.site import Catalogue, Site
from westward.model.sweep import Sweep, SweepPoint
from westward.slurm.client import open_client
from westward.slurm.script import render
from westward.store.ledger import Intent, Job, Ledger

MAX_ARRAY_SIZE = 1001  # slurm.conf(5): the default of MaxArraySize


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Where each point goes, and the jobs that they become.

    Attributes:
        decisions: of each point; the same object where it is the same decision.
        problems: why a point can be no job, by its place.
        jobs: what is submitted, in the order of their first points.
        notes: what its user should know of the grouping.
        limits: what the sites said of theirs; empty where nobody was asked, since nothing can share an array.
    """

    points: tuple[Point, ...]
    decisions: tuple[Decision, ...]
    problems: Mapping[int, WestwardError]
    jobs: tuple[Planned, ...]
    notes: tuple[str, ...] = ()
    limits: Mapping[str, Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A sweep that is on its way: what became of each job of its plan."""

    sweep: Sweep
    answers: tuple[Job | WestwardError, ...]


# --- planning ---------------------------------------------------------------------------------------------------------


def plan_sweep(
    points: Sequence[Point],
    catalogue: Catalogue,
    site: str | None = None,
    snapshot: Snapshot | None = None,
    connect: Connect = open_client,
) -> SweepPlan:
    """Route all points over one look at the sites, and group them; nothing is submitted.

    Args:
        site: taken whatever the policy prefers.
        snapshot: the look; taken now where none is given.

    Raises:
        NotFound: there is no such site.
    """
    looked = snapshot or take_snapshot(catalogue.sites, connect)
    wanted = [(point.spec, point.policy, point.region) for point in points]
    decisions = route_all(wanted, catalogue, looked, datetime.now(UTC), site)
    problems: dict[int, WestwardError] = {}
    nowhere: dict[int, WestwardError] = {}  # many points share a decision
    for place, decision in enumerate(decisions):
        if decision.chosen is None:
            if id(decision) not in nowhere:
                nowhere[id(decision)] = _no_offer(decision, site)
            problems[place] = nowhere[id(decision)]
    limits, notes = _limits(points, decisions, catalogue, connect)

    def most(spec: JobSpec, offer: Offer) -> Most:
        return _most(limits.get(offer.site), catalogue.sites[offer.site], spec, offer)

    jobs = []
    for job in grouped(points, decisions, problems, most):
        error = _unrenderable(job, catalogue)
        if error is None:
            jobs.append(job)
        else:
            problems |= dict.fromkeys(job.points, error)
    notes += _too_many(jobs, limits, catalogue)
    return SweepPlan(tuple(points), tuple(decisions), problems, tuple(jobs), tuple(notes), limits)


def check_plan(plan: SweepPlan, catalogue: Catalogue, connect: Connect = open_client) -> list[Checked]:
    """The limits of its site beside each job of a plan, those counted that are submitted before it; nothing is asked twice."""
    wanted = [(job.spec, chosen_offer(job.decision)) for job in plan.jobs]
    missing = {offer.site for _, offer in wanted} - plan.limits.keys()
    told = {**plan.limits, **read_limits(missing, catalogue, connect)}
    return check_all(wanted, catalogue.sites, told)


def _no_offer(decision: Decision, site: str | None) -> WestwardError:
    try:
        chosen_offer(decision, site)
    except WestwardError as error:
        return error
    raise AssertionError("it was asked because none is chosen")


def _unrenderable(job: Planned, catalogue: Catalogue) -> WestwardError | None:
    """Why a job cannot be rendered where it goes. The points of an array are alike in all that can be refused."""
    spec = (
        replace(job.spec, tasks=job.spec.tasks[:1], array=replace(job.spec.array, indices="0"))
        if job.spec.tasks and job.spec.array
        else job.spec
    )
    try:
        offer = chosen_offer(job.decision)
        render(spec, offer, catalogue.sites[offer.site], "k" * KEY_LENGTH)
    except WestwardError as error:
        return error
    return None


def _limits(
    points: Sequence[Point], decisions: Sequence[Decision], catalogue: Catalogue, connect: Connect
) -> tuple[dict[str, Told], list[str]]:
    """What the sites say of their limits, where several points go there; and what had to be assumed."""
    if len(points) < 2:
        return {}, []
    sites = {decision.chosen.site for decision in decisions if decision.chosen is not None}
    limits = read_limits(sites, catalogue, connect)
    notes = []
    for name, told in limits.items():
        size = None if isinstance(told, WestwardError) else told.max_array_size
        if size is None and catalogue.sites[name].max_array_size is None:
            why = f" ({told})" if isinstance(told, WestwardError) else ""
            notes.append(
                f"MaxArraySize of '{name}' is not known{why}: arrays are cut at {MAX_ARRAY_SIZE:,} tasks, Slurm's default. "
                f"Say what it is in the site's description: max_array_size"
            )
    return limits, notes


def _most(told: Told | None, site: Site, spec: JobSpec, offer: Offer) -> Most:
    """How much goes into one array there. Indices count from 0, so it has as many tasks as MaxArraySize says."""
    if not isinstance(told, Limits):
        return Most(site.max_array_size or MAX_ARRAY_SIZE)
    tasks = told.max_array_size or site.max_array_size or MAX_ARRAY_SIZE
    at_once = most_submitted(asked(spec, offer, site, told), told)
    return Most(max(1, min(tasks, at_once if at_once is not None else tasks)), told.max_script_bytes or SCRIPT_BYTES)


def _too_many(jobs: Iterable[Planned], limits: Mapping[str, Told], catalogue: Catalogue) -> list[str]:
    """Where more jobs go to a site than it takes of one user at once."""
    counts: dict[tuple[str, int], int] = {}
    for job in jobs:
        offer = chosen_offer(job.decision)
        told = limits.get(offer.site)
        if isinstance(told, Limits):
            limit = most_submitted(asked(job.spec, offer, catalogue.sites[offer.site], told), told)
            if limit is not None:
                counts[offer.site, limit] = counts.get((offer.site, limit), 0) + len(job.points)
    return [
        f"'{site}' takes {limit:,} jobs of yours at once (MaxSubmitJobs), each point counted, and {count:,} points go there: "
        "what it refuses can be submitted later with 'westward retry'"
        for (site, limit), count in sorted(counts.items())
        if count > limit
    ]


# --- submitting -------------------------------------------------------------------------------------------------------


def submit_sweep(
    running: Jobs,
    ledger: Ledger,
    plan: SweepPlan,
    *,
    name: str,
    template: str | None = None,
    overrides: Sequence[str] = (),
    site: str | None = None,
) -> Submitted:
    """Submit every job of a plan; what a cluster refuses stops none of the others, and is in the ledger as missing.

    Raises:
        WestwardError: a point has a problem, or the ledger cannot be written; then nothing was submitted.
    """
    for error in plan.problems.values():
        raise error
    shapes, shape_of = _shapes(plan.points)
    sweep = Sweep(new_key(), name, template, tuple(overrides), site, shapes)

    def record(intents: Sequence[Intent]) -> Sequence[Job]:
        made: list[Job] = []
        ours = [replace(intent, sweep=sweep.key) for intent in intents]
        points = [
            SweepPoint(
                number=place,
                label=plan.points[place].label,
                overrides=plan.points[place].overrides,
                shape=shape_of[place],
                does=Task(plan.points[place].spec.command, plan.points[place].spec.env),
                job=intent.key,
                task=job.task_of(number),
            )
            for job, intent in zip(plan.jobs, ours, strict=True)
            for number, place in enumerate(job.points)
        ]
        ledger.sweeps.add(sweep, points, lambda db: made.extend(ledger.added(db, ours)))
        return made

    answers = running.submit_recorded([(job.spec, job.decision) for job in plan.jobs], record)
    return Submitted(sweep, tuple(answers))


def _shapes(points: Sequence[Point]) -> tuple[tuple[Mapping[str, Any], ...], list[int]]:
    """What points have in common, each once, and which of these each has."""
    alike: dict[object, list[Point]] = {}
    order: dict[object, int] = {}
    shape_of = []
    for point in points:
        same = point.spec.name, signature(point.spec), point.region, comparable(point.policy)
        alike.setdefault(same, []).append(point)
        shape_of.append(order.setdefault(same, len(order)))
    shapes = []
    for some in alike.values():
        first, config = some[0], common_config([point.spec for point in some])
        spec = replace(first.spec, command=(), env={}, config=config)
        shapes.append({"spec": plain(spec), "policy": plain(first.policy), "region": first.region})
    return tuple(shapes), shape_of


# --- running again what is missing --------------------------------------------------------------------------------------


def points_again(sweep: Sweep, points: Sequence[SweepPoint]) -> list[Point]:
    """These points as jobs to be.

    Raises:
        InputError: they were written by a version of Westward whose jobs are others.
    """
    try:
        shapes = [
            (built(JobSpec, shape["spec"]), built(Policy, shape["policy"]), str(shape["region"]))
            for shape in sweep.shapes
        ]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"sweep {sweep.key} was written by a version of Westward whose jobs are others ({error})",
            "submit it anew: westward submit " + " ".join([sweep.template or "TEMPLATE", *sweep.overrides, "-m"]),
        ) from error
    again = []
    for point in points:
        spec, policy, region = shapes[point.shape]
        spec = replace(spec, command=point.does.command, env=dict(point.does.env))
        again.append(Point(point.label, point.overrides, spec, policy, region))
    return again


def retry_sweep(
    running: Jobs, ledger: Ledger, sweep: Sweep, wanted: Sequence[SweepPoint], plan: SweepPlan
) -> Submitted:
    """Submit the jobs of a plan for points of a sweep (`wanted`, in the plan's order) that are missing.

    Raises:
        InputError: somebody else submitted one of them meanwhile; nothing was submitted here.
        WestwardError: a point has a problem; then nothing was submitted either.
    """
    for error in plan.problems.values():
        raise error

    def record(intents: Sequence[Intent]) -> Sequence[Job]:
        made: list[Job] = []
        ours = [replace(intent, sweep=sweep.key) for intent in intents]
        moves = {}
        for job, intent in zip(plan.jobs, ours, strict=True):
            for number, place in enumerate(job.points):
                point = wanted[place]
                moves[point.number] = (point.job, point.task), (intent.key, job.task_of(number))
        if not ledger.sweeps.move(sweep.key, moves, lambda db: made.extend(ledger.added(db, ours))):
            raise InputError(
                f"points of sweep {sweep.key} were submitted by somebody else just now, so nothing was submitted here",
                f"see what is missing still: westward retry {sweep.key}",
            )
        return made

    answers = running.submit_recorded([(job.spec, job.decision) for job in plan.jobs], record)
    return Submitted(sweep, tuple(answers))
