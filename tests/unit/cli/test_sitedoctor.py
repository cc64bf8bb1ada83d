"""`westward site doctor`, `gres` and `collect`, as a sysadmin meets them: on clusters in memory."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from unit.cli.sites import failed
from unit.provision.clusters import CHIPS, facts, site
from westward.cli import managed
from westward.cli.site import app
from westward.errors import Unreachable, WestwardError
from westward.provision import clusterfacts, support
from westward.provision.clusterfacts import Facts

Asked = Callable[..., Result]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    def run(world: Facts, *words: str) -> Result:
        monkeypatch.setattr(managed, "managed", lambda name, more: world.site)
        monkeypatch.setattr(clusterfacts, "ask", lambda *_, **__: world)
        monkeypatch.setattr(support, "gather", lambda *_: ({"cluster/config.txt": "x"}, dict(world.silent)))
        return CliRunner().invoke(app, list(words))

    return run


def test_a_table_of_checks(asked: Asked) -> None:
    result = asked(facts(), "doctor", "mysite")
    assert result.exit_code == 0, result.output
    for words in (
        "reachable",
        "n[1-2]",
        "a job on 2 nodes ran",
        "inventory, slurm.conf, slurmd and slurmctld have the same",
    ):
        assert words in result.output, words


def test_what_is_wrong_is_the_exit_code_and_in_the_json(asked: Asked) -> None:
    world = facts({"n1": {"hostname": "rack7-03"}})
    result = asked(world, "doctor", "mysite", "--json")
    assert str(failed(result, WestwardError)) == "not well: hostname"
    (found,) = (one for one in json.loads(result.stdout)["findings"] if one["verdict"] == "failed")
    assert (found["check"], found["where"]) == ("hostname", "n1")
    assert "hostnamectl set-hostname n1" in found["next_step"]


def test_a_silent_host_is_exit_code_4(asked: Asked) -> None:
    world = facts(silent={"n2": "no route to host"})
    for command in (["doctor", "mysite"], ["gres", "mysite"]):
        result = asked(world, *command)
        assert failed(result, Unreachable).exit_code == 4
        assert "no route to host" in result.output


def test_four_columns_and_each_difference_with_its_fix(asked: Asked) -> None:
    assert asked(facts(), "gres", "mysite").exit_code == 0
    result = asked(facts(site=site(CHIPS | {"count": 3})), "gres", "mysite")
    assert str(failed(result, WestwardError)) == "they differ on n[1-2]"
    assert (
        "n1: the inventory says gpu:h100:3, and slurm.conf gpu:h100:4\n  next: run 'ansible-playbook ... site.yml'"
        in result.output
    )
    rows = json.loads(asked(facts(site=site(CHIPS | {"count": 3})), "gres", "mysite", "--json").stdout)
    assert [rows[0][name] for name in ("inventory", "configured", "found", "registered")] == [
        "gpu:h100:3",
        *["gpu:h100:4"] * 3,
    ]


def test_gres_without_a_configuration_is_not_well(asked: Asked) -> None:
    result = asked(facts(configuration=None, unread="slurmctld does not answer"), "gres", "mysite")
    assert failed(result, Unreachable).exit_code == 4


def test_a_bundle_has_the_findings_and_says_who_was_silent(asked: Asked, tmp_path: Path) -> None:
    target = tmp_path / "b.tar.gz"
    result = asked(facts(silent={"n2": "no route"}), "collect", "mysite", "--out", str(target))
    assert failed(result, Unreachable).exit_code == 4
    assert f"{target}: 2 files" in result.output
    with tarfile.open(target) as bundle:
        doctor = bundle.extractfile("site/doctor.json")
        assert doctor is not None
        assert json.loads(doctor.read())["silent"] == {"n2": "no route"}
