"""`westward site import`, as a sysadmin meets it: Slurm's commands are programs on this host that print what real ones printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unit.cli.sites import Westward, failed
from unit.cli.sites import behind as behind  # a fixture
from unit.cli.sites import westward as westward  # a fixture
from unit.provision.hosts import Host
from unit.provision.hosts import host as host  # a fixture
from westward.cli import managed
from westward.cli.siteimport import Differs
from westward.errors import InputError, Unreachable, Unsafe


def test_a_cluster_becomes_an_inventory(westward: Westward, host: Host, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = westward("import", "local", "--out", str(out))
    assert result.exit_code == 0, result.output
    for words in (
        "Altbau: Slurm 24.11.5, 2 nodes in 2 node groups (k80_p100, k80)\n",
        f"  slurm.conf from {host.etc}/slurm.conf, {host.etc}/nodes.conf\n",
        "note: StoragePass was not copied",
        f"from {out} the roles write the same configuration, by meaning",
        f"ansible-playbook -i {out} site.yml --check --diff\n",
    ):
        assert words in result.output, words


def test_every_difference_is_told_and_is_the_exit_code(westward: Westward, host: Host, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    westward("import", "local", "--out", out)
    host.change("nodes.conf", "MaxTime=30", "MaxTime=45")
    host.change("slurm.conf", "KillWait=30", "KillWait=60")
    result = westward("import", "local", "--against", out)
    error = failed(result, Differs)
    assert (error.exit_code, "2 differences" in str(error)) == (1, True)
    assert "differs: slurm.conf KillWait: 60 -> 30\n" in result.output
    assert "differs: slurm.conf PartitionName=short MaxTime: 45 -> 30\n" in result.output
    assert "write the same" not in result.output


def test_json_for_machines(westward: Westward, host: Host, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    facts = json.loads(westward("import", "local", "--out", out, "--json").stdout)
    assert (facts["cluster"], facts["same"], facts["differences"], facts["folder"]) == ("Altbau", True, [], out)
    assert facts["node_groups"] == {"k80_p100": ["n1"], "k80": ["n2"]}
    host.change("slurm.conf", "KillWait=30", "KillWait=60")
    result = westward("import", "local", "--against", out, "--json")
    failed(result, Differs)
    (difference,) = json.loads(result.stdout)["differences"]
    assert difference == {"where": "slurm.conf", "about": "", "what": "KillWait", "before": "60", "after": "30"}


def test_an_inventory_that_is_there_is_overwritten_only_by_force(
    westward: Westward, host: Host, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    westward("import", "local", "--out", out)
    error = failed(westward("import", "local", "--out", out), Unsafe)
    assert (error.exit_code, error.next_step) == (5, "name another directory with --out, or add --force")
    assert westward("import", "local", "--out", out, "--force").exit_code == 0


def test_a_host_that_is_no_cluster_s(westward: Westward, host: Host, tmp_path: Path) -> None:
    host.programs.program("scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    error = failed(westward("import", "local"), Unreachable)
    assert "'scontrol show config' fails there: Unable to contact slurm controller" in str(error)
    assert error.next_step == "is it a host of a cluster, and does slurmctld run?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["https://gate.west", "--user", "u17"], "needs a token"),
        (["a b"], "is no address for ssh"),
        (["--", "-oProxyCommand=x"], "is no address for ssh"),
        (["local", "--out", "a", "--against", "b"], "--against writes nothing"),
        (["ctl", "--identity-file", "/nowhere/key"], "--identity-file: there is no file '/nowhere/key'"),
        (["native"], ""),
    ],
)
def test_what_cannot_be_meant(westward: Westward, words: list[str], said: str) -> None:
    assert said in str(failed(westward("import", *words), InputError if said else Unreachable))


def test_what_provisioning_needs_is_named(westward: Westward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "_NEEDED", ("ansible", "nowhere_installed"))
    error = failed(westward("import", "local"), InputError)
    assert str(error) == "nowhere_installed not installed, which provisioning needs"
    assert error.next_step == "pip install 'westward[provision]'"
