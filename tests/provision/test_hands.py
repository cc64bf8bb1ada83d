"""Nodes and partitions out of service and back on a cluster that works: no job is killed, and what somebody else did stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from contract.clusters import Said, westward
from provision.sites import Fleet, Played, addressed
from westward.lab import hosts

pytestmark = pytest.mark.lab
SINFO = ("sinfo", "-h", "-N", "-o", "%N|%T|%E")
IDLE = "n1|idle|none\nn2|idle|none\n"
HOSTILE = 'new "disk" $(touch /tmp/owned)\n`reboot`; it\'s [x@y] Reason=none'


@pytest.fixture
def site(fleet: Fleet, site_inventory: Path, first: Played) -> tuple[str, ...]:
    """The words that name the cluster on a command line."""
    fleet.until("login", SINFO, IDLE)
    return (str(fleet.lab.inventory), "-i", str(site_inventory))


def hand(site: tuple[str, ...], verb: str, *words: str) -> Said:
    return westward("site", verb, site[0], *words, *site[1:])


def submitted(fleet: Fleet, seconds: int, *options: str) -> str:
    argv = ("sbatch", "--parsable", "--account=physics", "-D", "/", "-o", "/dev/null", *options)
    return fleet.said("login", "runuser", "-u", "admin", "--", *argv, "--wrap", f"sleep {seconds}").strip()


@contextmanager
def drained_by_somebody_else(fleet: Fleet, node: str) -> Iterator[None]:
    fleet.said("login", "scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=new disk")
    try:
        yield
    finally:
        fleet.said("login", "scontrol", "update", f"NodeName={node}", "State=RESUME")


def test_a_drained_node_ends_its_jobs_and_comes_back(fleet: Fleet, site: tuple[str, ...]) -> None:
    job = submitted(fleet, 4, "-w", "n1")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    said = hand(site, "drain", "n1", "--reason", HOSTILE, "--wait")
    assert said.status == 0, said.err
    assert f"waiting for n1: {job} of admin" in said.err
    told = fleet.said("login", "sacct", "-X", "-n", "-P", "-o", "state", "-j", job)
    assert told in ("COMPLETED\n", "RUNNING\n")  # what slurmdbd has not heard yet
    line = fleet.said("login", "scontrol", "-o", "show", "node", "n1")
    assert "State=IDLE+DRAIN" in line
    assert """Reason=westward: new "disk" $(touch /tmp/owned) `reboot`; it's [x@y] Reason=none (""" in line
    assert fleet.on("ctl", "test", "-e", "/tmp/owned").status == 1
    again = hand(site, "drain", "n1", "--reason", "another")
    assert "drained before" in again.out
    assert hand(site, "resume", "n1").status == 0
    fleet.until("login", SINFO, IDLE)


def test_what_somebody_else_drained_stays_so(fleet: Fleet, site: tuple[str, ...]) -> None:
    with drained_by_somebody_else(fleet, "n2"):
        said = hand(site, "drain", "h100", "--reason", "memory", "--json")
        assert said.status == 0, said.err
        outcomes = {node["node"]: (node["outcome"], node["detail"]) for node in said.json["nodes"]}
        assert outcomes["n1"][0] == "drained"
        assert outcomes["n2"] == ("somebody else's", "new disk")
        back = hand(site, "resume", "n[1-2]")
        assert back.status == 1
        assert "n2: somebody else's: new disk" in back.err
        fleet.until("login", SINFO, "n1|idle|none\nn2|drained|new disk\n")  # Slurm asks a node first that it takes back
        boot = hand(site, "reboot", "n2")
        assert boot.status == 1
        assert "n2: left alone" in boot.out
        assert fleet.said("login", *SINFO) == "n1|idle|none\nn2|drained|new disk\n"
    fleet.until("login", SINFO, IDLE)


def test_a_node_that_is_not_fit_stays_drained(fleet: Fleet, site: tuple[str, ...]) -> None:
    assert hand(site, "drain", "n1", "--reason", "card").status == 0
    fleet.said("n1", "rm", "/dev/nvidia3")
    try:
        said = hand(site, "resume", "n1")
        assert said.status == 1
        assert "n1: not fit: device /dev/nvidia3 is missing" in said.err
        assert "n1|drained|westward: card" in fleet.said("login", *SINFO)
    finally:
        fleet.said("n1", "mknod", "-m", "666", "/dev/nvidia3", "c", "195", "3")
        hand(site, "resume", "n1")
    fleet.until("login", SINFO, IDLE)


def test_what_is_not_there_is_refused(site: tuple[str, ...]) -> None:
    for words in (("drain", "n9", "--reason", "x"), ("resume", "n[1-9]"), ("reboot", "n9"), ("freeze", "gpus")):
        said = hand(site, *words)
        assert said.status == 2, said.err
    assert hand(site, "drain", "n1", "--reason", " \n").status == 2


def test_who_interrupts_is_told_what_is_drained(fleet: Fleet, site: tuple[str, ...]) -> None:
    job = submitted(fleet, 600, "-w", "n1")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    argv = [sys.executable, "-m", "westward.cli.main", "site", "reboot", site[0], "n1", *site[1:]]
    # what runs in the background of a script, as tests may, has Ctrl-C ignored, and a program inherits that
    as_on_a_terminal = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_on_a_terminal
    ) as run:
        try:
            fleet.until("login", SINFO, "n1|draining|westward: reboot")
            run.send_signal(signal.SIGINT)
            _, complaints = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert "still drained: n1; 'westward site resume" in complaints
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", job).strip() == "RUNNING"
    fleet.said("login", "scancel", job)
    assert hand(site, "resume", "n1").status == 0
    fleet.until("login", SINFO, IDLE)


@contextmanager
def power(fleet: Fleet) -> Iterator[None]:
    """What starts a machine again that went down: a container whose systemd has ended stays so by itself."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            for node in ("n1", "n2"):
                container = fleet.client.containers.get(f"{fleet.lab.name}.{node}")
                if container.status == "exited":
                    container.start()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        assert hosts.up(fleet.lab.topology, fleet.lab.name).inventory == fleet.lab.inventory


@pytest.mark.full
def test_nodes_are_rebooted_in_batches_under_load(fleet: Fleet, site: tuple[str, ...], tmp_path: Path) -> None:
    """Half of the nodes at a time; each job takes its node whole, and there are more of them than fit."""
    jobs = [submitted(fleet, 5, "--exclusive") for _ in range(6)]
    fleet.until("login", ("squeue", "-h", "-t", "R", "-o", "%N"), "n2")
    with power(fleet):
        at = (str(addressed(fleet, tmp_path / "addresses")), *site[1:])
        before = {node: boot(fleet, node) for node in ("n1", "n2")}
        said = hand(at, "reboot", "h100", "--batch", "50%", "--reason", "new kernel", "--back-within", "120")
        assert said.status == 0, said.err + said.out
    lines = said.out.splitlines()
    assert lines.index("n1: back in service") < min(n for n, line in enumerate(lines) if line.startswith("n2: "))
    assert {node: boot(fleet, node) for node in before}.items().isdisjoint(before.items())
    for job in jobs:
        fleet.until("login", ("scontrol", "-o", "show", "job", job), "JobState=COMPLETED")
        assert "Restarts=0" in fleet.said("login", "scontrol", "-o", "show", "job", job)
    fleet.until("login", SINFO, IDLE)


def boot(fleet: Fleet, node: str) -> str:
    return fleet.said(node, "sh", "-c", "sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20")


def test_a_frozen_partition_lets_jobs_wait_and_gets_back_what_it_was(fleet: Fleet, site: tuple[str, ...]) -> None:
    runs = submitted(fleet, 600)
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", runs), "RUNNING")
    assert hand(site, "freeze", "gpu").status == 0
    waits = submitted(fleet, 0)
    fleet.until("login", ("squeue", "-h", "-o", "%T|%r", "-j", waits), "PENDING|PartitionDown")
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", runs).strip() == "RUNNING"
    assert "already, by" in hand(site, "freeze", "gpu").out
    assert hand(site, "thaw", "gpu").status == 0
    fleet.until("login", ("scontrol", "-o", "show", "job", waits), "JobState=COMPLETED")
    fleet.said("login", "scontrol", "update", "PartitionName=gpu", "State=DRAIN")
    try:
        assert hand(site, "freeze", "gpu").status == 5
        assert hand(site, "thaw", "gpu").status == 5
        assert fleet.said("login", "sinfo", "-h", "-o", "%a") == "drain\n"
    finally:
        fleet.said("login", "scontrol", "update", "PartitionName=gpu", "State=UP")
        fleet.said("login", "scancel", runs)
    fleet.until("login", SINFO, IDLE)
