"""A cluster that was made by hand is imported, is the same by meaning, and is then kept by the playbook while its jobs run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from contract.clusters import Said, westward
from provision import handwritten
from provision.conftest import bare
from provision.sites import RELEASES, Fleet, Played
from westward.catalogue.load import load_site
from westward.lab.cluster import Lab
from westward.model.site import ShellDoor

pytestmark = pytest.mark.lab
WRITTEN = {"hosts.yml", "group_vars/all/slurm.yml", "group_vars/all/accounts.yml"}


def imported(user: str, host: str, port: int, key: Path, known_hosts: Path, *options: str) -> Said:
    """`westward site import` by ssh."""
    trust = ["--identity-file", str(key), "--known-hosts", str(known_hosts)]
    return westward("site", "import", f"{user}@{host}:{port}", *trust, "--json", *options)


@dataclass(frozen=True)
class Cluster:
    """The cluster that people made by hand, on hosts of its own."""

    fleet: Fleet

    def imported(self, *options: str) -> Said:
        """As a sysadmin who may `sudo`, from the controller."""
        folder = self.fleet.lab.inventory.parent
        told = yaml.safe_load(self.fleet.lab.inventory.read_text())["all"]
        ctl = told["hosts"]["ctl"]
        files = (folder / "ssh-key", folder / "known_hosts")
        return imported(told["vars"]["ansible_user"], ctl["ansible_host"], ctl["ansible_port"], *files, *options)


@pytest.fixture(scope="module", params=["v2205", "v2411"])
def cluster(state_of_hosts: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with bare(RELEASES[request.param].topology, state_of_hosts, "import") as fleet:
        handwritten.make(fleet)
        yield Cluster(fleet)


@pytest.fixture(scope="module")
def inventory(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `westward site import` wrote."""
    folder = tmp_path_factory.mktemp("imported") / "altbau"
    told = cluster.imported("--sudo", "--out", str(folder))
    assert (told.status, told.json["differences"], told.json["accounting"]) == (0, [], []), told.err
    assert told.json["same"] is True
    return folder


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> str:
    """One that runs before anything is changed."""
    argv = ("sbatch", "--parsable", "-A", "physik", "-p", "long", "--gres=gpu:k80:1", "-o", "/dev/null")
    number = cluster.fleet.said("ctl", *argv, "--wrap", "sleep 1800").strip()
    cluster.fleet.until("ctl", ("squeue", "-h", "-o", "%T", "-j", number), "RUNNING")
    return number


@pytest.fixture(scope="module")
def changed(inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inventory with its password, and with one change: jobs in 'short' may take 45 minutes."""
    folder = tmp_path_factory.mktemp("changed") / "altbau"
    shutil.copytree(inventory, folder)
    variables = folder / "group_vars" / "all" / "slurm.yml"
    assert variables.read_text().count("MaxTime: '30'") == 1
    variables.write_text(variables.read_text().replace("MaxTime: '30'", "MaxTime: '45'"))
    vault = f"vault_slurm_storage_pass: {handwritten.PASSWORD}\n"
    (folder / "group_vars" / "all" / "vault.yml").write_text(vault)
    return folder


@pytest.fixture(scope="module")
def check(cluster: Cluster, changed: Path) -> Played:
    """What `--check --diff` says before the playbook has ever been run there."""
    return cluster.fleet.play(changed, "--check", "--diff")


@pytest.fixture(scope="module")
def taken_over(cluster: Cluster, changed: Path, check: Played, job: str) -> Played:
    return cluster.fleet.play(changed)


def test_the_roles_would_write_the_same_and_no_password_is_copied(inventory: Path) -> None:
    files = {str(file.relative_to(inventory)): file.read_text() for file in inventory.rglob("*.yml")}
    assert files.keys() == WRITTEN
    assert not any(handwritten.PASSWORD in text for text in files.values())
    assert "StoragePass: '{{vault_slurm_storage_pass}}'" in files["group_vars/all/slurm.yml"]


def test_what_may_not_be_read_is_told_and_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    told = cluster.imported("--out", str(tmp_path / "out"))
    assert (told.status, told.json["same"]) == (0, True)
    denied = "/etc/slurm/slurmdbd.conf is there and could not be read (Permission denied); --sudo reads it"
    assert denied in told.json["notes"]
    groups = yaml.safe_load((tmp_path / "out" / "hosts.yml").read_text())["all"]["children"]
    assert groups["slurm_dbd"] == {"hosts": {}}


def test_what_is_changed_by_hand_after_that_is_named(cluster: Cluster, inventory: Path) -> None:
    nodes = "/etc/slurm/nodes.conf"
    cluster.fleet.said("ctl", "sed", "-i.bak", "s/Default=Yes/Default=Yes MaxNodes=1/", nodes)
    cluster.fleet.said("ctl", "sacctmgr", "-i", "modify", "account", "physik", "set", "Fairshare=41")
    try:
        told = cluster.imported("--sudo", "--against", str(inventory))
    finally:
        cluster.fleet.said("ctl", "mv", f"{nodes}.bak", nodes)
        cluster.fleet.said("ctl", "sacctmgr", "-i", "modify", "account", "physik", "set", "Fairshare=40")
    assert told.status == 1 and "2 differences" in told.err
    (difference,) = told.json["differences"]
    place = ("slurm.conf", "PartitionName=long", "MaxNodes")
    assert tuple(difference.values()) == (*place, "1", None)
    assert told.json["accounting"] == ["sacctmgr -i modify account name=physik cluster=Altbau set Fairshare=40"]
    assert cluster.imported("--sudo", "--against", str(inventory)).status == 0


@pytest.mark.full
def test_a_check_shows_the_change_and_changes_nothing(cluster: Cluster, inventory: Path, check: Played) -> None:
    assert check.status == 0, check.why
    (shown,) = {line for line in check.text.splitlines() if line.startswith("+PartitionName=short")}
    assert " MaxTime=45 " in shown
    assert handwritten.PASSWORD not in check.text
    assert cluster.imported("--sudo", "--against", str(inventory)).status == 0


@pytest.mark.full
def test_one_change_is_taken_up_while_jobs_run(cluster: Cluster, taken_over: Played, job: str) -> None:
    assert taken_over.status == 0, taken_over.why
    fleet = cluster.fleet
    assert "MaxTime=00:45:00" in fleet.said("ctl", "scontrol", "show", "partition", "short")
    assert "MaxTime=45" in fleet.said("n1", "grep", "^PartitionName=short", "/etc/slurm/slurm.conf")
    assert fleet.said("ctl", "squeue", "-h", "-o", "%T %N", "-j", job).strip() == "RUNNING n1"
    assert handwritten.PASSWORD not in taken_over.text
    ran = fleet.said("ctl", "srun", "-A", "physik", "-p", "short", "-t", "40", "-N2", "hostname")
    assert sorted(ran.split()) == ["n1", "n2"]
    fleet.until("ctl", ("sacct", "-X", "-n", "-P", "-o", "state,partition"), "COMPLETED|short")


@pytest.mark.full
def test_nothing_else_has_changed_and_a_second_run_changes_nothing(
    cluster: Cluster, changed: Path, inventory: Path, taken_over: Played
) -> None:
    assert cluster.imported("--sudo", "--against", str(changed)).status == 0
    (difference,) = cluster.imported("--sudo", "--against", str(inventory)).json["differences"]
    assert (difference["about"], difference["what"]) == ("PartitionName=short", "MaxTime")
    again = cluster.fleet.play(changed)
    assert again.status == 0, again.why
    assert again.changed == dict.fromkeys(handwritten.HOSTS, 0), again.text


@pytest.mark.parametrize("name", ["v2205", "v2411", "v2605"])
def test_clusters_of_three_releases_are_the_same_by_meaning(versions_lab: Lab, name: str, tmp_path: Path) -> None:
    (door,) = [door for door in load_site(versions_lab.sites[name]).doors if isinstance(door, ShellDoor)]
    assert door.host and door.user and door.port and door.identity_file and door.known_hosts
    out = ("--out", str(tmp_path / "out"))
    told = imported(door.user, door.host, door.port, door.identity_file, door.known_hosts, *out)
    assert (told.status, told.json["differences"], told.json["accounting"]) == (0, [], []), told.err
    assert len(told.json["node_groups"]) == 2
