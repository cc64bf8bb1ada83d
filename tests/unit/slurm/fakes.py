"""Programs that stand for Slurm's on PATH, and an sshd in this process that runs them: so the whole road is real but the cluster."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

TEXTS = Path(__file__).parents[2] / "data"
VERSIONS = ("22.05", "24.11", "26.05")


def said(version: str, name: str) -> str:
    """What a real command of that version printed."""
    return (TEXTS / f"slurm-{version}-text" / f"{name}.txt").read_bytes().decode()


@dataclass
class FakeSlurm:
    """Programs in a folder. Each notes how it was called, then runs the shell lines it was given."""

    folder: Path

    def program(self, name: str, lines: str) -> None:
        log = shlex.quote(str(self.folder / f"{name}.log"))
        # several run at once, and long words take several writes
        note = f'(flock 9; printf "%s\\037" "$@" >&9; printf "\\036" >&9) 9>> {log}\n'
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{note}{lines}\n")
        file.chmod(0o755)

    def script(self, name: str) -> str:
        """What a program does after it has noted its call."""
        return (self.folder / name).read_text().split("\n", 2)[2]

    def calls(self, name: str) -> list[list[str]]:
        log = self.folder / f"{name}.log"
        return [call.split("\x1f")[:-1] for call in log.read_text().split("\x1e")[:-1]] if log.exists() else []

    def queue(self, rows: list[tuple[str, ...]]) -> None:
        """squeue that prints these rows in the format it is asked for: the random word before each of them."""
        body = "".join("\x1f".join(row) + "\n" for row in rows)
        (self.folder / "rows").write_text(body)
        self.program(
            "squeue",
            f'token=; while [ $# -gt 0 ]; do if [ "$1" = -o ]; then token=${{2%%\\%*}} format=$2; fi; shift; done; '
            f"case $format in *%j) fields=1-;; *) fields=1-4;; esac; "
            f'[ -z "$token" ] || cut -d "$(printf "\\037")" -f $fields {shlex.quote(str(self.folder / "rows"))} | sed "s/^/$token/"',
        )

    def accounting(self, records: list[dict[str, str]]) -> None:
        """sacct that prints these records with the delimiter and the fields it is asked for."""
        lines = ["".join(f"{name}={value}\x1f" for name, value in record.items()) for record in records]
        (self.folder / "records").write_text("\n".join(lines))
        self.program(
            "sacct",
            f"""for word; do case $word in --delimiter=*) d=${{word#*=}};; JobID,*) f=$word;; esac; done
awk -v d="$d" -v f="$f" 'BEGIN {{ RS = "\\n"; FS = "\\037"; n = split(f, names, ",") }}
{{ delete v; for (i = 1; i <= NF; i++) {{ p = index($i, "="); v[substr($i, 1, p - 1)] = substr($i, p + 1) }}
  line = ""; for (i = 1; i <= n; i++) line = line (i > 1 ? d : "") v[names[i]]; print line }}' {shlex.quote(str(self.folder / "records"))}""",
        )


@dataclass
class Sshd:
    """A server on this host that lets one key in and runs what it is told with a PATH of its own."""

    port: int
    key: paramiko.PKey
    accepts: paramiko.PKey
    path: str
    home: Path
    commands: list[str] = field(default_factory=list)
    transports: list[paramiko.Transport] = field(default_factory=list)
    channels: list[paramiko.Channel] = field(default_factory=list)  # one that nobody holds is closed
    most_channels: int = 0
    open_channels: int = 0
    logins: list[str] = field(default_factory=list)  # who wanted in
    goals: list[int] = field(default_factory=list)  # ports that it passed connections on to
    forwards: bool = True
    max_sessions: int = 10
    chatter: str = ""
    dead: str = ""  # whatever path holds this hangs until `revived`
    mute: bool = False  # no request for a command is answered until then
    revived: threading.Event = field(default_factory=threading.Event)

    def line(self, key: paramiko.PKey | None = None) -> str:
        shown = key or self.key
        return f"[127.0.0.1]:{self.port} {shown.get_name()} {shown.get_base64()}\n"

    def drop(self) -> None:
        """Break every connection off."""
        for transport in self.transports:
            transport.close()
        self.transports.clear()


class _Server(paramiko.ServerInterface):
    def __init__(self, sshd: Sshd) -> None:
        self._sshd = self.sshd = sshd
        self._goals: dict[int, tuple[str, int]] = {}

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._sshd.logins += [] if username in self._sshd.logins else [username]
        return paramiko.AUTH_SUCCESSFUL if key == self._sshd.accepts else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if self._sshd.open_channels >= self._sshd.max_sessions:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self._sshd.open_channels += 1
        self._sshd.most_channels = max(self._sshd.most_channels, self._sshd.open_channels)
        return paramiko.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if not self._sshd.forwards:
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self._goals[chanid] = destination
        self._sshd.goals.append(destination[1])
        return paramiko.OPEN_SUCCEEDED

    def goal(self, channel: paramiko.Channel) -> tuple[str, int] | None:
        return self._goals.get(channel.get_id())

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if self._sshd.mute:
            self._sshd.revived.wait(20)
        threading.Thread(target=_execute, args=(self._sshd, channel, command.decode()), daemon=True).start()
        return True


def _execute(sshd: Sshd, channel: paramiko.Channel, command: str) -> None:
    sshd.commands.append(command)
    if sshd.chatter:
        channel.sendall(sshd.chatter.encode())
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": sshd.path, "HOME": str(sshd.home), "SBATCH_PARTITION": "of-the-login", "USER": "u17"},
        cwd=sshd.home,
    )
    assert process.stdin and process.stdout and process.stderr

    def pump(source: int, send: object) -> None:
        while piece := os.read(source, 65536):
            try:
                send(piece)  # type: ignore[operator]
            except (OSError, EOFError):
                return

    def feed() -> None:
        assert process.stdin
        try:
            while piece := channel.recv(65536):
                process.stdin.write(piece)
                process.stdin.flush()
            process.stdin.close()
        except OSError:
            pass

    threads = [
        threading.Thread(target=feed, daemon=True),
        threading.Thread(target=pump, args=(process.stdout.fileno(), channel.sendall), daemon=True),
        threading.Thread(target=pump, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    sshd.open_channels -= 1
    try:
        channel.send_exit_status(process.wait())
        channel.close()
    except (OSError, EOFError):
        pass


def _forward(channel: paramiko.Channel, goal: tuple[str, int]) -> None:
    far = socket.create_connection(goal)

    def there() -> None:
        while piece := channel.recv(65536):
            far.sendall(piece)
        far.close()

    threading.Thread(target=there, daemon=True).start()
    try:
        while piece := far.recv(65536):
            channel.sendall(piece)
    except OSError:
        pass
    channel.close()


@contextmanager
def serving(accepts: paramiko.PKey, path: str, home: Path, key: paramiko.PKey | None = None) -> Iterator[Sshd]:
    """An sshd on a port of this host."""
    listener = socket.create_server(("127.0.0.1", 0))
    sshd = Sshd(listener.getsockname()[1], key or paramiko.ECDSAKey.generate(), accepts, path, home)

    def connection(client: socket.socket) -> None:
        transport = paramiko.Transport(client)
        transport.add_server_key(sshd.key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, LocalTree)
        server = _Server(sshd)
        sshd.transports.append(transport)
        try:
            transport.start_server(server=server)
            while transport.is_active():
                channel = transport.accept(0.2)
                if channel is not None:
                    sshd.channels.append(channel)
                if channel is not None and (goal := server.goal(channel)):
                    threading.Thread(target=_forward, args=(channel, goal), daemon=True).start()
        except (paramiko.SSHException, EOFError, OSError):
            pass

    def listen() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=connection, args=(client,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield sshd
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        sshd.revived.set()
        sshd.drop()


class LocalTree(paramiko.SFTPServerInterface):
    """This host's files by SFTP, as far as it is read."""

    def __init__(self, server: _Server) -> None:
        self._sshd = server.sshd

    def lstat(self, path: str) -> paramiko.SFTPAttributes | int:
        if self._sshd.dead and self._sshd.dead in path:
            self._sshd.revived.wait(20)
        try:
            return paramiko.SFTPAttributes.from_stat(os.lstat(path))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def stat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(os.stat(path))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def canonicalize(self, path: str) -> str:
        return os.path.realpath(path)

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> paramiko.SFTPHandle | int:
        try:
            file = os.fdopen(os.open(path, os.O_RDONLY), "rb")
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = file  # type: ignore[attr-defined]
        handle.stat = lambda: paramiko.SFTPAttributes.from_stat(os.fstat(file.fileno()))  # type: ignore[method-assign]
        return handle
