"""What happened to a job, and why: from the ledger, from its cluster's accounting, and from what Slurm's words mean. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from westward.jobs.overview import Progress, limit_s, progress
from westward.model.decision import Decision
from westward.model.job import Attempt, JobState
from westward.model.plain import built
from westward.model.units import format_duration, format_walltime
from westward.slurm.reasons import explained
from westward.store.ledger import OPEN, UNSETTLED, Job, Phase, SiteWord

# what a shell makes of a program that a signal ended
_SHELL_SIGNAL = 128


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job. `at` is UTC."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was expected when the site was chosen, and what came of it. None is unknown, or not yet.

    Attributes:
        start, started: when it would start, and did.
        end_by, ended: when its limit would have ended it, and when it ended.
        cost: of its whole limit, in the decision's currency.
        cost_so_far: of the same rates for as long as it ran: rent, electricity and carbon; without waiting.
        energy_j: what its cluster measured.
    """

    start: datetime | None
    started: datetime | None
    end_by: datetime | None
    ended: datetime | None
    cost: float | None
    cost_so_far: float | None
    currency: str | None
    energy_j: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that can be told of a job.

    Attributes:
        now: what is with it, or how it ended, and why.
        next: what its user can do.
        became: what was asked of its cluster.
        unheard: why its cluster could not be asked, where that is so.
    """

    job: Job
    decision: Decision | None
    now: tuple[str, ...]
    next: tuple[str, ...]
    became: tuple[str, ...]
    events: tuple[Event, ...]
    forecast: Forecast
    progress: Progress
    unheard: str


def explain(
    job: Job,
    attempts: Sequence[Attempt],
    word: SiteWord | None,
    now: datetime,
    *,
    agent: bool,
    unheard: str = "",
) -> Explanation:
    """Everything about a job.

    Args:
        attempts: what its cluster's accounting has of it.
        word: what is known of its site.
        agent: whether an agent acts on the ledger.
        unheard: why the accounting could not be asked.
    """
    decision = _decision(job.decision)
    why, then = _now(job, word, now, agent)
    return Explanation(
        job=job,
        decision=decision,
        now=tuple(why),
        next=tuple(then),
        became=tuple(_became(job)),
        events=tuple(_events(job, attempts)),
        forecast=_forecast(job, decision, attempts, now),
        progress=progress(job, now),
        unheard=unheard,
    )


# --- why it is as it is ------------------------------------------------------------------------------------------------


def _now(job: Job, word: SiteWord | None, now: datetime, agent: bool) -> tuple[list[str], list[str]]:
    if job.phase is Phase.REFUSED:
        return [f"it is at no cluster, and will be at none: {job.reason}"], ["correct that, and submit it again"]
    if job.phase in UNSETTLED:
        return _on_its_way(job, agent)
    if job.phase not in OPEN or job.state.final:
        return _end(job)
    if job.state is JobState.UNKNOWN:
        return _unknown(job, word, now)
    if job.state is JobState.PENDING:
        return _waiting(job, now)
    told = progress(job, now)
    of = f" of {format_duration(told.limit_s)} that it may take" if told.limit_s else ""
    ran = f"for {format_duration(told.ran_s)}{of}" if told.ran_s is not None else ""
    tasks = f"; {told.done:,} of {told.tasks:,} tasks have ended" if told.tasks is not None else ""
    what = "it is suspended; it had been running" if job.state is JobState.SUSPENDED else "it runs,"
    return [f"{what} {ran}{tasks}".strip().rstrip(",")], [f"see what it writes: westward logs -f {job.key}"]


def _on_its_way(job: Job, agent: bool) -> tuple[list[str], list[str]]:
    if job.phase is Phase.HELD and job.waits_for:
        others = ", ".join(f"{after.key} ({after.after})" for after in job.waits_for)
        why = f"it is held at its cluster until jobs at other sites have come so far: {others}"
    elif job.phase is Phase.HELD:
        why = "its cluster has it, held, and it has not been let go yet"
    else:
        why = "its submission was not answered, so it is in doubt; it cannot start twice"
        why += f". What was said last: {job.reason}" if job.reason else ""
    then = (
        "the agent takes it further"
        if agent
        else "nobody takes it further now: 'westward agent start', or any next command"
    )
    return [why], [then]


def _unknown(job: Job, word: SiteWord | None, now: datetime) -> tuple[list[str], list[str]]:
    if word is not None and word.silent_since is not None:
        ago = format_duration(max(0.0, (now - word.silent_since).total_seconds()))
        why = f"its site has not answered for {ago}: {word.problem}"
        return [why, "the job may well be running; it comes back when the site does"], [
            f"westward site check {job.site}"
        ]
    return [f"its site answers, and cannot tell of it: {job.reason}"], ["wait some minutes; it is looked for again"]


def _waiting(job: Job, now: datetime) -> tuple[list[str], list[str]]:
    found = explained(job.reason or "None")
    meaning = f"{found.meaning} ({job.reason})" if found and job.reason else found.meaning if found else job.reason
    why = [f"it waits: {meaning}"]
    if job.tasks:
        told = progress(job, now)
        why.append(f"{told.done:,} of {told.tasks:,} tasks have ended")
    if job.restarts:
        why.append(f"it had started before: its cluster put it back {_times(job.restarts)}")
    if job.estimated_start is not None and job.estimated_start > now:
        why.append(f"its cluster means to start it in {format_duration((job.estimated_start - now).total_seconds())}")
    return why, [found.remedy] if found and found.remedy else []


def _end(job: Job) -> tuple[list[str], list[str]]:
    """How it ended, and what helps."""
    limit, mem, key = limit_s(job), job.submission.mem_per_node_mib, job.key
    log, again = f"what it wrote last: westward logs {key} --tail 20", "submit it again"
    match job.state:
        case JobState.COMPLETED:
            return ["it ended well"], [f"its results: westward results {key}"]
        case JobState.TIMEOUT:
            of = f" of {format_walltime(limit)}" if limit else ""
            return [f"its time limit{of} was reached, and its cluster ended it"], ["give it more time: walltime=", log]
        case JobState.OUT_OF_MEMORY:
            of = f", {mem:,} MiB a node" if mem else ""
            return [f"it used more memory than it had asked for{of}"], ["ask for more: mem=", log]
        case JobState.NODE_FAIL:
            return ["a node that it ran on failed"], [f"{again}; with requeue=true a cluster does that itself"]
        case JobState.PREEMPTED:
            return ["its cluster took its place for a more urgent job"], [
                f"{again}; with requeue=true a cluster does that itself"
            ]
        case JobState.CANCELLED:
            return _cancelled(job)
        case JobState.BOOT_FAIL | JobState.LAUNCH_FAILED:
            return ["its nodes could not be made ready for it"], [again]
        case JobState.DEADLINE:
            return ["it could not end before its deadline"], ["give it a later one, or a shorter walltime="]
        case JobState.LOST:
            return [f"its site answers, and has no trace of it: {job.reason}"], [again]
        case _:
            return [_failure(job)], [log]


def _cancelled(job: Job) -> tuple[list[str], list[str]]:
    if job.cancelled:
        return ["it was cancelled, by 'westward cancel'"], []
    if not job.reason:
        asking = "if that was not you, the site's administrators can tell who did"
        return ["it was cancelled at its cluster, not by Westward"], [asking]
    found = explained(job.reason)
    why = f"it was cancelled: {found.meaning} ({job.reason})" if found else f"it was cancelled: {job.reason}"
    return [why], [found.remedy] if found and found.remedy else []


def _failure(job: Job) -> str:
    if job.signal:
        return f"its batch script was ended by signal {job.signal} ({signal_name(job.signal)})"
    code = job.exit_code
    if code is None:
        return f"it ended {job.state}" + (f": {job.reason}" if job.reason else "")
    hint = {126: ": a program in it cannot be executed", 127: ": a program in it was not found"}.get(code, "")
    if code > _SHELL_SIGNAL and (name := signal_name(code - _SHELL_SIGNAL)):
        hint = f": a program in it was ended by signal {code - _SHELL_SIGNAL} ({name})"
        hint += ", as a node does that runs out of memory" if name == "SIGKILL" else ""
    return f"its script ended with exit code {code}{hint}"


def signal_name(number: int) -> str:
    """What a signal is called; empty where there is none of that number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


# --- what led there ----------------------------------------------------------------------------------------------------


def _became(job: Job) -> list[str]:
    """What was asked of its cluster, in Slurm's own words."""
    asked = job.submission
    counts = [
        f"{asked.nodes} {'node' if asked.nodes == 1 else 'nodes'}" if asked.nodes else "",
        f"{asked.ntasks} {'task' if asked.ntasks == 1 else 'tasks'}" if asked.ntasks else "",
        f"{asked.cpus_per_task} CPUs a task" if asked.cpus_per_task and asked.cpus_per_task > 1 else "",
        f"{asked.mem_per_node_mib:,} MiB a node" if asked.mem_per_node_mib else "",
        f"{asked.gres} a node" if asked.gres else "",
        f"at most {format_walltime(limit)}" if (limit := limit_s(job)) else "",
    ]
    named = [
        f"{name} {value}"
        for name, value in (("partition", asked.partition), ("account", asked.account), ("QOS", asked.qos))
        if value
    ]
    lines = [", ".join(filter(None, counts)), ", ".join(named), f"array {asked.array}" if asked.array else ""]
    lines.append(f"as Slurm job {job.job_id}, {asked.name}" if job.job_id else f"as {asked.name}")
    return [line for line in lines if line]


def _events(job: Job, attempts: Sequence[Attempt]) -> list[Event]:
    """In their order. Of the tasks of an array only the first start and the last end are told."""
    found = [Event(job.created_at, "written into the ledger")]
    if job.attempted_at is not None and job.attempts:
        which = "" if job.attempts == 1 else f", the {job.attempts}. request; those before it were not answered"
        found.append(Event(job.attempted_at, f"sent to its cluster{which}"))
    if job.submission.array or not attempts:
        found += _of_ledger(job)
    else:
        for attempt in attempts:
            found += _of_attempt(attempt, len(attempts) > 1)
    return sorted(found, key=lambda event: event.at.replace(microsecond=0))


def _of_ledger(job: Job) -> list[Event]:
    first = "its first task started" if job.submission.array else "started"
    events = [Event(job.started_at, first)] if job.started_at else []
    if job.ended_at and job.phase not in OPEN:
        events.append(Event(job.ended_at, f"ended {job.state}"))
    return events


def _of_attempt(attempt: Attempt, several: bool) -> list[Event]:
    status = attempt.status
    which = f" (attempt {status.restarts + 1})" if several else ""
    events = []
    if status.submitted_at:
        events.append(Event(status.submitted_at, f"taken into its queue{which}"))
    if status.started_at:
        on = f" on {status.nodes}" if status.nodes else ""
        events.append(Event(status.started_at, f"started{on}{which}"))
    if status.ended_at:
        how = "put back into the queue" if not status.state.final else f"ended {status.state}"
        events.append(Event(status.ended_at, f"{how}{which}"))
    return events


def _forecast(job: Job, decision: Decision | None, attempts: Sequence[Attempt], now: datetime) -> Forecast:
    offer = decision.chosen if decision else None
    limit = limit_s(job)
    start = None
    if decision and offer and offer.start_in_s is not None:
        start = decision.decided_at + timedelta(seconds=offer.start_in_s)
    ran = progress(job, now).ran_s
    so_far = None
    if offer and limit and ran is not None and not job.submission.array:
        terms = (offer.cost.compute, offer.cost.energy, offer.cost.carbon)
        so_far = sum(term for term in terms if term is not None) * ran / limit if None not in terms else None
    measured = [attempt.usage.energy_j for attempt in attempts if attempt.usage.energy_j]
    return Forecast(
        start=start,
        started=job.started_at if job.state is not JobState.PENDING else None,
        end_by=start + timedelta(seconds=limit) if start and limit else None,
        ended=job.ended_at if job.phase not in OPEN else None,
        cost=offer.cost.total if offer else None,
        cost_so_far=so_far,
        currency=decision.currency if decision else None,
        energy_j=sum(measured) if measured else None,
    )


def _decision(facts: Mapping[str, Any]) -> Decision | None:
    """The decision, from what the ledger keeps of it; None where that is of another version."""
    try:
        found = built(Decision, facts)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    # one of the offers, and not its equal: by that a table knows it
    return replace(found, chosen=next((offer for offer in found.offers if offer == found.chosen), found.chosen))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
