"""`westward plan`: everything that submit would do, and nothing done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.syntax import Syntax
from rich.text import Text

from westward.catalogue.budgets import project_named
from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.arguments import Multirun, Overrides, SiteOption, TemplateName
from westward.cli.budgets import left_facts, left_lines
from westward.cli.limits import limits_facts, limits_line, limits_table
from westward.cli.multirun import plan_points
from westward.errors import InputError, WestwardError
from westward.federation.deciding import decide
from westward.federation.foresight import LEAST_STARTS, Foresight, foresee, refusal
from westward.federation.router import chosen_offer
from westward.jobs.budgeting import Budgeting, Left
from westward.jobs.difference import Difference, difference
from westward.model.budget import KINDS, Caps, told
from westward.model.decision import Decision, Offer
from westward.model.effort import Planned, planned
from westward.model.job import KEY_LENGTH, JobSpec
from westward.model.limits import Verdict
from westward.model.units import format_duration
from westward.slurm.script import render
from westward.store.ledger import Ledger

_KEY = "k" * KEY_LENGTH


def plan(
    template: TemplateName,
    overrides: Overrides = None,
    site: SiteOption = None,
    multirun: Multirun = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what has changed since the last submission of this template.")
    ] = False,
    as_json: show.AsJson = False,
) -> None:
    """Show what submit would do, and do nothing: offers, costs, limits, estimated start, and the script.

    Of several jobs (-m): where each goes, and what it costs there. What the site would refuse ends with the exit code of submit.
    """
    if multirun and diff:
        raise InputError("--diff compares one job, and -m plans several", "name one value of each key")
    if multirun:
        plan_points(template, overrides or [], site, as_json)
        return
    catalogue = load_catalogue()
    composed, decision = decide(template, overrides or [], site, catalogue)
    if decision.chosen is None and as_json:
        show.print_json(show.decision_facts(decision))
    elif not as_json:
        show.out.print(show.decision_table(decision, composed.spec.name))
    offer = chosen_offer(decision, site)
    submission = render(composed.spec, offer, catalogue.sites[offer.site], _KEY)
    with show.err.status("asking the sites for their limits"):
        ledger = Ledger()
        foreseen = foresee(composed.spec, decision, offer, catalogue, ledger.starts(offer.site))
    money = Paid.of(composed.spec, decision, offer, ledger)
    before = ledger.last_of(template) if diff else None
    changed = difference(before, submission, offer, _KEY) if before else None
    if as_json:
        facts = (
            show.decision_facts(decision)
            | foresight_facts(foreseen)
            | {"budget": money.facts(), "script": submission.script}
        )
        if diff:
            facts["diff"] = difference_facts(changed)
        show.print_json(facts)
    else:
        for line in (*foresight_lines(foreseen, decision), *(f"  budget   {line}" for line in money.lines())):
            show.out.print(Text(show.printable(line)), soft_wrap=True)
        if foreseen.limits.met:
            show.out.print(limits_table(foreseen.limits))
        if diff:
            _show_difference(changed, template)
        else:
            _show_script(submission.script, offer.site)
    problem = money.problem or refusal(foreseen.limits, foreseen.trial)
    if problem is not None:
        raise problem


@dataclass(frozen=True, slots=True)
class Paid:
    """What a submission would spend, beside its own caps and those of its project; `problem` is why it may not."""

    caps: Caps
    plan: Planned
    project: Left | None
    problem: WestwardError | None

    @classmethod
    def of(cls, spec: JobSpec, decision: Decision, offer: Offer, ledger: Ledger) -> Paid:
        plan = planned(spec, offer, decision.currency)
        project = project_named(spec.project) if spec.project is not None else None
        left = Left(project, ledger.used(project), plan.counted) if project else None
        try:
            Budgeting(ledger).check([(spec, decision)])
        except WestwardError as error:
            return cls(spec.budget, plan, left, error)
        return cls(spec.budget, plan, left, None)

    def lines(self) -> list[str]:
        """For people; none where there is no cap."""
        said = []
        for kind in KINDS:
            cap, asked = getattr(self.caps, kind), getattr(self.plan.amounts, kind)
            if cap is not None:
                said.append(f"this submission: {told(kind, asked, self.plan.currency)}, at most {cap:.4g}")
        return said + (left_lines(self.project) if self.project else [])

    def facts(self) -> dict[str, Any]:
        """For machines."""
        return {
            "asked": asdict(self.plan.amounts),
            "currency": self.plan.currency,
            "caps": asdict(self.caps),
            "project": left_facts(self.project) if self.project else None,
            "problem": str(self.problem) if self.problem else None,
        }


def _show_difference(changed: Difference | None, template: str) -> None:
    if changed is None:
        show.out.print(
            Text(f"no job of the template {template} was submitted before: there is nothing to compare with")
        )
        return
    for line in difference_lines(changed):
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "") if not line.startswith(" ") else ""
        show.out.print(Text(show.printable(line), style=style), soft_wrap=True)


def difference_lines(changed: Difference) -> list[str]:
    """What has changed, for people."""
    job = changed.against
    said = [f"against job {job.key} of {job.created_at.astimezone():%Y-%m-%d %H:%M} at {job.site}:"]
    width = max(map(len, changed.changes), default=0)
    said += [f"  {name:{width}}  {was} -> {now}" for name, (was, now) in changed.changes.items()]
    if not changed.changes and not changed.script:
        said.append("  nothing has changed")
    return [*said, *(changed.script or ("  the script is the same",))]


def difference_facts(changed: Difference | None) -> dict[str, Any] | None:
    """What --json says of that; null where there was no such job."""
    if changed is None:
        return None
    changes = {name: {"before": was, "now": now} for name, (was, now) in changed.changes.items()}
    return {"against": changed.against.key, "changes": changes, "script": list(changed.script)}


def _show_script(script: str, site: str) -> None:
    show.out.print(Text(f"script for {site} ({_KEY} stands for the key that submit makes)", style="bold"))
    if show.out.is_terminal:
        show.out.print(Syntax(script, "bash", background_color="default", word_wrap=True))
    else:
        show.out.print(Text(script), soft_wrap=True)


def foresight_lines(foreseen: Foresight, decision: Decision) -> list[str]:
    """What a job would take and meet, a line for each thing, for people."""
    return [
        f"at {foreseen.offer.site}/{foreseen.offer.partition}, for the whole time limit:",
        f"  takes    {_effort(foreseen)}",
        f"  costs    {_costs(foreseen, decision)}",
        f"  start    {_start(foreseen)}",
        f"  limits   {limits_line(foreseen.limits)}",
        *(f"  elsewhere {other.site}/{other.partition}: {limits_line(other)}" for other in foreseen.others),
        *(f"  note     {note}" for note in (foreseen.limits.notes if foreseen.limits.findings else ())),
        *(f"  note     {note}" for note in foreseen.notes),
    ]


def _effort(foreseen: Foresight) -> str:
    effort = foreseen.effort
    parts = [f"{effort.node_hours:.4g} node-hours", f"{effort.cpu_hours:.4g} core-hours"]
    if effort.accelerator_hours:
        parts.insert(1, f"{effort.accelerator_hours:.4g} accelerator-hours")
    return ", ".join(parts) + (f", by {effort.tasks:,} tasks together" if effort.tasks > 1 else "")


def _costs(foreseen: Foresight, decision: Decision) -> str:
    offer, tasks = foreseen.offer, foreseen.effort.tasks

    def told(value: float | None, unit: str) -> str:
        return f"{value * tasks:.4g} {unit}".rstrip() if value is not None else f"unknown {unit}".rstrip()

    return ", ".join(
        [
            told(offer.cost.total, decision.currency or ""),
            told(offer.energy_kwh, "kWh"),
            told(offer.carbon_kg, "kg CO2e"),
        ]
    ) + (f" (estimates: {', '.join(foreseen.estimated)})" if foreseen.estimated else "")


def _start(foreseen: Foresight) -> str:
    start = foreseen.start
    site = foreseen.offer.site
    free = (
        "not told by its nodes"
        if start.free is None
        else "now"
        if start.free == 0
        else f"in {format_duration(start.free)}"
    )
    parts = [f"{free} by what is free" if start.free is not None else free]
    if start.tested is not None and foreseen.trial:
        when = "now" if start.tested < 1 else f"in {format_duration(start.tested)}"
        parts.append(f"{when} by sbatch --test-only, on {foreseen.trial.nodes}")
    elif foreseen.trial is not None and foreseen.trial.refusal:
        parts.append(f"refused by sbatch --test-only: {foreseen.trial.refusal}")
    if start.band is not None:
        low, high = (format_duration(seconds) for seconds in start.band)
        parts.append(f"between {low} and {high} from now as four of five of your last {start.starts} jobs there")
    else:
        parts.append(f"no error band: {start.starts} of your jobs have started at {site}, {LEAST_STARTS} are needed")
    if foreseen.limits.verdict in (Verdict.WAITS, Verdict.NEVER):
        parts.append("but see its limits")
    return "; ".join(parts)


def foresight_facts(foreseen: Foresight) -> dict[str, Any]:
    """What --json says of all that."""

    return {
        "effort": asdict(foreseen.effort),
        "limits": limits_facts(foreseen.limits),
        "limits_elsewhere": [limits_facts(other) for other in foreseen.others],
        "start": asdict(foreseen.start),
        "test_only": asdict(foreseen.trial) if foreseen.trial else None,
        "plan_notes": list(foreseen.notes),
        "estimated": list(foreseen.estimated),
    }
