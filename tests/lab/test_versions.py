"""Three releases of Slurm side by side, their ssh doors, and what the lab adds to each. The lab comes up once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import paramiko
import pytest
import yaml

from lab.labs_of_tests import Labs
from westward.lab import engine, sshkeys
from westward.lab.cluster import Lab

pytestmark = pytest.mark.lab

RELEASES = {"v2205": "22.05", "v2411": "24.11", "v2605": "26.05"}
EVERY = pytest.mark.parametrize("cluster", RELEASES)


@pytest.fixture(scope="module")
def versions(labs: Labs) -> Lab:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WESTWARD_STATE_DIR", str(labs.state))
        return labs.up("versions", "versions")


def _shell_door(lab: Lab, cluster: str) -> dict[str, Any]:
    doors = yaml.safe_load(lab.sites[cluster].read_text())["access"]["doors"]
    door: dict[str, Any] = next(door for door in doors if door["door"] == "shell")
    return door


def _connect(door: dict[str, Any], **otherwise: Any) -> paramiko.SSHClient:
    """A connection that trusts the host key of the lab and no other."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.load_host_keys(otherwise.pop("known_hosts", door["known_hosts"]))
    wanted = {
        "port": door["port"],
        "username": door["user"],
        "key_filename": door["identity_file"],
        "allow_agent": False,
        "look_for_keys": False,
        "timeout": 10,
    }
    client.connect(door["host"], **{**wanted, **otherwise})
    return client


def _say(client: paramiko.SSHClient, command: str) -> str:
    _, out, err = client.exec_command(command, timeout=20)
    said = out.read().decode()
    assert out.channel.recv_exit_status() == 0, err.read().decode()
    return said.strip()


def _state(labs: Labs, cluster: str, job: str) -> str:
    said = labs.run("versions", f"{cluster}-ctl", "sacct", "-XnP", "-j", job, "-o", "state").stdout
    return said.split()[0] if said.strip() else ""


@EVERY
def test_each_cluster_runs_its_slurm_and_lists_the_doors_that_it_has(versions: Lab, cluster: str) -> None:
    door = _shell_door(versions, cluster)
    with _connect(door) as shell:
        assert RELEASES[cluster] in _say(shell, "sbatch --version")
        assert _say(shell, "id -un; pwd; uname -n").split() == ["researcher", "/shared/researcher", f"{cluster}-ctl"]
        assert _say(shell, "sinfo -h -p gpu -o '%D %G'").startswith("2 gpu:")
        associations = _say(shell, "sacctmgr -nP show assoc where user=researcher format=account,qos").split()
        assert sorted(associations) == ["research|normal,urgent", "teaching|normal,urgent"]
        assert _say(shell, "sacctmgr -nP show user researcher format=defaultaccount") == "research"
    kinds = [each["door"] for each in yaml.safe_load(versions.sites[cluster].read_text())["access"]["doors"]]
    assert kinds == (["shell"] if cluster == "v2205" else ["rest", "shell"])


@EVERY
def test_ssh_lets_nobody_in_but_the_user_with_the_key(versions: Lab, cluster: str, tmp_path: Path) -> None:
    door = _shell_door(versions, cluster)
    sshkeys.key_file(tmp_path / "other", anew=True)
    with pytest.raises(paramiko.AuthenticationException):
        _connect(door, key_filename=str(tmp_path / "other"))
    with pytest.raises(paramiko.AuthenticationException):
        _connect(door, key_filename=None, password="researcher")
    with pytest.raises(paramiko.AuthenticationException):
        _connect(door, username="root")
    other = sshkeys.known_host(door["host"], door["port"], sshkeys.key_file(tmp_path / "host", anew=True))
    (tmp_path / "known_hosts").write_text(other)
    with pytest.raises(paramiko.BadHostKeyException):
        _connect(door, known_hosts=str(tmp_path / "known_hosts"))


@EVERY
def test_sshd_is_the_users_own_process_without_any_capability(labs: Labs, versions: Lab, cluster: str) -> None:
    look = "for pid in $(pgrep sshd); do grep -hE '^(Uid|CapEff):' /proc/$pid/status; done"
    with _connect(_shell_door(versions, cluster)):  # the processes of a session too
        rows = labs.run("versions", f"{cluster}-ctl", "bash", "-c", look, user="root").stdout.splitlines()
    uid = labs.run("versions", f"{cluster}-ctl", "id", "-u").stdout.strip()
    assert {row.split()[1] for row in rows if row.startswith("Uid")} == {uid}
    assert {row.split()[1] for row in rows if row.startswith("CapEff")} == {"0" * 16}


@EVERY
def test_a_job_in_gpu_takes_the_place_of_one_in_low(labs: Labs, versions: Lab, cluster: str) -> None:
    with _connect(_shell_door(versions, cluster)) as shell:
        whole = "sbatch --parsable -N2 --exclusive -t 1 -o /dev/null"
        low = _say(shell, f"{whole} -p low --no-requeue --wrap 'sleep 50'")
        _until(lambda: _state(labs, cluster, low) == "RUNNING")
        high = _say(shell, f"{whole} -p gpu --qos urgent -A teaching --wrap true")
    _until(lambda: _state(labs, cluster, high) == "COMPLETED")
    assert _state(labs, cluster, low) == "PREEMPTED"


def test_pyslurm_in_the_image_talks_to_its_cluster_and_sees_this_toolkit(labs: Labs, versions: Lab) -> None:
    program = "import pyslurm, westward.slurm.client as c; print(*pyslurm.Nodes.load(), c.__file__)"
    said = labs.run("versions", "v2605-ctl", "env", "PYTHONPATH=/opt/westward/toolkit", "python3", "-c", program)
    assert said.stdout.split()[1:] == ["v2605-n1", "v2605-n2", "/opt/westward/toolkit/westward/slurm/client.py"]
    assert labs.run("versions", "v2605-ctl", "touch", "/opt/westward/toolkit/westward/x", user="root").status != 0


def test_after_a_restart_the_new_address_is_known(labs: Labs, versions: Lab) -> None:
    before = _shell_door(versions, "v2605")
    labs.client.api.restart(f"{versions.name}.v2605-ctl", timeout=10)
    again = labs.up("versions", "versions")
    assert again.outcome in ("unchanged", "repaired")
    after = _shell_door(again, "v2605")
    assert {**after, "port": 0} == {**before, "port": 0}
    with _connect(after) as shell:
        assert _say(shell, "srun -N2 hostname").split()


def test_a_postgresql_of_the_lab_lives_as_long_as_it_is_used(labs: Labs, versions: Lab) -> None:
    import psycopg

    from westward.lab.services import postgres

    with postgres(versions.name) as (url, passfile):
        with psycopg.connect(url, passfile=str(passfile)) as db:
            assert db.execute("select current_user").fetchone() == ("westward",)
        secret = passfile.read_text().strip().rpartition(":")[2]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url, passfile="/nonexistent", password="wrong")
        config = labs.client.api.inspect_container(f"{versions.name}.postgres")
        assert secret not in str(config)
        assert (config["HostConfig"]["CapDrop"], config["HostConfig"]["CapAdd"]) == (["ALL"], None)
        shown = engine.execute(
            labs.client, config["Id"], ["bash", "-c", "cat /proc/*/cmdline /proc/*/environ"], user="postgres"
        )
        assert secret not in shown.stdout
        assert labs.up("versions", "versions").outcome == "unchanged"
    assert [name for name in labs.left("versions") if "postgres" in name] == []


def test_down_leaves_nothing_of_it(labs: Labs, versions: Lab) -> None:
    assert len(labs.down("versions").containers) == 9
    assert labs.left("versions") == []


def _until(done: Any) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until
        time.sleep(0.2)
