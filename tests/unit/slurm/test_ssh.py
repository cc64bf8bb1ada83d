"""Who is let in, and whom we let in: host keys are never taken on trust."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from unit.slurm.fakes import Sshd, serving
from westward.errors import AccessRefused, Unreachable
from westward.model.site import ShellDoor
from westward.slurm.ssh import close, open_connection


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "home"
    (made / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return made


@pytest.fixture
def key(tmp_path: Path) -> paramiko.PKey:
    made = paramiko.ECDSAKey.generate()
    made.write_private_key_file(str(tmp_path / "key"))
    return made


@pytest.fixture
def sshd(key: paramiko.PKey, tmp_path: Path) -> Iterator[Sshd]:
    with serving(key, os.environ["PATH"], tmp_path) as made:
        yield made


@pytest.fixture
def door(sshd: Sshd, tmp_path: Path) -> ShellDoor:
    (tmp_path / "known_hosts").write_text(sshd.line())
    return ShellDoor("127.0.0.1", "u17", sshd.port, tmp_path / "key", tmp_path / "known_hosts")


def private(locked: serialization.KeySerializationEncryption) -> bytes:
    """A new key in the form that ssh-keygen writes."""
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, locked)


def connects(door: ShellDoor) -> bool:
    connection = open_connection(door)
    try:
        return bool(connection.is_connected)
    finally:
        close(connection)


def test_a_known_host_is_connected_to(door: ShellDoor) -> None:
    assert connects(door)


def test_an_unknown_host_is_refused_with_its_fingerprint(door: ShellDoor, sshd: Sshd) -> None:
    with pytest.raises(AccessRefused, match="not known here") as caught:
        open_connection(replace(door, known_hosts=None))
    assert sshd.key.fingerprint in str(caught.value)  # type: ignore[attr-defined]
    assert "owner" in caught.value.next_step and "keyscan" not in caught.value.next_step
    assert not caught.value.transient


def test_a_changed_host_key_is_refused(door: ShellDoor, sshd: Sshd) -> None:
    known = paramiko.ECDSAKey.generate()
    assert door.known_hosts is not None
    door.known_hosts.write_text(sshd.line(known))
    with pytest.raises(AccessRefused, match="ANOTHER host key") as caught:
        open_connection(door)
    assert sshd.key.fingerprint in str(caught.value) and known.fingerprint in str(caught.value)  # type: ignore[attr-defined]
    assert "keyscan" not in caught.value.next_step and "owner" in caught.value.next_step
    assert sshd.commands == []


def test_a_revoked_host_key_is_refused(door: ShellDoor, sshd: Sshd) -> None:
    assert door.known_hosts is not None
    door.known_hosts.write_text(f"@revoked * {sshd.line().split(' ', 1)[1]}{sshd.line()}")
    with pytest.raises(AccessRefused, match="revoked"):
        open_connection(door)


def test_lines_that_cannot_be_read_are_passed_over(door: ShellDoor, sshd: Sshd) -> None:
    assert door.known_hosts is not None
    door.known_hosts.write_text(f"@cert-authority * ssh-rsa AAAA\n\n# x\nhost ssh-rsa !!\nhost\n{sshd.line()}")
    assert connects(door)


def test_the_user_s_own_known_hosts_count(door: ShellDoor, sshd: Sshd, home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(sshd.line())
    assert connects(replace(door, known_hosts=None))


def test_a_key_that_is_not_accepted(door: ShellDoor, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(private(serialization.NoEncryption()))
    with pytest.raises(AccessRefused, match="does not let us in") as caught:
        open_connection(replace(door, identity_file=tmp_path / "other"))
    assert "BatchMode" in caught.value.next_step


def test_no_key_at_all(door: ShellDoor) -> None:
    with pytest.raises(AccessRefused):
        open_connection(replace(door, identity_file=None))


def test_a_key_that_is_not_there(door: ShellDoor, tmp_path: Path) -> None:
    with pytest.raises(AccessRefused, match="gone"):
        open_connection(replace(door, identity_file=tmp_path / "gone"))


def test_a_key_with_a_passphrase_belongs_into_an_agent(door: ShellDoor, tmp_path: Path) -> None:
    (tmp_path / "locked").write_bytes(private(serialization.BestAvailableEncryption(b"word")))
    with pytest.raises(AccessRefused, match="passphrase") as caught:
        open_connection(replace(door, identity_file=tmp_path / "locked"))
    assert "ssh-add" in caught.value.next_step


def test_nobody_there(door: ShellDoor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{free}") as caught:
        open_connection(replace(door, port=free))
    assert caught.value.transient and not isinstance(caught.value, AccessRefused)


def test_somebody_who_does_not_speak_ssh(door: ShellDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("westward.slurm.ssh.CONNECT_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(Unreachable):
        open_connection(replace(door, port=listener.getsockname()[1]))


def test_a_host_with_no_address(door: ShellDoor) -> None:
    with pytest.raises(Unreachable, match="nosuch"):
        open_connection(replace(door, host="nosuch.invalid"))


def test_the_user_s_ssh_configuration_is_honoured(door: ShellDoor, sshd: Sshd, home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "sites").write_text(f"Host west\n  HostName 127.0.0.1\n  Port {sshd.port}\n")
    (home / ".ssh" / "config").write_text(
        f"Include sites\nHost west\n  User u17\n  IdentityFile {tmp_path}/key\n  IdentityFile {tmp_path}/missing\n"
        f"  UserKnownHostsFile {door.known_hosts}\n  StrictHostKeyChecking no\n"
    )
    assert connects(ShellDoor("west"))
    assert door.known_hosts is not None
    door.known_hosts.write_text("")
    with pytest.raises(AccessRefused, match="not known here"):  # whatever StrictHostKeyChecking says
        open_connection(ShellDoor("west"))


@pytest.fixture
def jump(key: paramiko.PKey, tmp_path: Path, sshd: Sshd, home: Path) -> Iterator[Sshd]:
    with serving(key, os.environ["PATH"], tmp_path) as made:
        (home / ".ssh" / "config").write_text(
            f"Host *\n  IdentityFile {tmp_path}/key\n  User u17\n  UserKnownHostsFile {tmp_path}/known_hosts\n"
            f"Host gate\n  HostName 127.0.0.1\n  Port {made.port}\n"
            f"Host west\n  HostName 127.0.0.1\n  Port {sshd.port}\n  ProxyJump gate\n"
        )
        yield made


def test_a_jump_host_is_used(jump: Sshd, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(jump.line() + sshd.line())
    assert connects(ShellDoor("west"))
    assert jump.transports and sshd.transports


def test_the_key_of_a_jump_host_is_checked_too(jump: Sshd, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(sshd.line())
    with pytest.raises(AccessRefused, match=f"{jump.port} showed a host key that is not known here"):
        open_connection(ShellDoor("west"))
    (tmp_path / "known_hosts").write_text(jump.line(paramiko.ECDSAKey.generate()) + sshd.line())
    with pytest.raises(AccessRefused, match=f"{jump.port} showed ANOTHER"):
        open_connection(ShellDoor("west"))
    assert not sshd.transports


def test_the_key_behind_a_jump_host_is_checked(jump: Sshd, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(jump.line())
    with pytest.raises(AccessRefused, match=f"{sshd.port} showed a host key that is not known here"):
        open_connection(ShellDoor("west"))
