"""A lab that is up: what its user is given, what its nodes can do, and that its secrets stay where they belong."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from lab.labs_of_tests import Labs
from westward.lab.cluster import Lab
from westward.lab.images import node_image_tag
from westward.lab.status import status

pytestmark = pytest.mark.lab

NODES = {"east-ctl", "east-n1", "east-n2", "west-ctl", "west-n1", "west-n2"}


def _site(lab: Lab, cluster: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(lab.sites[cluster].read_text())
    return loaded


def _get(url: str, token: str) -> Any:
    request = urllib.request.Request(url, headers={"X-SLURM-USER-NAME": "researcher", "X-SLURM-USER-TOKEN": token})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_the_site_file_opens_slurmrestd_to_its_user_and_to_nobody_else(one: Lab, cluster: str) -> None:
    site = _site(one, cluster)
    door = site["access"]["doors"][0]
    assert (site["name"], site["cluster"]) == (f"{one.name}-{cluster}", cluster)
    assert door["url"].startswith("http://127.0.0.1:")
    token = Path(door["token_file"]).read_text().strip()
    jobs = _get(f"{door['url']}/slurmdb/v0.0.42/jobs/", token)["jobs"]
    assert ("researcher", ["COMPLETED"]) in [(job["user"], job["state"]["current"]) for job in jobs]
    head, body, signature = token.split(".")
    with pytest.raises(urllib.error.HTTPError):
        _get(f"{door['url']}/slurm/v0.0.42/jobs/", f"{head}.{body}.{signature[::-1]}")


def test_a_cluster_takes_no_token_of_the_other(one: Lab) -> None:
    east, west = (_site(one, cluster)["access"]["doors"][0] for cluster in ("east", "west"))
    with pytest.raises(urllib.error.HTTPError):
        _get(f"{east['url']}/slurm/v0.0.42/jobs/", Path(west["token_file"]).read_text().strip())


def test_up_again_renews_the_token_and_changes_nothing(labs: Labs, one: Lab) -> None:
    before = labs.containers("one")
    token_file = Path(_site(one, "east")["access"]["doors"][0]["token_file"])
    token = token_file.read_text()
    jobs = labs.run("one", "east-ctl", "sacct", "-n", "-X", "-a").stdout
    again = labs.up("one")
    assert again.outcome == "unchanged"
    assert not again.outdated
    assert max(again.seconds.values()) < 3
    assert labs.containers("one") == before
    assert token_file.read_text() != token
    assert labs.run("one", "east-ctl", "sacct", "-n", "-X", "-a").stdout == jobs


def test_a_job_gets_typed_accelerators_its_packages_and_the_shared_directory(labs: Labs, one: Lab) -> None:
    site = _site(one, "west")
    script = Path(site["access"]["files"]["/shared"]) / "researcher" / "look.py"
    script.write_text(
        "import os, mpi4py.MPI as m, numba, numpy, westward_bench\n"
        "if m.COMM_WORLD.rank == 0: print(m.COMM_WORLD.size, os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    environment = [f"{key}={value}" for key, value in site["environment"].items()]
    srun = ["srun", "-N2", "--gres=gpu:h100:4", f"--mpi={site['mpi']}", "--chdir", site["root"], "python3", "look.py"]
    answer = labs.run("one", "west-ctl", "env", *environment, *srun)
    assert (answer.status, answer.stdout, answer.stderr) == (0, "2 0,1,2,3\n", "")


def test_daemons_run_as_their_own_users(labs: Labs, one: Lab) -> None:
    rows = labs.run("one", "east-ctl", "ps", "-eo", "user:20,comm", user="root").stdout.split("\n")
    users = {row.split()[1]: row.split()[0] for row in rows if row.strip()}
    assert {name: users[name] for name in ("slurmctld", "slurmdbd", "slurmrestd", "mariadbd", "sshd")} == {
        "slurmctld": "slurm",
        "slurmdbd": "slurm",
        "slurmrestd": "slurmrestd",
        "mariadbd": "mysql",
        "sshd": "researcher",
    }


def test_status_shows_every_node_and_the_way_to_slurmrestd(one: Lab) -> None:
    found = {node.node: node for node in status(one.name)}
    assert set(found) == NODES
    assert {node.container for node in found.values()} == {"running"}
    assert found["east-ctl"].slurm == "up"
    assert found["west-n2"].slurm == "idle"
    assert found["east-ctl"].url == one.urls["east"]


def test_exec_passes_output_and_status_on(one: Lab) -> None:
    command = [sys.executable, "-m", "westward.cli.main", "lab", "exec", "west-n1", "--lab", one.name, "--"]
    done = subprocess.run(
        [*command, "bash", "-c", "id -un; hostname; echo wrong >&2; exit 7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "researcher\nwest-n1\n", "wrong\n")


def test_secrets_are_private_and_nowhere_else(labs: Labs, one: Lab) -> None:
    files = [
        path for path in (labs.state / "labs" / one.name).rglob("*") if path.is_file() and "shared" not in path.parts
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(labs.state.stat().st_mode) & 0o077 == 0
    needles = set()
    for path in files:
        if path.name in ("slurm.key", "jwt.key", "database-password", "researcher.jwt"):
            content = path.read_bytes()
            needles |= {content.strip(), content.hex().encode()}
        if path.name in ("researcher.ssh-key", "ssh-host-key"):
            needles |= {path.read_bytes().split(b"\n")[2]}
    assert len(needles) == 16 + 4
    assert not _found_in(labs.client, labs, needles)


def _found_in(client: docker.DockerClient, labs: Labs, needles: set[bytes]) -> list[str]:
    """Where a secret shows: image history and configuration, container configuration, logs, every argv and environment."""
    places = {
        "image": json.dumps([client.api.history(node_image_tag()), client.api.inspect_image(node_image_tag())]).encode()
    }
    for seen in labs.containers("one"):
        places[f"{seen.name} config"] = json.dumps(client.api.inspect_container(seen.id)).encode()
        places[f"{seen.name} log"] = client.api.logs(seen.id)
        created = client.api.exec_create(
            seen.id, ["bash", "-c", "cat /proc/*/cmdline /proc/*/environ /var/log/slurm/*"]
        )["Id"]
        places[f"{seen.name} processes"] = client.api.exec_start(created)
    return [place for place, content in places.items() if any(needle in content for needle in needles)]


def test_the_image_holds_no_key(labs: Labs) -> None:
    look = "ls /etc/slurm/*.key /etc/munge/munge.key /etc/ssh/ssh_host_* /etc/westward/* 2>/dev/null"
    said = labs.client.containers.run(
        node_image_tag(), [f"{look}; true"], entrypoint=["bash", "-c"], remove=True, network_mode="none"
    )
    assert said == b""


def test_the_nodes_have_few_capabilities(labs: Labs, one: Lab) -> None:
    for seen in labs.containers("one"):
        host = labs.client.api.inspect_container(seen.id)["HostConfig"]
        assert not host["Privileged"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert ("MKNOD" in host["CapAdd"]) == (not seen.name.endswith("-ctl"))
        assert {binding["HostIp"] for ports in (host["PortBindings"] or {}).values() for binding in ports} <= {
            "127.0.0.1"
        }
