"""A cluster that was made by hand becomes an inventory from which the roles write the same, or it is said what they would not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unit.provision.hosts import PASSWORD, Host
from unit.provision.hosts import host as host  # a fixture
from westward.errors import InputError, Unsafe
from westward.provision.importing import Imported, compare_site, import_site
from westward.slurm.commands import LocalCommands


def imported(out: Path, force: bool = False) -> Imported:
    return import_site(LocalCommands(), "ctl", out, force=force, user="admin")


def compared(out: Path) -> list[str]:
    found = compare_site(LocalCommands(), out)
    return [*map(str, found.differences), *found.accounting]


def test_the_roles_write_the_same(host: Host, tmp_path: Path) -> None:
    found = imported(tmp_path / "out")
    assert (found.differences, found.accounting) == ((), ())
    texts = {
        str(file.relative_to(found.folder)): file.read_text() for file in found.folder.rglob("*") if file.is_file()
    }
    assert texts.keys() == {"hosts.yml", "group_vars/all/slurm.yml", "group_vars/all/accounts.yml"}
    assert not any(PASSWORD in text for text in texts.values())
    hosts = yaml.safe_load(texts["hosts.yml"])["all"]
    assert hosts["vars"] == {"ansible_user": "admin"}
    assert hosts["children"]["slurm_compute"]["children"] == {
        "k80_p100": {"hosts": {"n1": None}},
        "k80": {"hosts": {"n2": None}},
    }
    variables = yaml.safe_load(texts["group_vars/all/slurm.yml"])
    assert variables["slurm_nodegroups"][0]["accelerators"] == [
        {"type": "k80", "count": 2, "detect": "files", "files": "/dev/nvidia[0-1]", "cores": "0-1"},
        {"type": "p100", "count": 2, "detect": "files", "files": ["/dev/nvidia2", "/dev/nvidia3"], "cores": "2-3"},
    ]
    assert variables["slurm_dbd_config"]["StoragePass"] == "{{vault_slurm_storage_pass}}"
    assert any("vault_slurm_storage_pass: PASSWORD" in note for note in found.notes)


def test_accounts_are_those_of_the_cluster(host: Host, tmp_path: Path) -> None:
    file = imported(tmp_path / "out").folder / "group_vars" / "all" / "accounts.yml"
    accounts = yaml.safe_load(file.read_text())["slurm_accounts"]
    by_name = {account["name"]: account for account in accounts["accounts"]}
    assert by_name["optik"]["parent"] == "physik"
    assert by_name["physik"]["parameters"] == {"Fairshare": "40"}
    assert by_name["chemie"]["parameters"] == {"QOS": "eilig,normal"}
    (admin,) = [user for user in accounts["users"] if user["name"] == "admin"]
    assert admin["accounts"] == ["chemie", {"name": "optik", "parameters": {"MaxJobs": "5"}}]


@pytest.mark.parametrize(
    ("file", "before", "after", "told"),
    [
        ("nodes.conf", "MaxTime=30", "MaxTime=45", "slurm.conf PartitionName=short MaxTime: 45 -> 30"),
        ("nodes.conf", "weight=10", "weight=11", "slurm.conf NodeName=n2 Weight: 11 -> 10"),
        ("slurm.conf", "KillWait=30", "KillWait=60", "slurm.conf KillWait: 60 -> 30"),
        ("slurm.conf", "KillWait=30", "Prolog=/opt/new", "slurm.conf Prolog: /opt/new -> (not set)"),
        ("slurmdbd.conf", "PurgeJobAfter=24", "PurgeJobAfter=1", "slurmdbd.conf PurgeJobAfter: 1 -> 24"),
        ("topology.conf", "Nodes=n2", "Nodes=n9", "topology.conf SwitchName=leaf2 Nodes: n9 -> n2"),
        (
            "sacctmgr-associations.txt",
            "|root|40|",
            "|root|41|",
            "sacctmgr -i modify account name=physik cluster=Altbau set Fairshare=40",
        ),
        ("sacctmgr-users.txt", "admin|None", "admin|None\neve|None", "not in slurm_accounts: user eve"),
    ],
)
def test_a_change_by_hand_after_that_is_named(
    host: Host, tmp_path: Path, file: str, before: str, after: str, told: str
) -> None:
    folder = imported(tmp_path / "out").folder
    assert compared(folder) == []
    host.change(file, before, after)
    assert compared(folder) == [told]


def test_a_change_of_the_inventory_is_named_too(host: Host, tmp_path: Path) -> None:
    folder = imported(tmp_path / "out").folder
    variables = folder / "group_vars" / "all" / "slurm.yml"
    variables.write_text(variables.read_text().replace("MaxTime: '30'", "MaxTime: '31'"))
    assert compared(folder) == ["slurm.conf PartitionName=short MaxTime: 30 -> 31"]
    variables.write_text(variables.read_text().replace("nodegroups: [k80_p100, k80]", "nodegroups: [k80_p100, k20]", 1))
    with pytest.raises(InputError, match="partition 'long' names the node group 'k20'"):
        compared(folder)


def test_an_inventory_that_is_there_is_left_alone_unless_by_force(host: Host, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(Unsafe, match="is there already"):
        imported(out)
    assert [file.name for file in out.iterdir()] == ["mine"]
    assert imported(out, force=True).same
    assert (out / "mine").read_text() == "x"
    assert not list(tmp_path.glob(".out.*"))


def test_the_inventory_has_the_cluster_s_name_if_no_other_is_given(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert import_site(LocalCommands(), "ctl", None).folder == Path("Altbau")
    assert (tmp_path / "Altbau" / "hosts.yml").is_file()


def test_what_the_roles_have_no_words_for_is_refused_by_name(host: Host, tmp_path: Path) -> None:
    host.change("nodes.conf", "PartitionName=DEFAULT", "FrontendName=fe1\nPartitionName=DEFAULT")
    with pytest.raises(InputError, match=r"nodes.conf:5: FrontendName=fe1: the roles have no front ends"):
        imported(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "before", "after", "place"),
    [
        ("slurm.conf", "KillWait=30", "Prolog={{lookup('pipe','id')}}", "slurm_config Prolog"),
        ("nodes.conf", "Feature=old,ib", "Feature={%x%}", "slurm_nodegroups features"),
        ("sacctmgr-accounts.txt", "|institut a", "|{{ x }}", "slurm_accounts accounts description"),
    ],
)
def test_a_text_that_ansible_would_run_is_refused(
    host: Host, tmp_path: Path, file: str, before: str, after: str, place: str
) -> None:
    host.change(file, before, after)
    with pytest.raises(InputError, match=f"^{place}: Ansible would take .* for a template"):
        imported(tmp_path / "out")
    assert not (tmp_path / "out").exists()
