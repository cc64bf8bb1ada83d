"""What people and machines see of a sweep's jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from westward.cli import show
from westward.errors import SweepFailed, WestwardError
from westward.federation.grouping import Planned
from westward.federation.router import chosen_offer
from westward.federation.sweeping import Submitted, SweepPlan
from westward.model.units import format_bytes, format_duration
from westward.store.ledger import Job


def counted(plan: SweepPlan) -> str:
    """ "60 points in 3 jobs" """
    points, jobs = len(plan.points), len(plan.jobs)
    arrays = sum(bool(job.spec.tasks) for job in plan.jobs)
    kind = ("array" if jobs == 1 else "arrays") if arrays == jobs else ("job" if jobs == 1 else "jobs")
    return f"{points:,} point{'s' if points != 1 else ''} in {jobs:,} {kind}"


def jobs_table(plan: SweepPlan) -> Table:
    """The jobs that the points become, each with what a point of it asks for; the first SHOWN of them."""
    made = show.table(
        "", "job", "points", "site", "partition", "each point asks for", "first point", numbers=("job", "points")
    )
    for number, job in enumerate(plan.jobs[: show.SHOWN], start=1):
        offer = chosen_offer(job.decision)
        made.add_row(
            str(number),
            f"{len(job.points):,}",
            escape(show.printable(offer.site)),
            escape(show.printable(offer.partition)),
            escape(show.printable(_asks(job))),
            escape(show.printable(plan.points[job.points[0]].label)),
        )
    return made


def _asks(job: Planned) -> str:
    offer = chosen_offer(job.decision)
    spec, resources = job.spec, job.spec.resources.at(offer.granted)
    each = [f"{resources.cpus_per_node:,} CPU{'s' if resources.cpus_per_node != 1 else ''}"]
    if resources.mem_bytes:
        each.append(format_bytes(resources.mem_bytes))
    if resources.accelerators and offer.chip:
        each.append(f"{resources.accelerators.count} x {offer.chip}")
    nodes = (
        f"{resources.nodes:,} nodes with {', '.join(each)} each"
        if resources.nodes > 1
        else f"1 node with {', '.join(each)}"
    )
    words = [nodes]
    words.append(format_duration(resources.walltime_s))
    words += [f"{name} {value}" for name, value in (("account", spec.account), ("QOS", spec.qos)) if value]
    if spec.array is not None and not spec.tasks:
        words.append(f"an array of its own ({spec.array})")
    return ", ".join(words)


def planned_facts(job: Planned) -> dict[str, Any]:
    """What --json says of a job that is not submitted yet."""
    offer, resources = chosen_offer(job.decision), job.spec.resources
    occupied = resources.at(offer.granted)
    return {
        "site": offer.site,
        "partition": offer.partition,
        "array": str(job.spec.array) if job.spec.array else None,
        "points": list(job.points),
        "nodes": occupied.nodes,
        "ntasks_per_node": occupied.ntasks_per_node,
        "cpus_per_task": occupied.cpus_per_task,
        "mem_bytes": occupied.mem_bytes,
        "accelerators": f"{offer.chip}:{occupied.accelerators.count}" if occupied.accelerators else None,
        "walltime_s": occupied.walltime_s,
        "account": job.spec.account,
        "qos": job.spec.qos,
    }


def submitted_facts(plan: SweepPlan, done: Submitted) -> dict[str, Any]:
    """What --json says of a sweep that was submitted: its key, its jobs, and of each point its job and task."""
    jobs: list[dict[str, Any]] = []
    points: dict[int, dict[str, Any]] = {}
    for job, answer in zip(plan.jobs, done.answers, strict=True):
        error = answer if isinstance(answer, WestwardError) else None
        problem = {"error": str(error), "next_step": error.next_step, "exit_code": error.exit_code} if error else {}
        facts = show.job_facts(answer) if isinstance(answer, Job) else {}
        jobs.append({**planned_facts(job), "error": None, **problem, **facts})
        for number, place in enumerate(job.points):
            key = answer.key if isinstance(answer, Job) else None
            told = {"overrides": plan.points[place].overrides, "error": None, **problem, "job": key}
            points[place] = {**told, "task": job.task_of(number)}
    return {
        "sweep": done.sweep.key,
        "jobs": jobs,
        "notes": plan.notes,
        "points": [points[place] for place in sorted(points)],
    }


def tell_sweep(plan: SweepPlan, done: Submitted, again: bool = False) -> None:
    """What became of each job, and how to go on."""
    made = show.table(
        "", "job", "points", "site", "slurm id", "state", "each point asks for", numbers=("points", "slurm id")
    )
    for job, answer in list(zip(plan.jobs, done.answers, strict=True))[: show.SHOWN]:
        asks = escape(show.printable(_asks(job)))
        count = f"{len(job.points):,}"
        if isinstance(answer, Job):
            made.add_row(answer.key, count, answer.site, str(answer.job_id or "-"), show.state_text(answer), asks)
        else:
            made.add_row("-", count, "-", "-", Text(show.one_line(answer), style="red"), asks)
    show.out.print(made)
    left_out = f" ({show.SHOWN} of the jobs shown)" if len(plan.jobs) > show.SHOWN else ""
    key, word = done.sweep.key, " again" if again else ""
    sent = sum(len(job.points) for job, answer in zip(plan.jobs, done.answers, strict=True) if isinstance(answer, Job))
    name = escape(show.printable(done.sweep.name))
    show.out.print(
        f"[bold]{name}[/] is sweep [bold]{key}[/]: {sent:,} of {len(plan.points):,} points submitted{word}{left_out}",
        soft_wrap=True,
    )
    show.out.print(
        f"See it go on: westward watch {key}. Its table, when it has ended or before: westward results {key}",
        soft_wrap=True,
    )


def refuse(outcomes: Sequence[tuple[str, object]], what: str, then: str = "") -> None:
    """Raise what went wrong with some of the points, if anything did; `then` is the next step where the error has none.

    Raises:
        SweepFailed: it did.
    """
    failed = [(label, error) for label, error in outcomes if isinstance(error, WestwardError)]
    if not failed:
        return
    (_, first), reasons = failed[0], {str(error) for _, error in failed}
    if len(failed) == len(outcomes) and len(reasons) == 1:
        said = str(first)
    else:
        lines = show.named(f"{label}: {show.one_line(error)}" for label, error in failed)
        said = f"{len(failed):,} of {len(outcomes):,} points {what}:{lines}"
    error = SweepFailed(said, first)
    error.next_step = error.next_step or then
    raise error
