"""A support bundle: whole or not at all, for its owner alone, and without a secret in it."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from unit.provision.clusters import facts
from westward.errors import StorageError
from westward.provision import support
from westward.provision.hostprograms import ARGV, GATHER, program
from westward.provision.hostprograms.masks import MASK, without_secrets

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3OTU0OTMwNDksInN1biI6ImFkYSJ9.c2VjcmV0"


@pytest.mark.parametrize(
    "text",
    [
        "StoragePass=sesam",
        "  storagepass = sesam  # the old one",
        'JobCompPass="sesam oeffne dich"',
        "AccountingStoragePass=sesam",
        "password: sesam",
        "DB_PASSWORD=sesam",
        "client_secret=sesam",
        "mysql://slurm:sesam@db/slurm",
        "Authorization: Bearer sesam",
        "X-SLURM-USER-TOKEN: sesam",
        "SLURM_JWT=sesam",
    ],
)
def test_what_is_called_a_secret_is_masked(text: str) -> None:
    found = without_secrets(text, [])
    assert "sesam" not in found
    assert MASK in found


@pytest.mark.parametrize(
    "text",
    [
        "AccountingStoragePass=/run/munge/munge.socket.2",
        "SlurmUser=slurm",
        "AuthAltParameters=jwt_key=/etc/slurm/jwt_hs256.key",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert without_secrets(text, []) == text


def test_tokens_and_keys_go_wherever_they_stand() -> None:
    key = bytes(range(200, 232))
    text = f"x {JWT} y {base64.b64encode(key).decode()} z {key.hex()}\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
    found = without_secrets(text, [key])
    assert found == f"x {MASK} y {MASK}{'=' * (base64.b64encode(key).decode().count('='))} z {MASK}\n{MASK}\n"
    assert without_secrets("the key is a-key-of-letters!", [b"a-key-of-letters!\n"]) == f"the key is {MASK}"


def test_a_host_gathers_the_end_of_its_logs_without_its_keys(tmp_path: Path) -> None:
    key, log = tmp_path / "slurm.key", tmp_path / "slurmctld.log"
    key.write_bytes(b"0123456789abcdef-secret")
    log.write_text("old\n" * 200_000 + f"auth: key 0123456789abcdef-secret is bad\nSLURM_JWT={JWT}\nlast\n")
    text = program(GATHER, {"logs": [str(log)], "keys": [str(key), str(tmp_path / "none")]})
    ran = subprocess.run(ARGV, input=text, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)[f"files{log}"]
    assert found.endswith(f"auth: key {MASK} is bad\nSLURM_JWT={MASK}\nlast\n")
    assert len(found) <= 512 * 1024
    assert "0123456789abcdef" not in ran.stdout


def test_a_bundle_is_for_its_owner_alone_and_says_who_was_silent(tmp_path: Path) -> None:
    target = tmp_path / "b.tar.gz"
    size = support.write(target, "site", {"cluster/config.txt": "a\n", "doctor.json": "{}"}, {"n2": "no route to host"})
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.stat().st_size == size
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.gz"]
    with tarfile.open(target) as bundle:
        assert bundle.getnames() == ["site/README", "site/cluster/config.txt", "site/doctor.json"]
        readme = bundle.extractfile("site/README")
        assert readme is not None
        assert "no answer from n2: no route to host" in readme.read().decode()


def test_a_bundle_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="there is no directory"):
        support.refuse_unwritable(tmp_path / "none" / "b.tar.gz")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(support.os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        support.write(tmp_path / "b.tar.gz", "site", {}, {})
    assert list(tmp_path.iterdir()) == []


def test_each_host_is_asked_for_its_own_logs() -> None:
    world = facts()
    logs = {name: support.question(world, host)["logs"] for name, host in world.site.hosts.items()}
    assert logs == {
        "ctl": ["/var/log/slurm/slurmctld.log", "/var/log/slurm/slurmdbd.log"],
        "login": [],
        "n1": ["/var/log/slurm/slurmd.log"],
        "n2": ["/var/log/slurm/slurmd.log"],
    }
