"""`westward explain`: what happened to a job, and why."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from westward.cli import show
from westward.cli.arguments import JobName
from westward.errors import WestwardError
from westward.federation.presence import alive
from westward.model.decision import Decision
from westward.model.job import Attempt
from westward.model.units import format_duration
from westward.store.ledger import Job, Ledger, Phase

if TYPE_CHECKING:
    from westward.jobs.explaining import Event, Explanation, Forecast

OLD_S = 10.0  # a look at the sites that is worth telling
CLOSE_S = 60.0  # a start that was foretold
RUNNERS_UP = 5  # offers that were not chosen, and sites that were out


def explain(name: JobName, as_json: show.AsJson = False) -> None:
    """Say what happened to a job and why: where it went, what it waits for, how it ended, and what can be done."""
    from westward.catalogue.load import known_sites
    from westward.jobs.explaining import explain as explanation
    from westward.jobs.lifecycle import Jobs

    ledger = Ledger()
    with Jobs(ledger, known_sites()) as running:
        show.tell_undecided(running.settle())
        job = running.refresh([ledger.find(name)])[0]
        attempts, unheard = _attempts(running, job)
    word = next((word for word in ledger.sites() if word.name == job.site), None)
    told = explanation(job, attempts, word, datetime.now(UTC), agent=alive(ledger), unheard=unheard)
    if as_json:
        show.print_json(_facts(told))
    else:
        show.out.print(_page(told), soft_wrap=False)


def _attempts(running: Any, job: Job) -> tuple[list[Attempt], str]:
    """What the accounting has of a job, or why it cannot be asked."""
    if job.job_id is None or job.phase is Phase.REFUSED:
        return [], ""
    try:
        return running.attempts(job), ""
    except WestwardError as error:
        return [], str(error)


def _page(told: Explanation) -> Table:
    """One row for each question."""
    job = told.job
    page = Table.grid(padding=(0, 3, 1, 0))
    page.add_column(style="bold", no_wrap=True)
    page.add_column(overflow="fold")
    title = Text.assemble((show.printable(job.name), "bold"), f"  {job.key}  at {job.site}:  ", show.state_text(job))
    page.add_row("job", title)
    page.add_row("now", _lines(told.now))
    if told.next:
        page.add_row("next", _lines(told.next))
    if told.decision is not None:
        page.add_row(f"why {job.site}", _lines(_why_there(told.decision)))
    page.add_row("as", _lines([*told.became, *([show.granted_text(job)] if show.granted_text(job) else [])]))
    page.add_row("when", _lines([_event(event) for event in told.events]))
    if said := _forecast(told.forecast):
        page.add_row("expected", _lines(said))
    if told.unheard:
        page.add_row("not asked", _lines([f"its accounting: {told.unheard}"]))
    return page


def _lines(lines: Any) -> Text:
    return Text("\n".join(show.printable(line) for line in lines))


def _why_there(decision: Decision) -> list[str]:
    if decision.policy == "home":
        lines = ["its script is tied to that site, or was sent there: 'westward route --plan' lists what ties it"]
    else:
        old = decision.snapshot_age_s > OLD_S
        age = f"; the sites had been asked {format_duration(decision.snapshot_age_s)} before" if old else ""
        lines = [f"{show.reason(decision)}{age}"]
    others = [offer for offer in decision.offers if offer != decision.chosen]
    lines += [f"{offer.site}/{offer.partition}: {show.verdict_of(offer, decision)}" for offer in others[:RUNNERS_UP]]
    lines += [f"{out.site}: out: {out.reason}" for out in decision.rejections[:RUNNERS_UP]]
    left = max(0, len(others) - RUNNERS_UP) + max(0, len(decision.rejections) - RUNNERS_UP)
    return lines + ([f"and {left} more: --json"] if left else [])


def _event(event: Event) -> str:
    return f"{event.at.astimezone():%Y-%m-%d %H:%M:%S}  {event.what}"


def _forecast(told: Forecast) -> list[str]:
    """What was expected beside what came."""
    now = datetime.now(UTC)
    lines = []
    if told.start is not None:
        came = "it has not" if told.started is None else _late(told.start, told.started)
        lines.append(f"to start {show.clock(told.start, now)}; {came}")
    if told.end_by is not None:
        came = "it has not" if told.ended is None else f"it ended {show.clock(told.ended, now)}"
        lines.append(f"to end by {show.clock(told.end_by, now)} at the latest; {came}")
    money = f" {told.currency}" if told.currency else ""
    if told.cost is not None:
        ran = f"; for as long as it ran {told.cost_so_far:.4g}{money}" if told.cost_so_far is not None else ""
        lines.append(f"to cost {told.cost:.4g}{money} for its whole time limit{ran}")
    if told.energy_j is not None:
        lines.append(f"its cluster measured {told.energy_j:,} J on its nodes")
    return lines


def _late(expected: Any, came: Any) -> str:
    late = (came - expected).total_seconds()
    if abs(late) < CLOSE_S:
        return "it did"
    return f"it did {format_duration(abs(late))} {'later' if late >= 0 else 'earlier'}"


def _facts(told: Explanation) -> dict[str, Any]:
    """What --json says."""
    return {
        **show.job_facts(told.job),
        "now": told.now,
        "next": told.next,
        "decision": show.decision_facts(told.decision) if told.decision else None,
        "became": told.became,
        "events": [asdict(event) for event in told.events],
        "forecast": asdict(told.forecast),
        "progress": asdict(told.progress),
        "unheard": told.unheard or None,
    }
