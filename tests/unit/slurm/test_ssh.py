"""Who is let in, and whom we let in: host keys are never taken on trust."""

from __future__ import annotations

import logging
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from unit.slurm.fakes import Sshd, serving
from westward.errors import AccessRefused, Unreachable
from westward.model.site import ShellDoor
from westward.process import Completed
from westward.slurm import sshconfig, sshrenewal
from westward.slurm.commands import Request
from westward.slurm.files import RemoteFiles
from westward.slurm.remote import RemoteCommands
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
    for blanks in ("", " \t"):
        door.known_hosts.write_text(f"{blanks}@revoked * {sshd.line().split(' ', 1)[1]}{sshd.line()}")
        with pytest.raises(AccessRefused, match="revoked") as caught:
            open_connection(door)
        assert "owner" in caught.value.next_step
    assert sshd.logins == [], "nobody said who we are before"
    door.known_hosts.write_text(sshd.line())
    assert connects(door) and sshd.logins == ["u17"]


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
    with pytest.raises(Unreachable, match="nosuch") as caught:
        open_connection(replace(door, host="nosuch.invalid"))
    assert "is the host's name right" in caught.value.next_step and "u17@nosuch.invalid" in caught.value.next_step


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


@pytest.fixture
def second(key: paramiko.PKey, tmp_path: Path) -> Iterator[Sshd]:
    with serving(key, os.environ["PATH"], tmp_path) as made:
        yield made


def configure(home: Path, folder: Path, text: str, **hosts: Sshd) -> None:
    """An ssh configuration with that text, and these hosts, whose keys are known."""
    (folder / "known_hosts").write_text("".join(each.line() for each in hosts.values()))
    blocks = [f"Host {name}\n  HostName 127.0.0.1\n  Port {each.port}\n" for name, each in hosts.items()]
    common = f"Host *\n  IdentityFile {folder}/key\n  User u17\n  UserKnownHostsFile {folder}/known_hosts\n"
    (home / ".ssh" / "config").write_text("".join([text, *blocks, common]))


@pytest.fixture
def gate(key: paramiko.PKey, tmp_path: Path) -> Iterator[Sshd]:
    with serving(key, os.environ["PATH"], tmp_path) as made:
        yield made


class TestJumps:
    def test_two_are_visited_in_the_order_in_which_they_are_written(
        self, gate: Sshd, second: Sshd, sshd: Sshd, home: Path, tmp_path: Path
    ) -> None:
        configure(home, tmp_path, "Host west\n  ProxyJump gate,u17@second\n", gate=gate, second=second, west=sshd)
        assert connects(ShellDoor("west"))
        assert (gate.goals, second.goals, sshd.goals) == ([second.port], [sshd.port], [])

    def test_the_way_to_a_jump_host_is_its_own(
        self, gate: Sshd, second: Sshd, sshd: Sshd, home: Path, tmp_path: Path
    ) -> None:
        text = "Host west\n  ProxyJump second\nHost second\n  ProxyJump gate\n"
        configure(home, tmp_path, text, gate=gate, second=second, west=sshd)
        assert connects(ShellDoor("west"))
        assert (gate.goals, second.goals) == ([second.port], [sshd.port])

    def test_one_that_does_not_pass_us_on(self, gate: Sshd, sshd: Sshd, home: Path, tmp_path: Path) -> None:
        configure(home, tmp_path, "Host west\n  ProxyJump gate\n", gate=gate, west=sshd)
        gate.forwards = False
        with pytest.raises(Unreachable, match="jump host before") as caught:
            open_connection(ShellDoor("west"))
        assert f"ssh -W 127.0.0.1:{sshd.port} gate" in caught.value.next_step

    def test_none_is_no_host(self, gate: Sshd, sshd: Sshd, home: Path, tmp_path: Path) -> None:
        text = "Host west\n  ProxyJump none\nHost *\n  ProxyJump gate\n"
        configure(home, tmp_path, text, gate=gate, west=sshd)
        assert connects(ShellDoor("west"))
        assert not gate.transports

    def test_the_jump_host_needs_no_jump_to_itself(self, gate: Sshd, sshd: Sshd, home: Path, tmp_path: Path) -> None:
        configure(home, tmp_path, "Host *\n  ProxyJump gate\n", gate=gate, west=sshd)
        assert connects(ShellDoor("west"))
        assert gate.goals == [sshd.port]
        assert connects(ShellDoor("gate"))

    @pytest.mark.parametrize(
        "text", ["Host a\n ProxyJump b\nHost b\n ProxyJump a\n", "Host *\n  ProxyJump a,b\nHost a\nHost b\n"]
    )
    def test_no_circle_goes_on_for_ever(self, home: Path, text: str) -> None:
        (home / ".ssh" / "config").write_text(text)
        assert [hop.host for hop in sshconfig.way(sshconfig.read(), "a")][-1] == "a"

    def test_a_way_without_an_end(self, home: Path) -> None:
        (home / ".ssh" / "config").write_text("Host *\n  ProxyJump x%h\n")
        with pytest.raises(Unreachable, match="more than 8 jump hosts") as caught:
            open_connection(ShellDoor("west"))
        assert "ssh -G" in caught.value.next_step


class TestConfiguration:
    @pytest.fixture(autouse=True)
    def without_the_system_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sshconfig, "FILES", sshconfig.FILES[:1])

    def looked_up(self, host: str) -> dict[str, str]:
        return dict(sshconfig.read().lookup(host))

    def test_a_block_goes_on_after_what_it_includes(self, home: Path) -> None:
        (home / ".ssh" / "sites").write_text("Compression yes\nHost other w*\n  Port 7\n")
        (home / ".ssh" / "config").write_text(
            "Include nothing*\nUser first\nHost west\n  Include sites\n  HostName 10.0.0.1\n"
        )
        west, other = self.looked_up("west"), self.looked_up("other")
        assert (west["user"], west["hostname"], west["port"], west["compression"]) == ("first", "10.0.0.1", "7", "yes")
        assert other == {"user": "first", "hostname": "other"}, "what is included in a block holds for its hosts alone"

    @pytest.mark.parametrize(
        "condition", ["tagged west", "localnetwork 10.0.0.0/8", "version OpenSSH_9*", "host * tagged west", "!all"]
    )
    def test_a_condition_that_is_not_known_is_not_true(self, home: Path, condition: str) -> None:
        (home / ".ssh" / "deep").write_text("Host *\n  Port 8\n")
        (home / ".ssh" / "config").write_text(f"Match {condition}\n  Port 7\n  Include deep\nHost *\n  User u\n")
        assert self.looked_up("west") == {"user": "u", "hostname": "west"}

    @pytest.mark.parametrize("condition", ["all", "Host west", "host=w*", "originalhost east,west", "final host west"])
    def test_the_others_hold(self, home: Path, condition: str) -> None:
        (home / ".ssh" / "config").write_text(f"Match {condition}\n  Port 7\n")
        assert self.looked_up("west")["port"] == "7"

    @pytest.mark.parametrize(
        "line", ["ForwardAgent", "Host 'west", "Match host", "Host west\n  Port ssh", "CanonicalizeHostname yes"]
    )
    def test_what_cannot_be_read_is_an_error_of_ours(self, home: Path, line: str) -> None:
        (home / ".ssh" / "config").write_text(line + "\n")
        with pytest.raises(Unreachable, match=r"config") as caught:
            open_connection(ShellDoor("west"))
        assert not caught.value.transient and "ssh -G" in caught.value.next_step


def test_one_connection_serves_many_commands_and_files(door: ShellDoor, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "result.json").write_bytes(b"{}")
    with closing(RemoteCommands(door)) as one, closing(RemoteCommands(door)) as two:
        files = RemoteFiles("west", door, str(tmp_path))
        for commands in (one, two):
            answers = commands.each([Request(("true",))] * 40, at_once=8, timeout_s=10, repeat=False)
            assert {answer.status for answer in answers if isinstance(answer, Completed)} == {0}
            with files.open(f"{tmp_path}/job/result.json") as file:
                assert file.read() == b"{}"
        files.close()
    assert len(sshd.transports) == 1


class TestRenewal:
    @pytest.fixture
    def renews(self, door: ShellDoor, tmp_path: Path) -> Callable[[str], ShellDoor]:
        """The door, with a key that is not accepted, and a command that notes its runs and then does this."""
        (tmp_path / "key").rename(tmp_path / "good")
        (tmp_path / "key").write_bytes(private(serialization.NoEncryption()))

        def made(script: str) -> ShellDoor:
            program = tmp_path / "renew"
            program.write_text(f"#!/bin/sh\ncd {shlex.quote(str(tmp_path))}\necho run >> runs\n{script}\n")
            program.chmod(0o700)
            return replace(door, renew_command=(str(program), "one argument"))

        return made

    def runs(self, tmp_path: Path) -> int:
        file = tmp_path / "runs"
        return len(file.read_text().splitlines()) if file.exists() else 0

    @pytest.mark.parametrize("before", ["other", "none", "nonsense", "locked"])
    def test_a_key_that_the_command_puts_in_place(
        self, renews: Callable[[str], ShellDoor], tmp_path: Path, before: str
    ) -> None:
        door = renews('[ "$1" = "one argument" ] && cp good key')
        if before == "none":
            (tmp_path / "key").unlink()
        elif before == "nonsense":
            (tmp_path / "key").write_text("no key")
        elif before == "locked":
            (tmp_path / "key").write_bytes(private(serialization.BestAvailableEncryption(b"word")))
        assert connects(door)
        assert connects(door)
        assert self.runs(tmp_path) == 1

    def test_it_is_not_run_where_we_are_let_in(self, renews: Callable[[str], ShellDoor], tmp_path: Path) -> None:
        assert connects(replace(renews("true"), identity_file=tmp_path / "good"))
        assert self.runs(tmp_path) == 0

    def test_it_is_run_for_our_key_alone(self, renews: Callable[[str], ShellDoor], sshd: Sshd, tmp_path: Path) -> None:
        door = renews("true")
        with pytest.raises(AccessRefused, match="not known here"):
            open_connection(replace(door, known_hosts=None))
        (tmp_path / "known_hosts").write_text(sshd.line(paramiko.ECDSAKey.generate()))
        with pytest.raises(AccessRefused, match="ANOTHER"):
            open_connection(door)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            free = listener.getsockname()[1]
        with pytest.raises(Unreachable, match="nobody answers"):
            open_connection(replace(door, port=free))
        assert self.runs(tmp_path) == 0

    def test_a_jump_host_may_be_the_one_that_refuses(
        self, renews: Callable[[str], ShellDoor], jump: Sshd, sshd: Sshd, tmp_path: Path
    ) -> None:
        (tmp_path / "known_hosts").write_text(jump.line() + sshd.line())
        command = renews("cp good key").renew_command
        assert connects(ShellDoor("west", renew_command=command))
        assert self.runs(tmp_path) == 1

    def test_one_that_fails_is_named_with_the_last_line_it_says(
        self, renews: Callable[[str], ShellDoor], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        door = renews("echo hunter1; echo hunter2 >&2; echo aaaaaaaa.bbbbbbbb.cc no ticket >&2; exit 3")
        with caplog.at_level(logging.DEBUG), pytest.raises(AccessRefused) as caught:
            open_connection(door)
        command = shlex.join(door.renew_command)
        assert "does not let us in" in str(caught.value)
        assert str(caught.value).endswith(f"'{command}' ended with status 3: ******** no ticket")
        assert f"run '{command}' by hand" in caught.value.next_step and "BatchMode" in caught.value.next_step
        assert (caught.value.exit_code, caught.value.transient) == (4, False)
        assert "hunter" not in f"{caught.value} {caught.value.next_step} {caplog.text}"

    def test_one_that_does_not_help_is_run_once_in_a_minute(
        self, renews: Callable[[str], ShellDoor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        door = renews("true")
        with pytest.raises(AccessRefused, match="ended well, and changed nothing"):
            open_connection(door)
        with closing(RemoteCommands(door)) as commands:
            answers = commands.each([Request(("true",))] * 8, at_once=8, timeout_s=10, repeat=False)
        assert all(isinstance(answer, AccessRefused) and "s ago" in str(answer) for answer in answers), answers
        assert self.runs(tmp_path) == 1
        monkeypatch.setattr(sshrenewal, "PAUSE_S", 0)
        with pytest.raises(AccessRefused):
            open_connection(door)
        assert self.runs(tmp_path) == 2

    def test_what_went_wrong_is_told_until_it_is_run_again(
        self, renews: Callable[[str], ShellDoor], tmp_path: Path
    ) -> None:
        door = renews("echo no ticket >&2; exit 1")
        for said in ("status 1: no ticket", r"s ago, .*status 1: no ticket"):
            with pytest.raises(AccessRefused, match=said):
                open_connection(door)
        assert self.runs(tmp_path) == 1

    def test_another_door_has_a_minute_of_its_own(self, renews: Callable[[str], ShellDoor], tmp_path: Path) -> None:
        door = renews("true")
        for each in (door, replace(door, user="other")):
            with pytest.raises(AccessRefused):
                open_connection(each)
        assert self.runs(tmp_path) == 2

    def test_one_that_does_not_end_is_stopped(
        self, renews: Callable[[str], ShellDoor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sshrenewal, "TIMEOUT_S", 0.2)
        with pytest.raises(AccessRefused, match=r"not renewed: .* did not end within 0\.2 s"):
            open_connection(renews("exec sleep 20"))

    def test_one_that_is_not_installed_is_named(self, renews: Callable[[str], ShellDoor]) -> None:
        with pytest.raises(AccessRefused, match="'no-such-program' is not installed"):
            open_connection(replace(renews(""), renew_command=("no-such-program",)))
