"""What a change of a cluster's configuration asks for: a restart of slurmctld, or nodes that stand aside. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.module_utils.compat.version import LooseVersion
from ClusterShell.NodeSet import NodeSet

# nodes can come and go by `scontrol reconfigure`
LIVE_NODES_SINCE = "24.11"
# what no reconfiguration takes up (slurm.conf(5), scontrol(1)): a controller has to start again for it
RESTART_KEYS = frozenset(
    [
        "accountingstoragehost",
        "accountingstoragetype",
        "authalttypes",
        "authaltparameters",
        "authinfo",
        "authtype",
        "clustername",
        "credtype",
        "grestypes",
        "jobacctgathertype",
        "mpidefault",
        "plugindir",
        "pluginflags",
        "preempttype",
        "prioritytype",
        "proctracktype",
        "schedulertype",
        "selecttype",
        "slurmctldhost",
        "slurmctldport",
        "slurmdport",
        "slurmuser",
        "statesavelocation",
        "switchtype",
        "taskplugin",
        "topologyplugin",
    ]
)


def needs_restart(before: str, after: str, version: str) -> bool:
    """Whether slurmctld has to be restarted to go from one slurm.conf to another; otherwise `scontrol reconfigure` is enough."""
    different = set(_settings_of(before)) ^ set(_settings_of(after))
    keys = {line.split("=", 1)[0].strip().lower() for line in different}
    return bool(keys & RESTART_KEYS) or ("nodename" in keys and LooseVersion(version) < LooseVersion(LIVE_NODES_SINCE))


def gres_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The nodes that have other devices afterwards.

    A slurmd finds its devices when it starts, and one that registers others than slurmctld expects has its node drained: so these are
    stopped before slurmctld learns of it, and started after. Their jobs run on.

    Args:
        before, after: the text of `slurm.conf` and of `gres.conf`, by that name; empty where there is none.
    """
    if not before["slurm.conf"]:
        return []
    old, new = _devices(before), _devices(after)
    return sorted(node for node in old.keys() & new.keys() if old[node] != new[node])


def _devices(files: Mapping[str, str]) -> dict[str, set[str]]:
    """What is said of each node's devices: its Gres, and its lines of gres.conf."""
    found: dict[str, set[str]] = {}
    for line in _settings_of(files["slurm.conf"]):
        if named := re.match(r"NodeName=(\S+)(?:.* (Gres=\S+))?", line):
            for node in NodeSet(named[1]):
                found.setdefault(node, set()).add(named[2] or "")
    for line in _settings_of(files["gres.conf"]):
        named = re.match(r"NodeName=(\S+) (.*)", line)
        for node in NodeSet(named[1]) if named else list(found):
            found.setdefault(node, set()).add(named[2] if named else line)
    return found


def _settings_of(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


class FilterModule:
    """The filters, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"slurm_needs_restart": needs_restart, "slurm_gres_changes": gres_changes}
