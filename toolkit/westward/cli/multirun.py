"""`westward plan -m` and `submit -m`: every point of a sweep is a job of its own.

All points are composed, routed over one snapshot and rendered before the first is submitted. One that cannot be ends it there; one that a
cluster refuses later stops none of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.board import refuse_failed, watch_many
from westward.errors import SweepFailed, WestwardError
from westward.federation.router import chosen_offer, route_all
from westward.federation.snapshot import take_snapshot
from westward.jobs.lifecycle import Jobs
from westward.jobs.sweep import labels, sweep_points
from westward.jobs.template import Composed, compose_job
from westward.model.decision import Decision
from westward.model.job import KEY_LENGTH, JobSpec
from westward.model.site import Catalogue
from westward.slurm.client import InDoubt
from westward.slurm.script import render
from westward.store.ledger import Job, Ledger

NAMED = 10  # points that an error names


@dataclass(frozen=True, slots=True)
class Point:
    """One point, checked. `problem` is why it cannot be submitted; `label` is how it differs from the others."""

    label: str
    overrides: Sequence[str]
    spec: JobSpec
    decision: Decision
    problem: WestwardError | None


def plan_points(template: str, overrides: Sequence[str], site: str | None, as_json: bool) -> None:
    """Show where each point goes and what it costs there.

    Raises:
        SweepFailed: some of them cannot be submitted.
    """
    points = _checked(template, overrides, site, load_catalogue())
    if as_json:
        facts = {id(point.decision): show.decision_facts(point.decision) for point in points}
        show.print_json([_told(point, point.problem) | facts[id(point.decision)] for point in points])
    else:
        show.out.print(show.sweep_table([(point.label, point.decision, point.problem) for point in points]))
        show.out.print(_summary(points))
    _refuse([(point.label, point.problem) for point in points], "cannot be submitted")


def submit_points(template: str, overrides: Sequence[str], site: str | None, as_json: bool, wait: bool = False) -> None:
    """Submit every point, and return as soon as they may start, or, if they are to be waited for, have ended.

    Raises:
        SweepFailed: some of them cannot be submitted, so none was; or some failed, and the others were submitted.
        JobFailed: of those that were waited for some failed.
    """
    catalogue = load_catalogue()
    points = _checked(template, overrides, site, catalogue)
    _refuse([(point.label, point.problem) for point in points], "cannot be submitted, so none was")
    for decision in {id(point.decision): point.decision for point in points}.values():
        show.tell_notes(decision)
    ledger = Ledger()
    with Jobs(ledger, catalogue.sites) as running:
        show.tell_undecided(running.settle())
        answers = _submit(running, points)
        if wait:
            answers = _waited_for(running, ledger, answers)
    outcomes = [(point.label, answer) for point, answer in zip(points, answers, strict=True)]
    if as_json:
        show.print_json([_told(point, answer) for point, answer in zip(points, answers, strict=True)])
    else:
        show.out.print(show.submitted_table(outcomes))
        _tell_submitted(answers)
    _refuse(outcomes, "failed")
    if wait:
        refuse_failed([answer for answer in answers if isinstance(answer, Job)])


def _submit(running: Jobs, points: Sequence[Point]) -> list[Job | WestwardError]:
    """What became of each. Where all had to stop on the way, those without an answer are in doubt."""
    answers: list[Job | WestwardError] = []
    try:
        with show.err.status(f"submitting {len(points):,} jobs"):
            for answer in running.submit_stream((point.spec, point.decision) for point in points):
                answers.append(answer)
    except KeyboardInterrupt:
        show.tell_interrupted()
        raise
    except WestwardError as error:
        doubt = InDoubt(f"it may not have been submitted: {error}", "'westward jobs --all' lists all that were")
        answers += [doubt] * (len(points) - len(answers))
    return answers


def _waited_for(running: Jobs, ledger: Ledger, answers: Sequence[Job | WestwardError]) -> list[Job | WestwardError]:
    """The same, with the jobs as they are when all of them have ended."""
    keys = [answer.key for answer in answers if isinstance(answer, Job)]
    ended = {job.key: job for job in watch_many(running, ledger, keys, as_json=False, quiet=not show.out.is_terminal)}
    return [ended[answer.key] if isinstance(answer, Job) else answer for answer in answers]


def _checked(template: str, overrides: Sequence[str], site: str | None, catalogue: Catalogue) -> list[Point]:
    """The points, routed over one snapshot.

    Raises:
        InputError: the overrides make no sweep.
        SweepFailed: a point cannot be composed.
    """
    wanted = sweep_points(overrides)
    named = labels(wanted)
    with show.err.status(f"composing {len(wanted):,} jobs"):
        composed = [_composed(template, point, label) for point, label in zip(wanted, named, strict=True)]
    jobs = [(one.spec, one.policy, one.region) for one in composed]
    decisions = route_all(jobs, catalogue, take_snapshot(catalogue.sites), datetime.now(UTC), site)
    return [
        Point(label, point, one.spec, decision, _problem(one.spec, decision, site, catalogue))
        for label, point, one, decision in zip(named, wanted, composed, decisions, strict=True)
    ]


def _composed(template: str, point: Sequence[str], label: str) -> Composed:
    try:
        return compose_job(template, point)
    except WestwardError as error:
        raise SweepFailed(f"point '{label}' cannot be composed: {error}", error) from error


def _problem(spec: JobSpec, decision: Decision, site: str | None, catalogue: Catalogue) -> WestwardError | None:
    """Why a point cannot be submitted: it fits nowhere, or cannot be rendered where it goes."""
    try:
        offer = chosen_offer(decision, site)
        render(spec, offer, catalogue.sites[offer.site], "k" * KEY_LENGTH)
    except WestwardError as error:
        return error
    return None


def _refuse(outcomes: Sequence[tuple[str, object]], what: str) -> None:
    """Raise what went wrong with some of the points, if anything did."""
    failed = [(label, error) for label, error in outcomes if isinstance(error, WestwardError)]
    if not failed:
        return
    (_, first), reasons = failed[0], {str(error) for _, error in failed}
    if len(failed) == len(outcomes) and len(reasons) == 1:
        raise first
    lines = [f"\n  {label}: {show.one_line(error)}" for label, error in failed[:NAMED]]
    more = f"\n  and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
    raise SweepFailed(f"{len(failed):,} of {len(outcomes):,} points {what}:{''.join(lines)}{more}", first)


def _told(point: Point, outcome: Job | WestwardError | None) -> dict[str, Any]:
    """What --json says of a point: its overrides, what went wrong, and the job that it became."""
    error = outcome if isinstance(outcome, WestwardError) else None
    facts = show.job_facts(outcome) if isinstance(outcome, Job) else {}
    problem = {"error": str(error), "next_step": error.next_step, "exit_code": error.exit_code} if error else {}
    return {"overrides": point.overrides, "error": None, **problem, **facts}


def _summary(points: Sequence[Point]) -> str:
    """How many points go where, and what they cost together."""
    offers = [point.decision.chosen for point in points if point.problem is None and point.decision.chosen]
    sites = Counter(offer.site for offer in offers)
    costs = [offer.cost.total for offer in offers]
    known = [cost for cost in costs if cost is not None]
    currency = next((f" {point.decision.currency}" for point in points if point.decision.currency), "")
    total = f"{sum(known):.3f}{currency}" if len(known) == len(costs) else "unknown"
    where = ", ".join(f"{count:,} at {site}" for site, count in sites.most_common())
    left_out = f"; {len(points) - show.SHOWN:,} are not shown, --json has all" if len(points) > show.SHOWN else ""
    return f"{len(points):,} points: {where or 'none can be submitted'}; cost {total}{left_out}"


def _tell_submitted(answers: Sequence[Job | WestwardError]) -> None:
    made = [answer for answer in answers if isinstance(answer, Job)]
    left_out = f" ({show.SHOWN} of them shown)" if len(answers) > show.SHOWN else ""
    watch = f". See them: westward jobs. Follow one: westward watch {made[0].key}" if made else ""
    show.out.print(f"{len(made):,} of {len(answers):,} submitted{left_out}{watch}", soft_wrap=True)
