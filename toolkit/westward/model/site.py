"""A site: one Slurm cluster, what is known of it (catalogue) and what it says of itself now (live)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with where it comes from: no price, factor or limit is used whose origin cannot be shown.

    Attributes:
        source: a document, a measurement or the reasoning behind an estimate.
        as_of: the year or date that the number speaks of.
        estimated: True where nobody published it for this site.
    """

    value: float
    source: str
    as_of: str
    estimated: bool


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A chip: dense peaks in FLOP/s by precision, memory in bytes, board power in watts."""

    name: str
    vendor: str
    peak_flops: Mapping[str, float]
    mem_bytes: float
    power_w: float
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What the site charges, electricity apart: per accelerator-hour by chip, and per CPU-hour (one allocated CPU)."""

    currency: str
    accelerator_hour: Mapping[str, Figure]
    cpu_hour: Figure


@dataclass(frozen=True, slots=True)
class Power:
    """Electricity: PUE (facility / IT energy), price per kWh, location-based kgCO2e per kWh, watts of one busy CPU."""

    pue: Figure
    price_per_kwh: Figure
    carbon_kg_per_kwh: Figure
    cpu_w: Figure


@dataclass(frozen=True, slots=True)
class Link:
    """The way from a region of users to the site: round-trip time in milliseconds."""

    rtt_ms: Figure


@dataclass(frozen=True, slots=True)
class RestDoor:
    """slurmrestd: where it listens, as whom we speak, and the file that holds the JWT (never the token itself)."""

    url: str
    user: str
    token_file: Path


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster as the catalogue knows it.

    Attributes:
        cluster: Slurm's ClusterName; the site's own name is ours.
        doors: the ways in, in the order to try them.
        files: directories of the cluster that can be read here, as {path there: path here}.
        root: the directory at the site, on a file system all nodes share, under which jobs write.
        environment: variables that every job needs there.
        mpi: what `srun --mpi=` is called there.
        links: by region of the user.
    """

    name: str
    cluster: str
    region: str
    place: str
    doors: tuple[RestDoor, ...]
    files: Mapping[str, Path]
    root: str
    prices: Prices
    power: Power
    links: Mapping[str, Link]
    account: str | None = None
    qos: str | None = None
    mpi: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the cluster describes it now. A limit of None is no limit."""

    name: str
    up: bool
    max_walltime_s: int | None
    max_nodes: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the cluster describes it now; `accelerators` and `accelerators_used` count by chip."""

    name: str
    states: tuple[str, ...]
    partitions: tuple[str, ...]
    cpus: int
    cpus_used: int
    mem_bytes: int
    mem_used_bytes: int
    accelerators: Mapping[str, int]
    accelerators_used: Mapping[str, int]
    reason: str = ""

    @property
    def usable(self) -> bool:
        """True where Slurm would start a job on it, now or when its present jobs end."""
        return not UNUSABLE.intersection(self.states) and bool(
            {"IDLE", "MIXED", "ALLOCATED", "COMPLETING"}.intersection(self.states)
        )


UNUSABLE = frozenset(
    {
        "DOWN",
        "DRAIN",
        "FAIL",
        "FAILING",
        "ERROR",
        "FUTURE",
        "UNKNOWN",
        "INVAL",
        "INVALID_REG",
        "NOT_RESPONDING",
        "POWERING_DOWN",
        "MAINTENANCE",
    }
)


@dataclass(frozen=True, slots=True)
class ClusterState:
    """One answer of a cluster about itself. `running_ends` are the time limits' ends of the running jobs, by node."""

    version: str
    partitions: tuple[Partition, ...]
    nodes: tuple[Node, ...]
    running_ends: Mapping[str, datetime]
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is known of sites and chips. `currency` is that of every price; `digest` names the descriptions it was read from."""

    sites: Mapping[str, Site]
    accelerators: Mapping[str, Accelerator]
    currency: str
    digest: str
