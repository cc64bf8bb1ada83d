"""What a lab consists of: clusters, nodes, partitions. Read strictly from `westward/conf/lab/<topology>.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from westward.errors import NotFound
from westward.yamlfile import Reader, read_yaml

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
    return parse_topology(name, path.read_text(), path)


def parse_topology(name: str, text: str, source: Path) -> Topology:
    """A topology from YAML text; `source` is what an error calls it."""
    top = read_yaml(text, source)
    clusters = top.section("clusters")
    top.done()
    if not clusters.names():
        raise top.error("clusters", "at least one is needed")
    return Topology(name, tuple(_cluster(cluster, keys) for cluster, keys in clusters.sections()))


def _cluster(name: str, keys: Reader) -> ClusterPlan:
    _check_name(name, keys)
    partitions, native = keys.section("partitions"), keys.section("slurm", {})
    plan = ClusterPlan(
        name=name,
        facts=keys.take("facts", str),
        nodes=keys.count("nodes"),
        cpus=keys.count("cpus"),
        memory_mib=keys.count("memory_mib"),
        accelerators=_accelerators(keys.section("accelerators")) if "accelerators" in keys.names() else None,
        partitions=tuple(_partition(partition, inner) for partition, inner in partitions.sections()),
        slurm={key: _native(key, native) for key in native.names()},
    )
    keys.done()
    if sum(partition.default for partition in plan.partitions) != 1:
        raise keys.error("partitions", "exactly one is the default")
    return plan


def _accelerators(keys: Reader) -> Accelerators:
    chips = Accelerators(keys.word("type", CHIP, "a GRES type such as h100"), keys.count("count"))
    keys.done()
    return chips


def _partition(name: str, keys: Reader) -> LabPartition:
    _check_name(name, keys)
    limit = keys.word("max_time", LIMIT, "D-HH:MM:SS, HH:MM:SS or UNLIMITED")
    partition = LabPartition(name, limit, keys.take("default", bool, False))
    keys.done()
    return partition


def _check_name(name: str, keys: Reader) -> None:
    if not NAME.fullmatch(name):
        raise keys.error("", "a name has lower-case letters, digits and '-', and begins with a letter")


def _native(key: str, keys: Reader) -> str | None:
    return None if keys.take(key, object, None) is None else keys.take(key, str)
