"""An inventory's files: read as they were written, and by people; what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.provision.takeover import NODES, SLURM, cluster
from westward.errors import InputError, StorageError
from westward.provision.inventoryfiles import read, texts_of, write
from westward.provision.variables import Inventory, inventory_of


@pytest.fixture
def inventory() -> Inventory:
    return inventory_of(cluster(SLURM + NODES), "24.11.5")


def test_what_is_written_is_read_back(inventory: Inventory, tmp_path: Path) -> None:
    accounts = {"qos": [{"name": "no", "parameters": {"MaxWall": "24:00:00"}}]}
    write(tmp_path / "out", texts_of(inventory, accounts, ["one", "two"], "u17"), force=False)
    found = read(tmp_path / "out")
    assert (found.groups, found.node_groups) == (inventory.groups, inventory.node_groups)
    assert found.variables == {**inventory.variables, "slurm_accounts": accounts}


def test_a_key_a_line(inventory: Inventory) -> None:
    text = texts_of(inventory, None, ["said"])["group_vars/all/slurm.yml"]
    assert text.startswith("# said\n---\nslurm_cluster_name: c\n")
    for line in ("slurm_config:", "  StateSaveLocation: /s/ctl", "  PrologFlags: omit", "  - name: p"):
        assert f"\n{line}\n" in text


def test_a_vault_is_left_closed(inventory: Inventory, tmp_path: Path) -> None:
    write(tmp_path / "out", texts_of(inventory, None, []), force=False)
    (tmp_path / "out" / "group_vars" / "all" / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3365\n")
    assert read(tmp_path / "out").variables == inventory.variables


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("hosts.yml", "all: [", "hosts.yml' is not YAML"),
        ("hosts.yml", "- a", "hosts.yml': a mapping was expected"),
        ("group_vars/all/slurm.yml", "", "slurm.yml': a mapping was expected"),
        ("hosts.yml", "all: {children: [a]}", "hosts.yml': a mapping was expected under children"),
    ],
)
def test_what_cannot_be_read_is_named(inventory: Inventory, tmp_path: Path, file: str, text: str, said: str) -> None:
    write(tmp_path / "out", texts_of(inventory, None, []), force=False)
    (tmp_path / "out" / file).write_text(text)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "out")
    assert said in str(caught.value)


def test_no_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*hosts\.yml': No such file"):
        read(tmp_path / "nowhere")


def test_a_place_where_nothing_can_be_written(inventory: Inventory, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "file" / "out", texts_of(inventory, None, []), force=False)
