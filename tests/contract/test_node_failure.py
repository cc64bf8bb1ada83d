"""A compute node dies under a job."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from contract.clusters import PLAIN, Lab, wait_until, westward
from contract.test_life import wait_for

pytestmark = pytest.mark.lab


@pytest.mark.full
def test_a_dead_node_ends_its_job_and_rules_the_site_out_until_it_is_back(clusters: Lab, lab_state: Path, submit):
    east, west = clusters.site("east"), clusters.site("west")
    job = submit(*PLAIN, "command=[sleep,300]", "nodes=2", "--site", east)
    wait_for(job["key"], "RUNNING")
    docker.from_env().containers.get(f"{clusters.name}.east-n2").kill()
    wait_for(job["key"], "NODE_FAIL", within_s=120)
    # it might be put back into the queue: for half a minute that is no end
    wait_until(lambda: "ended NODE_FAIL" in westward("results", job["key"]).err, "it is not final", 60, every_s=2)
    (attempt,) = westward("attempts", job["key"], "--json").json
    assert (attempt["status"]["state"], attempt["status"]["job_id"]) == ("NODE_FAIL", job["slurm_job_id"])
    plan = westward("plan", "allreduce", "nodes=2", "--json").json
    assert plan["chosen"]["site"] == west
    assert [item["site"] for item in plan["rejections"]] == [east]
    assert "1 of 2 nodes usable, 2 were asked for (east-n2 is" in plan["rejections"][0]["reason"]
    its_own = {"WESTWARD_STATE_DIR": str(lab_state)}
    assert westward("lab", "up", "east-west", "--name", clusters.name, environment=its_own).status == 0
    assert westward("submit", "allreduce", "nodes=2", "max_bytes=64", "--site", east, "--wait").status == 0
