"""Take over a cluster that exists: read it, write its inventory, and see whether the roles would write the same from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from westward.errors import InputError
from westward.provision import accounts as accounting
from westward.provision import ansiblecode, inventoryfiles
from westward.provision.reading import SECRETS, Reading, read_cluster
from westward.provision.variables import Inventory, inventory_of
from westward.slurm import conftext
from westward.slurm.commands import Commands
from westward.slurm.confcluster import Configuration, of_texts
from westward.slurm.confcompare import Difference, compare
from westward.slurm.confmeaning import release_of


@dataclass(frozen=True)
class Imported:
    """What became of a cluster.

    Attributes:
        folder: the inventory.
        differences: between what the cluster has and what the roles would write: none where the inventory says the same.
        accounting: what a run would change in the accounting, or reports.
        notes: what its owner should know, each a sentence.
    """

    reading: Reading
    folder: Path
    inventory: Inventory
    differences: tuple[Difference, ...]
    accounting: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        return not self.differences and not self.accounting


def import_site(
    commands: Commands, host: str, out: Path | None, *, sudo: bool = False, force: bool = False, user: str | None = None
) -> Imported:
    """Read the cluster of a host and write its inventory to `out`, or to a directory of the cluster's name here.

    Raises:
        Unsafe: the directory is there, and `force` was not said.
        Unreachable: the host, or its slurmctld, does not answer.
        InputError: its configuration cannot be read as Slurm reads it, or the roles have no words for it.
    """
    if out is not None:
        inventoryfiles.refuse_existing(out, force)
    reading = read_cluster(commands, accounting.queries(), sudo)
    folder = out or Path(reading.cluster.replace("/", "_"))
    inventory = inventory_of(reading.configuration, reading.version)
    told = accounting.accounts_of(reading.cluster, reading.accounting) if reading.accounting is not None else None
    files = inventoryfiles.texts_of(inventory, told, _header(reading, host), user)
    inventoryfiles.write(folder, files, force)
    return _compared(reading, folder, (*reading.notes, *inventory.notes, *_secrets(files, folder)))


def compare_site(commands: Commands, folder: Path, *, sudo: bool = False) -> Imported:
    """Read the cluster of a host and compare it with an inventory that is there; nothing is written.

    Raises:
        Unreachable: the host, or its slurmctld, does not answer.
        InputError: its configuration cannot be read as Slurm reads it, or the inventory cannot be meant.
    """
    reading = read_cluster(commands, accounting.queries(), sudo)
    return _compared(reading, folder, reading.notes)


def _compared(reading: Reading, folder: Path, notes: tuple[str, ...]) -> Imported:
    """With the inventory as it lies there, which is what Ansible will read."""
    inventory = inventoryfiles.read(folder)
    found = compare(reading.configuration, rendered(inventory, reading.version))
    drift: list[str] = []
    if reading.accounting is not None:
        accounts = inventory.variables.get("slurm_accounts") or {}
        drift = accounting.differences(reading.cluster, reading.accounting, accounts)
    return Imported(reading, folder, inventory, tuple(found), tuple(drift), notes)


def rendered(inventory: Inventory, version: str) -> Configuration:
    """The configuration that the roles would write from those variables, read back.

    Raises:
        InputError: the variables contradict each other; the message names one.
    """
    code = ansiblecode.slurm_values()
    try:
        values = code.slurm_values(inventory.variables, inventory.members(), inventory.hostvars(), version)
    except code.Refused as error:
        raise InputError(str(error)) from error
    names = ["slurm.conf", "gres.conf", "cgroup.conf"]
    if inventory.groups.get("slurm_dbd"):
        names.append("slurmdbd.conf")
    if values["topology"]:
        names.append("topology.yaml" if values["topology"]["yaml"] else "topology.conf")
    return of_texts({name: conftext.render(name, values) for name in names}, release_of(version))


def _header(reading: Reading, host: str) -> list[str]:
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    sources = [f"{name} from {source}" for name, source in reading.sources.items()]
    return [
        f"Cluster '{reading.cluster}' (Slurm {reading.version}) as {host} had it on {when}, by westward site import:",
        *sources,
    ]


def _secrets(files: Mapping[str, str], folder: Path) -> list[str]:
    """What to do for each password that was not copied."""
    text = "".join(files.values())
    return [
        f"{key} was not copied: 'ansible-vault create {folder}/group_vars/all/vault.yml', with the line '{stand_in.strip('{}')}: PASSWORD'"
        for key, stand_in in SECRETS.items()
        if stand_in in text
    ]
