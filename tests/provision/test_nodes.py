"""A node leaves a cluster and another comes, while a job runs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from contract.clusters import westward
from provision.conftest import GROUPS, Submit
from provision.sites import Fleet, Release, inventory

pytestmark = [pytest.mark.lab, pytest.mark.full]
STARTED = ("systemctl", "show", "-P", "ActiveEnterTimestamp", "slurmctld")


def test_a_node_leaves_and_another_comes_while_a_job_runs(
    fleet: Fleet, site_inventory: Path, cluster: dict[str, Any], release: Release, submit: Submit, tmp_path: Path
) -> None:
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T"), "2 idle")
    job = submit("sleep 900", "-w", "n1")
    fleet.until("login", ("squeue", "-h", "-o", "%T", "-j", job), "RUNNING")
    started = fleet.said("ctl", *STARTED)
    site = (str(fleet.lab.inventory), "-i", str(site_inventory))

    said = westward("site", "drain", site[0], "n2", *site[1:], "--reason", "leaves", "--wait", "--timeout", "60")
    assert said.status == 0, said.err
    away = ("--on", "n2", "--sudo", "--", "systemctl", "disable", "--now", "slurmd")
    assert westward("site", "exec", site[0], *site[1:], *away).status == 0
    smaller = deepcopy(cluster)
    smaller["slurm_topology"]["switches"] = [{"name": "leaf1", "nodes": "n1"}, {"name": "spine", "switches": "leaf1"}]
    without = inventory(tmp_path, GROUPS | {"slurm_compute": {"h100": ["n1"]}}, smaller)
    ran = fleet.play(without, "--limit", "!n2")
    assert ran.status == 0, ran.why
    assert fleet.said("login", "sinfo", "-h", "-N", "-o", "%N") == "n1\n"
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", job).strip() == "RUNNING"

    ran = fleet.play(site_inventory)
    assert ran.status == 0, ran.why
    assert fleet.said("login", "srun", "-w", "n2", "hostname") == "n2\n"
    assert fleet.said("login", "squeue", "-h", "-o", "%T", "-j", job).strip() == "RUNNING"
    assert (fleet.said("ctl", *STARTED) == started) is (release.topology != "bare-bookworm")
    fleet.said("login", "scancel", job)
    fleet.until("login", ("sinfo", "-h", "-o", "%D %T %E"), "2 idle none")
