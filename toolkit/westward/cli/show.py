"""What people see: tables and messages with Rich. Nothing here decides anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
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
from westward.model.accelerators import Granted
from westward.model.decision import TERMS, Decision, Offer
from westward.model.job import Attempt, JobState
from westward.model.units import format_duration
from westward.store.ledger import Job, Phase


def _width() -> int | None:
    """Tables keep their columns when the output goes to a file or a pipe, where Rich would assume 80."""
    return None if os.isatty(1) or "COLUMNS" in os.environ else 140


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

out = Console(highlight=False, soft_wrap=False, width=_width())
err = Console(stderr=True, highlight=False, width=_width())

NAMED = 10  # of many things, so many are named in an error
SHOWN = 100  # rows of a sweep; --json has them all
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
    costs = [f"{term} {decision.currency}" if decision.currency else term for term in [*terms, "total"]]
    columns = ["site", "partition", "chip", "start", "rtt", "energy", "CO2e", *costs, "verdict"]
    made = table(
        f"{printable(job)}: offers by policy '{decision.policy}', for the whole time limit",
        *columns,
        numbers=columns[3:-1],
    )
    for offer in decision.offers:
        chosen = offer is decision.chosen
        verdict = verdict_of(offer, decision)
        cells = [
            offer.site,
            offer.partition,
            offer.chip or "-",
            _start(offer.start_in_s),
            f"{offer.rtt_ms:g} ms" if offer.rtt_ms is not None else "?",
        ]
        cells += [
            _number(offer.energy_kwh, " kWh"),
            _number(offer.carbon_kg, " kg"),
            *(_number(getattr(offer.cost, term)) for term in terms),
        ]
        made.add_row(
            *(escape(printable(cell)) for cell in cells),
            _number(offer.cost.total),
            verdict,
            style="bold green" if chosen else "",
        )
    for rejection in decision.rejections:
        made.add_row(
            escape(printable(rejection.site)),
            *["-"] * (len(columns) - 2),
            Text(f"out: {printable(rejection.reason)}", style="red"),
        )
    captions = [f"{offer.site}/{offer.partition}: {offer.granted}" for offer in decision.offers if offer.granted]
    captions = [printable(line) for line in (*captions, *(f"note: {note}" for note in decision.notes))]
    if any(offer.cost.unknown for offer in decision.offers):
        captions.append("? is unknown, never zero: 'westward site show SITE' says what to fill in to compare by cost")
    if captions:
        made.caption = Text("\n".join(captions))
        made.caption_justify = "left"
    return made


def sweep_table(points: Sequence[tuple[str, Decision, WestwardError | None]]) -> Table:
    """Where each point of a sweep goes and what that costs, or why it goes nowhere; the first SHOWN of them."""
    currency = next((decision.currency for _, decision, _ in points if decision.currency), None)
    cost = f"cost {currency}" if currency else "cost"
    columns = ["point", "site", "partition", "chip", "start", "energy", "CO2e", cost, "verdict"]
    made = table("", *columns, numbers=columns[4:8])
    for label, decision, error in points[:SHOWN]:
        offer = decision.chosen
        if error is not None or offer is None:
            why = Text(f"out: {one_line(error)}", style="red")
            made.add_row(escape(printable(label)), *["-"] * (len(columns) - 2), why)
            continue
        made.add_row(
            escape(printable(label)),
            offer.site,
            offer.partition,
            escape(printable(f"{offer.granted.count} x {offer.chip}")) if offer.granted else offer.chip or "-",
            _start(offer.start_in_s),
            _number(offer.energy_kwh, " kWh"),
            _number(offer.carbon_kg, " kg"),
            _number(offer.cost.total),
            escape(reason(decision)),
        )
    return made


def named(lines: Iterable[str]) -> str:
    """Some of many things, each on a line of its own below an error's first, and how many more there are."""
    told = [f"\n  {line}" for line in lines]
    more = f"\n  and {len(told) - NAMED:,} more" if len(told) > NAMED else ""
    return "".join(told[:NAMED]) + more


def one_line(error: WestwardError | None) -> str:
    """What an error says, in one line of a table."""
    return printable(" ".join(str(error or "").split()))


def verdict_of(offer: Offer, decision: Decision) -> str:
    """Why an offer was chosen, or was not, in a few words."""
    unknown = f"cost unknown: {', '.join(offer.cost.unknown)}" if offer.cost.unknown else ""
    if offer is decision.chosen:
        why = [*(["named by --site"] if decision.overridden else []), *([unknown] if unknown else [])]
        return f"chosen ({'; '.join(why)})" if why else "chosen"
    if decision.chosen is None or decision.overridden:
        return "not asked for"
    total, best = offer.cost.total, decision.chosen.cost.total
    if total is None or best is None:
        return unknown if best is not None else "cost unknown too; lost by start or name"
    more = {term: getattr(offer.cost, term) - getattr(decision.chosen.cost, term) for term in TERMS}
    dearer = total - best
    if dearer <= 0:
        return "equal; lost by start or name"
    term = max(more, key=lambda name: more[name])
    return f"+{dearer:.3f}, most by {term} (+{more[term]:.3f})"


def _start(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return "now" if seconds == 0 else f"in {format_duration(seconds)}"


def _number(value: float | None, unit: str = "") -> str:
    return "?" if value is None else f"{value:.3f}{unit}"


def decision_facts(decision: Decision) -> dict[str, Any]:
    """What --json says of a decision.

    Each offer's cost has its total, null where it is unknown, and the terms that are unknown; what the request became is a sentence too.
    """
    facts = asdict(decision)
    for shown, offer in [
        *zip(facts["offers"], decision.offers, strict=True),
        *([(facts["chosen"], decision.chosen)] if decision.chosen else []),
    ]:
        shown["cost"] |= {"total": offer.cost.total, "unknown": offer.cost.unknown}
        if offer.granted:
            shown["granted"] |= {"count": offer.granted.count, "text": str(offer.granted)}
    return facts


def tell_notes(decision: Decision) -> None:
    """What the user should know of a decision whose offers are not shown."""
    for note in decision.notes:
        tell_note(note)


def tell_note(note: str) -> None:
    """Something that its user should know, beside what was asked for."""
    err.print(Text.assemble(("note: ", "yellow"), printable(note)), soft_wrap=True)


def reason(decision: Decision) -> str:
    """Why the chosen site was chosen, in a few words."""
    if decision.overridden:
        return "named by --site"
    others = [offer for offer in decision.offers if offer is not decision.chosen]
    if decision.chosen is None or not others:
        return "the only site that fits"
    best, second = decision.chosen.cost.total, others[0].cost.total
    if best is None:
        return f"{decision.policy}: every cost is unknown, so the earliest start, then the first name"
    money = f" {decision.currency}" if decision.currency else ""
    than = f"{second:.4g}" if second is not None else "unknown"
    same = others[0].site == decision.chosen.site
    return f"{decision.policy}: {best:.4g}{money}, {f'with {others[0].chip}' if same else others[0].site} {than}"


def tell_how_to_follow(job: Job) -> None:
    """After a submission that nobody waits for: how its user finds it again, in two lines."""
    out.print(f"follow it:   westward watch {job.key}     what it writes: westward logs -f {job.key}", soft_wrap=True)
    out.print(f"at its end:  westward results {job.key}   what happened:  westward explain {job.key}", soft_wrap=True)


def tell_undecided(undecided: Sequence[tuple[Job, WestwardError]]) -> None:
    """Submissions that could not be settled now; they stay in the ledger."""
    for job, error in undecided:
        err.print(
            Text.assemble(("in doubt: ", "magenta"), f"{job.key} ({printable(job.name)}): {error}"), soft_wrap=True
        )


def tell_interrupted() -> None:
    """Ctrl-C came in the middle of a submission."""
    err.print(
        "interrupted: what was recorded goes on with the next command, or with an agent (westward agent start); "
        "'westward jobs' lists it",
        soft_wrap=True,
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
        "restarts": job.restarts,
        "created_at": job.created_at,
        "seen_at": job.seen_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "granted": granted_text(job) or None,
        "sweep": job.sweep,
        "tasks": job.tasks,
        "task_ids": job.task_ids,
    }


def granted_text(job: Job) -> str:
    """What its request for accelerators became, as its decision has it; empty where it made none."""
    granted = (job.decision.get("chosen") or {}).get("granted")
    return str(Granted(**granted)) if granted else ""


def jobs_table(jobs: Sequence[Job]) -> Table:
    made = table("", "job", "name", "site", "slurm id", "state", "since", "reason", numbers=("slurm id",))
    for job in jobs:
        made.add_row(
            job.key,
            escape(printable(f"{job.name} (sweep {job.sweep})" if job.sweep else job.name)),
            job.site,
            str(job.job_id or "-"),
            state_text(job),
            _since(job),
            escape(printable("; ".join(filter(None, (_tasks(job), job.reason))))),
        )
    return made


def _tasks(job: Job) -> str:
    """How many tasks of an array are in each state; empty for any other job."""
    return ", ".join(f"{count:,} {state}" for state, count in sorted(job.tasks.items(), key=lambda item: -item[1]))


def state_text(job: Job) -> Text:
    """The state in words: a job that has no handle yet is in doubt, one that no cluster took was never submitted."""
    if job.phase in (Phase.INTENT, Phase.SUBMITTING):
        return Text("in doubt", style="magenta")
    if job.phase is Phase.REFUSED:
        return Text("not submitted", style="red")
    return Text(job.state, style=_STYLES.get(job.state, "red"))


def ended(job: Job) -> str:
    """How a job ended, in a few words."""
    if job.phase is Phase.REFUSED:
        return f"not submitted: {printable(job.reason)}"
    how = f" by signal {job.signal}" if job.signal else f" with exit code {job.exit_code}" if job.exit_code else ""
    return f"{job.state}{how}{f' ({printable(job.reason)})' if job.reason else ''}"


def clock(moment: datetime, now: datetime) -> str:
    """A point in time near now, by this host's clock; with its day where that is another."""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == now.astimezone().date() else f"{local:%Y-%m-%d %H:%M}"


def _since(job: Job) -> str:
    moment = job.seen_at if job.state is JobState.UNKNOWN else job.ended_at or job.started_at or job.created_at
    ago = format_duration(max(0.0, (datetime.now(UTC) - (moment or job.created_at)).total_seconds()))
    return f"last seen {ago} ago" if job.state is JobState.UNKNOWN else f"{ago} ago"


def attempts_table(job: Job, attempts: Sequence[Attempt]) -> Table:
    """What a cluster's accounting has of a job; what it does not record is '-'."""
    made = table(
        f"attempts at {printable(job.name)} ({job.key}) at {job.site}",
        *("Slurm id", "state", "exit", "started", "ended", "ran", "CPU time", "memory", "energy", "nodes"),
        numbers=("exit", "ran", "CPU time", "memory", "energy"),
    )
    for attempt in attempts:
        status, used = attempt.status, attempt.usage
        requeued = status.state is JobState.PENDING and status.ended_at is not None
        ended = (
            f"signal {status.signal}"
            if status.signal
            else str(status.exit_code)
            if status.exit_code is not None
            else "-"
        )
        made.add_row(
            f"{status.job_id}_{attempt.task}" if attempt.task is not None else str(status.job_id),
            "put back" if requeued else Text(str(status.state), style=_STYLES.get(status.state, "")),
            ended,
            *(f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-" for moment in (status.started_at, status.ended_at)),
            format_duration(used.elapsed_s),
            format_duration(used.cpu_s) if used.cpu_s is not None else "-",
            f"{used.max_rss_bytes / 2**20:.0f} MiB" if used.max_rss_bytes else "-",
            f"{used.energy_j:,} J" if used.energy_j else "-",
            printable(status.nodes) or "-",
        )
    return made


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
