"""Hosts with which something is wrong: one clear error each, and the rest of the cluster goes on."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from provision.conftest import GROUPS
from provision.sites import Fleet, Played, inventory

pytestmark = pytest.mark.lab
CONFIGURATION = "/etc/slurm/slurm.conf"


@pytest.fixture
def job(fleet: Fleet, first: Played) -> Iterator[str]:
    """A job that runs meanwhile, and still does so afterwards."""
    begun = fleet.said("login", "sbatch", "--parsable", "-w", "n1", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", begun), "RUNNING")
    yield begun
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", begun).strip() == "RUNNING"
    fleet.said("login", "scancel", begun)


@pytest.fixture
def one_more_key(cluster: dict[str, Any], tmp_path: Path) -> Path:
    """An inventory with a change that has still to reach the hosts."""
    changed = deepcopy(cluster)
    changed["slurm_config"]["KillWait"] = 23
    return inventory(tmp_path, GROUPS, changed)


@pytest.mark.full
def test_a_host_that_is_not_debians_is_refused_by_name(fleet: Fleet, site_inventory: Path, job: str) -> None:
    hide = "cp -a /etc/os-release /root/os-release; rm /etc/os-release; chmod -x /usr/bin/apt-get /usr/bin/apt"
    fleet.said(
        "n2", "sh", "-c", f"{hide}; printf 'ID=rocky\\nNAME=\"Rocky Linux\"\\nVERSION_ID=9.4\\n' >/etc/os-release"
    )
    fleet.said("n2", "sh", "-c", "mv /etc/debian_version /usr/bin/apt-get /usr/bin/dpkg /root/")
    try:
        ran = fleet.play(site_inventory)
    finally:
        fleet.said("n2", "sh", "-c", "mv /root/debian_version /etc/; mv /root/apt-get /root/dpkg /usr/bin/")
        fleet.said(
            "n2",
            "sh",
            "-c",
            "cp -a --remove-destination /root/os-release /etc/; chmod +x /usr/bin/apt-get /usr/bin/apt",
        )
    assert ran.status == 2
    assert "n2 runs Rocky" in ran.why
    assert "Debian 12 and 13 are supported" in ran.why
    assert ran.text.count("fatal:") == 1, "no other host fails, and this one only once"
    assert ran.changed["n2"] == 0


def test_an_unreachable_host_is_named_and_the_others_are_done(
    fleet: Fleet, one_more_key: Path, site_inventory: Path, job: str
) -> None:
    fleet.said("n2", "sh", "-c", "systemctl stop ssh; pkill -KILL sshd || true")  # and the connections that are kept
    try:
        ran = fleet.play(one_more_key)
    finally:
        fleet.said("n2", "systemctl", "start", "ssh")
    assert ran.status == 4
    assert "fatal: [n2]: UNREACHABLE!" in ran.text
    assert ran.text.count("fatal:") == 1
    assert "KillWait                = 23 sec" in fleet.said("login", "scontrol", "show", "config")
    again = fleet.play(site_inventory)
    assert again.status == 0, again.why
    assert "KillWait                = 30 sec" in fleet.said("login", "scontrol", "show", "config")


@pytest.mark.full
def test_a_wrong_password_is_told_and_the_others_are_done(
    fleet: Fleet, site_inventory: Path, job: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "password.yml"
    wrong.write_text("ansible_become_password: not-the-one\n")
    rule = "/etc/sudoers.d/zz-password"
    fleet.said("n2", "sh", "-c", f"echo admin:the-one | chpasswd; echo 'admin ALL=(ALL) PASSWD: ALL' >{rule}")
    try:
        ran = fleet.play(site_inventory, "-e", f"@{wrong}")
    finally:
        fleet.said("n2", "rm", rule)
    assert ran.status == 2
    assert "fatal: [n2]" in ran.text
    assert "Incorrect sudo password" in ran.why or "Sorry, try again" in ran.why
    assert ran.text.count("fatal:") == 1
    assert "not-the-one" not in ran.text


@pytest.mark.full
def test_a_full_disk_leaves_what_was_there(fleet: Fleet, one_more_key: Path, site_inventory: Path, job: str) -> None:
    before = fleet.said("ctl", "cat", CONFIGURATION)
    small = "mount -t tmpfs -o size=1m tmpfs /mnt; cp -a /etc/slurm/. /mnt/; chown slurm: /mnt; mount --move /mnt /etc/slurm"
    fleet.said("ctl", "sh", "-c", f"{small}; dd if=/dev/zero of=/etc/slurm/filler 2>/dev/null; true")
    try:
        ran = fleet.play(one_more_key)
        left = fleet.said("ctl", "cat", CONFIGURATION)
    finally:
        fleet.said("ctl", "umount", "--lazy", "/etc/slurm")  # slurmctld of 26.05 keeps a file open
    assert ran.status == 2
    assert "No space left on device" in ran.why
    assert left == before
    assert fleet.said("login", "srun", "-w", "n1", "hostname").strip() == "n1"
    again = fleet.play(site_inventory)
    assert again.status == 0, again.why
