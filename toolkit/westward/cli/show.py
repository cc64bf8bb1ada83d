"""What people see: tables and messages with Rich. Nothing here decides anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from westward.errors import WestwardError
from westward.model.decision import TERMS, Decision, Offer
from westward.model.job import JobState
from westward.model.units import format_duration
from westward.store.ledger import Job, Phase


def _width() -> int | None:
    """Tables keep their columns when the output goes to a file or a pipe, where Rich would assume 80."""
    return None if os.isatty(1) or "COLUMNS" in os.environ else 140


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

out = Console(highlight=False, soft_wrap=False, width=_width())
err = Console(stderr=True, highlight=False, width=_width())

_STYLES = {
    JobState.COMPLETED: "green",
    JobState.RUNNING: "cyan",
    JobState.PENDING: "yellow",
    JobState.UNKNOWN: "magenta",
}


def say_error(error: WestwardError) -> None:
    lines = "\n".join(printable(line) for line in str(error).split("\n"))
    err.print(Text.assemble(("error: ", "bold red"), lines), soft_wrap=True)
    if error.next_step:
        err.print(Text.assemble(("next:  ", "bold"), error.next_step), soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    made = Table(
        title=Text(title, style="bold"), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        made.add_column(Text(printable(column)), justify="right" if column in numbers else "left", overflow="fold")
    return made


def decision_table(decision: Decision, job: str) -> Table:
    """The offers with their cost by term, best first, and why every other site is out."""
    terms = [term for term in TERMS if any(getattr(offer.cost, term) for offer in decision.offers)]
    costs = [f"{term} {decision.currency}" for term in [*terms, "total"]]
    columns = ["site", "partition", "chip", "start", "rtt", "energy", "CO2e", *costs, "verdict"]
    made = table(
        f"{printable(job)}: offers by policy '{decision.policy}', for the whole time limit",
        *columns,
        numbers=columns[3:-1],
    )
    for offer in decision.offers:
        chosen = offer is decision.chosen
        verdict = _verdict(offer, decision)
        cells = [
            offer.site,
            offer.partition,
            offer.chip or "-",
            _start(offer.start_in_s),
            f"{offer.rtt_ms:g} ms" if offer.rtt_ms is not None else "?",
        ]
        cells += [
            f"{offer.energy_kwh:.3f} kWh",
            f"{offer.carbon_kg:.3f} kg",
            *(f"{getattr(offer.cost, term):.3f}" for term in terms),
        ]
        made.add_row(
            *(escape(printable(cell)) for cell in cells),
            f"{offer.cost.total:.3f}",
            verdict,
            style="bold green" if chosen else "",
        )
    for rejection in decision.rejections:
        made.add_row(
            escape(printable(rejection.site)),
            *["-"] * (len(columns) - 2),
            Text(f"out: {printable(rejection.reason)}", style="red"),
        )
    return made


def _verdict(offer: Offer, decision: Decision) -> str:
    if decision.chosen is None:
        return "not asked for"
    if offer is decision.chosen:
        return "chosen (named by --site)" if decision.overridden else "chosen"
    if decision.overridden:
        return "not asked for"
    more = {term: getattr(offer.cost, term) - getattr(decision.chosen.cost, term) for term in TERMS}
    dearer = offer.cost.total - decision.chosen.cost.total
    if dearer <= 0:
        return "equal; lost by start or name"
    term = max(more, key=lambda name: more[name])
    return f"+{dearer:.3f}, most by {term} (+{more[term]:.3f})"


def _start(seconds: float) -> str:
    return "now" if seconds == 0 else f"in {format_duration(seconds)}"


def decision_facts(decision: Decision) -> dict[str, Any]:
    """What --json says of a decision; each offer's cost with its total."""
    facts = asdict(decision)
    for offer in [*facts["offers"], *([facts["chosen"]] if facts["chosen"] else [])]:
        offer["cost"]["total"] = sum(offer["cost"].values())
    return facts


def reason(decision: Decision) -> str:
    """Why the chosen site was chosen, in a few words."""
    if decision.overridden:
        return "named by --site"
    others = [offer for offer in decision.offers if offer is not decision.chosen]
    if decision.chosen is None or not others:
        return "the only site that fits"
    return f"{decision.policy}: {decision.chosen.cost.total:.4g} {decision.currency}, {others[0].site} {others[0].cost.total:.4g}"


def tell_undecided(undecided: Sequence[tuple[Job, WestwardError]]) -> None:
    """Submissions that could not be settled now; they stay in the ledger."""
    for job, error in undecided:
        err.print(
            Text.assemble(("in doubt: ", "magenta"), f"{job.key} ({printable(job.name)}): {error}"), soft_wrap=True
        )


def job_facts(job: Job) -> dict[str, Any]:
    """What --json says of a job."""
    return {
        "key": job.key,
        "name": job.name,
        "template": job.template,
        "site": job.site,
        "phase": job.phase,
        "state": job.state,
        "reason": job.reason,
        "slurm_job_id": job.job_id,
        "slurm_name": job.submission.name,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "seen_at": job.seen_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
    }


def jobs_table(jobs: Sequence[Job]) -> Table:
    made = table("", "job", "name", "site", "slurm id", "state", "since", "reason", numbers=("slurm id",))
    for job in jobs:
        made.add_row(
            job.key,
            escape(printable(job.name)),
            job.site,
            str(job.job_id or "-"),
            state_text(job),
            _since(job),
            escape(printable(job.reason)),
        )
    return made


def state_text(job: Job) -> Text:
    """The state in words: a job that has no handle yet is in doubt, one that no cluster took was never submitted."""
    if job.phase in (Phase.INTENT, Phase.SUBMITTING):
        return Text("in doubt", style="magenta")
    if job.phase is Phase.REFUSED:
        return Text("not submitted", style="red")
    return Text(job.state, style=_STYLES.get(job.state, "red"))


def _since(job: Job) -> str:
    moment = job.seen_at if job.state is JobState.UNKNOWN else job.ended_at or job.started_at or job.created_at
    ago = format_duration(max(0.0, (datetime.now(UTC) - (moment or job.created_at)).total_seconds()))
    return f"last seen {ago} ago" if job.state is JobState.UNKNOWN else f"{ago} ago"


def printable(text: str) -> str:
    """A text of somebody's on one line of a terminal: no control characters get through."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def record_table(title: str, record: Mapping[str, Any]) -> Table:
    """A benchmark's rows under the columns that its own record names."""
    columns = [(str(column["name"]), str(column.get("unit") or "")) for column in record["columns"]]
    heads = [f"{name} ({unit})" if unit else name for name, unit in columns]
    numeric = [
        head
        for head, (name, _) in zip(heads, columns, strict=True)
        if all(isinstance(row.get(name), int | float) for row in record["rows"])
    ]
    made = table(title, *heads, numbers=numeric)
    for row in record["rows"]:
        made.add_row(*(escape(_cell(row.get(name))) for name, _ in columns))
    return made


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "-" if value is None else printable(str(value))
