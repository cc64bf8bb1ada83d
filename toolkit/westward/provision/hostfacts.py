"""What the hosts of a cluster told of themselves (`hostprograms/look.py`), parsed at the edge. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from westward.errors import WestwardError
from westward.slurm.clustertext import mpi_types
from westward.slurm.confmeaning import Release, release_of


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit: its LoadState, ActiveState, SubState and UnitFileState."""

    load: str
    active: str
    sub: str
    file: str

    @property
    def there(self) -> bool:
        return self.load not in ("", "not-found")


@dataclass(frozen=True, slots=True)
class Key:
    """A key file. `digest` is salted anew in every run; it is compared, and never shown."""

    digest: str = field(repr=False)
    owner: str
    group: str
    mode: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system: bytes and inodes, and how many of them are free."""

    size: int
    free: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class Clock:
    """How far a host's clock is ahead of ours, and by how much that may be wrong: half of the round trip. In seconds."""

    ahead_s: float
    bound_s: float


@dataclass(frozen=True, slots=True)
class Look:
    """What a host told. A field is None where it could not be found out.

    Attributes:
        versions: Slurm's, of each of its programs that is there, as `24.11.5`.
        keys: None for one that is not there.
        disks: None for a directory that is not there.
        addresses: what each name means there.
        ports: HOST:PORT -> why nobody answers; empty where somebody does.
        cgroup: version of the hierarchy.
        slurmd: the command line of the one that runs.
        files: whether each is a device.
        digests: of the configuration that slurmd and the commands use there, by file.
        gres: what `slurmd -G` prints.
    """

    hostname: str
    versions: Mapping[str, str] | None = None
    units: Mapping[str, Unit] | None = None
    keys: Mapping[str, Key | None] | None = None
    disks: Mapping[str, Disk | None] | None = None
    addresses: Mapping[str, tuple[str, ...]] | None = None
    ports: Mapping[str, str] | None = None
    cgroup: int | None = None
    controllers: frozenset[str] = frozenset()
    mpi: tuple[str, ...] | None = None
    apptainer: str | None = None
    slurmd: tuple[str, ...] | None = None
    files: Mapping[str, bool] | None = None
    digests: Mapping[str, str] | None = None
    gres: str | None = None

    @property
    def release(self) -> Release | None:
        """Slurm's here: that of the commands, which all hosts have, or of any daemon."""
        found = self.versions or {}
        texts = [found[name] for name in ("scontrol", *found) if name in found]
        return release_of(texts[0]) if texts else None


def parse(text: str) -> Look:
    """From the line of JSON.

    Raises:
        WestwardError: it is none.
    """
    try:
        told: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return _look(told)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WestwardError(f"its answer cannot be read: {text.strip()[-200:] or 'it says nothing'}") from error


def _look(told: Mapping[str, Any]) -> Look:
    cgroup = told["cgroup"] or {}
    return Look(
        hostname=told["hostname"],
        versions=None if told["versions"] is None else _versions(told["versions"]),
        units=_each(told["units"], _unit),
        keys=_each(told["keys"], _key),
        disks=_each(told["disks"], lambda disk: Disk(**disk) if disk else None),
        addresses=_each(told["addresses"], tuple),
        ports=told["ports"],
        cgroup=cgroup.get("version"),
        controllers=frozenset(cgroup.get("controllers") or ()),
        mpi=mpi_types(told["mpi"]) if told["mpi"] else None,
        apptainer=told["apptainer"].strip() if told["apptainer"] else None,
        slurmd=tuple(told["slurmd"]) if told["slurmd"] else None,
        files=told["files"],
        digests=told["digests"],
        gres=told["gres"],
    )


def _each(found: Mapping[str, Any] | None, parse_one: Any) -> dict[str, Any] | None:
    return None if found is None else {name: parse_one(one) for name, one in found.items()}


def _versions(told: Mapping[str, str]) -> dict[str, str]:
    """`24.11.5` of what `-V` prints: `slurm 24.11.5`, `slurm-wlm 24.11.5`. A program that prints none is left out."""
    found = {name: re.search(r"\b\d{2}\.\d{2}\b\S*", text) for name, text in told.items()}
    return {name: match[0] for name, match in found.items() if match}


def _unit(told: Mapping[str, str]) -> Unit:
    return Unit(told["LoadState"], told["ActiveState"], told["SubState"], told["UnitFileState"])


def _key(told: Mapping[str, str]) -> Key | None:
    return Key(told["digest"], told["owner"], told["group"], int(told["mode"], 8)) if told else None
