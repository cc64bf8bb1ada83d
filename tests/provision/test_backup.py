"""A backup of a cluster that works, and a controller that has lost everything and gets it back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from contract.clusters import westward
from provision.conftest import Submit
from provision.sites import Fleet, Played, Release

pytestmark = [pytest.mark.lab, pytest.mark.full]


@pytest.fixture
def site(fleet: Fleet, site_inventory: Path, first: Played) -> tuple[str, ...]:
    return (str(fleet.lab.inventory), "-i", str(site_inventory))


@pytest.fixture
def jobs(fleet: Fleet, submit: Submit) -> dict[str, str]:
    """One that has ended, one that runs, one that is held, and one that will have ended since."""
    made = {
        "ended": submit("true", "--account=physics", user="admin"),
        "runs": submit("sleep 900", "--account=physics", "-w", "n1", user="admin"),
        "waits": submit("true", "--account=physics", "-H", user="admin"),
        "passes": submit("sleep 900", "--account=physics", "-w", "n2", user="admin"),
    }
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", made["ended"]), "COMPLETED")
    for name in ("runs", "passes"):
        fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", made[name]), "RUNNING")
    # slurmctld writes its state some seconds later
    fleet.said("ctl", "touch", "/tmp/submitted")
    fleet.said("login", "scontrol", "update", f"JobId={made['waits']}", "Comment=saved")
    fleet.until("ctl", ("find", "/shared/slurmctld/job_state", "-newer", "/tmp/submitted"), "job_state")
    return made


def loses_everything(fleet: Fleet, release: Release) -> None:
    """What a new machine would lack: database, state, configuration, keys."""
    fleet.said("ctl2", "systemctl", "stop", "slurmctld")
    fleet.said("ctl", "systemctl", "stop", "slurmctld", "slurmdbd", *(["slurmrestd"] if release.rest else []))
    fleet.said("ctl", "mariadb", "-e", "DROP DATABASE slurm_acct_db; DROP USER slurm@localhost")
    fleet.said(
        "ctl", "sh", "-c", "rm -rf /shared/slurmctld /etc/slurm /etc/munge/munge.key /etc/tmpfiles.d/slurm-cluster.conf"
    )


def test_a_controller_that_has_lost_everything_gets_it_back(
    fleet: Fleet, site: tuple[str, ...], jobs: dict[str, str], release: Release, tmp_path: Path
) -> None:
    made = westward("site", "backup", site[0], *site[1:], "--to", str(tmp_path), "--json", timeout_s=300)
    assert made.status == 0, made.err
    backup = Path(made.json["backup"])
    assert [file.name for file in tmp_path.iterdir()] == [backup.name]
    assert backup.stat().st_mode & 0o777 == 0o700
    names = {"SHA256SUMS", "backup.json", "database.sql.gz", "etc-ctl.tar", "state.tar"}
    assert {file.name: file.stat().st_mode & 0o777 for file in backup.iterdir()} == dict.fromkeys(names, 0o600)
    assert fleet.said("ctl", "sh", "-c", "ls /var/tmp | grep -c slurm-backup; true") == "0\n"

    refused = westward("site", "restore", site[0], str(backup), *site[1:], timeout_s=900)
    assert refused.status == 5
    assert "ctl is not fresh: 3 jobs run or wait" in refused.err

    key = fleet.said("ctl", "sha256sum", "/etc/slurm/slurm.key" if release.auth == "slurm" else "/etc/munge/munge.key")
    fleet.said("login", "scancel", jobs["passes"])
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", jobs["passes"]), "CANCELLED")
    loses_everything(fleet, release)
    back = westward("site", "restore", site[0], str(backup), *site[1:], timeout_s=900)
    assert back.status == 0, back.out[-4000:] + back.err
    told = " ".join(back.out.split())
    assert f"msg: {jobs['passes']} ran when the backup was made and are on no node now." in told
    assert f"unless you say scancel {jobs['passes']}" in told
    assert key == fleet.said("ctl", "sha256sum", key.split()[1])
    queue = {line.split("|")[0]: line for line in fleet.said("login", "squeue", "-h", "-o", "%i|%T|%u").splitlines()}
    assert queue[jobs["waits"]] == f"{jobs['waits']}|PENDING|admin"
    assert queue[jobs["runs"]] == f"{jobs['runs']}|RUNNING|admin"
    assert fleet.said("login", "sacct", "-X", "-n", "-P", "-o", "state", "-j", jobs["ended"]) == "COMPLETED\n"
    told = fleet.said("ctl", "sacctmgr", "-nP", "show", "assoc", "cluster=site", "format=account,user,fairshare")
    assert "physics|admin|1" in told
    fleet.said("login", "scontrol", "release", jobs["waits"])
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", jobs["waits"]), "COMPLETED")


def test_what_is_no_backup_of_this_cluster_is_refused(fleet: Fleet, site: tuple[str, ...], tmp_path: Path) -> None:
    made = westward("site", "backup", site[0], *site[1:], "--to", str(tmp_path / "of"), "--json")
    backup = Path(made.json["backup"])
    with (backup / "state.tar").open("ab") as file:
        file.write(b"one byte more")
    broken = westward("site", "restore", site[0], str(backup), *site[1:], "--over")
    assert broken.status == 5
    assert "is no whole backup" in broken.err
    shutil.rmtree(tmp_path / "of")
    nothing = westward("site", "restore", site[0], str(backup), *site[1:], "--over")
    assert nothing.status == 5
    assert "node" in fleet.said("login", "scontrol", "show", "node", "n1").lower()
