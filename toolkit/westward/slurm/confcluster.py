"""The configuration of one cluster: its files together, and what they say of each node."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from westward.errors import InputError
from westward.slurm.conf import GRES_LINES, SLURM_LINES, TOPOLOGY_LINES, Conf, Line, Settings, parse_text
from westward.slurm.confmeaning import Release, gres, renamed
from westward.slurm.hostlist import expand

_CONTROLLERS = ("ControlMachine", "ControlAddr", "BackupController", "BackupAddr")
_PER_NODE = ("NodeAddr", "NodeHostname", "Port")
KINDS = {
    "slurm.conf": SLURM_LINES,
    "gres.conf": GRES_LINES,
    "topology.conf": TOPOLOGY_LINES,
    "cgroup.conf": (),
    "slurmdbd.conf": (),
}


@dataclass(frozen=True)
class Configuration:
    """What the files of a cluster say.

    Attributes:
        dbd: None where it is not known.
        topology: of topology.conf, or of topology.yaml in the same form.
    """

    slurm: Conf
    release: Release
    gres: Conf = field(default_factory=Conf)
    cgroup: Conf = field(default_factory=Conf)
    dbd: Conf | None = None
    topology: Conf = field(default_factory=Conf)

    @cached_property
    def settings(self) -> Settings:
        """What slurm.conf sets, in its present names, without the controllers."""
        return renamed("slurm.conf", self.slurm.settings.without(*_CONTROLLERS))

    @cached_property
    def controllers(self) -> tuple[tuple[str, str], ...]:
        """Name and address of each, the primary one first."""
        told = [_controller(line.name) for line in self.slurm.of("SlurmctldHost")]
        return tuple(told or _old_controllers(self.slurm.settings))

    @cached_property
    def nodes(self) -> Mapping[str, Settings]:
        """Of each node its own settings in their present names, with the state that a DownNodes line gives it.

        Raises:
            InputError: a node is there twice, or a list of addresses is not as long as that of the names.
        """
        found: dict[str, Settings] = {}
        for line in self.slurm.of("NodeName"):
            for name, settings in _each_node(line):
                if name in found:
                    raise InputError(f"{line.where}: node '{name}' is there twice")
                found[name] = settings
        for line in self.slurm.of("DownNodes"):
            told = Settings({"State": line.settings.get("State", "DOWN"), **line.settings})
            for name in _names(line):
                if name in found:
                    found[name] = told.over(found[name])
        return found

    @cached_property
    def gres_lines(self) -> tuple[GresLine, ...]:
        return tuple(_gres_line(line) for line in self.gres.lines)

    @cached_property
    def autodetect(self) -> str | None:
        """What gres.conf says for nodes of which it says nothing else."""
        return self.gres.settings.get("AutoDetect")

    def devices(self, node: str) -> tuple[GresLine, ...]:
        """The lines of gres.conf that concern a node: they name it, or none, and what slurm.conf says that it has."""
        has = {name for name, _, _ in gres(self.nodes[node].get("Gres", ""))}
        return tuple(
            line
            for line in self.gres_lines
            if (line.nodes is None or node in line.nodes) and (line.name is None or line.name in has)
        )

    def members(self, text: str) -> frozenset[str]:
        """The nodes that a partition's `Nodes=` means: host list, node sets, ALL."""
        if text.upper() == "ALL":
            return frozenset(self.nodes)
        found: set[str] = set()
        for name in expand(text):
            found |= self._node_sets.get(name, {name})
        return frozenset(found)

    @cached_property
    def _node_sets(self) -> Mapping[str, frozenset[str]]:
        found = {}
        for line in self.slurm.of("NodeSet"):
            named = set(expand(line.settings.get("Nodes", "")))
            if feature := line.settings.get("Feature"):
                named |= {
                    node for node, settings in self.nodes.items() if feature in settings.get("Feature", "").split(",")
                }
            found[line.name] = frozenset(named)
        return found


@dataclass(frozen=True, slots=True)
class GresLine:
    """A line of gres.conf. `nodes` None: every node; `name` None: a line that only says how devices are detected."""

    name: str | None
    nodes: frozenset[str] | None
    settings: Settings


def of_texts(texts: Mapping[str, str], release: Release) -> Configuration:
    """From the text of each file, by its name; of `topology.conf` and `topology.yaml` one at most. None includes another.

    Raises:
        InputError: a line that cannot be meant.
    """
    parsed = {
        name: parse_text(text, name, KINDS[name]) for name, text in texts.items() if name in KINDS and text.strip()
    }
    return of_confs(parsed, texts.get("topology.yaml", ""), release)


def of_confs(parsed: Mapping[str, Conf], topology_yaml: str, release: Release) -> Configuration:
    """The same of files that are read already."""
    wires = parse_topology_yaml(topology_yaml) if topology_yaml.strip() else parsed.get("topology.conf", Conf())
    return Configuration(
        parsed["slurm.conf"],
        release,
        parsed.get("gres.conf", Conf()),
        parsed.get("cgroup.conf", Conf()),
        parsed.get("slurmdbd.conf"),
        wires,
    )


def parse_topology_yaml(text: str, name: str = "topology.yaml") -> Conf:
    """The cluster's own topology, in the form of topology.conf.

    Raises:
        InputError: it is no YAML, or holds no tree and no block.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"'{name}' is not YAML: {error}") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError(f"{name}: a list of topologies was expected")
    chosen = next((one for one in found if one.get("cluster_default")), found[0] if found else {})
    if isinstance(chosen.get("tree"), dict):
        return Conf(lines=tuple(_switch(one) for one in chosen["tree"].get("switches") or ()))
    if isinstance(chosen.get("block"), dict):
        sizes = chosen["block"].get("block_sizes")
        lines = tuple(
            Line("BlockName", str(one["block"]), _told(one, {"nodes": "Nodes"}))
            for one in chosen["block"].get("blocks") or ()
        )
        return Conf(Settings({"BlockSizes": ",".join(map(str, sizes))} if sizes else {}), lines)
    return Conf()


def _switch(one: Mapping[str, Any]) -> Line:
    return Line("SwitchName", str(one["switch"]), _told(one, {"nodes": "Nodes", "children": "Switches"}))


def _told(one: Mapping[str, Any], keys: Mapping[str, str]) -> Settings:
    return Settings({name: str(one[key]) for key, name in keys.items() if one.get(key)})


def _controller(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^()]+)\(([^()]+)\)", text)
    return (match[1], match[2]) if match else (text, text)


def _old_controllers(settings: Settings) -> Iterator[tuple[str, str]]:
    """ControlMachine and its backup, as Slurm before 18.08 wrote them."""
    for machine, address in (("ControlMachine", "ControlAddr"), ("BackupController", "BackupAddr")):
        names = [name for name in settings.get(machine, "").split(",") if name]
        addresses = [name for name in settings.get(address, "").split(",") if name] or names
        yield from zip(names, addresses, strict=False)


def _each_node(line: Line) -> Iterator[tuple[str, Settings]]:
    names, settings = _names(line), renamed("NodeName", line.settings)
    lists = {key: _one_each(line, key, settings[key], len(names)) for key in _PER_NODE if key in settings}
    for at, name in enumerate(names):
        own = {key: values[at] for key, values in lists.items()}
        own = {key: value for key, value in own.items() if key == "Port" or value != name}
        yield name, Settings({**settings.without(*_PER_NODE), **own})


def _one_each(line: Line, key: str, text: str, count: int) -> Sequence[str]:
    found = _located(line, lambda: expand(text))
    if len(found) not in (1, count):
        raise InputError(f"{line.where}: '{key}={text}' names {len(found)}, and the line has {count} nodes")
    return found if len(found) == count else found * count


def _names(line: Line) -> list[str]:
    return _located(line, lambda: expand(line.name))


def _located(line: Line, read: Callable[[], list[str]]) -> list[str]:
    try:
        return read()
    except InputError as error:
        raise InputError(f"{line.where}: {error}") from error


def _gres_line(line: Line) -> GresLine:
    settings = renamed("Gres", line.settings)
    nodes = line.name if line.kind == "NodeName" else settings.get("NodeName")
    name = line.name if line.kind == "Name" else settings.get("Name")
    named = frozenset(_located(line, lambda: expand(nodes))) if nodes else None
    return GresLine(name, named, settings.without("Name", "NodeName"))
