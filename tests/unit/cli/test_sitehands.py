"""`westward site exec`, and which cluster and which hosts a user means. The hosts are this one, which an inventory calls by several names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from unit.cli.sites import failed
from unit.slurm.fakes import FakeSlurm
from westward.cli.site import app
from westward.directories import config_dir
from westward.errors import InputError, Unreachable, WestwardError

LOCAL = {"ansible_connection": "local"}
NOBODY = {"ansible_host": "127.0.0.1", "ansible_port": 1}
SITE = {"name": "sun", "cluster": "sun", "root": "/home/me", "access": {"doors": [{"door": "shell"}]}}
Execute = Callable[..., Result]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A controller and two nodes; `n2` is the host of which Slurm says `node2`."""
    path = tmp_path / "hosts.yml"
    parts = {
        "slurm_controller": {"hosts": {"ctl": LOCAL}},
        "slurm_compute": {"hosts": {"n1": LOCAL, "n2": {**LOCAL, "slurm_node_name": "node2"}}},
    }
    path.write_text(
        yaml.safe_dump({"all": {"children": parts, "vars": {"slurm_cluster_name": "sun"}}}, sort_keys=False)
    )
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return FakeSlurm(tmp_path / "bin")


def execute(*words: str) -> Result:
    return CliRunner().invoke(app, ["exec", *words])


def described(**more: Any) -> None:
    """A site of that name."""
    file = config_dir() / "sites" / "sun.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**SITE, **more}))


def test_each_line_has_the_host_that_said_it(inventory: Path, programs: FakeSlurm) -> None:
    programs.program("look", "echo one; echo two; echo odd >&2")
    result = execute(str(inventory), "--", "look")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{host}: {line}" for host in ("ctl", "n1", "n2") for line in ("one", "two", "odd")
    ]


def test_a_host_on_which_it_fails_is_named_and_is_exit_code_1(inventory: Path, programs: FakeSlurm) -> None:
    programs.program("once", f"mkdir {programs.folder}/taken 2>/dev/null || exit 3; echo mine")
    result = execute(str(inventory), "--on", "n1,node2", "--", "once")
    error = failed(result, WestwardError)
    assert error.exit_code == 1
    assert str(error) in ("of 2 hosts it failed on 1: n1", "of 2 hosts it failed on 1: n2")
    assert "mine" in result.stdout
    assert "exit status 3" in result.stdout


def test_a_host_that_does_not_answer_is_named_and_is_exit_code_4(inventory: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.yml"
    more.write_text(yaml.safe_dump({"all": {"children": {"slurm_login": {"hosts": {"login": NOBODY}}}}}))
    result = execute(str(inventory), "-i", str(more), "--", "false")
    error = failed(result, Unreachable)
    assert error.exit_code == 4
    assert str(error) == "of 4 hosts 1 gave no answer: login; it failed on 3: ctl, n1, n2"
    assert "login: no answer: " in result.stdout


def test_json_has_all_of_each_host(inventory: Path, tmp_path: Path, programs: FakeSlurm) -> None:
    more = tmp_path / "more.yml"
    more.write_text(yaml.safe_dump({"all": {"children": {"slurm_login": {"hosts": {"login": NOBODY}}}}}))
    programs.program("look", "echo one; echo odd >&2; exit 3")
    result = execute(str(inventory), "-i", str(more), "--json", "--on", "ctl,login", "--", "look", "--on", "x")
    assert failed(result, Unreachable).exit_code == 4
    told = json.loads(result.stdout)
    assert told["ctl"] == {"status": 3, "stdout": "one\n", "stderr": "odd\n"}
    assert list(told["login"]) == ["error"]
    assert programs.calls("look") == [["--on", "x"]]


def test_hosts_are_named_by_inventory_by_node_and_by_group(inventory: Path) -> None:
    def on(names: str) -> list[str]:
        result = execute(str(inventory), "--json", "--on", names, "--", "true")
        assert result.exit_code == 0, result.output
        return list(json.loads(result.stdout))

    assert on("n[1-2]") == ["n1", "n2"]
    assert on("node2,n2") == ["n2"]
    assert on("ctl,slurm_compute") == ["ctl", "n1", "n2"]


def test_a_host_that_is_not_there_is_exit_code_2_and_nothing_is_run(inventory: Path, programs: FakeSlurm) -> None:
    programs.program("look", "")
    error = failed(execute(str(inventory), "--on", "n[1-3]", "--", "look"), InputError)
    assert (error.exit_code, str(error)) == (2, "'n3' is no host, node or group of sun")
    assert error.next_step == "hosts: ctl, n1, n2"
    assert programs.calls("look") == []


def test_sudo_only_where_it_is_asked_for(inventory: Path, programs: FakeSlurm) -> None:
    programs.program("sudo", "echo as root")
    assert execute(str(inventory), "--on", "ctl", "--", "echo", "as me").stdout == "ctl: as me\n"
    assert execute(str(inventory), "--on", "ctl", "--sudo", "--", "echo", "as me").stdout == "ctl: as root\n"


def test_a_site_whose_description_names_its_inventory(inventory: Path) -> None:
    described(inventory=[str(inventory)])
    assert execute("sun", "--on", "ctl", "--", "echo", "here").stdout == "ctl: here\n"


def test_a_site_whose_description_names_none(inventory: Path) -> None:
    described()
    error = failed(execute("sun", "--", "true"), InputError)
    assert str(error) == "the description of site 'sun' names no inventory"
    assert "inventory: [PATH]" in error.next_step


def test_what_is_neither_a_site_nor_an_inventory() -> None:
    described()
    error = failed(execute("moon", "--", "true"), InputError)
    assert (error.exit_code, str(error)) == (2, "'moon' is neither a site nor an inventory")
    assert error.next_step == "known sites: sun"
