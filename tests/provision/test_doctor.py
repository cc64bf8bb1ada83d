"""What is wrong with a running cluster: doctor and gres name it and the remedy, the remedy helps, and afterwards all is as before."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from provision.conftest import GROUPS
from provision.sites import Fleet, Played, Release, inventory
from westward.cli.site import app
from westward.errors import WestwardError

pytestmark = pytest.mark.lab
IDLE = ("sinfo", "-h", "-o", "%D %T %E")
WELL = "2 idle none"
FAST = '#!/bin/sh\nexec /bin/date -d "@$(($(/bin/date +%s) + 400))" "$@"'

# a command of westward site -> its exit code, and what --json says
Told = tuple[int, Any]
Asked = Callable[..., Told]


@pytest.fixture
def asked(fleet: Fleet, site_inventory: Path, first: Played) -> Asked:
    def run(command: str, *words: str, variables: Path = site_inventory) -> Told:
        argv = [command, str(fleet.lab.inventory), "-i", str(variables), "--json", *words]
        result = CliRunner().invoke(app, argv)
        assert result.exception is None or isinstance(result.exception, WestwardError), result.exception
        code = result.exception.exit_code if isinstance(result.exception, WestwardError) else result.exit_code
        return code, json.loads(result.stdout)

    return run


@pytest.fixture(autouse=True)
def as_before(fleet: Fleet, first: Played) -> Iterator[None]:
    fleet.until("login", IDLE, WELL)
    yield
    fleet.until("login", IDLE, WELL)


def wrong(told: Any) -> dict[tuple[str, str], str]:
    """(check, where) -> what was found, of what is not well."""
    old = "cgroup v1 is deprecated"  # which is what this machine may have
    found = [one for one in told["findings"] if one["verdict"] not in ("ok", "left out") and old not in one["found"]]
    assert all(one["next_step"] for one in found), "each has a next step"
    return {(one["check"], one["where"]): one["found"] for one in found}


def row(told: Any, node: str) -> Any:
    return next(one for one in told if one["node"] == node)


@contextmanager
def broken(fleet: Fleet, host: str, breaks: str, mends: str) -> Iterator[None]:
    fleet.said(host, "sh", "-c", breaks)
    try:
        yield
    finally:
        fleet.said(host, "sh", "-c", mends)


def test_a_cluster_that_is_well_and_runs_jobs(fleet: Fleet, asked: Asked) -> None:
    code, told = asked("doctor")
    assert (code, wrong(told)) == (0, {})
    ran = [one["found"] for one in told["findings"] if one["check"] == "jobs"]
    assert ran == ["a job on one node ran", "a job on 2 nodes ran"]
    socket = ("stat", "-c", "%i %Z", "/run/slurm/sack.socket")
    before = fleet.on("n1", *socket).stdout
    code, rows = asked("gres")
    assert code == 0
    assert fleet.on("n1", *socket).stdout == before, "slurmd -G has left the running slurmd its socket"
    assert fleet.said("n1", "srun", "-N1", "-w", "n1", "hostname") == "n1\n"
    assert [rows[0][name] for name in ("inventory", "configured", "found", "registered")] == ["gpu:h100:4"] * 4


def test_several_faults_at_once_are_each_named(fleet: Fleet, release: Release, asked: Asked) -> None:
    key = "/etc/slurm/slurm.key" if release.auth == "slurm" else "/etc/munge/munge.key"
    clock = f"cat >/usr/local/bin/date <<'D'\n{FAST}\nD\nchmod +x /usr/local/bin/date"
    with ExitStack() as faults:
        for host, breaks, mends in (
            ("ctl", "systemctl stop slurmdbd", "systemctl start slurmdbd"),
            ("n2", f"cp -a {key} /root/key; printf x >>{key}", f"mv /root/key {key}"),
            ("n1", clock, "rm /usr/local/bin/date"),
            ("ctl2", "systemctl disable -q slurmctld", "systemctl enable -q slurmctld"),
            ("login", "systemctl stop ssh; pkill -KILL sshd || true", "systemctl start ssh"),
        ):
            faults.enter_context(broken(fleet, host, breaks, mends))
        code, told = asked("doctor", "--no-jobs")
    found = wrong(told)
    assert code == 4
    assert list(told["silent"]) == ["login"]
    assert ("reachable", "login") in found
    assert "slurmdbd is inactive" in found["services", "ctl"]
    assert "it does not answer" in found["slurmdbd", "ctl"]
    assert found["ports", "ctl,ctl2"] == "ctl:6819 does not answer: Connection refused"
    assert found["keys", "n2"] == f"{key} is not that of most hosts"
    assert re.match(r"(399|400)\.\d s ahead of the others", found["clock", "n1"])
    assert "a reboot does not start it" in found["services", "ctl2"]
    assert {check for check, _ in found} == {"reachable", "services", "slurmdbd", "ports", "keys", "clock"}
    fleet.until("ctl", ("sacctmgr", "-nP", "show", "cluster", "format=controlhost"), ".")


def test_a_missing_device_is_named_and_brought_back(fleet: Fleet, asked: Asked) -> None:
    with broken(fleet, "n1", "rm /dev/nvidia3", "mknod -m 666 /dev/nvidia3 c 195 3"):
        fleet.until("login", IDLE, "health: device /dev/nvidia3 is missing")
        code, rows = asked("gres")
        _, told = asked("doctor", "--no-jobs")
    assert code == 1
    (only,) = row(rows, "n1")["mismatches"]
    assert only["found"] == "/dev/nvidia3 is not there, and gres.conf names it: slurmd does not start without it"
    assert "systemctl restart slurmd" in only["fix"]
    assert row(rows, "n2")["mismatches"] == []
    assert set(wrong(told)) == {("gres", "n1"), ("nodes", "n1")}
    assert "health: device /dev/nvidia3 is missing (root, since 20" in wrong(told)["nodes", "n1"]
    fleet.said("n1", "systemctl", "restart", "slurmd")
    fleet.until("login", IDLE, WELL)
    assert asked("gres")[0] == 0


def test_a_node_that_is_called_otherwise(fleet: Fleet, asked: Asked) -> None:
    restart = "systemctl restart slurmd"
    with broken(
        fleet, "n2", f"hostname rack7; {restart} --no-block", f"hostname n2; systemctl reset-failed slurmd; {restart}"
    ):
        fleet.until("n2", ("systemctl", "is-active", "slurmd"), "failed")
        code, told = asked("doctor", "--no-jobs")
    assert code == 1
    assert wrong(told)["hostname", "n2"].startswith("the host is called rack7, its node n2")
    assert "slurmd is failed" in wrong(told)["services", "n2"]
    (step,) = (one["next_step"] for one in told["findings"] if one["check"] == "hostname" and one["where"] == "n2")
    assert step.startswith("hostnamectl set-hostname n2, then systemctl restart slurmd there")
    fleet.until("login", IDLE, WELL)


@pytest.mark.full
def test_a_wrong_count_is_named_and_the_playbook_mends_it(
    fleet: Fleet, release: Release, site_inventory: Path, asked: Asked
) -> None:
    more = "sed -i 's/gpu:h100:4/gpu:h100:5/' /etc/slurm/slurm.conf"
    for host in ("ctl", "ctl2"):
        fleet.said(host, "sh", "-c", more)
    fleet.said("ctl", "scontrol", "reconfigure")
    drains = release.topology != "bare-bookworm"  # 22.05 gives no job what is not there, and drains nothing
    if drains:
        fleet.until("login", ("sinfo", "-h", "-o", "%T %E"), "gres/gpu count")
    code, rows = asked("gres")
    assert code == 1
    found = {one["found"]: one["fix"] for one in row(rows, "n1")["mismatches"]}
    assert any(
        "site.yml" in fix
        for said, fix in found.items()
        if said == "the inventory says gpu:h100:4, and slurm.conf gpu:h100:5"
    )
    assert "slurm.conf says gpu:h100:5, and gres.conf names 4 such devices" in found
    assert any(said.startswith("slurmctld takes no job for n1") for said in found) is drains
    mended = fleet.play(site_inventory)
    assert mended.status == 0, mended.why
    for node in ("n1", "n2"):
        fleet.said("login", "scontrol", "update", f"NodeName={node}", "State=RESUME")
    fleet.until("login", IDLE, WELL)
    assert asked("gres")[0] == 0


def test_a_bundle_tells_everything_but_secrets(fleet: Fleet, release: Release, asked: Asked, tmp_path: Path) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl"
    plant = f"printf 'StoragePass=sesam-1\\nSLURM_JWT={token}\\n' >>/var/log/slurm/slurmctld.log; logger -t slurmctld password=sesam-2"
    own = "/etc/slurm/slurm.key" if release.auth == "slurm" else "/etc/munge/munge.key"
    fleet.said(
        "ctl",
        "sh",
        "-c",
        f"{plant}; base64 -w0 {own} >>/var/log/slurm/slurmctld.log; echo >>/var/log/slurm/slurmctld.log",
    )
    fleet.said(
        "ctl", "sh", "-c", "cp -a /etc/slurm/slurmdbd.conf /root/; echo StoragePass=sesam-3 >>/etc/slurm/slurmdbd.conf"
    )
    target = tmp_path / "b.tar.gz"
    try:
        code, told = asked("collect", "--out", str(target))
    finally:
        fleet.said("ctl", "mv", "/root/slurmdbd.conf", "/etc/slurm/slurmdbd.conf")
        fleet.said("ctl", "sed", "-i", "/sesam-1/,$d", "/var/log/slurm/slurmctld.log")
    assert (code, told["silent"]) == (0, {})
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as bundle:
        texts = {name: bundle.extractfile(name).read().decode() for name in bundle.getnames()}
    whole = "\n".join(texts.values())
    assert "sesam" not in whole and token not in whole
    for path in (own, "/etc/slurm/jwt_hs256.key") if release.rest else (own,):
        for form in ("base64 -w0", "xxd -p -c0", "od -An -tx1 -v"):
            key = "".join(fleet.on("ctl", "sh", "-c", f"{form} {path}").stdout.split())
            assert not key or key.rstrip("=") not in whole
    assert "StoragePass=********" in texts["site/hosts/ctl/files/etc/slurm/slurmdbd.conf"]
    for name in (
        "README",
        "doctor.json",
        "cluster/config.txt",
        "cluster/nodes.txt",
        "cluster/jobs.txt",
        "cluster/reasons.txt",
        "cluster/sdiag.txt",
    ):
        assert texts[f"site/{name}"], name
    assert "slurmd" in texts["site/hosts/n1/journal/slurmd.txt"]
    assert "gres.conf" in " ".join(texts)


@pytest.mark.full
def test_a_renamed_mig_profile_is_named_and_the_variable_mends_it(
    fleet: Fleet, cluster: dict[str, Any], site_inventory: Path, asked: Asked, tmp_path: Path
) -> None:
    def sliced(folder: str, profile: str) -> Path:
        changed = deepcopy(cluster)
        chips = {"type": profile, "count": 2, "detect": "fake", "slicing": "mig"}
        changed["slurm_nodegroups"][0]["accelerators"] = [chips]
        (tmp_path / folder).mkdir()
        return inventory(tmp_path / folder, GROUPS, changed)

    before, after = sliced("before", "3g.40gb"), sliced("after", "3g.39gb")
    try:
        assert fleet.play(before).status == 0
        fleet.until("login", IDLE, WELL)
        for node in ("n1", "n2"):
            fleet.said(
                node,
                "sh",
                "-c",
                "sed -i 's/^3g.40gb/3g.39gb/' $(readlink -f /run/slurm/conf)/fake_gpus.conf; systemctl restart slurmd",
            )
        fleet.until("login", ("sinfo", "-h", "-o", "%T %E"), "gres/gpu")
        code, rows = asked("gres", variables=before)
        assert code == 1
        renamed = "the driver calls the MIG profile '3g.40gb' now '3g.39gb': the same slices, by another name"
        assert renamed in [one["found"] for one in row(rows, "n1")["mismatches"]]
        assert fleet.play(after).status == 0
        for node in ("n1", "n2"):
            fleet.said("login", "scontrol", "update", f"NodeName={node}", "State=RESUME")
        fleet.until("login", IDLE, WELL)
        assert asked("gres", variables=after)[0] == 0
    finally:
        assert fleet.play(site_inventory).status == 0
        for node in ("n1", "n2"):
            fleet.on("login", "scontrol", "update", f"NodeName={node}", "State=RESUME")
