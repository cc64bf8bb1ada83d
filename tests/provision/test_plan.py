"""A change of a cluster that runs: what the plan says of it, and what then happens to jobs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from provision.conftest import GROUPS, Submit
from provision.sites import Fleet, Played, Release, inventory
from westward.provision.hosts import Hands, read_inventory
from westward.provision.planning import render
from westward.provision.trial import try_out

pytestmark = pytest.mark.lab
HOSTS = ("ctl", "ctl2", "login", "n1", "n2")
PORTS = (26817, 26818)  # of nobody but the trial
# prints how many packets of these ports a host sends or gets, on all its interfaces, until it is told to end
CAPTURE = f"""
import select, socket, struct, sys
ports, seen = {set(PORTS)!r}, 0
packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print("ready", flush=True)
while True:
    ready, _, _ = select.select([packets, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    data = packets.recv(65535)
    version = data[0] >> 4 if data else 0
    start = (data[0] & 15) * 4 if version == 4 else 40
    if version in (4, 6) and len(data) >= start + 4:
        seen += bool(ports & set(struct.unpack("!HH", data[start:start + 4])))
print(seen)
"""


def westward(fleet: Fleet, folder: Path, word: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`westward site plan|apply`, as a sysadmin calls it."""
    argv = [
        sys.executable,
        "-m",
        "westward.cli.main",
        "site",
        word,
        str(fleet.lab.inventory),
        "-i",
        str(folder),
        *words,
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)


def planned(fleet: Fleet, folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and what the plan says."""
    ran = westward(fleet, folder, "plan", "--json", *words)
    assert ran.stdout.startswith("{"), ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def applied(fleet: Fleet, folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    ran = westward(fleet, folder, "apply", "--yes", "--json", *words)
    assert ran.stdout.startswith("{"), ran.stderr
    return ran.returncode, json.loads(ran.stdout)


def fingerprint(fleet: Fleet) -> dict[str, str]:
    """The files of every host, and the slurmctld that runs."""
    found = {
        host: fleet.said(
            host, "sh", "-c", "cd /etc/slurm && find . -type f -exec sha256sum {} + | sort; ls -la /etc/slurm"
        )
        for host in HOSTS
    }
    return found | {"pid": fleet.said("ctl", "systemctl", "show", "-P", "MainPID", "slurmctld")}


def left_behind(fleet: Fleet) -> str:
    """Processes and mounts of a trial."""
    return fleet.on(
        "ctl",
        "sh",
        "-c",
        "grep -h westward-trial /proc/[0-9]*/mounts; pgrep -af '[s]lurmctld -D$|[m]unged --foreground --force'",
    ).stdout


@pytest.fixture
def job(fleet: Fleet, submit: Submit) -> str:
    """One that runs, and holds a device."""
    job = submit("sleep 900", "-w", "n1", "--gres=gpu:1")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    return job


def state(fleet: Fleet, job: str) -> str:
    return fleet.on("login", "squeue", "-h", "-t", "all", "-o", "%T", "-j", job).stdout.strip()


def runs_on(fleet: Fleet, job: str, within_s: float) -> bool:
    """False as soon as it does not run any more; slurmctld learns it when a node registers."""
    end = time.monotonic() + within_s
    while state(fleet, job) == "RUNNING":
        if time.monotonic() > end:
            return True
        time.sleep(1)
    return False


@pytest.fixture
def changed(cluster: dict[str, Any], tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The cluster's variables, to be changed and written with `inventory`."""
    yield deepcopy(cluster)


@pytest.fixture
def as_before(fleet: Fleet, site_inventory: Path, first: Played) -> Iterator[None]:
    """What a test applied is taken back; a job that was lost may be there again then."""
    yield
    ran = fleet.play(site_inventory)
    assert ran.status == 0, ran.why
    fleet.on("login", "scancel", "-u", "root")
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T %E"), "2 idle none")


def test_a_plan_of_what_runs_says_that_nothing_changes(fleet: Fleet, site_inventory: Path, first: Played) -> None:
    ran = westward(fleet, site_inventory, "plan")
    assert ran.returncode == 0, ran.stderr
    assert "nothing changes" in ran.stdout
    assert "note:" not in ran.stdout


def test_what_cannot_start_or_would_lose_jobs_is_refused_and_nothing_changes(
    fleet: Fleet, changed: dict[str, Any], first: Played, job: str, tmp_path: Path
) -> None:
    before = fingerprint(fleet)
    parameters = changed["slurm_nodegroups"][0]["parameters"]
    parameters["Color"] = "blue"
    code, said = planned(fleet, inventory(tmp_path / "node", GROUPS, changed))
    assert (code, said["trial"]["started"]) == (2, False)
    assert any("Color" in line for line in said["trial"]["log"]), said["trial"]

    del parameters["Color"]
    changed["slurm_config"]["Colour"] = "blue"
    code, said = planned(fleet, inventory(tmp_path / "key", GROUPS, changed))
    assert (code, said["trial"]["started"]) == (2, False)
    assert any("Colour" in line for line in said["trial"]["log"]), said["trial"]

    del changed["slurm_config"]["Colour"]
    changed["slurm_config"]["SlurmdSpoolDir"] = "/var/lib/slurm/elsewhere"
    ran = westward(fleet, inventory(tmp_path / "spool", GROUPS, changed), "apply", "--yes")
    assert ran.returncode == 5, ran.stderr
    assert "slurmctld starts and answers" in ran.stdout
    assert "--allow SlurmdSpoolDir" in ran.stderr
    assert job in ran.stderr

    assert fingerprint(fleet) == before
    assert left_behind(fleet) == ""
    assert state(fleet, job) == "RUNNING"


def test_nothing_of_a_trial_reaches_the_network(
    fleet: Fleet, changed: dict[str, Any], release: Release, first: Played, tmp_path: Path
) -> None:
    changed["slurm_config"] |= {"SlurmctldPort": PORTS[0], "SlurmdPort": PORTS[1]}
    site = read_inventory([fleet.lab.inventory, inventory(tmp_path, GROUPS, changed)])
    candidate = render(site.inventories)
    argv = ["docker", "exec", "-i", f"{fleet.lab.name}.ctl", "python3", "-c", CAPTURE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as capture, Hands() as hands:
        assert capture.stdout is not None
        assert capture.stdout.readline() == "ready\n"
        trial = try_out(hands, site.controller, candidate.files, candidate.configuration(), "/shared/slurmctld")
        time.sleep(1)
        # it would see one
        fleet.on("ctl", "python3", "-c", f"import socket; socket.socket().connect_ex(('n1', {PORTS[1]}))")
        time.sleep(1)
        seen = int(capture.communicate("end\n")[0])
    assert trial.passed, trial
    assert trial.interfaces == ("lo",)
    assert {"Prolog", "AccountingStorageType"} <= set(trial.unchecked)
    assert seen == 2, "one packet there and one back, of the test's own; any other is the trial's"


@pytest.mark.full
def test_what_was_written_and_never_taken_up_is_planned_and_applied(
    fleet: Fleet, changed: dict[str, Any], first: Played, job: str, tmp_path: Path
) -> None:
    """As after a run that ended before its handler: the file is as it should be, and slurmctld goes by another."""
    before = fleet.said("ctl", "cat", "/etc/slurm/slurm.conf")
    changed["slurm_config"]["KillWait"] = 23
    folder = inventory(tmp_path, GROUPS, changed)
    write(fleet, render([fleet.lab.inventory, folder]).files["slurm.conf"])
    code, said = applied(fleet, folder)
    assert code == 0, said["applied"]
    assert "slurm.conf says KillWait=23, and slurmctld has not taken that up" in said["notes"]
    assert [(change["key"], change["before"], change["class"]) for change in said["changes"]] == [
        ("KillWait", "30", "live")
    ]
    assert said["applied"]["jobs"] == [job]
    assert "KillWait                = 23 sec" in fleet.said("login", "scontrol", "show", "config")
    assert state(fleet, job) == "RUNNING"
    write(fleet, before)
    fleet.said("ctl", "scontrol", "reconfigure")


def write(fleet: Fleet, text: str) -> None:
    """The slurm.conf of both controllers, by hand."""
    for host in ("ctl", "ctl2"):
        fleet.said(host, "sh", "-c", f"cat > /etc/slurm/slurm.conf <<'C'\n{text}C\n")


@pytest.mark.full
@pytest.mark.parametrize(
    ("key", "value", "kind", "survives"),
    [
        ("KillWait", 29, "live", True),
        ("AuthInfo", "ttl=120", "restart", True),
        ("StateSaveLocation", "/shared/elsewhere", "destroys", False),
    ],
)
def test_a_job_fares_as_the_plan_says(
    fleet: Fleet,
    changed: dict[str, Any],
    as_before: None,
    job: str,
    tmp_path: Path,
    key: str,
    value: Any,
    kind: str,
    survives: bool,
) -> None:
    pid = fleet.said("ctl", "systemctl", "show", "-P", "ActiveEnterTimestamp", "slurmctld")
    changed["slurm_config"][key] = value
    folder = inventory(tmp_path, GROUPS, changed)
    words = () if survives else ("--allow", key)
    code, said = applied(fleet, folder, *words)
    assert code == 0, said["applied"]
    (change,) = said["changes"]
    assert (change["class"], bool(change["jobs"])) == (kind, not survives)
    restarted = fleet.said("ctl", "systemctl", "show", "-P", "ActiveEnterTimestamp", "slurmctld") != pid
    assert restarted is ("slurmctld" in change["daemons"])
    assert runs_on(fleet, job, within_s=10 if survives else 90) is survives


@pytest.mark.full
def test_devices_change_only_where_no_job_holds_one(
    fleet: Fleet, changed: dict[str, Any], as_before: None, job: str, submit: Submit, tmp_path: Path
) -> None:
    changed["slurm_nodegroups"][0]["accelerators"][0] |= {"count": 2, "files": "/dev/nvidia[0-1]"}
    folder = inventory(tmp_path, GROUPS, changed)
    code, said = planned(fleet, folder)
    assert code == 5
    assert {(change["class"], tuple(change["jobs"])) for change in said["changes"]} == {("drained", (job,))}
    fleet.said("login", "scancel", job)
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T"), "2 idle")
    other = submit("sleep 900", "-w", "n1")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", other), "RUNNING")
    code, said = applied(fleet, folder)
    assert code == 0, said["applied"]
    assert state(fleet, other) == "RUNNING"


@pytest.mark.full
def test_a_partition_that_goes_takes_its_jobs_along(
    fleet: Fleet, changed: dict[str, Any], as_before: None, job: str, tmp_path: Path
) -> None:
    changed["slurm_partitions"] = [{"name": "other", "nodegroups": ["h100"], "parameters": {"Default": "YES"}}]
    folder = inventory(tmp_path, GROUPS, changed)
    code, said = planned(fleet, folder)
    assert code == 5
    assert [change["name"] for change in said["changes"] if change["refused"]] == ["PartitionName=gpu"]
    code, said = applied(fleet, folder, "--allow", "PartitionName=gpu")
    assert code == 0, said["applied"]
    assert not runs_on(fleet, job, within_s=30)


@pytest.mark.full
def test_where_a_host_dies_halfway_the_configuration_of_before_is_back(
    fleet: Fleet, changed: dict[str, Any], as_before: None, job: str, tmp_path: Path
) -> None:
    before = fingerprint(fleet)
    changed["slurm_config"]["KillWait"] = 31
    folder = inventory(tmp_path, GROUPS, changed)

    def let_it_die() -> None:
        """As soon as the controllers have the new file, n2 answers no more by ssh."""
        fleet.until("ctl", ("grep", "KillWait", "/etc/slurm/slurm.conf"), "KillWait=31", 300)
        fleet.said("n2", "sh", "-c", "systemctl stop ssh.socket ssh; pkill sshd; true")

    killer = Thread(target=let_it_die)
    killer.start()
    try:
        code, said = applied(fleet, folder)
    finally:
        killer.join()
        fleet.said("n2", "systemctl", "start", "ssh")
    assert code == 1
    done = said["applied"]
    assert any("n2" in problem for problem in done["problems"]), done
    assert done["restored"] is False
    assert {host: told["has"] for host, told in done["hosts"].items()} == {
        "ctl": "before",
        "ctl2": "before",
        "login": "before",
        "n1": "before",
        "n2": "no answer",
    }
    assert {host: fingerprint(fleet)[host].split("total")[0] for host in ("ctl", "ctl2")} == {
        host: before[host].split("total")[0] for host in ("ctl", "ctl2")
    }
    assert "KillWait                = 30 sec" in fleet.said("login", "scontrol", "show", "config")
    assert state(fleet, job) == "RUNNING"
    kept = fleet.said("ctl", "stat", "-c", "%U %a", done["kept"])
    assert kept == "root 700\n"
