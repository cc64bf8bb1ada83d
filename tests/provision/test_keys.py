"""New keys for a cluster that works: jobs run on, and with auth/slurm no job fails meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contract.clusters import Said, westward
from provision.conftest import Submit
from provision.sites import NEW_TOKEN, Fleet, Played, Release, nodes_by_rest

pytestmark = [pytest.mark.lab, pytest.mark.full]


# what sbatch says where slurmctld, or the sackd that has the configuration, ends in that moment
RESTARTS = ("contact slurm controller", "reset by peer", "establish a configuration source")


@dataclass
class Submitted:
    """Batch jobs, and what sbatch said where it made none."""

    jobs: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def submitting(fleet: Fleet) -> Iterator[Submitted]:
    """One job after another from the login node, for as long as this lasts."""
    stop, made = threading.Event(), Submitted()

    def submit() -> None:
        while not stop.wait(0.2):
            answer = fleet.on("login", "sbatch", "--parsable", "-D", "/", "-o", "/dev/null", "--wrap", "true")
            (made.refused if answer.status else made.jobs).append(answer.stderr or answer.stdout.strip())

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def rotate(fleet: Fleet, site_inventory: Path, folder: Path, *words: str) -> Said:
    """`westward site keys`, without its wait until what the old key has signed is void."""
    short = folder / "short"
    (short / "group_vars").mkdir(parents=True)
    (short / "group_vars" / "all.yml").write_text("slurm_keys_wait_s: 3\n")
    (short / "hosts.yml").write_text("all: {}\n")
    inventories = ("-i", str(site_inventory), "-i", str(short))
    return westward("site", "keys", str(fleet.lab.inventory), *inventories, *words, timeout_s=600)


def test_keys_are_rotated_without_a_failed_job(
    fleet: Fleet, site_inventory: Path, release: Release, submit: Submit, tmp_path: Path
) -> None:
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T"), "2 idle")
    path = "/etc/slurm/slurm.key" if release.auth == "slurm" else "/etc/munge/munge.key"
    before = {host: fleet.said(host, "sha256sum", path) for host in ("ctl", "ctl2", "login", "n1", "n2")}
    job = submit("srun sleep 90; srun true")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    with submitting(fleet) as meanwhile:
        said = rotate(fleet, site_inventory, tmp_path)
    assert said.status == 0, said.out[-4000:] + said.err
    if release.auth == "slurm":  # munge knows one key, so there is a moment with two; here slurmctld restarts
        assert len(meanwhile.refused) <= 3, meanwhile.refused
        assert [said for said in meanwhile.refused if not any(word in said for word in RESTARTS)] == []
    assert len(meanwhile.jobs) > 10
    shown = ("sacct", "-X", "-n", "-P", "-o", "state", "-j", ",".join(meanwhile.jobs))
    fleet.until("login", ("sh", "-c", f"{' '.join(shown)} | sort -u | paste -sd,"), "COMPLETED\n", 180)
    assert set(fleet.said("login", *shown).split()) == {"COMPLETED"}
    after = {host: fleet.said(host, "sha256sum", path) for host in before}
    assert len(set(after.values())) == 1
    assert set(after.values()).isdisjoint(before.values())
    assert fleet.on("ctl", "sh", "-c", "ls /etc/slurm/*.jwks /etc/*/*.next").status != 0
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", job), "COMPLETED", 120)
    assert fleet.said("login", "srun", "-N2", "hostname").split() in (["n1", "n2"], ["n2", "n1"])


def test_a_new_key_of_tokens_makes_every_token_void(
    fleet: Fleet, site_inventory: Path, release: Release, first: Played, tmp_path: Path
) -> None:
    if release.rest is None:
        refused = rotate(fleet, site_inventory, tmp_path, "--jwt")
        assert refused.status == 5
        assert "a key of tokens needs slurmrestd, and there is none here" in refused.err
        return

    fleet.said("ctl", "sh", "-c", f"umask 077; {NEW_TOKEN} >/root/token")
    assert nodes_by_rest(fleet, release, "cat /root/token")[0] == 200
    said = rotate(fleet, site_inventory, tmp_path, "--jwt")
    assert said.status == 0, said.out[-4000:] + said.err
    assert nodes_by_rest(fleet, release, "cat /root/token")[0] != 200
    assert nodes_by_rest(fleet, release, NEW_TOKEN) == (200, {"n1", "n2"})
    assert fleet.on("ctl", "sh", "-c", "ls /etc/slurm/*.next").status != 0
    ran = fleet.play(site_inventory)
    assert ran.status == 0, ran.why
    assert sum(ran.changed.values()) == 0, ran.text[-3000:]
