"""Asking a cluster everything: on this host, where Slurm's commands are programs that print what real ones print."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.provision.clusters import CONFIG, NODE, SLURM_CONF
from unit.slurm.fakes import FakeSlurm
from westward.model.site import ShellDoor
from westward.provision.clusterfacts import QUESTIONS, ask
from westward.provision.hosts import Hands, Host, Managed

HERE, NOWHERE = ShellDoor(), ShellDoor(host="127.0.0.1", port=1, user="nobody")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    (tmp_path / "bin").mkdir()
    (tmp_path / "slurm.conf").write_text(SLURM_CONF)
    made = FakeSlurm(tmp_path / "bin")
    config = f"SLURM_CONF = {tmp_path}/slurm.conf\nSLURM_VERSION = 24.11.5\n{CONFIG}"
    nodes = NODE.format("n1") + NODE.format("n2")
    made.program(
        "scontrol", f"case \"$*\" in *config) printf '%s' '{config}';; *node) printf '%s' '{nodes}';; *) echo;; esac"
    )
    made.program("sdiag", "echo DBD Agent queue size: 3")
    made.program("sacctmgr", "echo 'site|10.0.0.1|6817'")
    made.program("srun", "echo n1")
    made.program(
        "slurmd", 'case "$1" in -V) echo slurm-wlm 24.11.5;; *) echo "Gres Name=gpu Type=h100 Count=1 File=$7";; esac'
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return made


def site(**doors: ShellDoor) -> Managed:
    groups = {"ctl": "slurm_controller", "n1": "slurm_compute"}
    return Managed(
        (), {name: Host(name, name, frozenset([groups[name]]), door, root=True) for name, door in doors.items()}, {}
    )


def test_everything_is_asked_and_who_is_silent_is_noted(programs: FakeSlurm) -> None:
    with Hands() as hands:
        facts = ask(site(ctl=HERE, n1=NOWHERE), hands, jobs=False)
    assert facts.said.keys() == QUESTIONS.keys()
    assert facts.config["ClusterName"] == "site"
    assert list(facts.nodes) == ["n1", "n2"]
    assert facts.configuration is not None
    assert list(facts.looks) == ["ctl"] == list(facts.clocks)
    assert list(facts.silent) == ["n1"]
    assert abs(facts.clocks["ctl"].ahead_s) <= facts.clocks["ctl"].bound_s
    assert facts.trials is None


def test_a_job_is_tried_for_one_node_and_for_two(programs: FakeSlurm) -> None:
    with Hands() as hands:
        facts = ask(site(ctl=HERE), hands)
    assert [(trial.nodes, trial.complaint) for trial in facts.trials or ()] == [
        (1, ""),
        (2, "it ran on 1 instead of 2 hosts"),
    ]


def test_a_slurmctld_that_is_away_is_asked_for_its_configuration_alone(programs: FakeSlurm, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    programs.program("scontrol", f"echo \"$*\" >>{calls}; echo 'Unable to contact slurm controller' >&2; exit 1")
    with Hands() as hands:
        facts = ask(site(ctl=HERE), hands)
    assert set(facts.refused) == {"config", "nodes", "partitions", "sdiag"}
    assert "Unable to contact" in facts.refused["nodes"]
    assert facts.trials == ()
    assert facts.configuration is None
    assert "Unable to contact" in facts.unread
    assert "show partition" not in calls.read_text()
    assert list(facts.looks) == ["ctl"]


def test_no_controller_can_be_reached(programs: FakeSlurm) -> None:
    with Hands() as hands:
        facts = ask(site(ctl=NOWHERE, n1=HERE), hands)
    assert facts.refused.keys() == QUESTIONS.keys()
    assert list(facts.looks) == ["n1"], facts.silent
