"""slurmrestd's JSON (data_parser v0.0.41 and v0.0.42) -> model, and Submission -> its JSON. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from westward.model.job import JobState, JobStatus, Submission
from westward.model.site import ClusterState, Node, Partition
from westward.model.tres import parse_gpus
from westward.model.units import format_duration, from_epoch

MIB = 1024**2
_NEVER = (
    0xFFFFFFFE,
    0xFFFFFFFF,
)  # slurm.h's NO_VAL and INFINITE, which slurmdbd gives as the start of a job that never started
_OUTAGES = (
    "Unable to contact slurm controller",
    "Connection refused",
    "Zero Bytes were transmitted",
    "Socket timed out",
    "slurmdbd",
    "Slurm backup controller",
)


def job_fields(submission: Submission) -> dict[str, Any]:
    """The `job` of a submit request. Held: `release` starts it."""
    fields = {
        "name": submission.name,
        "partition": submission.partition,
        "account": submission.account,
        "qos": submission.qos,
        "nodes": str(submission.nodes),
        "tasks": submission.ntasks,
        "tasks_per_node": submission.ntasks_per_node,
        "cpus_per_task": submission.cpus_per_task,
        "memory_per_node": number(submission.mem_per_node_mib),
        "tres_per_node": f"gres/{submission.gres}" if submission.gres else None,
        "time_limit": number(submission.walltime_s // 60),
        "current_working_directory": submission.root,
        "standard_output": submission.stdout,
        "environment": [f"{name}={value}" for name, value in sorted(submission.environment.items())],
        "requeue": False,
        "hold": True,
    }
    return {name: value for name, value in fields.items() if value is not None}


def number(value: int | None) -> dict[str, Any] | None:
    """Slurm's number-or-nothing."""
    return None if value is None else {"set": True, "infinite": False, "number": value}


def _plain(value: Any) -> int | None:
    """A number-or-nothing read back: None where it is unset or infinite. A plain number is itself."""
    if isinstance(value, Mapping):
        return int(value["number"]) if value.get("set") and not value.get("infinite") else None
    return int(value) if value is not None else None


def cluster_state(
    nodes: Mapping[str, Any], partitions: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], taken_at: datetime
) -> ClusterState:
    """Answers of /nodes/, /partitions/ and /jobs/ as one state."""
    ends: dict[str, datetime] = {}
    for job in jobs:
        if "RUNNING" not in job["job_state"]:
            continue
        end = from_epoch(_plain(job["end_time"]))
        for name in _allocated_nodes(job):
            if end is not None:
                ends[name] = max(end, ends.get(name, end))
    return ClusterState(
        version=nodes["meta"]["slurm"]["release"],
        partitions=tuple(_partition(partition) for partition in partitions["partitions"]),
        nodes=tuple(_node(node) for node in nodes["nodes"]),
        running_ends=ends,
        taken_at=taken_at,
    )


def _allocated_nodes(job: Mapping[str, Any]) -> list[str]:
    allocation = (job.get("job_resources") or {}).get("nodes") or {}
    return [node["name"] for node in allocation.get("allocation") or ()]


def _partition(partition: Mapping[str, Any]) -> Partition:
    minutes = _plain(partition["maximums"]["time"])
    return Partition(
        name=partition["name"],
        up=partition["partition"]["state"] == ["UP"],
        max_walltime_s=minutes * 60 if minutes is not None else None,
        max_nodes=_plain(partition["maximums"]["nodes"]),
    )


def _node(node: Mapping[str, Any]) -> Node:
    return Node(
        name=node["name"],
        states=tuple(node["state"]),
        partitions=tuple(node["partitions"]),
        cpus=node["effective_cpus"],
        cpus_used=node["alloc_cpus"],
        mem_bytes=node["real_memory"] * MIB,
        mem_used_bytes=node["alloc_memory"] * MIB,
        accelerators=parse_gpus(node["gres"]),
        accelerators_used=parse_gpus(node["gres_used"]),
        reason=node["reason"],
    )


def plain_job_id(job: Mapping[str, Any]) -> int | None:
    """The id in an answer of /jobs/state/, which is a text; None for the tasks of an array ("12_3")."""
    text = str(job["job_id"])
    return int(text) if text.isdigit() else None


def queued_status(job: Mapping[str, Any]) -> JobStatus:
    """A job as slurmctld gives it."""
    return_code, signal = _exit(job["exit_code"])
    state = JobState.parse(job["job_state"][0])
    reason = job["state_reason"]
    return JobStatus(
        job_id=job["job_id"],
        name=job["name"],
        state=state,
        reason="" if reason == "None" else reason,
        held=state is JobState.PENDING and _plain(job["priority"]) == 0,
        exit_code=return_code,
        signal=signal,
        submitted_at=from_epoch(_plain(job["submit_time"])),
        started_at=from_epoch(_plain(job["start_time"])) if state is not JobState.PENDING else None,
        ended_at=from_epoch(_plain(job["end_time"])) if state.final else None,
        nodes=job["nodes"],
    )


def accounted_status(record: Mapping[str, Any]) -> JobStatus:
    """A job as slurmdbd gives it. Without an end time the accounting has not heard of the end yet."""
    return_code, signal = _exit(record["exit_code"])
    state = JobState.parse(record["state"]["current"][0])
    time = record["time"]
    reason = (
        record["state"]["reason"] if state is JobState.PENDING else "None"
    )  # otherwise it still tells of the time before the start
    return JobStatus(
        job_id=record["job_id"],
        name=record["name"],
        state=state,
        reason="" if reason == "None" else reason,
        held=False,
        exit_code=return_code,
        signal=signal,
        submitted_at=from_epoch(_plain(time["submission"])),
        started_at=from_epoch(_plain(time["start"])) if time["start"] not in _NEVER else None,
        ended_at=from_epoch(_plain(time["end"])),
        nodes="" if record["nodes"] == "None assigned" else record["nodes"],
    )


def _exit(code: Mapping[str, Any]) -> tuple[int | None, int | None]:
    return _plain(code["return_code"]), _plain(code["signal"]["id"]) or None


def error_text(error: Mapping[str, Any]) -> str:
    """One error of an answer: what Slurm calls it, and its description where that says more."""
    name, described = str(error.get("error") or ""), str(error.get("description") or "")
    said = described if name in described else ": ".join(part for part in (name, described) if part)
    return said or "no reason given"


def is_outage(error: Mapping[str, Any]) -> bool:
    """Whether slurmrestd says that it cannot reach slurmctld or slurmdbd."""
    return any(word in error_text(error) for word in _OUTAGES)


def says_unauthorised(status: int, text: str) -> bool:
    """Whether an answer refuses who we are: 401 and 403, or slurmctld's or slurmdbd's refusal of the token passed on as 5xx."""
    return status in (401, 403) or (status >= 500 and "authentication error" in text.lower())


def token_problem(token: str) -> str:
    """What the token itself says, for the error message: " (expired 3 min ago)", or nothing. The signature is not checked here."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        expires = float(claims["exp"])
    except (IndexError, KeyError, ValueError, TypeError, binascii.Error):
        return " (it is not a JWT with an expiry)"
    late = datetime.now(UTC).timestamp() - expires
    return f" (expired {format_duration(late)} ago)" if late > 0 else ""
