"""What a lab consists of: clusters, nodes, partitions. Read strictly from `westward/conf/lab/<topology>.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from westward.errors import InputError, NotFound

T = TypeVar("T")

FOLDER = Path(__file__).parent.parent / "conf" / "lab"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
CHIP = re.compile(r"[a-z0-9_]+")
LIMIT = re.compile(r"(\d+-)?\d{1,2}:\d{2}:\d{2}|UNLIMITED")


@dataclass(frozen=True, slots=True)
class Accelerators:
    """What every compute node of a cluster has: `count` chips of one GRES type."""

    type: str
    count: int


@dataclass(frozen=True, slots=True)
class LabPartition:
    """A partition over all nodes of its cluster.

    Attributes:
        max_time: Slurm's MaxTime, as Slurm writes it.
    """

    name: str
    max_time: str
    default: bool = False


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """One cluster: a controller `<name>-ctl` and the compute nodes `<name>-n1`, `<name>-n2`, ...

    Attributes:
        facts: the name of the file in `westward/conf/site/` that holds its power, prices and links.
        slurm: native slurm.conf keys to add, replace or (null) leave out.
    """

    name: str
    facts: str
    nodes: int
    cpus: int
    memory_mib: int
    partitions: tuple[LabPartition, ...]
    accelerators: Accelerators | None = None
    slurm: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def controller(self) -> str:
        return f"{self.name}-ctl"

    @property
    def compute_nodes(self) -> tuple[str, ...]:
        return tuple(f"{self.name}-n{number}" for number in range(1, self.nodes + 1))

    @property
    def devices(self) -> tuple[str, ...]:
        """The device files on every compute node."""
        return tuple(f"/dev/nvidia{minor}" for minor in range(self.accelerators.count if self.accelerators else 0))


@dataclass(frozen=True, slots=True)
class Topology:
    """A named set of clusters."""

    name: str
    clusters: tuple[ClusterPlan, ...]

    def cluster(self, name: str) -> ClusterPlan:
        return next(cluster for cluster in self.clusters if cluster.name == name)


def known_topologies() -> tuple[str, ...]:
    """The topologies that come with Westward."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_topology(name: str) -> Topology:
    """The topology of that name.

    Raises:
        NotFound: there is none.
        InputError: its file says something that cannot be meant; the message names file and key.
    """
    path = FOLDER / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        raise NotFound(f"there is no lab topology '{name}'", f"the topologies are: {', '.join(known_topologies())}")
    return parse_topology(name, path.read_text(), str(path))


def parse_topology(name: str, text: str, source: str) -> Topology:
    """A topology from YAML text; `source` is what an error calls it."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not YAML: {error}") from error
    top = _Keys(loaded, source, "")
    clusters = top.sub("clusters")
    top.done()
    if not clusters.names:
        raise InputError(f"{source}: clusters: at least one is needed")
    return Topology(name, tuple(_cluster(cluster, clusters.sub(cluster)) for cluster in clusters.names))


def _cluster(name: str, keys: _Keys) -> ClusterPlan:
    keys.must(NAME, name, "a cluster is named with lower-case letters, digits and '-'")
    chips = keys.sub_if_any("accelerators")
    partitions = keys.sub("partitions")
    native = keys.sub_if_any("slurm")
    plan = ClusterPlan(
        name=name,
        facts=keys.take("facts", str),
        nodes=keys.number("nodes"),
        cpus=keys.number("cpus"),
        memory_mib=keys.number("memory_mib"),
        accelerators=_accelerators(chips) if chips else None,
        partitions=tuple(_partition(partition, partitions.sub(partition)) for partition in partitions.names),
        slurm={key: native.native(key) for key in native.names} if native else {},
    )
    keys.done()
    if sum(partition.default for partition in plan.partitions) != 1:
        raise InputError(f"{partitions.where}: exactly one partition is the default")
    return plan


def _accelerators(keys: _Keys) -> Accelerators:
    chips = Accelerators(keys.must(CHIP, keys.take("type", str), "a GRES type such as h100"), keys.number("count"))
    keys.done()
    return chips


def _partition(name: str, keys: _Keys) -> LabPartition:
    keys.must(NAME, name, "a partition is named with lower-case letters, digits and '-'")
    limit = keys.must(LIMIT, keys.take("max_time", str), "max_time is written D-HH:MM:SS, HH:MM:SS or UNLIMITED")
    partition = LabPartition(name, limit, keys.take("default", bool, False))
    keys.done()
    return partition


class _Keys:
    """A mapping that is emptied key by key, so that what is left over at the end is an error."""

    def __init__(self, mapping: Any, source: str, path: str) -> None:
        self.source, self.path = source, path
        if not isinstance(mapping, dict) or not all(isinstance(key, str) for key in mapping):
            raise InputError(f"{self.where}: expected a mapping")
        self.left: dict[str, Any] = dict(mapping)
        self.names = tuple(mapping)

    @property
    def where(self) -> str:
        return f"{self.source}: {self.path}" if self.path else self.source

    def _at(self, key: str) -> str:
        return f"{self.source}: {self.path}.{key}" if self.path else f"{self.source}: {key}"

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        if key not in self.left:
            if default is None:
                raise InputError(f"{self._at(key)} is missing")
            return default
        value = self.left.pop(key)
        if type(value) is not kind:
            raise InputError(f"{self._at(key)}: expected {_KINDS[kind]}, found {value!r}")
        return value

    def number(self, key: str) -> int:
        value = self.take(key, int)
        if value < 1:
            raise InputError(f"{self._at(key)}: expected 1 or more, found {value}")
        return value

    def sub(self, key: str) -> _Keys:
        if key not in self.left:
            raise InputError(f"{self._at(key)} is missing")
        return _Keys(self.left.pop(key), self.source, f"{self.path}.{key}" if self.path else key)

    def sub_if_any(self, key: str) -> _Keys | None:
        return self.sub(key) if key in self.left else None

    def native(self, key: str) -> str | None:
        value = self.left.pop(key)
        if value is not None and not isinstance(value, str):
            raise InputError(f"{self._at(key)}: expected text or null, found {value!r}")
        return value

    def must(self, pattern: re.Pattern[str], value: str, expected: str) -> str:
        if not pattern.fullmatch(value):
            raise InputError(f"{self.where}: {expected}; found {value!r}")
        return value

    def done(self) -> None:
        if self.left:
            known = ", ".join(sorted(set(self.names) - set(self.left))) or "none"
            raise InputError(f"{self._at(next(iter(self.left)))}: unknown key (known here: {known})")


_KINDS: dict[type, str] = {str: "text", int: "a whole number", bool: "true or false"}
