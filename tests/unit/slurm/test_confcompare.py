"""Configurations compared by meaning: what makes no difference, and every difference by name."""

from __future__ import annotations

import pytest

from westward.slurm.confcluster import Configuration, of_texts
from westward.slurm.confcompare import compare

SLURM = """
ClusterName=c
SlurmctldHost=ctl
SchedulerParameters=bf_interval=60,bf_continue
KillWait=30
NodeName=DEFAULT CPUs=8 RealMemory=2000
NodeName=n[1-2] Gres=gpu:a:2 Feature=ib,fast
NodeName=n3 Weight=5
PartitionName=DEFAULT MaxTime=1-0
PartitionName=long Nodes=n[1-3] Default=YES
PartitionName=short Nodes=n1,n2 MaxTime=30
NodeSet=some Nodes=n[1-2]
"""
GRES = "NodeName=n[1-2] Name=gpu Type=a File=/dev/a[0-1] Cores=0-3\n"
TOPOLOGY = "SwitchName=s1 Nodes=n[1-2]\nSwitchName=s2 Nodes=n3\nSwitchName=top Switches=s[1-2]\n"
DBD = "DbdHost=ctl\nPurgeJobAfter=12\n"


def cluster(
    slurm: str = SLURM, gres: str = GRES, topology: str = TOPOLOGY, dbd: str = DBD, cgroup: str = ""
) -> Configuration:
    files = {"slurm": slurm, "gres": gres, "topology": topology, "slurmdbd": dbd, "cgroup": cgroup}
    return of_texts({f"{name}.conf": text for name, text in files.items()}, (24, 11))


def changed(before: str, after: str) -> list[str]:
    """What is told of one change, wherever it is."""
    texts = [SLURM, GRES, TOPOLOGY, DBD]
    assert sum(before in text for text in texts) == 1
    return [str(each) for each in compare(cluster(), cluster(*(text.replace(before, after, 1) for text in texts)))]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ClusterName=c", "# by hand\nclustername = c # once"),
        ("bf_interval=60,bf_continue", "bf_continue,bf_interval=60"),
        ("KillWait=30\n", ""),
        ("KillWait=30", "KillWait=3\nkillwait=30"),
        ("SlurmctldHost=ctl", "ControlMachine=ctl"),
        ("NodeName=n[1-2] Gres", "NodeName=n2,n1 NodeAddr=n2,n1 State=UNKNOWN Gres"),
        ("NodeName=DEFAULT CPUs=8", "NodeName=DEFAULT Sockets=8 CoresPerSocket=1"),
        ("RealMemory=2000", "realmemory=02000 Boards=1"),
        ("Feature=ib,fast", "Features=fast,ib"),
        ("Nodes=n[1-3] Default", "Nodes=ALL Default"),
        ("Nodes=n1,n2 MaxTime=30", "Nodes=some MaxTime=00:30:00"),
        ("Default=YES", "Default=yes Shared=NO State=UP"),
        ("Nodes=n1,n2 MaxTime", "Nodes=n1 Nodes=n[1-2] MaxTime"),
        ("Gres=gpu:a:2", "Gres=gpu:a:1,gpu:a:1"),
        ("Name=gpu Type=a File=/dev/a[0-1] Cores=0-3", "Name=gpu Type=a CPUs=0,1,2,3 File=/dev/a0,/dev/a1"),
        ("NodeName=n[1-2] Name=gpu", "Name=gpu"),
        ("SwitchName=s2 Nodes=n3", "SwitchName=s2 Nodes=n[3] LinkSpeed=7"),
        ("Switches=s[1-2]", "Switches=s2,s1"),
        ("PurgeJobAfter=12", "PurgeJobAfter=12month\nDebugLevel=3"),
    ],
)
def test_what_makes_no_difference(before: str, after: str) -> None:
    assert changed(before, after) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("KillWait=30", "KillWait=31", ["slurm.conf KillWait: 30 -> 31"]),
        ("KillWait=30\n", "WhatIsNew=1\n", ["slurm.conf WhatIsNew: (not set) -> 1"]),
        ("bf_continue", "bf_continue=x", None),
        ("SlurmctldHost=ctl", "SlurmctldHost=ctl(10.0.0.1)", ["slurm.conf SlurmctldHost: ctl -> ctl(10.0.0.1)"]),
        ("Weight=5", "Weight=6", ["slurm.conf NodeName=n3 Weight: 5 -> 6"]),
        ("RealMemory=2000", "RealMemory=2001", ["slurm.conf NodeName=n[1-3] RealMemory: 2000 -> 2001"]),
        ("CPUs=8", "Sockets=4", ["slurm.conf NodeName=n[1-3] CPUs: CPUs=8 -> Sockets=4"]),
        (
            "NodeName=n3 Weight=5",
            "",
            ["slurm.conf NodeName=n3: Weight=5 CPUs=8 RealMemory=2000 -> (not set)"],
        ),
        ("Nodes=n1,n2 MaxTime=30", "Nodes=n1 MaxTime=30", ["slurm.conf PartitionName=short Nodes: n1,n2 -> n1"]),
        ("MaxTime=30", "MaxTime=31", ["slurm.conf PartitionName=short MaxTime: 30 -> 31"]),
        ("MaxTime=1-0", "MaxTime=2-0", ["slurm.conf PartitionName=long MaxTime: 1-0 -> 2-0"]),
        (
            "PartitionName=short Nodes=n1,n2 MaxTime=30\n",
            "",
            ["slurm.conf PartitionName=short: Nodes=n1,n2 MaxTime=30 -> (not set)"],
        ),
        ("NodeSet=some Nodes=n[1-2]", "NodeSet=some Nodes=n1", ["slurm.conf NodeSet=some Nodes: n[1-2] -> n1"]),
        ("File=/dev/a[0-1]", "File=/dev/a[1-2]", None),
        ("Cores=0-3", "Cores=0-2", None),
        ("NodeName=n[1-2] Name", "AutoDetect=nvml\nNodeName=n[1-2] Name", None),
        ("SwitchName=s2 Nodes=n3\n", "", ["topology.conf SwitchName=s2: Nodes=n3 -> (not set)"]),
        ("PurgeJobAfter=12", "PurgeJobAfter=24", ["slurmdbd.conf PurgeJobAfter: 12 -> 24"]),
    ],
)
def test_a_difference_is_named(before: str, after: str, told: list[str] | None) -> None:
    found = changed(before, after)
    assert len(found) == 1
    assert told is None or found == told


def test_a_difference_of_devices_shows_both_sides() -> None:
    (told,) = changed("Cores=0-3", "Cores=0-2")
    assert told.startswith("gres.conf NodeName=n[1-2]: Name=gpu Type=a File=/dev/a[0-1] Cores=0-3 -> Name=gpu")


def test_what_slurmdbd_s_file_says_is_compared_where_both_know_it() -> None:
    assert compare(cluster(), cluster(dbd="")) == []


def test_cgroup_conf_and_its_defaults() -> None:
    assert compare(cluster(), cluster(cgroup="ConstrainCores=no\nAllowedRAMSpace=100")) == []
    (told,) = compare(cluster(), cluster(cgroup="ConstrainCores=yes"))
    assert str(told) == "cgroup.conf ConstrainCores: (not set) -> yes"
