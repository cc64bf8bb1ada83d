"""Slurm to a newer release under jobs that run and wait; and to one that is too far away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.clusters import Said, westward
from provision.conftest import CLUSTER, GROUPS, Submit, bare
from provision.sites import RELEASES, Fleet, inventory

pytestmark = [pytest.mark.lab, pytest.mark.full]
HOSTS = ("ctl", "ctl2", "login", "n1", "n2")
# a mirror may be older than its index allows
FORKY = "deb [check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian forky main"
WAITS = "until [ -e /shared/go ]; do sleep 1; done; srun true"
# a release of Debian that no daemon of this one can be brought to at once, and why
TOO_FAR = {
    "22.05": (
        "trixie",
        "24.11 takes up the state and the jobs of 3 releases before it, 23.02 at the oldest, and here is 22.05",
    ),
    "24.11": ("bookworm", "22.05 is older than 24.11"),
    "26.05": ("trixie", "24.11 is older than 26.05"),
}


def upgrade(fleet: Fleet, site: Path, backups: Path, release: str) -> Said:
    given = ("-i", str(site), "--backup-to", str(backups), "--release", release, "--batch", "1")
    return westward("site", "upgrade", str(fleet.lab.inventory), *given, timeout_s=1800)


def installed(fleet: Fleet) -> dict[str, str]:
    return {host: fleet.said(host, "scontrol", "-V").split()[1].rsplit(".", 1)[0] for host in HOSTS}


def ended(fleet: Fleet, job: str) -> None:
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", job), "COMPLETED")


def test_what_slurm_cannot_do_at_once_is_refused(
    fleet: Fleet, site_inventory: Path, submit: Submit, tmp_path: Path
) -> None:
    before = installed(fleet)
    job = submit("sleep 300")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    release, why = TOO_FAR[before["ctl"]]
    refused = upgrade(fleet, site_inventory, tmp_path, release)
    assert refused.status == 5, refused.out[-4000:] + refused.err
    assert why in refused.err
    assert installed(fleet) == before
    assert not any(tmp_path.iterdir())
    assert fleet.said("ctl", "sh", "-c", "ls /etc/apt/*/slurm-upgrade* 2>&1; true").count("No such file") == 1
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", job) == "RUNNING\n"


@pytest.fixture(scope="module", params=["v2411"])
def older(
    request: pytest.FixtureRequest, state_of_hosts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Hosts of their own: their cluster will be another afterwards."""
    with bare(RELEASES[request.param].topology, state_of_hosts, "upgrade") as fleet:
        yield fleet


def test_jobs_run_and_wait_through_an_upgrade(older: Fleet, tmp_path: Path) -> None:
    site = inventory(
        tmp_path / "inventory", GROUPS, CLUSTER | {"slurm_auth": "slurm", "slurm_upgrade_repository": FORKY}
    )
    ran = older.play(site)
    assert ran.status == 0, ran.why
    older.until("login", ("sinfo", "-h", "-o", "%D %T"), "2 idle")
    done, runs, held = (
        older.submitted(*words, "--account=physics", user="admin")
        for words in (("true",), (WAITS, "-w", "n1"), ("true", "-H"))
    )
    ended(older, done)
    older.until("login", ("squeue", "-h", "-o", "%T", "-j", runs), "RUNNING")

    said = upgrade(older, site, tmp_path / "backups", "forky")
    assert said.status == 0, said.out[-6000:] + said.err
    assert installed(older) == dict.fromkeys(HOSTS, "26.05")
    assert len(list((tmp_path / "backups").iterdir())) == 1
    assert older.said("ctl", "sh", "-c", "scontrol -o show node | grep -c ' Version=26.05'") == "2\n"
    queue = dict(line.split("|") for line in older.said("login", "squeue", "-h", "-o", "%i|%T").splitlines())
    assert queue == {runs: "RUNNING", held: "PENDING"}
    assert older.said("login", "sacct", "-X", "-n", "-P", "-o", "state", "-j", done) == "COMPLETED\n"
    older.said("ctl", "touch", "/shared/go")
    older.said("login", "scontrol", "release", held)
    ended(older, runs)
    ended(older, held)
    assert set(older.said("login", "srun", "-N2", "hostname").split()) == {"n1", "n2"}
    again = older.play(site)
    assert again.status == 0, again.why
    assert sum(again.changed.values()) == 0, again.text[-4000:]
