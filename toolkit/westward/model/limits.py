"""What a cluster lets one of its users have: the limits of partitions, QOS and associations, and what counts against them now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Cap:
    """One limit of a QOS or an association.

    Attributes:
        name: in the words of sacctmgr(1): "MaxWall", "MaxTRESPerJob", "GrpTRES", ... where a QOS has it per user or account, with that
            behind it: "MaxJobsPerUser".
        value: jobs, minutes, MiB of memory, or a count of something else.
        tres: what is counted, in Slurm's names: "cpu", "mem", "node", "gres/gpu:h100"; empty for jobs and for minutes of time.
        used: what counts against it now; None where that cannot be told, and where nothing does, since it is a limit of each job.
    """

    name: str
    value: int
    tres: str = ""
    used: float | None = None


@dataclass(frozen=True, slots=True)
class Qos:
    """A QOS. `flags` as Slurm names them, "DenyOnLimit" and "OverPartQOS" among them."""

    name: str
    caps: tuple[Cap, ...] = ()
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Charge:
    """An account that jobs are charged to: of the user's own (an association), or one above it, whose limits hold for all its users together.

    Attributes:
        user: empty for the account as a whole.
        partition: the only one that it is good for; empty for all.
        parent: the account above; empty for none, or where it is not told.
        qos: what may be used there; `default_qos` is what is used where none is named.
    """

    account: str
    user: str = ""
    partition: str = ""
    parent: str = ""
    qos: tuple[str, ...] = ()
    default_qos: str | None = None
    caps: tuple[Cap, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What a partition asks of a job. None is no limit, and an empty tuple under `allow_…` is everybody.

    Attributes:
        state: UP, DOWN, DRAIN or INACTIVE.
        qos: the name of the QOS whose limits hold for every job of the partition; empty for none.
        mem_per_node_mib, mem_per_cpu_mib: what a job gets that names no memory; None where the partition does not say.
    """

    name: str
    state: str
    max_walltime_s: int | None = None
    min_nodes: int = 0
    max_nodes: int | None = None
    max_cpus_per_node: int | None = None
    max_mem_per_node_mib: int | None = None
    mem_per_node_mib: int | None = None
    mem_per_cpu_mib: int | None = None
    allow_accounts: tuple[str, ...] = ()
    deny_accounts: tuple[str, ...] = ()
    allow_qos: tuple[str, ...] = ()
    deny_qos: tuple[str, ...] = ()
    allow_groups: tuple[str, ...] = ()
    qos: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """All that a door tells of a user's limits.

    Attributes:
        groups: of the user there; None where the door cannot tell.
        default_account: None where the cluster keeps no accounts.
        enforced: the words of AccountingStorageEnforce; None where the door cannot tell: then all are taken to be.
        refuses_beyond_partition: whether a job beyond its partition's limits is refused (EnforcePartLimits); None where the door cannot tell.
        charges: the user's own associations, and the accounts above them.
        max_array_size: MaxArraySize: one more than the highest index of an array; None where the door cannot tell.
        max_script_bytes: max_script_size of SchedulerParameters; None where it is not set, or the door cannot tell.
        default_partition: where a job goes that names none; None where the door cannot tell.
        notes: what could not be read, in a sentence each.
    """

    user: str
    partitions: Mapping[str, Rules]
    qos: Mapping[str, Qos] = field(default_factory=dict)
    charges: tuple[Charge, ...] = ()
    default_account: str | None = None
    groups: tuple[str, ...] | None = None
    enforced: frozenset[str] | None = None
    refuses_beyond_partition: bool | None = None
    mem_per_node_mib: int | None = None
    mem_per_cpu_mib: int | None = None
    max_array_size: int | None = None
    max_script_bytes: int | None = None
    default_partition: str | None = None
    notes: tuple[str, ...] = ()


class Verdict(StrEnum):
    """What one limit does to one job.

    REFUSED: it would not be accepted. NEVER: accepted, and never started while the limit is as it is. WAITS: accepted, and held until others have
    ended or used less. UNKNOWN: nothing can be said. OK: it is within.
    """

    REFUSED = "refused"
    NEVER = "never starts"
    WAITS = "waits"
    UNKNOWN = "unknown"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One limit beside one job, in words.

    Attributes:
        limit: whose it is and its name in Slurm: "QOS capped: MaxJobsPerUser".
        value: what it is, `used` what counts against it now (empty where nothing does or it cannot be told), `asked` what the job adds.
        remedy: what to change; empty where nothing needs to be.
    """

    verdict: Verdict
    limit: str
    value: str
    asked: str
    used: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        used = f", {self.used} in use" if self.used else ""
        return f"{self.limit} is {self.value}{used}, asked: {self.asked}"


@dataclass(frozen=True, slots=True)
class Trial:
    """What a cluster's `sbatch --test-only` said of a job: when it would start (seconds since the epoch) and on which nodes, or why it is refused.

    Slurm looks at the nodes, the queue and what it refuses at once; not at the limits that only keep a job waiting.
    """

    start: float | None = None
    nodes: str = ""
    refusal: str = ""
