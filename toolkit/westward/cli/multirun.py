"""`westward plan -m` and `submit -m`: a sweep, whose points share arrays where they ask for the same at the same place.

All points are composed, routed over one snapshot and grouped before the first is submitted. One that cannot be ends it there; one that a
cluster refuses later stops none of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.board import watch_many
from westward.cli.budgets import left_lines
from westward.cli.limits import jobs_limits_line, jobs_limits_notes, jobs_limits_table, met_facts
from westward.cli.sweepshow import counted, jobs_table, planned_facts, refuse, submitted_facts, tell_sweep
from westward.errors import JobFailed, WestwardError
from westward.federation.checking import Checked, refused
from westward.federation.sweeping import Submitted, SweepPlan, check_plan, plan_sweep, submit_sweep
from westward.federation.templatepoints import template_points
from westward.jobs.budgeting import Budgeting
from westward.jobs.lifecycle import Jobs
from westward.jobs.sweepstate import missing, whereabouts
from westward.model.limits import Verdict
from westward.model.site import Catalogue
from westward.store.ledger import Job, Ledger


def plan_points(template: str, overrides: Sequence[str], site: str | None, as_json: bool) -> None:
    """Show where each point goes and what it costs there, the jobs that they become, and the limits that these meet.

    Raises:
        OverBudget: all together would spend too much.
        SweepFailed: some of them cannot be submitted, or their sites would refuse them.
    """
    catalogue = load_catalogue()
    plan = _planned(template, overrides, site, catalogue)
    with show.err.status("asking the sites for their limits"):
        checks = check_plan(plan, catalogue)
    if as_json:
        show.print_json(_plan_facts(plan, checks))
    else:
        rows = zip(plan.points, plan.decisions, range(len(plan.points)), strict=True)
        show.out.print(
            show.sweep_table([(point.label, decision, plan.problems.get(place)) for point, decision, place in rows])
        )
        if plan.jobs:
            show.out.print(jobs_table(plan))
        show.out.print(_summary(plan), soft_wrap=True)
        _tell_limits(checks)
        _tell_notes(plan)
    _pay(plan, as_json)
    refuse(_problems(plan), "cannot be submitted")
    refuse(_refused(plan, checks), "would be refused")


def _tell_limits(checks: Sequence[Checked]) -> None:
    if not checks:
        return
    show.out.print(jobs_limits_line(checks), soft_wrap=True)
    table = jobs_limits_table(checks)
    if table is not None:
        show.out.print(table)
    for note in jobs_limits_notes(checks):
        show.tell_note(note)


def _refused(plan: SweepPlan, checks: Sequence[Checked]) -> list[tuple[str, WestwardError | None]]:
    """Of each point, why its site would refuse the job that it is in."""
    reasons = {
        place: refused(checked)
        for job, checked in zip(plan.jobs, checks, strict=True)
        if checked.verdict is Verdict.REFUSED
        for place in job.points
    }
    return [(point.label, reasons.get(place)) for place, point in enumerate(plan.points)]


def _pay(plan: SweepPlan, as_json: bool) -> None:
    """Say what the projects of a sweep have left.

    Raises:
        OverBudget: it would spend more than it, or one of them, may.
    """
    for left in Budgeting(Ledger()).check([(job.spec, job.decision) for job in plan.jobs]):
        for line in () if as_json else left_lines(left):
            show.out.print(show.printable(line), markup=False, soft_wrap=True)


def submit_points(template: str, overrides: Sequence[str], site: str | None, as_json: bool, wait: bool = False) -> None:
    """Submit a sweep, and return as soon as its points may start, or, if they are to be waited for, have ended.

    Raises:
        SweepFailed: some of them cannot be submitted, so none was; or some failed, and the others were submitted.
        JobFailed: of those that were waited for some failed.
    """
    catalogue = load_catalogue()
    plan = _planned(template, overrides, site, catalogue)
    refuse(_problems(plan), "cannot be submitted, so none was")
    _tell_notes(plan)
    ledger = Ledger()
    with Jobs(ledger, catalogue.sites) as running:
        show.tell_undecided(running.settle())
        name = plan.points[0].spec.name if plan.points else template
        done = _submitted(running, ledger, plan, name, template, overrides, site)
        if wait:
            done = _waited_for(running, ledger, done)
    if as_json:
        show.print_json(submitted_facts(plan, done))
    else:
        tell_sweep(plan, done)
    refuse(_outcomes(plan, done), "failed", f"when that is mended: westward retry {done.sweep.key}")
    if wait:
        _refuse_failed(ledger, done)


def _submitted(
    running: Jobs, ledger: Ledger, plan: SweepPlan, name: str, template: str, overrides: Sequence[str], site: str | None
) -> Submitted:
    try:
        with show.err.status(f"submitting {counted(plan)}"):
            return submit_sweep(running, ledger, plan, name=name, template=template, overrides=overrides, site=site)
    except KeyboardInterrupt:
        show.tell_interrupted()
        raise


def _waited_for(running: Jobs, ledger: Ledger, done: Submitted) -> Submitted:
    """The same, with the jobs as they are when all of them have ended."""
    keys = [answer.key for answer in done.answers if isinstance(answer, Job)]
    ended = {job.key: job for job in watch_many(running, ledger, keys, as_json=False, quiet=not show.out.is_terminal)}
    return replace(done, answers=tuple(ended[each.key] if isinstance(each, Job) else each for each in done.answers))


def _refuse_failed(ledger: Ledger, done: Submitted) -> None:
    """
    Raises:
        JobFailed: some of the points have ended otherwise than they should.
    """
    jobs = {answer.key: answer for answer in done.answers if isinstance(answer, Job)}
    points = [point for point in ledger.sweeps.points(done.sweep.key) if point.job in jobs]
    ends = [(point.label, whereabouts(point, jobs[point.job])) for point in points]
    failed = [f"{show.printable(label)}: {now[0]}" for label, now in ends if missing(now)]
    if failed:
        raise JobFailed(
            f"{len(failed):,} of {len(ends):,} points failed:{show.named(failed)}",
            f"all of them: 'westward results {done.sweep.key}'; run these again: 'westward retry {done.sweep.key}'",
        )


def _planned(template: str, overrides: Sequence[str], site: str | None, catalogue: Catalogue) -> SweepPlan:
    with show.err.status("composing the points"):
        points = template_points(template, overrides)
    return plan_sweep(points, catalogue, site)


def _problems(plan: SweepPlan) -> list[tuple[str, WestwardError | None]]:
    return [(point.label, plan.problems.get(place)) for place, point in enumerate(plan.points)]


def _outcomes(plan: SweepPlan, done: Submitted) -> list[tuple[str, object]]:
    """What became of each point, in the order of the sweep."""
    found = {place: answer for job, answer in zip(plan.jobs, done.answers, strict=True) for place in job.points}
    return [(point.label, found[place]) for place, point in enumerate(plan.points)]


def _plan_facts(plan: SweepPlan, checks: Sequence[Checked]) -> dict[str, Any]:
    """What --json says of a plan: its jobs with the limits that they meet, and of each point its job's place among them."""
    facts = {id(decision): show.decision_facts(decision) for decision in plan.decisions}
    job_of = {place: number for number, job in enumerate(plan.jobs) for place in job.points}
    points = []
    for place, (point, decision) in enumerate(zip(plan.points, plan.decisions, strict=True)):
        error = plan.problems.get(place)
        problem = {"error": str(error), "next_step": error.next_step, "exit_code": error.exit_code} if error else {}
        told = {"overrides": point.overrides, "error": None, "job": job_of.get(place), **problem}
        points.append(told | facts[id(decision)])
    jobs = [planned_facts(job) | {"limits": met_facts(checked)} for job, checked in zip(plan.jobs, checks, strict=True)]
    return {"jobs": jobs, "notes": plan.notes, "points": points}


def _summary(plan: SweepPlan) -> str:
    """How many points go where, and what they cost together."""
    offers = [
        decision.chosen
        for place, decision in enumerate(plan.decisions)
        if place not in plan.problems and decision.chosen is not None
    ]
    sites = Counter(offer.site for offer in offers)
    costs = [offer.cost.total for offer in offers]
    known = [cost for cost in costs if cost is not None]
    currency = next((f" {decision.currency}" for decision in plan.decisions if decision.currency), "")
    total = f"{sum(known):.3f}{currency}" if len(known) == len(costs) else "unknown"
    where = ", ".join(f"{count:,} at {site}" for site, count in sites.most_common())
    shown = len(plan.points) - show.SHOWN
    left_out = f"; {shown:,} points are not shown, --json has all" if shown > 0 else ""
    return f"{counted(plan)}: {where or 'none can be submitted'}; cost {total}{left_out}"


def _tell_notes(plan: SweepPlan) -> None:
    for note in dict.fromkeys((*plan.notes, *(note for decision in plan.decisions for note in decision.notes))):
        show.tell_note(note)
