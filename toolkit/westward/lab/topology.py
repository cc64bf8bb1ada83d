"""What a lab consists of: clusters, nodes, partitions. Read strictly from `westward/conf/lab/<topology>.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from westward.errors import NotFound
from westward.lab.release import DEFAULT, RELEASES, Release
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
    """A partition over all compute nodes of its cluster, or over its cloud nodes.

    Attributes:
        max_time: Slurm's MaxTime, as Slurm writes it.
        cloud: it has the cloud nodes, not the others.
        slurm: native keys of the partition's line to add, replace or (null) leave out.
    """

    name: str
    max_time: str
    default: bool = False
    cloud: bool = False
    slurm: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """One cluster: a controller `<name>-ctl` and the compute nodes `<name>-n1`, `<name>-n2`, ...

    Attributes:
        facts: the name of the file in `westward/conf/site/` that holds its power, prices and links.
        slurm: native slurm.conf keys to add, replace or (null) leave out.
        release: the Debian release that its nodes are made of, and with it the version of Slurm.
        cloud_nodes: nodes `<name>-c1`, ... that Slurm believes it could start, and that never come up.
        benchmarks: its nodes see the benchmarks' packages, which are made for the default release's Python.
        toolkit: its nodes see this very Westward, read-only, at `/opt/westward/toolkit`.
        accounts: which accounts the lab's user may charge; the first is the default.
        qos: QOS beside `normal`, each with what sacctmgr is told of it.
    """

    name: str
    facts: str
    nodes: int
    cpus: int
    memory_mib: int
    partitions: tuple[LabPartition, ...]
    accelerators: Accelerators | None = None
    slurm: Mapping[str, str | None] = field(default_factory=dict)
    release: Release = DEFAULT
    cloud_nodes: int = 0
    benchmarks: bool = True
    toolkit: bool = False
    accounts: tuple[str, ...] = ("research",)
    qos: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def controller(self) -> str:
        return f"{self.name}-ctl"

    @property
    def compute_nodes(self) -> tuple[str, ...]:
        return tuple(f"{self.name}-n{number}" for number in range(1, self.nodes + 1))

    @property
    def compute_list(self) -> str:
        """The compute nodes as a host list, as Slurm writes it."""
        return _host_list(f"{self.name}-n", self.nodes)

    @property
    def cloud_list(self) -> str:
        """The cloud nodes as a host list; empty where there are none."""
        return _host_list(f"{self.name}-c", self.cloud_nodes) if self.cloud_nodes else ""

    @property
    def devices(self) -> tuple[str, ...]:
        """The device files on every compute node."""
        return tuple(f"/dev/nvidia{minor}" for minor in range(self.accelerators.count if self.accelerators else 0))


@dataclass(frozen=True, slots=True)
class Topology:
    """A named set of clusters."""

    name: str
    clusters: tuple[ClusterPlan, ...]

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases of its clusters, each once."""
        return tuple({cluster.release.suite: cluster.release for cluster in self.clusters}.values())

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
        known = ", ".join((*known_topologies(), "bare, bare-bookworm, bare-forky (hosts without Slurm)"))
        raise NotFound(f"there is no lab topology '{name}'", f"the topologies are: {known}")
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
        slurm=_native(native),
        release=_release(keys),
        cloud_nodes=keys.count("cloud_nodes") if "cloud_nodes" in keys.names() else 0,
        benchmarks=keys.take("benchmarks", bool, True),
        toolkit=keys.take("toolkit", bool, False),
        accounts=_accounts(keys),
        qos={qos: _texts(inner) for qos, inner in keys.section("qos", {}).sections()},
    )
    keys.done()
    if sum(partition.default for partition in plan.partitions) != 1:
        raise keys.error("partitions", "exactly one is the default")
    for partition in plan.partitions:
        if partition.cloud and not plan.cloud_nodes:
            raise keys.error(f"partitions.{partition.name}.cloud", "there are no cloud nodes")
    return plan


def _accelerators(keys: Reader) -> Accelerators:
    chips = Accelerators(keys.word("type", CHIP, "a GRES type such as h100"), keys.count("count"))
    keys.done()
    return chips


def _partition(name: str, keys: Reader) -> LabPartition:
    _check_name(name, keys)
    limit = keys.word("max_time", LIMIT, "D-HH:MM:SS, HH:MM:SS or UNLIMITED")
    partition = LabPartition(
        name,
        limit,
        default=keys.take("default", bool, False),
        cloud=keys.take("cloud", bool, False),
        slurm=_native(keys.section("slurm", {})),
    )
    keys.done()
    return partition


def _release(keys: Reader) -> Release:
    name = keys.take("release", str, DEFAULT.suite)
    if name not in RELEASES:
        raise keys.error("release", f"'{name}' is not known; known: {', '.join(RELEASES)}")
    return RELEASES[name]


def _accounts(keys: Reader) -> tuple[str, ...]:
    names = keys.take("accounts", list, ["research"])
    if not names or not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise keys.error("accounts", f"a list of names was expected, not {names!r}")
    return tuple(names)


def _host_list(stem: str, count: int) -> str:
    return f"{stem}1" if count == 1 else f"{stem}[1-{count}]"


def _check_name(name: str, keys: Reader) -> None:
    if not NAME.fullmatch(name):
        raise keys.error("", "a name has lower-case letters, digits and '-', and begins with a letter")


def _native(keys: Reader) -> dict[str, str | None]:
    """Slurm's own keys: a text each, or nothing for a key to leave out."""
    return {key: None if keys.take(key, object, None) is None else keys.take(key, str) for key in keys.names()}


def _texts(keys: Reader) -> dict[str, str]:
    return {key: keys.take(key, str) for key in keys.names()}
