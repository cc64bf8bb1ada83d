"""slurmrestd's JSON of partitions, QOS, associations and jobs -> a user's limits. Pure.

What others use of a shared limit is in no answer of slurmrestd's, and before data_parser v0.0.45 neither is what the cluster enforces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from westward.model.job import JobState
from westward.model.limits import Cap, Charge, Limits, Qos, Rules
from westward.slurm.clustertext import script_bytes
from westward.slurm.restarrays import task_indices
from westward.slurm.restdata import array_id, plain_number
from westward.slurm.text import size

Record = Mapping[str, Any]
MIB = 1024**2
# what `limits` calls them, and where they stand in a QOS's "limits" and in an association
_QOS_NUMBERS = {
    "GrpJobs": "max/active_jobs/count", "GrpSubmitJobs": "max/jobs/count", "GrpWall": "max/wall_clock/per/qos",
    "MaxWall": "max/wall_clock/per/job", "MaxJobsPerUser": "max/jobs/active_jobs/per/user",
    "MaxSubmitJobsPerUser": "max/jobs/per/user", "MaxJobsPerAccount": "max/jobs/active_jobs/per/account",
    "MaxSubmitJobsPerAccount": "max/jobs/per/account",
}  # fmt: skip
_QOS_TRES = {
    "GrpTRES": "max/tres/total", "GrpTRESMins": "max/tres/minutes/total", "GrpTRESRunMins": "max/tres/minutes/per/qos",
    "MaxTRESMinsPerJob": "max/tres/minutes/per/job", "MaxTRESRunMinsPerUser": "max/tres/minutes/per/user",
    "MaxTRESPerJob": "max/tres/per/job", "MaxTRESPerNode": "max/tres/per/node", "MaxTRESPerUser": "max/tres/per/user",
    "MaxTRESPerAccount": "max/tres/per/account", "MinTRESPerJob": "min/tres/per/job",
}  # fmt: skip
_OWN_NUMBERS = {"MaxJobs": "max/jobs/active", "MaxSubmitJobs": "max/jobs/total", "MaxWall": "max/jobs/per/wall_clock"}
_OWN_TRES = {
    "MaxTRESPerJob": "max/tres/per/job",
    "MaxTRESPerNode": "max/tres/per/node",
    "MaxTRESMinsPerJob": "max/tres/minutes/per/job",
}
_GROUP_NUMBERS = {
    "GrpJobs": "max/jobs/per/count",
    "GrpSubmitJobs": "max/jobs/per/submitted",
    "GrpWall": "max/per/account/wall_clock",
}
_GROUP_TRES = {
    "GrpTRES": "max/tres/total",
    "GrpTRESMins": "max/tres/group/minutes",
    "GrpTRESRunMins": "max/tres/group/active",
}
# as sacctmgr prints them
_FLAGS = {"DENY_LIMIT": "DenyOnLimit", "OVERRIDE_PARTITION_QOS": "OverPartQOS"}
_STARTED = frozenset({JobState.RUNNING, JobState.SUSPENDED})
UNSHARED = "slurmrestd does not tell what others use of the limits that are shared with them"
MANY = (
    "{count:,} jobs are listed there, more than are read through slurmrestd, which does not tell yours from others': what of yours is held or "
    "waits for another job is not counted"
)
UNSAID = "slurmrestd does not tell here which limits the cluster enforces: all are taken to be"


class Mine(NamedTuple):
    """What a record of a job of the user's own takes: `tasks` jobs in the queue, and if it has started, a job and resources."""

    qos: str
    account: str
    started: bool
    tasks: int
    tres: Mapping[str, int]


def in_queue(user: str, jobs: Iterable[Record]) -> Iterator[Mine]:
    """The answer of slurmctld's /jobs/."""
    for job in jobs:
        state = JobState.of(job["job_state"])
        if job["user_name"] == user and not state.final:
            started = state in _STARTED
            tres = dict(_text_tres(str(job["tres_alloc_str"]))) if started else {}
            yield Mine(str(job["qos"]), str(job["account"]), started, _tasks(job), tres)


def in_accounting(jobs: Iterable[Record], queued: Container[int]) -> Iterator[Mine]:
    """The answer of slurmdbd's /jobs/ for one user and the states that are not final; of those records the ones that are still queued."""
    for job in jobs:
        if job["job_id"] in queued:
            state = JobState.of(job["state"]["current"])
            tasks = len(task_indices(job["array"])) or 1
            tres = {_tres(entry): int(entry["count"]) for entry in job["tres"]["allocated"]}
            yield Mine(str(job["qos"]), str(job["account"]), state in _STARTED, tasks, tres)


class Own:
    """What the user's own jobs take, by QOS and by account: jobs and resources of those that run, and how many are in the queue at all."""

    def __init__(self, jobs: Iterable[Mine]) -> None:
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        for job in jobs:
            for key in (("qos", job.qos), ("account", job.account)):
                self._counts[(*key, "queued", "")] += job.tasks
                if job.started:
                    self._counts[(*key, "jobs", "")] += 1
                    for tres, count in job.tres.items():
                        self._counts[(*key, "tres", tres)] += count

    def used(self, kind: str, name: str, cap: str, tres: str) -> float | None:
        """What counts against a limit of this user's own; None for limits that others share and for those of each job."""
        what = {
            "MaxJobs": "jobs", "MaxJobsPerUser": "jobs", "MaxSubmitJobs": "queued", "MaxSubmitJobsPerUser": "queued", "MaxTRESPerUser": "tres",
        }.get(cap)  # fmt: skip
        return None if what is None else float(self._counts[kind, name, what, tres])


def _tasks(job: Record) -> int:
    """How many jobs a record stands for: that of an array's waiting tasks names them, perhaps cut short ("0-4,8...")."""
    text = job["array_task_string"] if array_id(job) else ""
    count = 0
    for part in filter(None, text.partition("%")[0].rstrip(".").split(",")):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        if first.isdecimal():
            count += (int(last or first) - int(first)) // int(step or 1) + 1
    return count or 1


def _text_tres(text: str) -> Iterator[tuple[str, int]]:
    """ "cpu=2,mem=4000M,gres/gpu=1" """
    for item in filter(None, text.split(",")):
        tres, _, value = item.partition("=")
        if value:
            yield tres, size(value) // MIB if tres == "mem" and not value.isdecimal() else size(value)


def _tres(entry: Record) -> str:
    return f"{entry['type']}/{entry['name']}" if entry["name"] else str(entry["type"])


def _at(record: Record, path: str) -> Any:
    for key in path.split("/"):
        record = record[key]
    return record


def _caps(
    record: Record, numbers: Mapping[str, str], lists: Mapping[str, str], own: Own | None, kind: str, name: str
) -> Iterator[Cap]:
    for cap, path in numbers.items():
        value = plain_number(_at(record, path))
        if value is not None:
            yield Cap(cap, value, "", own.used(kind, name, cap, "") if own else None)
    for cap, path in lists.items():
        for entry in _at(record, path):
            tres = _tres(entry)
            yield Cap(cap, int(entry["count"]), tres, own.used(kind, name, cap, tres) if own else None)


def qos(records: Iterable[Record], own: Own) -> dict[str, Qos]:
    """The answer of /qos/."""
    return {
        each["name"]: Qos(
            each["name"],
            tuple(_caps(each["limits"], _QOS_NUMBERS, _QOS_TRES, own, "qos", each["name"])),
            frozenset(_FLAGS.get(flag, flag) for flag in each["flags"]),
        )
        for each in records
    }


def charges(
    user: str, cluster: str, own_records: Iterable[Record], others: Iterable[Record], own: Own
) -> tuple[Charge, ...]:
    """Answers of /associations/: the user's own, and the accounts as a whole."""
    found = [
        Charge(
            each["account"],
            user,
            each["partition"] or "",
            each["account"],
            tuple(each["qos"]),
            _name(each["default"]["qos"]),
            (
                *_caps(each, _OWN_NUMBERS, _OWN_TRES, own, "account", each["account"]),
                *_caps(each, _GROUP_NUMBERS, _GROUP_TRES, None, "", ""),
            ),
        )
        for each in own_records
        if each["user"] == user and each["cluster"] == cluster
    ]
    for each in others:
        if not each["user"] and each["cluster"] == cluster:
            caps = tuple(_caps(each, _GROUP_NUMBERS, _GROUP_TRES, None, "", ""))
            found.append(Charge(each["account"], "", "", each["parent_account"], caps=caps))
    return tuple(found)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value and not value.isdigit() else None


def rules(records: Iterable[Record]) -> dict[str, Rules]:
    """The answer of /partitions/."""
    return {each["name"]: _rules(each) for each in records}


def _rules(of: Record) -> Rules:
    minutes = plain_number(of["maximums"]["time"])
    return Rules(
        name=of["name"],
        state=of["partition"]["state"][0] if of["partition"]["state"] else "",
        max_walltime_s=None if minutes is None else minutes * 60,
        min_nodes=plain_number(of["minimums"]["nodes"]) or 0,
        max_nodes=plain_number(of["maximums"]["nodes"]),
        max_cpus_per_node=plain_number(of["maximums"]["cpus_per_node"]),
        max_mem_per_node_mib=plain_number(of["maximums"]["partition_memory_per_node"]) or None,
        mem_per_node_mib=plain_number(of["defaults"]["partition_memory_per_node"]) or None,
        mem_per_cpu_mib=plain_number(of["defaults"]["partition_memory_per_cpu"]) or None,
        allow_accounts=_names(of["accounts"]["allowed"]),
        deny_accounts=_names(of["accounts"]["deny"]),
        allow_qos=_names(of["qos"]["allowed"]),
        deny_qos=_names(of["qos"]["deny"]),
        allow_groups=_names(of["groups"]["allowed"]),
        qos=of["qos"]["assigned"] or "",
    )


def with_settings(told: Limits, conf: Record) -> Limits:
    """The same with what /conf says of the cluster as a whole."""
    told = replace(
        told,
        max_array_size=plain_number(conf.get("MaxArraySize")),
        max_script_bytes=script_bytes(conf.get("SchedulerParameters") or ()),
    )
    enforced = conf.get("AccountingStorageEnforce")
    if enforced is None:
        return told
    words = enforced if isinstance(enforced, list) else [word for word in str(enforced).split(",") if word]
    beyond = conf.get("EnforcePartLimits")
    first = str(beyond[0] if isinstance(beyond, list) and beyond else beyond)
    return replace(
        told,
        enforced=frozenset(str(word).lower() for word in words) - {"none"},
        refuses_beyond_partition=None if beyond is None else first != "NO",
        mem_per_node_mib=plain_number(conf.get("DefMemPerNode")) or None,
        mem_per_cpu_mib=plain_number(conf.get("DefMemPerCPU")) or None,
        notes=tuple(note for note in told.notes if note != UNSAID),
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(","))) if text != "ALL" else ()


def limits(
    user: str,
    cluster: str,
    partitions: Sequence[Record],
    of_qos: Sequence[Record],
    own_records: Sequence[Record],
    others: Sequence[Record],
    own: Own,
) -> Limits:
    """All of it."""
    default = next((each["account"] for each in own_records if each["is_default"] and each["cluster"] == cluster), None)
    found = charges(user, cluster, own_records, others, own)
    return Limits(
        user=user,
        partitions=rules(partitions),
        qos=qos(of_qos, own),
        charges=found,
        default_account=default,
        default_partition=next((each["name"] for each in partitions if "DEFAULT" in each.get("flags", ())), None),
        notes=(UNSAID, UNSHARED) if found else (),
    )
