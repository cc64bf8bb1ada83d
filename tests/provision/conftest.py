"""Bare hosts of the tests' own, in a state directory of their own, and the cluster that the playbook makes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from provision.sites import RELEASES, Fleet, Played, Release, inventory
from westward.lab import engine, hosts, teardown
from westward.lab.progress import quiet

# a script and options of sbatch -> its job
Submit = Callable[..., str]
GROUPS: dict[str, Any] = {
    "slurm_controller": ["ctl", "ctl2"],
    "slurm_dbd": ["ctl"],
    "slurm_login": ["login"],
    "slurm_compute": {"h100": ["n1", "n2"]},
}
CLUSTER: dict[str, Any] = {
    "slurm_cluster_name": "site",
    "slurm_nodegroups": [
        {
            "name": "h100",
            "accelerators": [{"type": "h100", "count": 4, "detect": "files", "files": "/dev/nvidia[0-3]"}],
            "features": ["hopper"],
            # what a container shows of its machine is not what a test can rely on
            "parameters": {"CPUs": 4, "RealMemory": 2000},
        }
    ],
    "slurm_partitions": [
        {"name": "gpu", "nodegroups": ["h100"], "parameters": {"Default": "YES", "MaxTime": "1-00:00:00"}}
    ],
    "slurm_accounts": {
        "qos": [{"name": "urgent", "parameters": {"Priority": 100}}],
        "accounts": [{"name": "physics", "parameters": {"Fairshare": 10}}],
        "users": [{"name": "admin", "accounts": ["physics"]}],
    },
    "slurm_config": {
        "SlurmdParameters": "config_overrides",
        "StateSaveLocation": "/shared/slurmctld",
        "SlurmctldTimeout": 10,
        "DefMemPerCPU": 200,
        "HealthCheckInterval": 3,
        "HealthCheckNodeState": ["IDLE", "CYCLE"],
    },
    "slurm_health": {"mounts": ["/shared"]},
    "slurm_monitoring": True,
    "slurm_monitoring_interval_s": 5,
    "slurm_topology": {
        "plugin": "tree",
        "switches": [
            {"name": "leaf1", "nodes": "n1"},
            {"name": "leaf2", "nodes": "n2"},
            {"name": "spine", "switches": "leaf[1-2]"},
        ],
    },
}


@pytest.fixture(scope="session")
def state_of_hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts-state")


@contextmanager
def bare(topology: str, state: Path, label: str = "") -> Iterator[Fleet]:
    """Hosts of a lab of their own; the label tells it from another one of that topology."""
    before = os.environ.get("WESTWARD_STATE_DIR")
    os.environ["WESTWARD_STATE_DIR"] = str(state)
    name = f"pt{os.getpid()}-{label or topology}"
    try:
        yield Fleet(hosts.up(topology, name), engine.connect())
    finally:
        os.environ["WESTWARD_STATE_DIR"] = str(state)
        teardown.down(name, quiet)
        if before is None:
            del os.environ["WESTWARD_STATE_DIR"]
        else:
            os.environ["WESTWARD_STATE_DIR"] = before


@pytest.fixture(scope="session", params=RELEASES)
def release(request: pytest.FixtureRequest) -> Release:
    return RELEASES[request.param]


@pytest.fixture(scope="session")
def fleet(state_of_hosts: Path, release: Release) -> Iterator[Fleet]:
    """Five hosts."""
    with bare(release.topology, state_of_hosts) as found:
        yield found


@pytest.fixture(scope="session")
def cluster(release: Release) -> dict[str, Any]:
    """The cluster's variables."""
    return CLUSTER | {"slurm_auth": release.auth}


@pytest.fixture(scope="session")
def site_inventory(tmp_path_factory: pytest.TempPathFactory, cluster: dict[str, Any]) -> Path:
    return inventory(tmp_path_factory.mktemp("inventory"), GROUPS, cluster)


@pytest.fixture(scope="session")
def first_check(fleet: Fleet, site_inventory: Path) -> Played:
    """What `--check --diff` says before anything is there."""
    return fleet.play(site_inventory, "--check", "--diff")


@pytest.fixture(scope="session")
def first(fleet: Fleet, site_inventory: Path, first_check: Played) -> Played:
    """The first run."""
    return fleet.play(site_inventory)


@pytest.fixture
def submit(fleet: Fleet, first: Played) -> Iterator[Submit]:
    """`sbatch` on the login node; what a test submitted is cancelled, however the test ends."""
    jobs: list[str] = []

    def one(script: str, *options: str, user: str = "root") -> str:
        jobs.append(fleet.submitted(script, *options, user=user))
        return jobs[-1]

    yield one
    if jobs:
        fleet.on("login", "scancel", *jobs)
