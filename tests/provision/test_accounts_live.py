"""The role slurm_accounts on real clusters of three releases: ansible-playbook, with the controller's own Python as the interpreter."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from contract.clusters import Lab

pytestmark = pytest.mark.lab
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
ROOT = Path(__file__).parents[2]
CLUSTERS = ["v2205", "v2411", "v2605"]
PLAY = """
- hosts: all
  gather_facts: false
  roles: [slurm_accounts]
  post_tasks:
    - ansible.builtin.debug: {msg: "RESULT {{ slurm_accounts_result | to_json | b64encode }} END"}
"""


@dataclass(frozen=True)
class Ran:
    """How a run of the playbook ended: what the module returned, or why it failed."""

    status: int
    out: str

    @property
    def result(self) -> dict[str, Any]:
        assert self.status == 0, self.out
        (coded,) = re.findall(r"RESULT\s+(\S+)\s+END", self.out)
        found: dict[str, Any] = json.loads(base64.b64decode(coded))
        return found

    @property
    def failed(self) -> str:
        assert self.status != 0, self.out
        return self.out


@dataclass(frozen=True)
class Cluster:
    """A cluster under test. Ansible speaks to it by 'docker exec' in the place of Python."""

    lab: Lab
    name: str
    folder: Path
    environment: str = "LC_ALL=C"

    def root(self, *argv: str) -> str:
        return self.lab.exec(f"{self.name}-ctl", *argv)

    def sacctmgr(self, *argv: str) -> list[str]:
        return self.root("sacctmgr", "-inP", *argv).splitlines()

    def play(self, accounts: Mapping[str, Any], *options: str) -> Ran:
        interpreter = self.folder / "python"
        interpreter.write_text(
            f'#!/bin/sh\nexec docker exec -i -e {self.environment} {self.lab.name}.{self.name}-ctl python3 "$@"\n'
        )
        interpreter.chmod(0o755)
        variables = {"slurm_cluster_name": self.name, "slurm_accounts": accounts}
        hosts = {
            "ansible_connection": "local",
            "ansible_pipelining": True,
            "ansible_python_interpreter": str(interpreter),
        }
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {self.name: hosts}}}))
        (self.folder / "vars.json").write_text(json.dumps(variables))
        (self.folder / "play.yml").write_text(PLAY)
        done = subprocess.run(
            [
                PLAYBOOK,
                "-i",
                self.folder / "hosts.json",
                "-e",
                f"@{self.folder / 'vars.json'}",
                *options,
                self.folder / "play.yml",
            ],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible/ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(ROOT / "ansible/roles"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ran(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def lab(lab_state: Path, request: pytest.FixtureRequest) -> Lab:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WESTWARD_STATE_DIR", str(lab_state))
        return Lab(request.getfixturevalue("versions_lab").name)


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """What the lab itself has, accounts research and teaching with one user, is as before when the tests end."""
    one = Cluster(lab, request.param, tmp_path_factory.mktemp(request.param))
    yield one
    assert one.play({**LAB, "exclusive": True}).status == 0


LAB: dict[str, Any] = {
    "qos": [{"name": "urgent", "parameters": {"Priority": 1000}}],
    "accounts": [{"name": "research"}, {"name": "teaching"}],
    "users": [{"name": "researcher", "accounts": ["research", "teaching"], "parameters": {"QOS": "normal,urgent"}}],
}
PHYSICS = {
    "name": "physics",
    "description": "Physics, with a \"quote\" and an 'other'",
    "organization": "Uni X = Y",
    "parameters": {"Fairshare": 40, "GrpTRES": {"gres/gpu": 4, "cpu": 64, "mem": "1T"}, "MaxWall": "48:00:00"},
}
TREE: dict[str, Any] = {
    "qos": [
        *LAB["qos"],
        {
            "name": "long",
            "parameters": {"MaxWall": "7-0", "Flags": ["DenyOnLimit"], "MaxTRESPU": "cpu=8", "GraceTime": 90},
        },
        {
            "name": "debug",
            "parameters": {"Priority": 2000, "Preempt": ["long"], "MinPrioThreshold": 3, "MaxTRESRunMinsPA": "cpu=90"},
        },
    ],
    "accounts": [
        {"name": "optics", "parent": "physics", "parameters": {"QOS": "normal,long", "DefaultQOS": "long"}},
        {"name": "lasers", "parent": "optics", "parameters": {"QOS": "+debug", "Fairshare": "parent"}},
        PHYSICS,
        *LAB["accounts"],
        {"name": "root", "parameters": {"MaxSubmitJobs": 5000}},
    ],
    "users": [
        *LAB["users"],
        {"name": "ann", "accounts": ["optics", "physics"], "default_account": "physics", "admin_level": "Operator"},
        *(
            {"name": name, "accounts": ["optics", {"name": "lasers", "parameters": {"MaxJobs": 2}}]}
            for name in ("bob", "cid")
        ),
    ],
}


def test_a_tree_is_made_and_a_second_run_changes_nothing(cluster: Cluster) -> None:
    planned = cluster.play(TREE, "--check").result
    made = cluster.play(TREE).result
    assert made["changed"] and made["commands"] == planned["commands"] and made["drift"] == []
    again = cluster.play(TREE).result
    assert (again["changed"], again["commands"], again["drift"]) == (False, [], [])
    shown = cluster.sacctmgr(
        "show",
        "assoc",
        f"cluster={cluster.name}",
        "account=lasers,physics",
        "WOPLimits",
        "format=Account,User,ParentName,Share,MaxJobs,GrpTRES",
    )
    assert sorted(shown) == [
        "lasers|bob||1|2|",
        "lasers|cid||1|2|",
        "lasers||optics|parent||",
        "physics|ann||1||",
        "physics||root|40||cpu=64,gres/gpu=4,mem=1T",
    ]


def test_drift_by_hand_is_told_by_a_check_and_mended_by_a_run(cluster: Cluster) -> None:
    cluster.play(TREE)
    where = f"cluster={cluster.name}"
    cluster.sacctmgr("modify", "account", "physics", where, "set", "GrpTRES=cpu=1,node=9", "Fairshare=1", "MaxJobs=7")
    cluster.sacctmgr("modify", "account", "lasers", where, "set", "parent=research")
    cluster.sacctmgr("modify", "user", "ann", where, "set", "DefaultAccount=optics")
    cluster.sacctmgr("modify", "user", "ann", "set", "AdminLevel=None")
    cluster.sacctmgr("modify", "user", "bob", "account=lasers", where, "set", "QOS=normal")
    cluster.sacctmgr("modify", "qos", "debug", "set", "Preempt=", "Flags=NoDecay")
    cluster.sacctmgr("delete", "user", "cid", "account=lasers", where)
    cluster.sacctmgr("add", "user", "dan", "account=optics", where)
    said = cluster.play(TREE, "--check", "--diff")
    assert (
        "-  GrpTRES: cpu=1,gres/gpu=4,mem=1T,node=9" in said.out and "+  GrpTRES: gres/gpu=4,cpu=64,mem=1T" in said.out
    )
    checked = said.result
    left = [
        "qos debug: Flags=NoDecay",
        "account physics: MaxJobs=7",
        "user bob in account lasers: QOS=normal",
        "user dan",
    ]
    assert checked["changed"] and checked["drift"] == left
    assert cluster.play(TREE, "--check").result["commands"] == checked["commands"], "a check changes nothing"
    mended = cluster.play(TREE).result
    assert mended["commands"] == [
        "sacctmgr -i modify qos name=debug set Preempt=long",
        f"sacctmgr -i modify account name=physics {where} set Fairshare=40 GrpTRES=cpu=64,node=-1",
        f"sacctmgr -i modify account name=lasers {where} set Parent=optics",
        f"sacctmgr -i add user name=cid account=lasers {where} MaxJobs=2",
        "sacctmgr -i modify user name=ann set AdminLevel=Operator",
        f"sacctmgr -i modify user name=ann {where} set DefaultAccount=physics",
    ]
    again = cluster.play(TREE).result
    assert not again["changed"] and again["drift"] == left
    alone = cluster.play({**TREE, "exclusive": True}).result
    assert alone["commands"][-1] == "sacctmgr -i delete user name=dan" and alone["drift"] == left
    last = cluster.play({**TREE, "exclusive": True}).result
    assert (last["changed"], last["drift"]) == (False, [])


def test_nothing_of_a_running_job_is_removed(cluster: Cluster) -> None:
    cluster.play(TREE)
    there = cluster.sacctmgr("show", "assoc", "WOPLimits", "format=Account,User,QOS")
    job = cluster.root(
        "sbatch",
        "--parsable",
        "-A",
        "teaching",
        "--uid",
        "researcher",
        "-D",
        "/tmp",
        "-o",
        "/dev/null",
        "--wrap",
        "sleep 300",
    ).strip()
    try:
        without = {**TREE, "accounts": [TREE["accounts"][2], {"name": "research"}], "users": [], "exclusive": True}
        for options in ([], ["--check"]):
            said = cluster.play(without, *options).failed
            assert f"account teaching (job {job})" in said and f"user researcher (job {job})" in said
        assert cluster.sacctmgr("show", "assoc", "WOPLimits", "format=Account,User,QOS") == there
    finally:
        cluster.root("scancel", job)


def test_removal_leaves_what_is_named_and_root(cluster: Cluster) -> None:
    cluster.play(TREE)
    _wait_for_no_jobs(cluster)
    gone = cluster.play({**LAB, "exclusive": True}, "--diff").result
    assert gone["commands"][-3:] == [
        "sacctmgr -i delete user name=ann,bob,cid",
        "sacctmgr -i delete account name=lasers,optics,physics",
        "sacctmgr -i delete qos name=debug,long",
    ]
    assert cluster.sacctmgr("show", "account", "format=Account") == ["research", "root", "teaching"]
    assert cluster.sacctmgr("show", "user", "format=User") == ["researcher", "root"]
    assert sorted(cluster.sacctmgr("show", "qos", "format=Name")) == ["normal", "urgent"]


def _wait_for_no_jobs(cluster: Cluster) -> None:
    until = time.monotonic() + 40
    while cluster.root("squeue", "-ah"):
        assert time.monotonic() < until
        time.sleep(0.5)


def test_what_another_cluster_uses_is_left_there(cluster: Cluster) -> None:
    """Both clusters have the account lasers with bob, whose account here is below one that is removed everywhere."""
    variables = {
        "accounts": [{"name": "lasers"}],
        "users": [{"name": "bob", "accounts": ["lasers"], "parameters": {"QOS": "long"}}],
    }
    cluster.play(TREE)
    try:
        assert cluster.play(variables, "-e", "slurm_cluster_name=other").result["changed"]
        alone = cluster.play({**LAB, "exclusive": True}).result
        assert "qos long" in alone["drift"]
        assert not cluster.play({**LAB, "exclusive": True}).result["changed"]
        assert cluster.play(variables, "-e", "slurm_cluster_name=other").result["commands"] == []
        assert not [
            line
            for line in cluster.sacctmgr("show", "assoc", "format=Cluster,Account")
            if line == f"{cluster.name}|lasers"
        ]
    finally:
        cluster.sacctmgr("delete", "cluster", "other")


def test_a_refused_change_says_what_was_done_before(cluster: Cluster) -> None:
    accounts = [{"name": "first"}, {"name": "second", "parent": "first", "parameters": {"GrpTRES": "gres/nosuch=1"}}]
    said = cluster.play({"accounts": accounts}).failed
    assert "no TRES known by type gres/nosuch" in said and "AccountingStorageTRES" in said
    assert f"done before that:\n  sacctmgr -i add account name=first cluster={cluster.name}" in said
    assert cluster.play({"accounts": accounts[:1]}).result["commands"] == []


def test_a_cluster_that_is_not_registered_is_added(cluster: Cluster) -> None:
    variables = {"accounts": [{"name": "fresh"}], "users": [{"name": "eve", "accounts": ["fresh"]}]}
    argv = ["-e", "slurm_cluster_name=brandnew"]
    try:
        made = cluster.play(variables, *argv).result
        assert made["commands"] == [
            "sacctmgr -i add cluster name=brandnew",
            "sacctmgr -i add account name=fresh cluster=brandnew",
            "sacctmgr -i add user name=eve account=fresh cluster=brandnew DefaultAccount=fresh",
        ]
        assert cluster.play(variables, *argv).result["commands"] == []
    finally:
        cluster.sacctmgr("delete", "cluster", "brandnew")


def test_a_database_that_does_not_answer_is_named(cluster: Cluster) -> None:
    cluster.root("sh", "-c", "(cat /etc/slurm/slurm.conf; echo AccountingStoragePort=1) > /tmp/dead.conf")
    said = replace(cluster, environment="SLURM_CONF=/tmp/dead.conf").play(LAB).failed
    assert "slurmdbd does not answer" in said and "show qos" in said
