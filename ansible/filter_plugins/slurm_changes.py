"""What a change of a cluster's configuration asks for: daemons that start again, or nodes that stand aside. Pure.

What each change takes is in `slurm/changes.yaml`, from which `westward site plan` says it beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.compat.version import LooseVersion
from ClusterShell.NodeSet import NodeSet

TABLE = Path(__file__).parents[2] / "slurm" / "changes.yaml"
# how the comparison of the plan calls the keys of a node's processors
LAYOUT = ("boards", "sockets", "socketsperboard", "corespersocket", "threadspercore", "cpus", "procs")
_PAIR = re.compile(r'(\w+)=("[^"]*"|\S+)')
# what the line is about, empty where it is about the whole file; and a key of it, `+` for a line that comes, `-` for one that goes
Change = tuple[str, str]


def restarts(before: str, after: str, version: str) -> list[str]:
    """The daemons that have to start again to go from one slurm.conf to another; where slurmctld has not, `scontrol reconfigure` is enough.

    Args:
        before: empty where there is none.
    """
    if not before.strip():
        return []
    found: set[str] = set()
    for line, key in _changes(before, after):
        found.update(_daemons(line, key, version))
    return sorted(found)


def _changes(before: str, after: str) -> set[Change]:
    found = set()
    for line, (old, new) in {
        "": (_keys(before), _keys(after)),
        **{kind: (_lines(kind, before), _lines(kind, after)) for kind in ("NodeName", "PartitionName")},
    }.items():
        for name in old.keys() | new.keys():
            if name not in old or name not in new:
                found.add((line, name.lower() if not line else "+" if name in new else "-"))
            elif old[name] != new[name]:
                changed = set(old[name].items()) ^ set(new[name].items())
                found.update((line, name.lower() if not line else _plain(key)) for key, _ in changed)
    return found - {("NodeName", "gres")}  # gres_changes says it, node by node


def _plain(key: str) -> str:
    return "cpus" if key in LAYOUT else key


def _keys(text: str) -> dict[str, dict[str, str]]:
    """The keys of the whole file; one that stands there several times is put together."""
    found: dict[str, dict[str, str]] = {}
    for line in _settings_of(text):
        key, _, value = line.partition("=")
        if key not in ("NodeName", "PartitionName", "NodeSet"):
            values = found.setdefault(key, {"": ""})
            values[""] += f"{value}\n"
    return found


def _lines(kind: str, text: str) -> dict[str, dict[str, str]]:
    """By node or partition, what its line says."""
    found = {}
    for line in _settings_of(text):
        if line.startswith(f"{kind}="):
            (_, names), *pairs = _PAIR.findall(line)
            settings = {key.lower(): value for key, value in pairs}
            for name in NodeSet(names) if kind == "NodeName" else [names]:
                found[str(name)] = settings
    return found


def _daemons(line: str, key: str, version: str) -> list[str]:
    for rule in _rules():
        if (
            rule["file"] == "slurm.conf"
            and rule.get("line", "") == line
            and key.lower() in [each.lower() for each in rule.get("keys", ())]
            and LooseVersion(rule.get("since", "0")) <= LooseVersion(version) < LooseVersion(rule.get("before", "99"))
        ):
            return list(rule.get("daemons", ()))
    return []


@cache
def _rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(TABLE.read_text())["rules"]
    return found


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
    return (
        line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")
    )


class FilterModule:
    """The filters, as Ansible finds them."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"slurm_restarts": restarts, "slurm_gres_changes": gres_changes}
