"""Nodes look after themselves: the health check, the prolog and the epilog, on nodes with which something is wrong. And how they are wired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provision.sites import Fleet, Played

pytestmark = pytest.mark.lab
HEALTH = "/usr/local/libexec/westward/health"
GONE = "health: device /dev/nvidia3 is missing"
SINFO = ("sinfo", "-h", "-N", "-n", "n1", "-o", "%T|%E")
# there is no driver here: this prints for three cards what nvidia-smi -L prints for each
THREE_CARDS = 'for n in 0 1 2; do echo "GPU $n: NVIDIA H100 80GB HBM3 (UUID: GPU-$n)"; done'
FULL = "mount -t tmpfs -o size=1m tmpfs /tmp && ! dd if=/dev/zero of=/tmp/filler 2>/dev/null"


@contextmanager
def without_a_device(fleet: Fleet) -> Iterator[None]:
    """n1 with three of its four devices."""
    fleet.said("n1", "rm", "/dev/nvidia3")
    try:
        yield
    finally:
        fleet.said("n1", "mknod", "-m", "666", "/dev/nvidia3", "c", "195", "3")


def submitted(fleet: Fleet, script: str) -> str:
    """A job of admin's on n1, of which nobody knows yet whether it can begin."""
    argv = ("sbatch", "--parsable", "--account=physics", "-D", "/", "-w", "n1", "-o", "/dev/null", "--wrap", script)
    return fleet.said("login", "runuser", "-u", "admin", "--", *argv).strip()


def running(fleet: Fleet, script: str) -> str:
    """The same, which runs."""
    job = submitted(fleet, script)
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    return job


def ended(fleet: Fleet, job: str) -> None:
    """Until it is done, its epilog too."""
    fleet.until("login", ("scontrol", "show", "job", job), "JobState=COMPLETED")


def test_a_node_that_lacks_something_is_drained_until_it_has_it_again(fleet: Fleet, first: Played) -> None:
    fleet.until("login", SINFO, "idle|none")
    assert fleet.said("n1", HEALTH, "tell") == ""
    with without_a_device(fleet):
        fleet.until("login", SINFO, f"drained|{GONE}")
        assert fleet.said("login", "sinfo", "-h", "-N", "-n", "n2", "-o", "%T") == "idle\n"
    fleet.until("login", SINFO, "idle|none")


@pytest.mark.parametrize(
    ("breaks", "mends", "fault"),
    [
        (FULL, "umount /tmp", "/tmp has 0% free, less than 5%"),
        ("mount -t tmpfs -o ro tmpfs /tmp", "umount /tmp", "/tmp cannot be written to"),
        ("mount --bind / /mnt && mount --move /shared /mnt/mnt", "mount --move /mnt/mnt /shared && umount /mnt", "/shared is not mounted"),
        ("sed -i.kept 's/^memory .*/memory 99999999/' /etc/slurm/health.conf", "mv /etc/slurm/health.conf.kept /etc/slurm/health.conf", "less than 99999999 MiB"),
        (f"echo '#!/bin/sh\n{THREE_CARDS}' >/usr/bin/nvidia-smi; chmod +x /usr/bin/nvidia-smi", "rm /usr/bin/nvidia-smi", "nvidia-smi sees 3 of 4 GPUs"),
    ],
    ids=["full", "read-only", "not-mounted", "memory", "cards"],
)  # fmt: skip
def test_a_fault_is_named(fleet: Fleet, first: Played, breaks: str, mends: str, fault: str) -> None:
    fleet.said("n1", "sh", "-c", breaks)
    try:
        answer = fleet.on("n1", HEALTH, "tell")
    finally:
        fleet.said("n1", "sh", "-c", mends)
    assert answer.status == 1
    assert fault in answer.stdout
    assert answer.stdout.count("\n") == 1


def test_a_node_that_somebody_else_has_drained_stays_so(fleet: Fleet, first: Played) -> None:
    fleet.until("login", SINFO, "idle|none")
    fleet.said("login", "scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=new disk")
    try:
        fleet.said("n1", HEALTH)
        assert fleet.said("login", *SINFO) == "drained|new disk\n"
        with without_a_device(fleet):
            assert fleet.on("n1", HEALTH).status == 1
            assert fleet.said("login", *SINFO) == "drained|new disk\n"
    finally:
        fleet.said("login", "scontrol", "update", "NodeName=n1", "State=RESUME")
    fleet.until("login", SINFO, "idle|none")


def test_the_prolog_lets_no_job_begin_on_a_node_that_is_not_fit(fleet: Fleet, first: Played) -> None:
    """The check is run on idle nodes only, as the variables say; so here it is the prolog that drains. The job is requeued, and not held."""
    runs = running(fleet, "sleep 600")
    with without_a_device(fleet):
        refused = submitted(fleet, "true")
        fleet.until("login", SINFO, f"draining|{GONE}")
        fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", refused), "PENDING")
        assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", runs).strip() == "RUNNING"
    fleet.said("login", "scancel", runs)
    fleet.until("login", SINFO, "idle|none")
    assert "Restarts=1" in fleet.said("login", "scontrol", "show", "job", refused)
    # Slurm lets a requeued job wait for two minutes
    fleet.said("login", "scontrol", "update", f"JobId={refused}", "StartTime=now")
    ended(fleet, refused)


LEAVE = "mkdir -p /tmp/left/{0}; touch /tmp/left/{0}/file /dev/shm/left-{0} /var/tmp/kept; ipcmk -M 4096; touch -d 2020-01-01 /tmp/left/{0}/old; until test -e /shared/end-{0}; do sleep 0.2; done"
LEFT = (
    "sh",
    "-c",
    "ls -d /tmp/left* /dev/shm/left* /tmp/kept* /var/tmp/kept 2>/dev/null; ipcs -m | grep -c ' admin '; true",
)
KEPT = ["/tmp/kept", "/tmp/kept-root", "/var/tmp/kept"]


@pytest.fixture
def tidy(fleet: Fleet) -> Iterator[None]:
    fleet.said("n1", "sh", "-c", "touch /tmp/kept-root; runuser -u admin -- touch /tmp/kept")
    yield
    fleet.said("login", "scancel", "-u", "admin")  # of a test that failed
    remove = "rm -rf /tmp/kept* /tmp/left /dev/shm/left* /var/tmp/kept /shared/end-*; ipcs -m | awk '/ admin /{print $2}' | xargs -rn1 ipcrm -m"
    fleet.said("n1", "sh", "-c", remove)
    fleet.until("login", SINFO, "idle|none")


def test_what_a_user_left_goes_with_his_last_job_on_the_node(fleet: Fleet, first: Played, tidy: None) -> None:
    one, two = (running(fleet, LEAVE.format(name)) for name in ("one", "two"))
    fleet.until("n1", ("ls", "/tmp/left/two"), "old")
    fleet.said("n1", "touch", "/shared/end-one")
    ended(fleet, one)
    assert {"/tmp/left", "/dev/shm/left-one", "/dev/shm/left-two", *KEPT, "2"} == set(fleet.said("n1", *LEFT).split())
    fleet.said("n1", "touch", "/shared/end-two")
    ended(fleet, two)
    fleet.until("n1", LEFT, "\n0\n")
    assert fleet.said("n1", *LEFT).split() == [*KEPT, "0"]
    assert fleet.said("n1", "ls", "/run/westward-jobs") == ""


def test_nothing_goes_beside_a_job_that_began_before_there_was_a_prolog(
    fleet: Fleet, first: Played, tidy: None
) -> None:
    before = running(fleet, "sleep 600")
    # a job is RUNNING for slurmctld before its node has run the prolog
    fleet.until("n1", ("ls", "/run/westward-jobs"), f"1000.{before}\n")
    fleet.said("n1", "rm", f"/run/westward-jobs/1000.{before}")
    job = running(fleet, LEAVE.format("one"))
    fleet.said("n1", "touch", "/shared/end-one")
    ended(fleet, job)
    fleet.until("n1", ("sh", "-c", f"test -e /run/westward-jobs/1000.{job} || echo its epilog has run"), "has run")
    assert "/tmp/left" in fleet.said("n1", *LEFT)
    fleet.said("login", "scancel", before)


def test_the_switches_are_those_of_the_variables(fleet: Fleet, first: Played) -> None:
    told = fleet.said("login", "scontrol", "show", "topology")
    assert [line.split(" LinkSpeed")[0] for line in told.splitlines()] == [
        "SwitchName=leaf1 Level=0",
        "SwitchName=leaf2 Level=0",
        "SwitchName=spine Level=1",
    ]
    assert "Nodes=n[1-2] Switches=leaf[1-2]" in told
