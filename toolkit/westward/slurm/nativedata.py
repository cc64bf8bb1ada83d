"""pyslurm's records -> model, and Submission -> what pyslurm submits. Pure: a record is anything that has the attributes."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from westward.model.job import JobChange, JobState, JobStatus, Submission
from westward.model.site import Node, Partition
from westward.model.units import from_epoch, whole_minutes_s
from westward.slurm.clustertext import host_names
from westward.slurm.looking import exited, never_started, why
from westward.slurm.options import SIGNAL, SIGNAL_SECONDS
from westward.slurm.text import Row, indices

MIB = 1024**2
_MASK = re.compile(r"0x[0-9A-Fa-f]+")
# pyslurm knows no INVALID_DEPEND, which ALL has as well, and cannot say NONE
_MAIL = frozenset({
    "ARRAY_TASKS", "BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50",
})  # fmt: skip

Convert = Callable[[str | None], Mapping[str, Any] | None]


def _text(field: str) -> Convert:
    return lambda value: {field: value} if value else None


def _switch(field: str) -> Convert:
    return lambda value: None if value else {field: True}


def _one_of(field: str, words: Mapping[str, Any]) -> Convert:
    return lambda value: {field: words[value or ""]} if (value or "") in words else None


def _mail(value: str | None) -> Mapping[str, Any] | None:
    words = (value or "").upper().split(",")
    return {"mail_types": words} if _MAIL.issuperset(words) else None


def _nice(value: str | None) -> Mapping[str, Any] | None:
    if value is None:
        return {"nice": 100}
    return {"nice": int(value)} if re.fullmatch(r"-?\d{1,9}", value) and int(value) else None


def _signal(value: str | None) -> Mapping[str, Any] | None:
    told = SIGNAL.fullmatch(value or "")
    if told is None:
        return None
    name = told["signal"].upper().removeprefix("SIG")
    number = int(name) if name.isdigit() else getattr(signal, f"SIG{name}", None)
    if not number:
        return None
    seconds = int(told["seconds"] or SIGNAL_SECONDS)
    return {"signal": {"signal": int(number), "time": seconds, "batch_only": bool(told["batch"])}} if seconds else None


# sbatch's long options: checked on a live cluster, the same job by sbatch and by pyslurm gives the same record at slurmctld. For
# everything else, and for a value that gives None, another door is needed
OPTIONS: Mapping[str, Convert] = {
    "comment": _text("comment"),
    "constraint": _text("constraints"),
    "contiguous": _switch("requires_contiguous_nodes"),
    "error": _text("standard_error"),
    "exclude": _text("excluded_nodes"),
    "exclusive": _one_of("resource_sharing", {"": "no", "user": "user", "mcs": "mcs"}),
    "extra": _text("extra"),
    "input": _text("standard_in"),
    "kill-on-invalid-dep": _one_of("kill_on_invalid_dependency", {"yes": True}),
    "licenses": _text("licenses"),
    "mail-type": _mail,
    "mail-user": _text("mail_user"),
    "mcs-label": _text("mcs_label"),
    "network": _text("network"),
    "nice": _nice,
    "nodelist": _text("required_nodes"),
    "open-mode": _one_of("log_files_open_mode", {"append": "append", "truncate": "truncate"}),
    "overcommit": _switch("overcommit"),
    "oversubscribe": _one_of("resource_sharing", {"": "yes"}),
    "reservation": _text("reservations"),
    "signal": _signal,
    "spread-job": _switch("spreads_over_nodes"),
    "use-min-nodes": _switch("use_min_nodes"),
    "wckey": _text("wckey"),
}


def refused(submission: Submission) -> str:
    """Why pyslurm cannot take that submission in full; empty where it can."""
    if submission.arguments is not None:
        return "a batch script of the user's own goes through a shell door or slurmrestd only"
    if not submission.environment:
        return "a job without a variable of its own would get all those of this process from pyslurm"
    for name, value in submission.options.items():
        if name not in OPTIONS or OPTIONS[name](value) is None:
            shown = f"--{name}" + (f"={value}" if value is not None else "")
            return f"sbatch option {shown} has no field in pyslurm"
    return ""


def job_fields(submission: Submission) -> dict[str, Any]:
    """What a JobSubmitDescription is made of. The script's #SBATCH lines are not looked at."""
    fields = {
        "name": submission.name,
        "partitions": submission.partition,
        "account": submission.account,
        "qos": submission.qos,
        "nodes": submission.nodes,
        "ntasks": submission.ntasks,
        "ntasks_per_node": submission.ntasks_per_node,
        "cpus_per_task": submission.cpus_per_task,
        "memory_per_node": submission.mem_per_node_mib,
        "gres_per_node": submission.gres,
        "time_limit": None if submission.walltime_s is None else _minutes(submission.walltime_s),
        "working_directory": submission.root,
        "standard_output": submission.stdout,
        "environment": {**_of_sbatch(submission), **submission.environment},
        "script": submission.script,
        "array": submission.array,
        "dependencies": submission.dependency,
        "begin_time": submission.begin_at,
        "is_requeueable": submission.requeue,
        "priority": 0 if submission.hold else None,
        # without any, pyslurm asks for every kind of profile; and an empty list is none to it
        "profile_types": iter(()),
        **_options(submission.options),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _options(options: Mapping[str, str | None]) -> dict[str, Any]:
    return {field: told for name, value in options.items() for field, told in (OPTIONS[name](value) or {}).items()}


def _of_sbatch(submission: Submission) -> dict[str, str]:
    """The variables that sbatch itself, not slurmd, gives to a job, as far as jobs are known to read them."""
    return {
        "SLURM_CPUS_PER_TASK": str(submission.cpus_per_task),
        "SLURM_NTASKS_PER_NODE": str(submission.ntasks_per_node),
        "SLURM_SUBMIT_DIR": submission.root,
    }


def unchangeable(change: JobChange) -> str:
    """What of a change pyslurm has no way to ask for; empty where it can ask for all of it."""
    if change.nodes is not None:
        return "another number of nodes"
    if change.dependency == "":
        return "the end of a dependency"
    return ""


def change_fields(change: JobChange) -> dict[str, Any]:
    """What a JobSubmitDescription for an update is made of. An array's limit of tasks at once goes in the place of its indices."""
    fields = {
        "time_limit": None if change.walltime_s is None else _minutes(change.walltime_s),
        "partitions": change.partition,
        "account": change.account,
        "qos": change.qos,
        "begin_time": change.begin_at,
        "dependencies": change.dependency,
        "array": None if change.at_once is None else str(change.at_once),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _minutes(walltime_s: int) -> int:
    return whole_minutes_s(walltime_s) // 60


# --- jobs -------------------------------------------------------------------------------------------------------------


def whole_id(record: Any) -> int:
    """The id of the job, or of the whole array that a record belongs to."""
    return int(record.array_id or record.id)


def brief(record: Any) -> tuple[JobState, str]:
    """State and reason of a record of the queue."""
    state = JobState.parse(record.state or "")
    return state, why(state, record.state_reason or "")


def mark(record: Any) -> tuple[Any, ...]:
    """What of an array's record tells whether anything has changed."""
    return (record.id, record.array_task_id, record.array_tasks_waiting, *brief(record))


def queued(record: Any) -> Row:
    """A record of slurmctld: a job, or one or more tasks of an array."""
    state, reason = brief(record)
    waiting, held = state is JobState.PENDING, record.priority == 0
    start = from_epoch(record.start_time)
    exit_code, signalled = _exited(state, record)
    status = JobStatus(
        job_id=whole_id(record),
        name=record.name or "",
        state=state,
        reason=reason,
        held=waiting and held,
        exit_code=exit_code,
        signal=signalled,
        submitted_at=from_epoch(record.submit_time),
        started_at=None if never_started(state, record.allocated_nodes or "") else start,
        estimated_start=start if waiting and not held else None,
        ended_at=from_epoch(record.end_time) if state.final else None,
        nodes=record.allocated_nodes or "",
        partition=record.partition or "",
        restarts=record.requeue_count or 0,
    )
    return Row(status, _tasks(record))


def _exited(state: JobState, record: Any) -> tuple[int | None, int | None]:
    return exited(record.exit_code, record.exit_code_signal) if state.final else (None, None)


def accounted(record: Any) -> Row:
    """A record of slurmdbd. A reason is told only while it waits: later it still tells of the time before the start."""
    state = JobState.parse(record.state or "")
    waiting = state is JobState.PENDING
    exit_code, signalled = _exited(state, record)
    status = JobStatus(
        job_id=whole_id(record),
        name=record.name or "",
        state=state,
        reason=why(state, record.state_reason or "") if waiting else "",
        exit_code=exit_code,
        signal=signalled,
        submitted_at=from_epoch(record.submit_time),
        started_at=None if waiting else from_epoch(record.start_time),
        ended_at=from_epoch(record.end_time) if state.final else None,
        nodes="" if record.nodelist in (None, "None assigned") else record.nodelist,
        partition=record.partition or "",
        restarts=record.requeue_count or 0,
    )
    return Row(status, _tasks(record))


def _tasks(record: Any) -> frozenset[int] | None:
    """Which tasks of an array a record speaks of. pyslurm does not tell the index 0 from none."""
    if not record.array_id:
        return None
    waiting = record.array_tasks_waiting
    if not waiting:
        return frozenset({record.array_task_id or 0})
    mask = _MASK.fullmatch(waiting)
    if mask is None:
        return indices(waiting)
    bits = int(mask[0], 16)
    return frozenset(index for index in range(bits.bit_length()) if bits >> index & 1)


# --- the cluster ------------------------------------------------------------------------------------------------------


def partition(record: Any) -> Partition:
    return Partition(
        name=record.name,
        up=record.state == "UP",
        max_walltime_s=record.max_time * 60 if isinstance(record.max_time, int) else None,
        max_nodes=record.max_nodes if isinstance(record.max_nodes, int) else None,
        default=bool(record.is_default),
    )


def node(record: Any) -> Node | None:
    """A node; None where the GPUs in use on it are counted without their types and it has several: then it cannot be told."""
    has = _gpus(record.configured_gres)
    used = _gpus_used(record.allocated_tres, has)
    if used is None:
        return None
    return Node(
        name=record.name,
        states=tuple(word for word in re.split(r"[+*]+", record.state or "") if word),
        partitions=tuple(record.partitions or ()),
        cpus=record.effective_cpus,
        cpus_used=record.allocated_cpus,
        mem_bytes=(record.real_memory or 0) * MIB,
        mem_used_bytes=(record.allocated_memory or 0) * MIB,
        accelerators=has,
        accelerators_used=used,
        reason=record.reason or "",
    )


def _gpus(gres: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry, count in gres.items():
        kind, _, chip = entry.partition(":")
        if kind == "gpu" and count:
            found[chip or "gpu"] = found.get(chip or "gpu", 0) + int(count)
    return found


def _gpus_used(tres: Mapping[str, Any], has: Mapping[str, int]) -> dict[str, int] | None:
    typed = {chip: int(tres.get(f"gres/gpu:{chip}", 0)) for chip in has}
    typed = {chip: count for chip, count in typed.items() if count}
    total = int(tres.get("gres/gpu", sum(typed.values())))
    if sum(typed.values()) == total:
        return typed
    return {next(iter(has)): total} if len(has) == 1 else None


def running_ends(jobs: Iterable[Any]) -> dict[str, datetime]:
    """When the running jobs of each node end at the latest."""
    ends: dict[str, datetime] = {}
    for job in jobs:
        if job.state != "RUNNING" or not job.end_time:
            continue
        end = from_epoch(job.end_time)
        assert end is not None
        for name in host_names(job.allocated_nodes or ""):
            ends[name] = max(end, ends.get(name, end))
    return ends
