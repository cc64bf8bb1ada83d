"""slurmrestd's JSON (data_parser v0.0.41 to v0.0.45) -> model, and Submission -> its JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from westward.model.job import (
    Attempt,
    JobChange,
    JobState,
    JobStatus,
    Submission,
    Usage,
)
from westward.model.site import Account, Association, ClusterState, Node, Partition
from westward.model.tres import parse_gpus
from westward.model.units import from_epoch, whole_minutes_s
from westward.slurm.faults import Fault, numbered, worded
from westward.slurm.looking import exited, never_started, why
from westward.slurm.options import number, option_fields
from westward.slurm.routed import rest_environment

Record = Mapping[str, Any]
MIB = 1024**2
_NEVER = (
    0xFFFFFFFE,
    0xFFFFFFFF,
)  # slurm.h's NO_VAL and INFINITE, which slurmdbd gives as the start of a job that never started


def job_fields(submission: Submission, user: str = "") -> dict[str, Any]:
    """The `job` of a submit request of that user."""
    fields = {
        "script": submission.script,
        "name": submission.name,
        "partition": submission.partition,
        "account": submission.account,
        "qos": submission.qos,
        "nodes": None if submission.nodes is None else str(submission.nodes),
        "tasks": submission.ntasks,
        "tasks_per_node": submission.ntasks_per_node,
        "cpus_per_task": submission.cpus_per_task,
        "memory_per_node": _number(submission.mem_per_node_mib),
        "tres_per_node": f"gres/{submission.gres}" if submission.gres else None,
        "time_limit": None if submission.walltime_s is None else number(_minutes(submission.walltime_s)),
        "current_working_directory": submission.root if submission.arguments is None else submission.directory,
        "standard_output": submission.stdout,
        "environment": [f"{name}={value}" for name, value in sorted(rest_environment(submission, user).items())],
        "argv": [submission.name, *submission.arguments] if submission.arguments else None,
        "array": submission.array,
        "dependency": submission.dependency,
        "begin_time": _number(submission.begin_at),
        "requeue": submission.requeue,
        "hold": submission.hold,
        **option_fields(submission.options),
    }
    return {name: value for name, value in fields.items() if value is not None}


def change_fields(change: JobChange) -> dict[str, Any]:
    """The body of an update. An array's limit of tasks at once goes in the place of its indices."""
    fields = {
        "time_limit": None if change.walltime_s is None else number(_minutes(change.walltime_s)),
        "partition": change.partition,
        "account": change.account,
        "qos": change.qos,
        "begin_time": _number(change.begin_at),
        "dependency": change.dependency,
        "nodes": None if change.nodes is None else str(change.nodes),
        "array": None if change.at_once is None else str(change.at_once),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _minutes(walltime_s: int) -> int:
    return whole_minutes_s(walltime_s) // 60


def _number(value: int | None) -> dict[str, Any] | None:
    return None if value is None else number(value)


def plain_number(value: Any) -> int | None:
    """A number-or-nothing read back: None where it is unset or infinite. A plain number is itself."""
    if isinstance(value, Mapping):
        return int(value["number"]) if value.get("set") and not value.get("infinite") else None
    return int(value) if value is not None else None


def cluster_state(nodes: Record, partitions: Record, jobs: Sequence[Record], taken_at: datetime) -> ClusterState:
    """Answers of /nodes/, /partitions/ and /jobs/ as one state."""
    ends: dict[str, datetime] = {}
    for job in jobs:
        if "RUNNING" not in job["job_state"]:
            continue
        end = from_epoch(plain_number(job["end_time"]))
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


def _allocated_nodes(job: Record) -> list[str]:
    allocation = (job.get("job_resources") or {}).get("nodes") or {}
    return [node["name"] for node in allocation.get("allocation") or ()]


def _partition(partition: Record) -> Partition:
    minutes = plain_number(partition["maximums"]["time"])
    return Partition(
        name=partition["name"],
        up=partition["partition"]["state"] == ["UP"],
        max_walltime_s=minutes * 60 if minutes is not None else None,
        max_nodes=plain_number(partition["maximums"]["nodes"]),
        default="DEFAULT" in partition["flags"] if "flags" in partition else None,
    )


def _node(node: Record) -> Node:
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


def array_id(job: Record) -> int | None:
    """The id of the array that a record of slurmctld belongs to; None for any other job."""
    return plain_number(job["array_job_id"]) or None


def queued_status(job: Record) -> JobStatus:
    """A record as slurmctld gives it: a job, or one or more tasks of an array."""
    return_code, signal = _exit(job["exit_code"])
    state = JobState.of(job["job_state"])
    pending = state is JobState.PENDING
    start = from_epoch(plain_number(job["start_time"]))
    return JobStatus(
        job_id=array_id(job) or job["job_id"],
        name=job["name"],
        state=state,
        reason=why(state, job["state_reason"]),
        held=pending and plain_number(job["priority"]) == 0,
        exit_code=return_code if state.final else None,
        signal=signal if state.final else None,
        submitted_at=from_epoch(plain_number(job["submit_time"])),
        started_at=None if never_started(state, job["nodes"]) else start,
        ended_at=from_epoch(plain_number(job["end_time"])) if state.final else None,
        nodes=job["nodes"],
        partition=job["partition"],
        estimated_start=start if pending else None,
        restarts=job["restart_cnt"],
    )


def accounted_status(record: Record) -> JobStatus:
    """A record as slurmdbd gives it. Without an end time the accounting has not heard of the end yet."""
    return_code, signal = _exit(record["exit_code"])
    state = JobState.of(record["state"]["current"])
    time = record["time"]
    reason = (
        record["state"]["reason"] if state is JobState.PENDING else "None"
    )  # otherwise it still tells of the time before the start
    return JobStatus(
        job_id=record["array"]["job_id"] or record["job_id"],
        name=record["name"],
        state=state,
        reason="" if reason == "None" else reason,
        held=False,
        exit_code=return_code if state.final else None,
        signal=signal if state.final else None,
        submitted_at=from_epoch(plain_number(time["submission"])),
        started_at=from_epoch(plain_number(time["start"])) if time["start"] not in _NEVER else None,
        ended_at=from_epoch(plain_number(time["end"])),
        nodes="" if record["nodes"] == "None assigned" else record["nodes"],
        partition=record["partition"],
        restarts=record.get("restart_cnt", 0),
    )


def attempt(record: Record) -> Attempt:
    """One record of slurmdbd with what it used. Its steps must be with it."""
    array = record["array"]
    return Attempt(
        accounted_status(record),
        _usage(record),
        account=record["account"],
        qos=record["qos"],
        task=plain_number(array["task_id"]) if array["job_id"] else None,
    )


def _usage(record: Record) -> Usage:
    """CPU time and memory are those of the steps: slurmdbd adds nothing up. Slurm says 0 for energy that nobody measured."""
    allocated = _tres(record["tres"]["allocated"])
    energy = allocated.pop("energy", 0)
    if "mem" in allocated:
        allocated["mem"] *= MIB
    steps = record.get("steps") or ()
    memory = [_tres(step["tres"]["requested"]["max"]).get("mem", 0) for step in steps]
    consumed = [_measured(step["statistics"]["energy"]["consumed"]) for step in steps]
    return Usage(
        elapsed_s=record["time"]["elapsed"],
        tres=allocated,
        cpu_s=sum(_seconds(step["time"]["total"]) for step in steps) if steps else None,
        max_rss_bytes=max(memory, default=0) or None,
        # each step counts its nodes' whole consumption, so steps are not added up
        energy_j=energy or max(consumed, default=0) or None,
    )


def _seconds(span: Record) -> float:
    return float(span["seconds"]) + float(span["microseconds"]) / 1e6


def _measured(value: Any) -> int:
    """A count of something that may not be measured: "no value" is slurm.h's NO_VAL64, here also as the negative number of the same bits."""
    count = plain_number(value) or 0
    return count if 0 < count < 1 << 63 else 0


def _tres(entries: Iterable[Record]) -> dict[str, int]:
    return {
        f"{entry['type']}/{entry['name']}" if entry["name"] else str(entry["type"]): count
        for entry in entries
        if (count := _measured(entry["count"]))
    }


def account(user: str, associations: Iterable[Record], diag: Record, conf: Record | None) -> Account:
    """Who `user` is, from slurmdb's /associations/, slurmctld's /diag/, and its /conf/ where there is one."""
    cluster = diag["meta"]["slurm"]["cluster"]
    ours = [entry for entry in associations if entry["user"] == user and entry["cluster"] == cluster]
    default = next((entry["account"] for entry in ours if entry["is_default"]), None)
    return Account(
        cluster=cluster,
        user=user,
        home=None,
        default_account=default,
        associations=tuple(
            Association(
                account=entry["account"],
                partition=entry["partition"] or None,
                qos=tuple(entry["qos"]),
                default_qos=_name(entry["default"]["qos"]),
            )
            for entry in ours
        ),
        clock=from_epoch(plain_number(diag["statistics"]["req_time"])),
        max_array_size=conf["MaxArraySize"] if conf is not None else None,
    )


def _name(value: Any) -> str | None:
    """A name that may be missing: empty, or the number that a missing id is."""
    return value if isinstance(value, str) and value and not value.isdigit() else None


def _exit(code: Record) -> tuple[int | None, int | None]:
    return exited(plain_number(code["return_code"]), plain_number(code["signal"]["id"]))


def error_text(error: Record) -> str:
    """One error of an answer: what Slurm calls it, and its description where that says more."""
    name, described = str(error.get("error") or ""), str(error.get("description") or "")
    name = "" if name == "No error" and described else name
    said = described if name in described else ": ".join(part for part in (name, described) if part)
    return said or "no reason given"


def fault(error: Record, *, changes: bool = False) -> Fault:
    """What one error of an answer says of the request; `changes`: that was one to change something. One without a number says it in words."""
    number = error.get("error_number")
    found = numbered(number) if isinstance(number, int) and number else worded(error_text(error))
    if found is Fault.UNSPECIFIED:
        return Fault.REFUSED if changes else Fault.SILENT
    return found


def unchanged(answer: Record, harmless: frozenset[int]) -> list[Record]:
    """The errors in the answer to a change that are about single jobs or tasks, in the form of those about the whole."""
    told = [_code(entry) for entry in (*(answer.get("status") or ()), *(answer.get("results") or ()))]
    return [{"error_number": code, "error": message} for code, message in told if code not in (0, *harmless)]


def _code(entry: Record) -> tuple[int, str]:
    """Number and words of one entry: some calls wrap them in a record of their own."""
    error = entry["error"]
    return (error["code"], str(error["message"])) if isinstance(error, Mapping) else (entry["error_code"], str(error))


def dropped(warnings: Iterable[Record]) -> str:
    """What slurmrestd says that it left out of a request; empty where it took all of it."""
    said = (str(warning.get("description")) for warning in warnings)
    return next((text for text in said if "Ignoring unknown field" in text or "unable to parse" in text), "")


def says_unauthorised(status: int, content: bytes) -> bool:
    """Whether an answer refuses who we are: 401 and 403, or slurmctld's or slurmdbd's refusal of the token passed on as 5xx."""
    return status in (401, 403) or (status >= 500 and b"authentication error" in content.lower())
