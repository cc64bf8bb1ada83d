"""Configurations of one text, taken over: written as an inventory, read again, and rendered as the roles render it."""

from __future__ import annotations

from pathlib import Path

from westward.provision import inventoryfiles
from westward.provision.importing import rendered
from westward.provision.variables import Inventory, inventory_of
from westward.slurm.confcluster import Configuration, of_texts
from westward.slurm.confcompare import compare
from westward.slurm.confmeaning import release_of

SLURM = "ClusterName=c\nSlurmctldHost=ctl\nStateSaveLocation=/s/ctl\nSlurmdSpoolDir=/s/d\n"
NODES = "NodeName=n[1-2] CPUs=4\nPartitionName=p Nodes=ALL\n"
GPUS = SLURM + "NodeName=n[1-2] CPUs=4 Gres=gpu:a:2\nPartitionName=p Nodes=ALL\n"


def cluster(slurm: str, version: str = "24.11.5", **files: str) -> Configuration:
    texts = {"slurm.conf": slurm, **{f"{name}.conf": text for name, text in files.items()}}
    return of_texts(texts, release_of(version))


def taken_over(conf: Configuration, folder: Path, version: str = "24.11.5") -> Inventory:
    """Its inventory, written and read again; from that the roles have to write the same."""
    inventoryfiles.write(folder, inventoryfiles.texts_of(inventory_of(conf, version), None, ["test"]), force=True)
    inventory = inventoryfiles.read(folder)
    assert list(map(str, compare(conf, rendered(inventory, version)))) == []
    return inventory
