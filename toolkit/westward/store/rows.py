"""What stands in the ledger, as values: an intent that becomes a row, a row that becomes a job, and what a status changes in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from westward.model.budget import KINDS, Amounts
from westward.model.effort import Planned
from westward.model.job import Dependency, JobState, JobStatus, Submission


class Phase(StrEnum):
    """How far a job got. Each is written after the step it names, except SUBMITTING, which is written before the request leaves."""

    INTENT = "intent"
    SUBMITTING = "submitting"
    HELD = "held"
    RELEASED = "released"
    ENDED = "ended"
    REFUSED = "refused"


UNSETTLED = (Phase.INTENT, Phase.SUBMITTING, Phase.HELD)
OPEN = (*UNSETTLED, Phase.RELEASED)
SENT_AGAIN = "attempts > 1"  # both databases use the index of these for exactly this condition


@dataclass(frozen=True, slots=True)
class Intent:
    """A job to be, as it goes into the ledger."""

    key: str
    name: str
    template: str | None
    site: str
    submission: Submission
    outputs: tuple[str, ...]
    decision: Mapping[str, Any]
    waits_for: tuple[Dependency, ...] = ()
    sweep: str | None = None
    planned: Planned | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the ledger. Times are UTC; `attempts` counts the submit requests that left this host.

    Attributes:
        waits_for: jobs that must come first and that its own cluster cannot wait for: it stays held until they have.
        tasks: of an array, how many tasks are in each state.
        task_ids: which they are, as --array takes them.
        sweep: the key of the sweep whose points are its tasks, or whose point it is.
        seen_at: when its site last said anything of it.
    """

    key: str
    name: str
    template: str | None
    site: str
    phase: Phase
    state: JobState
    reason: str
    job_id: int | None
    exit_code: int | None
    signal: int | None
    attempts: int
    restarts: int
    cancelled: bool
    submission: Submission
    outputs: tuple[str, ...]
    decision: Mapping[str, Any]
    waits_for: tuple[Dependency, ...]
    tasks: Mapping[JobState, int]
    created_at: datetime
    attempted_at: datetime | None
    seen_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    estimated_start: datetime | None
    sweep: str | None = None
    task_ids: Mapping[JobState, str] = field(default_factory=dict)


class Watched(NamedTuple):
    """What a poll needs of a job that was let go: few words, since there may be very many. Times in seconds since the epoch."""

    key: str
    job_id: int
    slurm_name: str
    state: JobState
    reason: str
    created_at: float
    seen_at: float | None
    missing_since: float | None


class Restarted(NamedTuple):
    """A job that has ended after several starts, and that a project pays for. Times in seconds since the epoch.

    Attributes:
        started_at: the last of these starts; None where it ended before it.
        tasks: how many an array has; 1 for any other job.
    """

    key: str
    slurm_name: str
    created_at: float
    started_at: float | None
    tasks: int


class SiteWord(NamedTuple):
    """When a site answered last, and since when it does not, with what is wrong; empty where it does."""

    name: str
    answered_at: datetime | None
    silent_since: datetime | None
    problem: str


SITE_COLUMNS = ", ".join(SiteWord._fields)


def site_word(found: Sequence[Any]) -> SiteWord:
    """What is known of a site, from its columns."""
    name, answered_at, silent_since, problem = found
    return SiteWord(name, _moment(answered_at), _moment(silent_since), problem)


# one by one: asdict() would copy the environment of each of many jobs to the last letter
_SUBMISSION = fields(Submission)
# a job's columns, in its order; `job` adds to them what is known of its site
_COLUMNS = tuple(column.name for column in fields(Job))
COLUMNS = ", ".join(f"jobs.{name}" for name in _COLUMNS)
_JSON = ("submission", "outputs", "decision", "waits_for", "tasks", "task_ids")
_MOMENTS = ("created_at", "attempted_at", "seen_at", "started_at", "ended_at", "estimated_start")
# what the intent says, for good; the texts among it take longer to read than all the rest
_FIXED = ("key", "name", "template", "site", "submission", "outputs", "decision", "waits_for", "created_at", "sweep")
_CHANGING = tuple(name for name in _COLUMNS if name not in _FIXED)
CHANGING = ", ".join(f"jobs.{name}" for name in _CHANGING)


def row(intent: Intent, holder: str, now: float) -> dict[str, Any]:
    """The row of a job that is new."""
    return {
        "key": intent.key,
        "phase": str(Phase.INTENT),
        "state": str(JobState.PENDING),
        "site": intent.site,
        "slurm_name": intent.submission.name,
        "created_at": now,
        "reason": "",
        "claim": holder,
        "claimed_at": now,
        "attempts": 0,
        "restarts": 0,
        "cancelled": False,
        "cancel_sent": False,
        "name": intent.name,
        "template": intent.template,
        "waits_for": json.dumps([str(dependency) for dependency in intent.waits_for]),
        "tasks": "{}",
        "task_ids": "{}",
        "sweep": intent.sweep,
        "outputs": json.dumps(list(intent.outputs)),
        "submission": json.dumps({item.name: getattr(intent.submission, item.name) for item in _SUBMISSION}),
        "decision": json.dumps(dict(intent.decision)),
        "config": json.dumps(dict(intent.config)) if intent.config else None,
        "origin": digest(intent.origin),
        **_planned(intent.planned or Planned(Amounts(None, None, None))),
    }


def _planned(plan: Planned) -> dict[str, Any]:
    """The columns of what a job would spend."""
    amounts = {kind: getattr(plan.amounts, kind) for kind in KINDS}
    return {
        "project": plan.project.name if plan.project else None,
        "currency": plan.currency,
        "limit_s": plan.limit_s,
        **amounts,
    }


def digest(origin: Mapping[str, Any] | None) -> str | None:
    """By what an origin is known."""
    return None if origin is None else hashlib.sha256(json.dumps(origin).encode()).hexdigest()


_NEW = (
    "key", "phase", "state", "site", "slurm_name", "created_at", "reason", "claim", "claimed_at", "name", "template", "waits_for",
    "tasks", "task_ids", "sweep", "outputs", "submission", "decision", "config", "origin", "attempts", "restarts", "cancelled", "cancel_sent",
    "project", "currency", "limit_s", *KINDS,
)  # fmt: skip
INSERT = f"INSERT INTO jobs ({', '.join(_NEW)}) VALUES ({', '.join(f':{name}' for name in _NEW)})"


INSERT_ORIGIN = "INSERT INTO origins (digest, said) VALUES (:digest, :said) ON CONFLICT (digest) DO NOTHING"


def read_json(found: Any) -> Any:
    """A column of JSON: PostgreSQL's driver has read it already."""
    return json.loads(found) if isinstance(found, str) else found


def new_job(intent: Intent, created_at: float) -> Job:
    """The job of that row, without a question to the database."""
    return Job(
        key=intent.key, name=intent.name, template=intent.template, site=intent.site, phase=Phase.INTENT,
        state=JobState.PENDING, reason="", job_id=None, exit_code=None, signal=None, attempts=0, restarts=0, cancelled=False,
        submission=intent.submission, outputs=intent.outputs, decision=intent.decision, waits_for=intent.waits_for, tasks={},
        created_at=datetime.fromtimestamp(created_at, UTC), attempted_at=None, seen_at=None, started_at=None, ended_at=None,
        estimated_start=None, sweep=intent.sweep,
    )  # fmt: skip


def job(found: Sequence[Any]) -> Job:
    """A job from its columns and `problem` and `answered_at` of its site."""
    values = _read(_COLUMNS, found)
    return Job(
        **values
        | {
            "submission": _submission(values["submission"]),
            "outputs": tuple(values["outputs"]),
            "waits_for": tuple(Dependency.parse(text) for text in values["waits_for"]),
        }
    )


def _submission(found: Mapping[str, Any]) -> Submission:
    arguments = found.get("arguments")
    return Submission(**{**found, "arguments": None if arguments is None else tuple(arguments)})


def job_again(known: Job, found: Sequence[Any]) -> Job:
    """A job that is known, as it is now, from what of its columns changes, `problem` and `answered_at` of its site."""
    return replace(known, **_read(_CHANGING, found))


def _read(names: Sequence[str], found: Sequence[Any]) -> dict[str, Any]:
    """Those columns as values of ours; what goes on at a silent site is UNKNOWN."""
    *columns, problem, answered_at = found
    values = dict(zip(names, columns, strict=True))
    if values["phase"] == Phase.RELEASED:
        if values["state"] != JobState.UNKNOWN:  # otherwise the site answers, and does not have it
            values["seen_at"] = max(filter(None, (values["seen_at"], answered_at)), default=None)
        if problem:
            values |= {"state": JobState.UNKNOWN, "reason": problem}
    for name in _MOMENTS:
        if name in values:
            values[name] = _moment(values[name])
    for name in _JSON:  # PostgreSQL's driver has read them already
        if name in values:
            values[name] = read_json(values[name])
    return values | {
        "phase": Phase(values["phase"]),
        "state": JobState(values["state"]),
        "cancelled": bool(values["cancelled"]),
        "tasks": {JobState(state): count for state, count in values["tasks"].items()},
        "task_ids": {JobState(state): ids for state, ids in values["task_ids"].items()},
    }


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def counted(tasks: Any) -> int:
    """How many tasks a job has, from those in each state; 1 for what is no array."""
    states = json.loads(tasks) if isinstance(tasks, str) else tasks
    return sum(states.values()) or 1


def start(found: Sequence[Any]) -> tuple[float, float] | None:
    """The seconds until its start that were foreseen, and those that it took, from decision, submission, waits_for, created_at and started_at.

    None where none were foreseen, or it had to wait for something that its user named.
    """
    *texts, created_at, started_at = found
    decision, submission, waits_for = (json.loads(text) if isinstance(text, str) else text for text in texts)
    foreseen = (decision.get("chosen") or {}).get("start_in_s")
    if foreseen is None or waits_for or submission.get("dependency") or submission.get("begin_at"):
        return None
    return float(foreseen), max(0.0, started_at - created_at)


_SEEN = (
    "phase", "state", "reason", "exit_code", "signal", "restarts", "tasks", "task_ids", "started_at", "ended_at", "estimated_start", "seen_at",
)  # fmt: skip
SEEN = ", ".join([*(f"{name} = :{name}" for name in _SEEN), "missing_since = NULL"])


def seen(status: JobStatus, ended: bool, now: float) -> dict[str, Any]:
    """What a cluster's word of a job changes in its row."""
    return {
        "phase": str(Phase.ENDED if ended else Phase.RELEASED),
        "state": str(status.state),
        "reason": status.reason,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "restarts": status.restarts,
        "tasks": json.dumps({str(state): count for state, count in status.tasks.items()}) if status.tasks else "{}",
        "task_ids": json.dumps({str(state): ids for state, ids in status.task_ids.items()})
        if status.task_ids
        else "{}",
        "started_at": status.started_at.timestamp() if status.started_at else None,
        "ended_at": status.ended_at.timestamp() if status.ended_at else None,
        "estimated_start": status.estimated_start.timestamp() if status.estimated_start else None,
        "seen_at": now,
    }
