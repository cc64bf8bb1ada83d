"""Bare Debian hosts become a cluster, by Debian's Slurm 24.11, 22.05 and 26.05: two controllers, a login node, two nodes with four devices each."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from provision.conftest import GROUPS
from provision.sites import NEW_TOKEN, Fleet, Played, Release, inventory, nodes_by_rest

pytestmark = pytest.mark.lab
MPI_PROGRAM = """
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
  int rank, size, sum;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) printf("size %d sum %d\\n", size, sum);
  MPI_Finalize();
}
"""


def test_a_check_of_new_hosts_changes_nothing_and_ends_well(fleet: Fleet, first_check: Played) -> None:
    assert first_check.status == 0, first_check.why
    assert first_check.changed["n1"] > 0
    assert "+ClusterName=site" in first_check.text


def test_the_first_run_makes_a_cluster(fleet: Fleet, first: Played) -> None:
    assert first.status == 0, first.why
    wanted = "gpu* up 1-00:00:00 2 idle n[1-2] gpu:h100:4 hopper\n"
    assert fleet.until("login", ("sinfo", "-h", "-o", "%P %a %l %D %T %N %G %f"), wanted) == wanted


def test_accounts_are_as_the_variables_say(fleet: Fleet, first: Played) -> None:
    columns = "format=account,user,fairshare"
    told = fleet.said("ctl", "sacctmgr", "-nP", "show", "assoc", "cluster=site", columns)
    assert sorted(told.splitlines()) == ["physics|admin|1", "physics||10", "root|root|1", "root||1"]
    ran = fleet.said("login", "su", "admin", "-c", "srun -N1 --account=physics id -un")
    assert ran == "admin\n"
    refused = fleet.on("login", "su", "admin", "-c", "srun -N1 --account=chemistry true")
    assert "Invalid account" in refused.stderr


def test_a_second_run_and_a_second_check_change_nothing(fleet: Fleet, site_inventory: Path, first: Played) -> None:
    for arguments in ((), ("--check", "--diff")):
        again = fleet.play(site_inventory, *arguments)
        assert again.status == 0, again.why
        assert set(again.changed.values()) == {0}, again.text


def test_a_job_gets_the_devices_it_asked_for_and_no_others(fleet: Fleet, first: Played) -> None:
    look = "echo $CUDA_VISIBLE_DEVICES; for n in 0 1 2 3; do head -c1 /dev/nvidia$n; done; true"
    answer = fleet.on("login", "srun", "-N1", "--gres=gpu:h100:2", "sh", "-c", look)
    assert answer.stdout == "0,1\n"
    # no driver is behind the files: who may open one is told that there is no device
    assert answer.stderr.count("No such device or address") == 2
    assert answer.stderr.count("Operation not permitted") == 2


def test_a_job_that_takes_more_memory_than_it_asked_for_is_ended(fleet: Fleet, first: Played) -> None:
    fill = "python3 -c 'bytearray(600 * 1024 * 1024)'"
    job = fleet.said("login", "sbatch", "--parsable", "--mem=100", "-o", "/dev/null", "--wrap", fill).strip()
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", job), "OUT_OF_MEMORY")


def test_an_mpi_program_runs_on_two_nodes(fleet: Fleet, release: Release, first: Played) -> None:
    install = f"apt-get install -qq -y --no-install-recommends gcc libc6-dev {release.mpi} >/dev/null"
    fleet.said("n1", "sh", "-c", install)
    fleet.said("n1", "sh", "-c", f"cat > /shared/sum.c <<'C'\n{MPI_PROGRAM}\nC\nmpicc -o /shared/sum /shared/sum.c")
    assert fleet.said("login", "srun", "-N2", "--ntasks-per-node=2", "/shared/sum") == "size 4 sum 6\n"


def test_who_has_no_token_gets_nothing_from_slurmrestd(fleet: Fleet, release: Release, first: Played) -> None:
    if release.rest is None:  # too old to run with tokens alone: the roles leave it out
        assert ":6820 " not in fleet.said("ctl", "ss", "-ltn")
        return
    assert nodes_by_rest(fleet, release, "true") == (401, set())
    assert nodes_by_rest(fleet, release, NEW_TOKEN) == (200, {"n1", "n2"})
    assert fleet.said("ctl", "ps", "-o", "user=", "-C", "slurmrestd").strip() == "slurmrestd"


def test_keys_are_for_slurm_alone_and_are_not_told(fleet: Fleet, release: Release, first: Played) -> None:
    own = {"slurm": ("/etc/slurm/slurm.key", "slurm 600"), "munge": ("/etc/munge/munge.key", "munge 400")}[release.auth]
    wanted = dict([own, ("/etc/slurm/slurmdbd.conf", "slurm 600")])
    if release.rest is not None:
        wanted["/etc/slurm/jwt_hs256.key"] = "slurm 600"
    for path, modes in wanted.items():
        assert fleet.said("ctl", "stat", "-c", "%U %a", path) == f"{modes}\n"
    assert fleet.on("n1", "test", "-e", "/etc/slurm/jwt_hs256.key").status == 1
    key = fleet.said("ctl", "base64", "-w0", own[0])
    assert len(key) > 40
    assert key not in first.text


def test_a_package_that_is_installed_again_restarts_no_daemon_of_slurm(
    fleet: Fleet, release: Release, first: Played
) -> None:
    for host, daemons in (("ctl", ("slurmctld", "slurmdbd")), ("n2", ("slurmd",))):
        runs = ("systemctl", "show", "-P", "MainPID", *daemons)
        before = fleet.said(host, *runs)
        assert "0" not in before.split()
        fleet.said(host, "apt-get", "install", "-qq", "-y", "--reinstall", "munge", *daemons)
        assert fleet.said(host, *runs) == before
    if release.auth == "munge":
        assert "Success" in fleet.said("n2", "sh", "-c", "munge -n | unmunge")


def test_packages_come_from_the_mirror_of_the_site_alone(
    fleet: Fleet, cluster: dict[str, Any], first: Played, tmp_path: Path
) -> None:
    """The lab's package cache is one, by an address of its own; it is the proxy of the hosts no more."""
    own = fleet.said("n2", "cat", "/etc/apt/sources.list")
    assert "deb.debian.org" in own
    fleet.said("n2", "mv", "/etc/apt/apt.conf.d/01westward-cache", "/root/")
    mirror = cluster | {"slurm_apt_mirror": "http://apt-cache:3142/deb.debian.org/debian"}
    try:
        ran = fleet.play(inventory(tmp_path, GROUPS, mirror), "--tags", "slurm", "--limit", "n2")
        offered = fleet.said("n2", "apt-cache", "policy", "slurmd")
    finally:
        fleet.said(
            "n2",
            "sh",
            "-c",
            "mv /root/01westward-cache /etc/apt/apt.conf.d/; mv /etc/apt/sources.list.*~ /etc/apt/sources.list",
        )
        fleet.said("n2", "sh", "-c", "rm -f /etc/apt/sources.list.d/debian.sources; apt-get update -qq")
    assert ran.status == 0, ran.why
    assert "http://apt-cache:3142/deb.debian.org/debian" in offered
    assert "http://deb.debian.org" not in offered
    assert fleet.said("n2", "cat", "/etc/apt/sources.list") == own


def test_one_changed_key_reaches_the_nodes_and_disturbs_no_job(
    fleet: Fleet, cluster: dict[str, Any], first: Played, tmp_path: Path
) -> None:
    job = fleet.said("login", "sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    started = fleet.said("ctl", "systemctl", "show", "-P", "ActiveEnterTimestamp", "slurmctld")
    changed = deepcopy(cluster)
    changed["slurm_config"]["KillWait"] = 17
    ran = fleet.play(inventory(tmp_path, GROUPS, changed), "--diff")
    assert ran.status == 0, ran.why
    assert "+KillWait=17" in ran.text
    assert "KillWait                = 17 sec" in fleet.said("login", "scontrol", "show", "config")
    assert "KillWait=17" in fleet.said("n1", "cat", "/run/slurm/conf/slurm.conf")
    assert fleet.said("ctl", "systemctl", "show", "-P", "ActiveEnterTimestamp", "slurmctld") == started
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", job).strip() == "RUNNING"
    fleet.said("login", "scancel", job)


def test_a_backup_takes_over(fleet: Fleet, first: Played) -> None:
    job = fleet.said("login", "sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 20").strip()
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    time.sleep(6)  # what a controller has not saved yet when it is killed, its backup cannot know
    fleet.said("ctl", "systemctl", "mask", "--runtime", "slurmctld")
    fleet.said("ctl", "systemctl", "kill", "-s", "KILL", "slurmctld")
    try:
        fleet.until("login", ("scontrol", "ping"), "(backup) at ctl2 is UP", 60)
        assert "(primary) at ctl is DOWN" in fleet.on("login", "scontrol", "ping").stdout
        assert fleet.said("login", "srun", "-N1", "hostname").strip() in ("n1", "n2")
        fleet.until("login", ("scontrol", "-o", "show", "job", job), "JobState=COMPLETED")
    finally:
        fleet.said("ctl", "systemctl", "unmask", "--runtime", "slurmctld")
        fleet.said("ctl", "systemctl", "start", "slurmctld")
        fleet.until("login", ("scontrol", "ping"), "(primary) at ctl is UP", 60)
    # a backup of 26.05 keeps what it has to tell slurmdbd until the primary is back
    fleet.until("login", ("sacct", "-X", "-n", "-P", "-o", "state", "-j", job), "COMPLETED")


@pytest.mark.full
def test_typed_devices_that_are_only_believed_in(
    fleet: Fleet, cluster: dict[str, Any], first: Played, tmp_path: Path
) -> None:
    """Two node groups instead of one, with MIG slices, shards, and no driver: users ask by type, and land where it is."""
    groups = GROUPS | {"slurm_compute": {"hopper": ["n1"], "ampere": ["n2"]}}
    mig = {"type": "1g.10gb", "count": 2, "detect": "fake", "slicing": "mig"}
    amd = {"type": "mi300", "count": 2, "detect": "fake"}
    shard = {
        "type": "a100",
        "count": 2,
        "detect": "files",
        "files": "/dev/nvidia[0-1]",
        "slicing": "shard",
        "slices": 8,
    }
    parameters = {"CPUs": 4, "RealMemory": 2000}
    fleet_of_two = cluster | {
        "slurm_nodegroups": [
            {
                "name": "hopper",
                "accelerators": [{"type": "h100", "count": 2, "detect": "fake", "cores": "0-1"}, mig, amd],
                "parameters": parameters,
            },
            {"name": "ampere", "accelerators": [shard], "parameters": parameters},
        ],
        "slurm_partitions": [{"name": "gpu", "nodegroups": ["hopper", "ampere"], "parameters": {"Default": "YES"}}],
    }
    job = fleet.said("login", "sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 600").strip()
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    ran = fleet.play(inventory(tmp_path, groups, fleet_of_two))
    assert ran.status == 0, ran.why
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", job).strip() == "RUNNING"
    fleet.said("login", "scancel", job)
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T %E"), "2 idle none")
    wanted = ("srun", "-N1", "sh", "-c", "hostname; echo $CUDA_VISIBLE_DEVICES")
    assert fleet.said("login", wanted[0], "--gres=gpu:h100:2", *wanted[1:]) == "n1\n0,1\n"
    assert fleet.said("login", wanted[0], "--gres=gpu:1g.10gb:1", *wanted[1:]).startswith("n1\n")
    assert fleet.said("login", wanted[0], "--gres=gpu:mi300:2", *wanted[1:]).startswith("n1\n")
    assert fleet.said("login", wanted[0], "--gres=shard:4", *wanted[1:]).startswith("n2\n")
    refused = fleet.on("login", "srun", "--gres=gpu:a100:3", "true")
    assert refused.status == 1
    assert "Requested node configuration is not available" in refused.stderr


@pytest.mark.full
def test_a_device_that_jobs_share_by_percent_and_blocks_that_a_segment_does_not_leave(
    fleet: Fleet, cluster: dict[str, Any], release: Release, first: Played, tmp_path: Path
) -> None:
    """MPS: each device has 100 parts, of which a job gets some. Blocks: each of one node, so no segment of 24.11 has two."""
    shared = deepcopy(cluster)
    (group,) = shared["slurm_nodegroups"]
    group["accelerators"][0] |= {"slicing": "mps", "slices": 400}
    if release.blocks:
        blocks = [{"name": "left", "nodes": "n1"}, {"name": "right", "nodes": "n2"}]
        shared["slurm_topology"] = {"plugin": "block", "blocks": blocks, "block_sizes": [1]}
    ran = fleet.play(inventory(tmp_path, GROUPS, shared))
    assert ran.status == 0, ran.why
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T %E"), "2 idle none")
    look = "echo $CUDA_VISIBLE_DEVICES $CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"
    assert fleet.said("login", "srun", "-N1", "--gres=mps:25", "sh", "-c", look) == "0 25\n"
    if release.blocks:
        told = fleet.said("login", "scontrol", "show", "topology")
        assert [line.split(" BlockIndex")[0] for line in told.splitlines()] == ["BlockName=left", "BlockName=right"]
        assert sorted(fleet.said("login", "srun", "-N2", "--segment=1", "hostname").split()) == ["n1", "n2"]
        wider = fleet.on("login", "srun", "-N2", "--segment=2", "true")
        # 26.05 runs it, over both blocks
        assert "Requested topology configuration is not available" in wider.stderr or release.topology == "bare-forky"
