"""A site: one Slurm cluster, what is known of it (catalogue) and what it says of itself now (live)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from westward.model.container import Runtime
from westward.model.sitemap import SiteMap


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
class Origin:
    """A document, and which of a chip's figures are from it.

    Attributes:
        url: where it was read; None where its reader did not say.
        figures: by key: "bf16", "mem_bytes", ...
        estimated: it is no document of the chip's maker, nor a copy of one.
    """

    source: str
    url: str | None
    as_of: str
    estimated: bool
    figures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A chip: dense peaks in FLOP/s by precision, memory in bytes, memory bandwidth in bytes/s, board power in watts.

    A peak that is not there, and None, is unknown: never zero.

    Attributes:
        aliases: other GRES types that sites and Slurm's AutoDetect give it, in lower case.
        sparse_flops: what data sheets say with structured sparsity, to tell the two apart; nothing is reckoned with it.
    """

    name: str
    vendor: str
    peak_flops: Mapping[str, float]
    mem_bytes: float | None
    power_w: float | None
    origins: tuple[Origin, ...]
    mem_bytes_per_s: float | None = None
    aliases: tuple[str, ...] = ()
    sparse_flops: Mapping[str, float] = field(default_factory=dict)

    def estimated(self, figure: str) -> bool:
        """Whether a figure is not the maker's own."""
        return any(origin.estimated and figure in origin.figures for origin in self.origins)


@dataclass(frozen=True, slots=True)
class Prices:
    """What the site charges, electricity apart: per accelerator-hour by chip, and per CPU-hour (one allocated CPU).

    None, and a chip that is not named, is unknown: never zero. `currency` is None where no price is known.
    """

    currency: str | None = None
    accelerator_hour: Mapping[str, Figure] = field(default_factory=dict)
    cpu_hour: Figure | None = None


@dataclass(frozen=True, slots=True)
class Power:
    """Electricity: PUE (facility / IT energy), price per kWh, location-based kgCO2e per kWh, watts of one busy CPU. None is unknown."""

    pue: Figure | None = None
    price_per_kwh: Figure | None = None
    carbon_kg_per_kwh: Figure | None = None
    cpu_w: Figure | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """The way from a region of users to the site: round-trip time in milliseconds."""

    rtt_ms: Figure


@dataclass(frozen=True, slots=True)
class RestDoor:
    """slurmrestd: where it listens, as whom we speak, and where the JWT comes from (never the token itself).

    Attributes:
        url: http://HOST:PORT, https://HOST:PORT, or unix:///PATH.
        token_file: holds the token, mode 600; read again when the token in use is refused.
        token_command: argv of a program that prints a token ("SLURM_JWT=..." or the token alone); run when there is none yet,
            and when the token in use is refused. Its result is kept in `token_file` where one is named, else in memory.
    """

    url: str
    user: str
    token_file: Path | None = None
    token_command: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"rest {self.url}"


@dataclass(frozen=True, slots=True)
class ShellDoor:
    """The Slurm commands: on this host (`host` None), or over ssh as ~/.ssh/config says.

    Attributes:
        identity_file: the private key; None for what ssh-agent and ~/.ssh/config offer.
        known_hosts: host keys to trust beside the user's and the system's own.
        commands: directory of the Slurm commands there, where PATH does not find them.
        renew_command: argv of a program of this host that renews our key or certificate; run when the host takes none that we have.
    """

    host: str | None = None
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    known_hosts: Path | None = None
    commands: str | None = None
    renew_command: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.host is None:
            return "shell on this host"
        user = f"{self.user}@" if self.user else ""
        return f"shell ssh://{user}{self.host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class NativeDoor:
    """libslurm in this process, by pyslurm: on a login node of that very cluster."""

    def __str__(self) -> str:
        return "native"


Door = RestDoor | ShellDoor | NativeDoor


@dataclass(frozen=True, slots=True)
class Observed:
    """What a cluster said of itself on the day its description was written, for a reader and to compare with.

    Decisions rest on what it says now, never on this.

    Attributes:
        at: when, UTC, in whole seconds.
        clock_skew_s: how far its clock was ahead of this host's; None where its door cannot tell.
    """

    at: datetime
    version: str
    user: str
    partitions: tuple[ObservedPartition, ...]
    accounts: tuple[Association, ...] = ()
    clock_skew_s: float | None = None


@dataclass(frozen=True, slots=True)
class ObservedPartition:
    """A partition on that day: its limits (None: no limit), how many nodes it had, and their accelerators together by chip."""

    name: str
    nodes: int
    max_walltime_s: int | None = None
    max_nodes: int | None = None
    default: bool | None = None
    accelerators: Mapping[str, int] = field(default_factory=dict)


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
        inventory: for its sysadmin: what the playbooks manage it by, paths as for `ansible-playbook -i`.
        home: the user's own batch scripts are made for this cluster: its accounts, paths and modules.
        max_array_size: MaxArraySize there, for doors that cannot ask it.
        containers: what starts containers there; None where nobody said.
        sitemap: what it calls accounts, modules and directories that have other names elsewhere.
    """

    name: str
    cluster: str
    region: str
    place: str
    doors: tuple[Door, ...]
    files: Mapping[str, Path]
    root: str
    prices: Prices
    power: Power
    links: Mapping[str, Link]
    account: str | None = None
    qos: str | None = None
    mpi: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    observed: Observed | None = None
    inventory: tuple[Path, ...] = ()
    home: bool = False
    max_array_size: int | None = None
    containers: Runtime | None = None
    sitemap: SiteMap = field(default_factory=SiteMap)

    def account_for(self, name: str | None) -> str | None:
        """What an account is called here, in the user's own words elsewhere; the site's own where none is named."""
        return self.sitemap.accounts.get(name, name) if name else self.account

    def qos_for(self, name: str | None) -> str | None:
        """The same of a QOS."""
        return self.sitemap.qos.get(name, name) if name else self.qos

    @property
    def on_this_host(self) -> bool:
        """Its Slurm commands run here, so that its directories are this host's."""
        return any(isinstance(door, ShellDoor) and door.host is None for door in self.doors)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as the cluster describes it now. A limit of None is no limit; `default` None: this door does not tell."""

    name: str
    up: bool
    max_walltime_s: int | None
    max_nodes: int | None
    default: bool | None = None


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
class Association:
    """An account that this user may charge, with the QOS allowed there (accounts and limits are the cluster's own)."""

    account: str
    partition: str | None
    qos: tuple[str, ...]
    default_qos: str | None


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are at a cluster, as it says itself.

    Attributes:
        home: the home directory there; None where this door cannot tell.
        default_account: None where the cluster keeps no accounts.
        clock: the cluster's own time when it answered, UTC; None where this door cannot tell.
        max_array_size: MaxArraySize: one more than the highest index of an array.
        mpi: what `srun --mpi=` knows there; empty where this door cannot tell.
    """

    cluster: str
    user: str
    home: str | None
    default_account: str | None
    associations: tuple[Association, ...]
    clock: datetime | None
    max_array_size: int | None
    mpi: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What is known of sites and chips. `currency` is that of every price, None where no site names one; `digest` names the descriptions it was read from."""

    sites: Mapping[str, Site]
    accelerators: Mapping[str, Accelerator]
    currency: str | None
    digest: str
