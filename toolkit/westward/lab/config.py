"""The Slurm configuration of a lab's cluster: values here, text from the templates in `slurm/conf/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from westward.lab.topology import ClusterPlan, LabPartition
from westward.slurm import conftext

REST_PORT = 6820
SSH_PORT = 2222  # an ordinary user may listen there

Settings = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One `NodeName=`, `PartitionName=` or GRES `Name=` line: its name and native keys; a key whose value is None is left out."""

    name: str
    settings: Settings
    nodes: str | None = None


@dataclass(frozen=True, slots=True)
class SlurmValues:
    """What the templates in `slurm/conf/` are rendered from. Keys and values are Slurm's own; None leaves a key out."""

    cluster: str
    controllers: tuple[str, ...]
    settings: Settings
    nodes: tuple[Line, ...]
    partitions: tuple[Line, ...]
    gres: tuple[Line, ...] = ()
    cgroup: Settings = field(default_factory=dict)
    dbd: Settings = field(default_factory=dict, repr=False)  # the database password is in it
    header: str = "Written by Westward."


def render(template: str, values: SlurmValues) -> str:
    """The text of `slurm.conf`, `gres.conf`, `cgroup.conf` or `slurmdbd.conf`."""
    return conftext.render(template, asdict(values))


def lab_values(plan: ClusterPlan, database_password: str) -> SlurmValues:
    """The values for one cluster of a lab."""
    chips, release = plan.accelerators, plan.release
    node = {
        "CPUs": str(plan.cpus),
        "RealMemory": str(plan.memory_mib),
        "Gres": f"gpu:{chips.type}:{chips.count}" if chips else None,
    }
    nodes = [Line(plan.compute_list, {**node, "State": "UNKNOWN"})]
    if plan.cloud_nodes:
        nodes.append(Line(plan.cloud_list, {**node, "State": "CLOUD"}))
    dbd = _dbd(plan, database_password)
    return SlurmValues(
        cluster=plan.name,
        controllers=(plan.controller,),
        settings={**_settings(plan), **release.settings, **plan.slurm},
        nodes=tuple(nodes),
        partitions=tuple(_partition(plan, partition) for partition in plan.partitions),
        gres=(Line("gpu", {"Type": chips.type, "File": _files(chips.count)}),) if chips else (),
        # cgroup v1 or v2, delegated or not: a lab has to start on all of them, and leaves nothing behind under /sys/fs/cgroup
        cgroup={"CgroupPlugin": "disabled", **release.cgroup},
        dbd={**dbd, **{key: value for key, value in release.settings.items() if key in dbd}},
        header="Written by westward lab up; it is written again by the next one.",
    )


def accounting(plan: ClusterPlan) -> tuple[str, ...]:
    """What sacctmgr is told before slurmctld starts: cluster, QOS, accounts, user."""
    qos = f" qos={','.join(('normal', *plan.qos))}" if plan.qos else ""
    return (
        f"add cluster {plan.name}",
        *(
            " ".join((f"add qos {name}", *(f"{key}={value}" for key, value in what.items())))
            for name, what in plan.qos.items()
        ),
        *(
            f"add account {account} cluster={plan.name} description={account} organization=westward"
            for account in plan.accounts
        ),
        *(
            f"add user researcher account={account} cluster={plan.name} defaultaccount={plan.accounts[0]}{qos}"
            for account in plan.accounts
        ),
    )


def _settings(plan: ClusterPlan) -> dict[str, str | None]:
    chips = plan.accelerators
    return {
        "SlurmUser": "slurm",
        "AuthType": "auth/slurm",
        "CredType": "cred/slurm",
        "AuthAltTypes": "auth/jwt",
        "AuthAltParameters": "jwt_key=/etc/slurm/jwt.key",
        "StateSaveLocation": "/var/lib/slurm/slurmctld",
        "SlurmdSpoolDir": "/var/lib/slurm/slurmd",
        "SlurmctldPidFile": "/run/slurmctld/slurmctld.pid",
        "SlurmdPidFile": "/run/slurmd.pid",
        # the host's cgroups are not ours to write, and cgroup v1 is gone from newer hosts: processes are found by their parents
        "ProctrackType": "proctrack/linuxproc",
        # binding to CPUs that config_overrides made up would fail
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/linux",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "DefMemPerCPU": str(max(1, plan.memory_mib // plan.cpus)),
        "GresTypes": "gpu" if chips else None,
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": plan.controller,
        "AccountingStorageTRES": f"gres/gpu,gres/gpu:{chips.type}" if chips else None,
        "AccountingStorageEnforce": "associations,limits,qos",
        "MpiDefault": "none",
        "ReturnToService": "2",
        # a node that is gone is noticed in half a minute
        "SlurmdTimeout": "30",
        # a node has the CPUs and the memory that the topology gives it, whatever the machine below has
        "SlurmdParameters": "config_overrides",
        # a job starts when it is submitted, not up to three seconds later
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,bf_interval=5",
        "PropagateResourceLimits": "NONE",
        "MailProg": "/bin/true",
        # daemons run in the foreground: their log is what they print
        "LogTimeFormat": "iso8601_ms,format_stderr",
    }


def _dbd(plan: ClusterPlan, database_password: str) -> dict[str, str | None]:
    return {
        "AuthType": "auth/slurm",
        "AuthAltTypes": "auth/jwt",
        "AuthAltParameters": "jwt_key=/etc/slurm/jwt.key",
        "DbdHost": plan.controller,
        "SlurmUser": "slurm",
        "PidFile": "/run/slurmdbd/slurmdbd.pid",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": "slurm",
        "StoragePass": database_password,
        "StorageLoc": "slurm_acct_db",
        "LogTimeFormat": "iso8601_ms,format_stderr",
    }


def _partition(plan: ClusterPlan, partition: LabPartition) -> Line:
    compute = plan.compute_list if plan.cloud_nodes else "ALL"
    return Line(
        partition.name,
        {
            "Nodes": plan.cloud_list if partition.cloud else compute,
            "Default": "YES" if partition.default else None,
            "MaxTime": partition.max_time,
            "State": "UP",
            **partition.slurm,
        },
    )


def _files(count: int) -> str:
    return "/dev/nvidia0" if count == 1 else f"/dev/nvidia[0-{count - 1}]"
