"""What a host tells of itself, by the program that it is given: run here, as it is run there."""

from __future__ import annotations

import hashlib
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from westward.errors import WestwardError
from westward.provision import hostfacts
from westward.provision.hostfacts import Disk, Key, Look
from westward.provision.hostprograms import ARGV, LOOK, program

ASKED: dict[str, Any] = {
    "units": [],
    "keys": [],
    "salt": "00ff",
    "paths": [],
    "names": [],
    "ports": [],
    "cgroup_mountpoint": "/nowhere",
    "files": [],
    "node": "",
}


def looked(**asked: Any) -> Look:
    ran = subprocess.run(ARGV, input=program(LOOK, ASKED | asked), capture_output=True, text=True, check=True)
    return hostfacts.parse(ran.stdout)


def test_a_key_is_told_by_a_digest_with_the_salt(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o640)
    found = (looked(keys=[str(key), str(tmp_path / "none")]).keys or {}).values()
    digest = hashlib.sha256(b"\x00\xffsecret").hexdigest()
    assert [one and (one.digest, one.mode) for one in found] == [(digest, 0o640), None]
    assert digest not in repr(list(found))


def test_names_ports_space_and_devices(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = looked(
            names=["localhost", "nobody.invalid"],
            ports=[f"127.0.0.1:{port}", "127.0.0.1:1"],
            paths=[str(tmp_path), "/nowhere"],
            files=["/dev/null", "/dev/nvidia99"],
        )
    assert found.hostname == socket.gethostname()
    assert found.addresses is not None
    assert found.addresses["nobody.invalid"] == ()
    assert "127.0.0.1" in found.addresses["localhost"] or "::1" in found.addresses["localhost"]
    assert found.ports == {f"127.0.0.1:{port}": "", "127.0.0.1:1": "Connection refused"}
    assert isinstance((found.disks or {})[str(tmp_path)], Disk)
    assert (found.disks or {})["/nowhere"] is None
    assert found.files == {"/dev/null": True, "/dev/nvidia99": False}


def test_cgroups_of_both_versions(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory\n")
    two = looked(cgroup_mountpoint=str(tmp_path))
    assert (two.cgroup, two.controllers) == (2, {"cpuset", "cpu", "memory"})
    (tmp_path / "cgroup.controllers").unlink()
    for name in ("cpuset", "cpu,cpuacct", "memory"):
        (tmp_path / name).mkdir()
    one = looked(cgroup_mountpoint=str(tmp_path))
    assert (one.cgroup, one.controllers) == (1, {"cpuset", "cpu", "cpuacct", "memory"})


def test_what_slurm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "slurmd": "echo slurm-wlm 24.11.5",
        "srun": "printf 'MPI plugin types are...\\n\\tnone\\n\\tpmix\\n\\tpmi2\\nspecific pmix plugin versions available: pmix_v5\\n'",
        "systemctl": "printf 'Id=slurmd.service\\nLoadState=loaded\\nActiveState=active\\nSubState=running\\nUnitFileState=enabled\\n'",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = looked(units=["slurmd"])
    assert (found.versions or {})["slurmd"] == "24.11.5"
    assert found.release == (24, 11)
    assert found.mpi == ("pmix", "pmi2")
    assert found.units is not None
    assert found.units["slurmd"] == hostfacts.Unit("loaded", "active", "running", "enabled")


def test_an_answer_that_is_none() -> None:
    with pytest.raises(WestwardError, match="cannot be read: bash: python3: not found"):
        hostfacts.parse("bash: python3: not found\n")
    with pytest.raises(WestwardError, match="it says nothing"):
        hostfacts.parse("")


def test_a_digest_is_never_shown() -> None:
    assert "abc" not in repr(Key("abc", "slurm", "slurm", 0o600))
