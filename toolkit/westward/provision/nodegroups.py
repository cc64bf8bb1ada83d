"""Nodes that are alike, as the node groups of the variables: with a name, what they have, and who is in them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from westward.slurm.conf import Settings, written
from westward.slurm.confcluster import Configuration, GresLine
from westward.slurm.confmeaning import gres, spelled
from westward.slurm.hostlist import expand, fold, in_order

Native = dict[str, Any]

_PER_NODE = ("NodeAddr", "NodeHostname", "Port")
_LAYOUT = ("CPUs", "Sockets", "Boards", "CoresPerSocket")
NOT_YET_HOSTS = ("CLOUD", "FUTURE")
_BY_COUNT = ("shard", "mps")
_FILES = ("File", "MultipleFiles")
_MIG = re.compile(r"\d+g\.\d+gb.*", re.IGNORECASE)
_TAKEN = frozenset(["all", "ungrouped", "localhost", "slurm_controller", "slurm_dbd", "slurm_login", "slurm_compute"])


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are alike.

    Attributes:
        hosts: node -> its variables in the inventory; empty where they are no hosts yet, such as cloud nodes.
        nodes: their host list.
        variables: the group as `slurm_nodegroups` has it.
        gres: lines for `slurm_gres`, of what is no typed accelerator.
    """

    name: str
    nodes: tuple[str, ...]
    hosts: Mapping[str, Mapping[str, str]]
    variables: Native
    gres: tuple[Native, ...] = ()


def node_groups(conf: Configuration) -> list[NodeGroup]:
    """The groups of a cluster, in the order of its nodes."""
    alike: dict[object, list[str]] = {}
    for node, settings in conf.nodes.items():
        key = (settings.without(*_PER_NODE), conf.devices(node), _detect(conf, node))
        alike.setdefault(key, []).append(node)
    members = [in_order(nodes) for nodes in alike.values()]
    names = _names(conf, members)
    return [_Group(conf, name, nodes).made() for name, nodes in zip(names, members, strict=True)]


# --- names -----------------------------------------------------------------------------------------------------------------


def _names(conf: Configuration, groups: Sequence[Sequence[str]]) -> list[str]:
    """One each: from the accelerator's type, or from the smallest partition, with a number where that is not enough."""
    taken = set(_TAKEN) | set(conf.nodes) | {name for name, _ in conf.controllers}
    wanted = [_wanted_name(conf, nodes) for nodes in groups]
    found: list[str] = []
    for name, nodes in zip(wanted, groups, strict=True):
        state = conf.nodes[nodes[0]].get("State", "").lower()
        if wanted.count(name) > 1 and state in ("cloud", "future"):
            name = f"{name}_{state}"
        number, free = 2, name
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        found.append(free)
    return found


def _wanted_name(conf: Configuration, nodes: Sequence[str]) -> str:
    types = [kind or name for name, kind, _ in gres(conf.nodes[nodes[0]].get("Gres", "")) if name not in _BY_COUNT]
    if types:
        return _valid("_".join(types))
    sizes = {line.name: conf.members(line.settings.get("Nodes", "")) for line in conf.slurm.of("PartitionName")}
    around = sorted((len(members), name) for name, members in sizes.items() if set(nodes) <= members)
    return _valid(around[0][1]) if around else "compute"


def _valid(text: str) -> str:
    """As Ansible takes it for a group: letters, digits and _, no digit first."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII).lower()
    return f"gpu_{name}" if name[:1].isdigit() else name


# --- one group -------------------------------------------------------------------------------------------------------------


def _detect(conf: Configuration, node: str) -> str | None:
    own = [line.settings["AutoDetect"] for line in conf.devices(node) if "AutoDetect" in line.settings]
    found = (own[-1] if own else conf.autodetect or "off").lower()
    return None if found == "off" or "Gres" not in conf.nodes[node] else found


@dataclass
class _Group:
    """A group in the making; its first node stands for all."""

    conf: Configuration
    name: str
    nodes: Sequence[str]
    parameters: Native = field(default_factory=dict)

    def made(self) -> NodeGroup:
        settings = self.conf.nodes[self.nodes[0]]
        self._take_parameters(settings)
        variables: Native = {"name": self.name}
        further: tuple[Native, ...] = ()
        accelerators = self._accelerators(settings)
        if accelerators:
            variables["accelerators"] = accelerators
        elif "Gres" in settings:
            self.parameters["Gres"] = written(settings["Gres"])
            further = tuple(self._native_gres())
        if "Feature" in settings:
            variables["features"] = settings["Feature"].split(",")
        hosts = self._hosts(settings)
        if not hosts:
            variables["nodes"] = fold(self.nodes)
        variables["parameters"] = self.parameters
        return NodeGroup(self.name, tuple(self.nodes), hosts, variables, further)

    def _take_parameters(self, settings: Settings) -> None:
        """All but what has a place of its own. What is not set is left out by name: the roles would fill it in from facts."""
        for key, value in settings.without("Gres", "Feature", *_PER_NODE).items():
            self.parameters[spelled(key)] = native(key, value)
        if not any(key in settings for key in _LAYOUT):
            self.parameters["CPUs"] = "omit"
        if "RealMemory" not in settings:
            self.parameters["RealMemory"] = "omit"

    def _hosts(self, settings: Settings) -> dict[str, dict[str, str]]:
        """Each node with its address. Not of nodes that are started on demand, nor of several slurmd on one host: they are no hosts."""
        values = {key: [self.conf.nodes[node].get(key, "") for node in self.nodes] for key in _PER_NODE}
        same_port = len(set(values["Port"])) == 1
        is_host = (
            settings.get("State", "").upper() not in NOT_YET_HOSTS and same_port and not any(values["NodeHostname"])
        )
        if values["Port"][0] and same_port:
            self.parameters["Port"] = native("Port", values["Port"][0])
        if is_host:
            return {node: _addressed(address) for node, address in zip(self.nodes, values["NodeAddr"], strict=True)}
        for key, found in values.items():
            if any(found) and not (key == "Port" and same_port):
                told = [value or node for value, node in zip(found, self.nodes, strict=True)]
                self.parameters[key] = ",".join(told) if len(set(told)) > 1 else told[0]
        return {}

    def _accelerators(self, settings: Settings) -> list[Native]:
        """Its accelerators in the words of the variables; none where they do not say all of it."""
        has = gres(settings.get("Gres", ""))
        if not has or any(name not in ("gpu", *_BY_COUNT) or words for name, _, words in has):
            return []
        gpus = {kind: int(count) for (name, kind, _), count in has.items() if name == "gpu"}
        slices = {name: int(count) for (name, kind, _), count in has.items() if name in _BY_COUNT and not kind}
        lines = self.conf.devices(self.nodes[0])
        detect = _detect(self.conf, self.nodes[0])
        found = _detected(gpus, lines, detect) if detect else _by_file(gpus, lines)
        if not found or len(slices) > 1 or not _slices_are_plain(slices, lines):
            return []
        for name, count in slices.items():
            found[0] |= {"slicing": name, "slices": count}
        return found

    def _native_gres(self) -> Iterator[Native]:
        nodes = fold(self.nodes)
        detect = _detect(self.conf, self.nodes[0])
        lines = self.conf.devices(self.nodes[0])
        if detect and not any("AutoDetect" in line.settings for line in lines):
            yield {"nodes": nodes, "parameters": {"AutoDetect": detect}}
        for line in lines:
            named = {"name": line.name} if line.name else {}
            yield {
                "nodes": nodes,
                **named,
                "parameters": {key: native(key, value) for key, value in line.settings.items()},
            }


def native(key: str, value: str) -> Any:
    """A value as YAML has it best: a number where it is one and nobody could take it for a time."""
    if re.fullmatch(r"0|[1-9]\d{0,15}", value) and key.lower() not in ("maxtime", "defaulttime", "maxwall"):
        return int(value)
    return written(value)


def _addressed(address: str) -> dict[str, str]:
    return {"slurm_node_address": address, "ansible_host": address} if address else {}


def _detected(gpus: Mapping[str, int], lines: Iterable[GresLine], detect: str) -> list[Native]:
    if any(line.name == "gpu" for line in lines):
        return []
    return [_with_type(kind, {"count": count, "detect": detect} | _mig(kind)) for kind, count in gpus.items()]


def _by_file(gpus: Mapping[str, int], lines: Sequence[GresLine]) -> list[Native]:
    """An entry for each line of gres.conf; for lines that are alike but for their files, one together."""
    found: list[Native] = []
    for line in lines:
        if line.name != "gpu":
            continue
        entry = _entry(line, gpus)
        if entry is None:
            return []
        if found and _alike(found[-1], entry):
            found[-1] |= {
                "files": [*_as_list(found[-1]["files"]), *_as_list(entry["files"])],
                "count": found[-1]["count"] + entry["count"],
            }
        else:
            found.append(entry)
    counted: Counter[str] = Counter()
    for entry in found:
        counted[entry.get("type", "")] += entry["count"]
    return found if counted == gpus else []


def _entry(line: GresLine, gpus: Mapping[str, int]) -> Native | None:
    """None where it says what an accelerator's variables have no word for."""
    settings = line.settings
    if set(settings.without("Type", *_FILES, "Cores", "Links", "Count")) or sum(key in settings for key in _FILES) != 1:
        return None
    several = settings.get("MultipleFiles")
    files: Any = [several] if several else settings["File"]
    count = 1 if several else len(expand(files))
    if settings.get("Count", str(count)) != str(count) or settings.get("Type", "") not in gpus:
        return None
    if several and "," not in several:
        return None
    more = {key.lower(): settings[key] for key in ("Cores", "Links") if key in settings}
    sliced = {"slicing": "mig"} if several else {}
    return _with_type(settings.get("Type", ""), {"count": count, "detect": "files", "files": files, **more, **sliced})


def _alike(one: Native, other: Native) -> bool:
    return {**one, "files": "", "count": 0} == {**other, "files": "", "count": 0}


def _as_list(files: str | list[str]) -> list[str]:
    return [files] if isinstance(files, str) else files


def _with_type(kind: str, entry: Native) -> Native:
    return {"type": kind, **entry} if kind else entry


def _mig(kind: str) -> Native:
    return {"slicing": "mig"} if _MIG.fullmatch(kind) else {}


def _slices_are_plain(slices: Mapping[str, int], lines: Iterable[GresLine]) -> bool:
    """Whether each has the one line with its count that the roles would write."""
    told = {line.name: dict(line.settings) for line in lines if line.name in _BY_COUNT}
    return told == {name: {"Count": str(count)} for name, count in slices.items()}
