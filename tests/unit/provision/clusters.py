"""A cluster that is well, as its hosts and daemons tell it: a controller, a login node, two nodes with four devices each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from westward.model.site import ShellDoor
from westward.provision.clusterfacts import Facts
from westward.provision.hostfacts import Clock, Disk, Key, Look, Unit
from westward.provision.hosts import Host, Managed
from westward.provision.jobtrial import Trial
from westward.slurm.confcluster import Configuration, of_texts

RUNS = Unit("loaded", "active", "running", "enabled")
ABSENT = Unit("not-found", "inactive", "dead", "")
PRIVATE = Key("d1", "slurm", "slurm", 0o600)
KEY = "/etc/slurm/slurm.key"
ROOM = Disk(100 * 2**30, 50 * 2**30, 1000, 900)
GROUPS = {
    "ctl": ("slurm_controller", "slurm_dbd"),
    "login": ("slurm_login",),
    "n1": ("slurm_compute", "h100"),
    "n2": ("slurm_compute", "h100"),
}
CHIPS = {"type": "h100", "count": 4, "detect": "files", "files": "/dev/nvidia[0-3]"}
CONFIG = """AccountingStorageHost   = ctl
AccountingStoragePort   = 6819
AccountingStorageType   = accounting_storage/slurmdbd
AuthType                = auth/slurm
ClusterName             = site
MaxDBDMsgs              = 20008
MpiDefault              = pmix
ProctrackType           = proctrack/cgroup
SlurmctldPort           = 6817
SlurmdPort              = 6818
SlurmdSpoolDir          = /var/lib/slurm/slurmd
SlurmUser               = slurm(64030)
StateSaveLocation       = /shared/slurmctld
TaskPlugin              = task/cgroup,task/affinity

Cgroup Support Configuration:
CgroupMountpoint        = /sys/fs/cgroup
CgroupPlugin            = autodetect
ConstrainCores          = yes
ConstrainDevices        = yes
ConstrainRAMSpace       = yes
"""
NODE = (
    "NodeName={0} Gres=gpu:h100:4 NodeAddr={0} NodeHostName={0} Version=24.11.5 State=IDLE CfgTRES=cpu=4,gres/gpu=4 \n"
)
FOUND = "".join(
    f"slurmd: Gres Name=gpu Type=h100 Count=1 Index={n} ID=7696487 File=/dev/nvidia{n} Links=(null) Flags=HAS_FILE,HAS_TYPE\n"
    for n in range(4)
)
SLURM_CONF = (
    "ClusterName=site\nSlurmctldHost=ctl\nNodeName=n[1-2] Gres=gpu:h100:4\nPartitionName=gpu Nodes=ALL Default=YES\n"
)
GRES_CONF = "NodeName=n[1-2] Name=gpu Type=h100 File=/dev/nvidia[0-3]\n"


def configuration(slurm: str = SLURM_CONF, gres: str = GRES_CONF) -> Configuration:
    return of_texts({"slurm.conf": slurm, "gres.conf": gres}, (24, 11))


def site(chips: Mapping[str, Any] = CHIPS, **variables: Any) -> Managed:
    hosts = {name: Host(name, name, frozenset(groups), ShellDoor()) for name, groups in GROUPS.items()}
    told = {"slurm_cluster_name": "site", "slurm_nodegroups": [{"name": "h100", "accelerators": [dict(chips)]}]}
    return Managed((), hosts, told | variables)


def look(host: str, **changed: Any) -> Look:
    compute, units = host.startswith("n"), dict.fromkeys(("slurmctld", "slurmdbd", "slurmd", "sackd"), ABSENT)
    daemons = {"ctl": ("slurmctld", "slurmdbd"), "login": ("sackd",)}.get(host, ("slurmd",))
    well = Look(
        hostname=host,
        versions={"scontrol": "24.11.5"} | dict.fromkeys(daemons, "24.11.5"),
        units=units | dict.fromkeys(daemons, RUNS),
        keys={KEY: PRIVATE},
        disks={"/var/log": ROOM, "/tmp": ROOM},
        addresses={name: (f"10.0.0.{at}",) for at, name in enumerate(("ctl", "n1", "n2"))},
        ports={"ctl:6817": ""},
        cgroup=2,
        controllers=frozenset(["cpuset", "cpu", "memory", "pids"]),
        mpi=("pmix", "pmi2"),
        files={f"/dev/nvidia{n}": True for n in range(4)} if compute else {},
        digests={"slurm.conf": "a", "gres.conf": "b"},
        gres=FOUND if compute else None,
    )
    return replace(well, **changed)


def facts(looks: Mapping[str, Mapping[str, Any]] | None = None, **changed: Any) -> Facts:
    """The cluster, with what is said of single hosts, and of the whole, in other words."""
    well = Facts(
        site(),
        looks={host: look(host, **(looks or {}).get(host, {})) for host in GROUPS},
        clocks={host: Clock(0.01 * at, 0.02) for at, host in enumerate(GROUPS)},
        said={
            "config": CONFIG,
            "nodes": NODE.format("n1") + NODE.format("n2"),
            "partitions": "PartitionName=gpu Default=YES State=UP\n",
            "ping": "Slurmctld(primary) at ctl is UP\n",
            "sdiag": "DBD Agent queue size: 0\n",
            "dbd": "site|10.0.0.0|6817\n",
        },
        configuration=configuration(),
        trials=(Trial(1, ("n1",)), Trial(2, ("n1", "n2"))),
    )
    return replace(well, **changed)
