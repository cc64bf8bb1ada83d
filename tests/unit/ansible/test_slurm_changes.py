"""What a change of the configuration asks for."""

from __future__ import annotations

from copy import deepcopy

import pytest

from westward.provision.ansiblecode import load

CHANGES = load("filter_plugins/slurm_changes.py")
CONF = "ClusterName=c\nKillWait=30\nNodeName=n[1-2] CPUs=2 Gres=gpu:h100:4\n"


@pytest.mark.parametrize(
    ("after", "version", "daemons"),
    [
        (CONF.replace("30", "31"), "24.11.5", []),
        (CONF.replace("n[1-2]", "n[1-3]"), "24.11.5", []),
        (CONF.replace("n[1-2]", "n[1-3]"), "22.05.8", ["slurmctld", "slurmd"]),
        (CONF.replace("CPUs=2", "CPUs=2 RealMemory=9"), "22.05.8", []),
        (CONF.replace("CPUs=2", "Sockets=4"), "22.05.8", ["slurmctld", "slurmd"]),
        (CONF + "SelectType=select/linear\n", "26.05.5", ["slurmctld", "slurmd"]),
        (CONF + "PriorityType=priority/multifactor\n", "22.05.8", ["slurmctld"]),
        (CONF + "PriorityType=priority/multifactor\n", "24.11.5", []),
        (CONF + "authinfo=ttl=60\n", "24.11.5-4+deb13u1", ["slurmctld"]),
        ("# a comment\n" + CONF, "22.05.8", []),
        (CONF.replace("Gres", "\\\n  Gres"), "22.05.8", []),
    ],
)
def test_only_what_cannot_take_it_up_is_restarted(after: str, version: str, daemons: list[str]) -> None:
    assert CHANGES.restarts(CONF, after, version) == daemons
    assert CHANGES.restarts("", after, version) == []


def test_only_nodes_whose_devices_change_are_stopped() -> None:
    before = {"slurm.conf": CONF, "gres.conf": "NodeName=n[1-2] Name=gpu File=/dev/nvidia[0-3]\n"}
    assert CHANGES.gres_changes(before, deepcopy(before)) == []
    other = {**before, "gres.conf": "NodeName=n1 Name=gpu File=/dev/nvidia[0-3]\nNodeName=n2 AutoDetect=nvml\n"}
    assert CHANGES.gres_changes(before, other) == ["n2"]
    typed = {**before, "slurm.conf": CONF.replace("h100", "h200")}
    assert CHANGES.gres_changes(before, typed) == ["n1", "n2"]
    more_memory = {**before, "slurm.conf": CONF.replace("CPUs=2", "CPUs=2 RealMemory=9")}
    assert CHANGES.gres_changes(before, more_memory) == []
    assert CHANGES.gres_changes({"slurm.conf": "", "gres.conf": ""}, before) == []
