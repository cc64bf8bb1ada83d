"""Ssh to a site, through Fabric: one connection a host, several commands on it at once, and no host key taken on trust.

`open_connection` is the only place that connects. Fabric on its own accepts every unknown host and loads no known_hosts; here a host
whose key is not known, or is another than the known one, is refused, and so is each jump host on the way.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import fabric
import paramiko

from westward.errors import AccessRefused, Unreachable
from westward.model.site import ShellDoor
from westward.slurm import hostkeys, sshconfig, sshrenewal

CONNECT_TIMEOUT_S = 10
KEEP_ALIVE_S = 30
# how long a host may take to begin what it was asked for on an open connection, and how long its files may be silent
START_TIMEOUT_S = 20
FILES_TIMEOUT_S = 30
# sshd's MaxSessions is 10 by default; two are left for the user's own tools that share the connection's limits
CHANNELS = 8
_TRIES = 3
_WAITS = 100
SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
# what goes wrong is told as our errors; a library that has no log to write to writes on the user's screen
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _NotLetIn(AccessRefused):
    """It is our key that is wrong, not the host's."""


def open_connection(door: ShellDoor) -> fabric.Connection:
    """An open connection to the door's host, by way of the jump hosts that ~/.ssh/config names; every host key is checked.

    Where we are not let in, the door's `renew_command` is run and the connection tried once more.

    Raises:
        AccessRefused: a host key is unknown, revoked or has changed, or the host does not let us in.
        Unreachable: nobody answers there, a jump host does not pass us on, or ~/.ssh/config cannot be read.
    """
    try:
        return _connect(door)
    except _NotLetIn as error:
        if not door.renew_command:
            raise
        sshrenewal.renew(door, error)
    try:
        return _connect(door)
    except _NotLetIn as error:
        raise sshrenewal.without_help(door, error) from error


def _connect(door: ShellDoor) -> fabric.Connection:
    hops = _hops(door)
    try:
        for hop in hops:
            _prepare(hop, door)
            with _connect_errors(hop, door):
                hop.open()
            _keep_alive(hop.transport)
    except BaseException:
        close(hops[-1])
        raise
    return hops[-1]


def close(connection: fabric.Connection) -> None:
    """End a connection and those to its jump hosts."""
    hop = connection
    while isinstance(hop, fabric.Connection):
        hop.client.close()  # also where connecting failed half-way, which Fabric's own close leaves open
        hop = hop.gateway


def _hops(door: ShellDoor) -> list[fabric.Connection]:
    """Connections to the jump hosts and to the door's host, each by way of the one before it; none is open yet.

    Of Fabric's own configuration nothing is read: no fabric.yaml, no FABRIC_ variables.
    """
    assert door.host is not None
    parsed = sshconfig.read()
    hops: list[fabric.Connection] = []
    for hop in sshconfig.way(parsed, door.host):
        hops.append(
            fabric.Connection(
                hop.host,
                user=hop.user,
                port=hop.port,
                config=fabric.Config(ssh_config=parsed, lazy=True),
                gateway=hops[-1] if hops else hop.settings.get("proxycommand") or False,
                forward_agent=False,
                connect_timeout=CONNECT_TIMEOUT_S,
            )
        )
    last = hops[-1]
    last.user, last.port = door.user or last.user, door.port or last.port
    if door.identity_file:
        last.connect_kwargs["key_filename"] = [str(door.identity_file), *last.connect_kwargs.get("key_filename", [])]
    return hops


def _prepare(hop: fabric.Connection, door: ShellDoor) -> None:
    hop.client = paramiko.SSHClient()
    hop.client.set_missing_host_key_policy(hostkeys.RejectUnknown())
    hostkeys.load(hop.client.get_host_keys(), _known_hosts(hop, door))
    offered = hop.connect_kwargs.get("key_filename", [])
    ours = str(door.identity_file) if door.identity_file else None
    hop.connect_kwargs = {
        # ssh_config names keys that need not be there; one that the door names has to be
        "key_filename": [name for name in offered if name == ours or os.path.isfile(os.path.expanduser(name))],
        "allow_agent": str(hop.ssh_config.get("identitiesonly", "no")).lower() != "yes",
        "look_for_keys": not offered,
        "banner_timeout": CONNECT_TIMEOUT_S,
        "auth_timeout": 2 * CONNECT_TIMEOUT_S,
        "channel_timeout": START_TIMEOUT_S,
        "transport_factory": hostkeys.checking(hostkeys.revoked(_known_hosts(hop, door))),
    }
    hop.connect_timeout = CONNECT_TIMEOUT_S


def _known_hosts(hop: fabric.Connection, door: ShellDoor) -> list[str]:
    """The files of known host keys that are there: the door's, then the user's, then the system's."""
    names = [str(door.known_hosts)] if door.known_hosts else []
    for option, usual in (("userknownhostsfile", USER_KNOWN_HOSTS), ("globalknownhostsfile", SYSTEM_KNOWN_HOSTS)):
        told = hop.ssh_config.get(option)
        names += shlex.split(told) if told else usual
    return [path for name in names if os.path.isfile(path := os.path.expanduser(name))]


def _keep_alive(transport: paramiko.Transport) -> None:
    transport.set_keepalive(KEEP_ALIVE_S)
    if isinstance(transport.sock, socket.socket):
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # without it a host that vanished is noticed after a quarter of an hour
            transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KEEP_ALIVE_S * 1000)


def _name(hop: fabric.Connection) -> str:
    return f"{hop.user}@{hop.host}" + (f":{hop.port}" if hop.port != 22 else "")


@contextmanager
def _connect_errors(hop: fabric.Connection, door: ShellDoor) -> Iterator[None]:
    """What goes wrong on connecting to a host, in our words."""
    name = _name(hop)
    hosts = hop.host if hop.port == 22 else f"[{hop.host}]:{hop.port}"
    file = door.known_hosts or "~/.ssh/known_hosts"
    try:
        yield
    except hostkeys.UnknownHostKey as error:
        raise AccessRefused(
            f"{name} showed a host key that is not known here ({error.key.get_name()} {error.key.fingerprint})",
            f"ask the site's owner for its fingerprints; only if this is one of them: 'ssh {_words(hop)}' once, which adds it to "
            "~/.ssh/known_hosts",
        ) from error
    except hostkeys.RevokedHostKey as error:
        raise AccessRefused(
            f"{name} showed a host key that '{error.path}' marks as revoked ({error.key.get_name()} {error.key.fingerprint}); "
            "nothing was sent",
            "somebody may be using a stolen key: ask the site's owner, by another way than this host, for its present key",
        ) from error
    except paramiko.BadHostKeyException as error:
        raise AccessRefused(
            f"{name} showed ANOTHER host key than the known one: {error.key.get_name()} {error.key.fingerprint}, known is "
            f"{error.expected_key.get_name()} {error.expected_key.fingerprint}; somebody may be listening in, and nothing was sent",
            "ask the site's owner, by another way than this host, whether the key was changed and what its fingerprint is; only if it "
            f"is the one shown: ssh-keygen -R '{hosts}' -f {file}, then 'ssh {_words(hop)}' and compare once more",
        ) from error
    except paramiko.PasswordRequiredException as error:
        raise _NotLetIn(
            f"{name}: the private key has a passphrase", "load it into ssh-agent: ssh-add KEYFILE"
        ) from error
    except paramiko.AuthenticationException as error:
        raise _not_let_in(hop, name) from error
    except paramiko.ChannelException as error:
        before = hop.gateway.original_host if isinstance(hop.gateway, fabric.Connection) else "JUMPHOST"
        raise Unreachable(
            f"the jump host before {name} does not pass us on to it: {error.text}",
            f"see whether 'ssh -W {hop.host}:{hop.port} {before}' connects: the host may be down, its name unknown there, or forwarding "
            "forbidden (AllowTcpForwarding), which the jump host's owner can tell",
        ) from error
    except (OSError, EOFError) as error:
        if isinstance(error, FileNotFoundError | PermissionError) and error.filename:
            raise _NotLetIn(f"{name}: the private key '{error.filename}' cannot be read: {error.strerror}") from error
        said = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or error
        raise Unreachable(
            f"nobody answers by ssh at {name}: {said or type(error).__name__}", _right_name(hop)
        ) from error
    except (paramiko.SSHException, ValueError) as error:
        transport = hop.client.get_transport()
        if transport is not None and transport.initial_kex_done:  # its key was accepted, so this is about ours
            raise _not_let_in(hop, name) from error
        raise Unreachable(f"no ssh connection to {name}: {error or type(error).__name__}", _right_name(hop)) from error


def _right_name(hop: fabric.Connection) -> str:
    return (
        f"is the host's name right, and is it up? 'ssh {_words(hop)}' has to get an answer; then 'westward site check'"
    )


def _not_let_in(hop: fabric.Connection, name: str) -> _NotLetIn:
    # what paramiko says last is often about the form of a key file, and misleads
    return _NotLetIn(
        f"{name} does not let us in: it takes none of the keys that we have",
        f"'ssh -o BatchMode=yes {_words(hop)} true' has to work: load the key into ssh-agent (ssh-add KEYFILE), or name it as "
        "'identity_file' of the door",
    )


def _words(hop: fabric.Connection) -> str:
    port = f"-p {hop.port} " if hop.port != 22 else ""
    return f"{port}{hop.user}@{hop.original_host}"


class _Late(Exception):
    """A host did not begin in time what it was asked for."""


def _close_quietly(channel: paramiko.Channel) -> None:
    with suppress(paramiko.SSHException, OSError, EOFError):  # it says good-bye on a connection that may have ended
        channel.close()


@contextmanager
def _begun_in_time(channel: paramiko.Channel) -> Iterator[None]:
    """Close a channel on which nothing begins: paramiko itself waits for ever for the answer to a request on it.

    Raises:
        _Late: it was closed for that.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        _close_quietly(channel)

    timer = threading.Timer(START_TIMEOUT_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (paramiko.SSHException, OSError, EOFError) as error:
        if late.is_set():
            raise _Late from error
        raise
    finally:
        timer.cancel()


class Ssh:
    """A host by ssh: connects when first used, and again when the connection has died. Several threads may use it."""

    def __init__(self, door: ShellDoor) -> None:
        self._door = door
        self._lock = threading.Lock()
        self._files_lock = threading.Lock()  # apart from the other, so that commands do not wait for a file system
        self._free = threading.BoundedSemaphore(CHANNELS)
        self._connection: fabric.Connection | None = None
        self._sftp: paramiko.SFTPClient | None = None

    def __str__(self) -> str:
        return f"{self._door.user or ''}{'@' if self._door.user else ''}{self._door.host}"

    def close(self) -> None:
        with self._lock:
            self._drop()

    def sftp(self) -> paramiko.SFTPClient:
        """The connection's file channel. Whoever waits for an answer on it longer than FILES_TIMEOUT_S gets a TimeoutError, and calls
        `forget_sftp`: what comes over it after that belongs to somebody else's question.

        Raises:
            Unreachable: also where the host offers none, or does not begin it in time.
        """
        with self._files_lock:
            with self._lock:
                transport = self._transport()
                kept = self._sftp
            if kept is None or kept.get_channel().closed:  # type: ignore[union-attr]
                kept = self._open_sftp(transport)
                with self._lock:
                    self._sftp = kept
            return kept

    def _open_sftp(self, transport: paramiko.Transport) -> paramiko.SFTPClient:
        channel = None
        try:
            channel = transport.open_session()
            channel.settimeout(FILES_TIMEOUT_S)
            with _begun_in_time(channel):
                channel.invoke_subsystem("sftp")
                return paramiko.SFTPClient(channel)
        except _Late as error:
            raise Unreachable(f"{self}: it begins no SFTP within {START_TIMEOUT_S} s", self._by_hand("ls")) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            if channel is not None:
                channel.close()
            raise Unreachable(
                f"{self}: no files by SFTP: {error or type(error).__name__}",
                f"'sftp {self}' has to work; or mount the site's files here, as 'access: files:' in its description says",
            ) from error

    def forget_sftp(self) -> None:
        """End the file channel; the next one who needs it opens another."""
        with self._lock:
            kept, self._sftp = self._sftp, None
        if kept is not None:
            _close_quietly(kept.get_channel())  # type: ignore[arg-type]

    def _by_hand(self, command: str) -> str:
        return f"its file systems or its login may hang: see whether 'ssh {self} {command}' ends, and tell the site's administrator"

    @contextmanager
    def shell(self) -> Iterator[paramiko.Channel]:
        """An `sh` that runs there and waits for what it is told; until it ends, one of the channels is taken.

        Raises:
            Unreachable: it was not started.
        """
        with self._free:
            channel = self._start("sh")
            try:
                yield channel
            finally:
                channel.close()

    def _start(self, command: str) -> paramiko.Channel:
        """A command that by itself does nothing, so it can be started again on a new connection where the kept one has died."""
        died, waited = 0, 0
        while True:
            with self._lock:
                transport = self._transport()
            try:
                channel = transport.open_session()
                with _begun_in_time(channel):
                    channel.exec_command(command)
                return channel
            except _Late as error:  # the connection is alive, and others use it
                raise Unreachable(
                    f"{self}: it takes the connection, but starts no command within {START_TIMEOUT_S} s",
                    self._by_hand("true"),
                ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                if transport.is_active() and "Timeout" not in str(error):
                    # sshd allows fewer sessions than we would use (MaxSessions): wait until one of ours has ended
                    waited += 1
                    time.sleep(0.1)
                else:
                    died += 1
                    self._forget(transport)
                if died >= _TRIES or waited >= _WAITS:
                    why = "sshd allows no more sessions" if waited >= _WAITS else "the connection ended"
                    raise Unreachable(
                        f"{self}: {why} ({error or type(error).__name__})", f"see whether 'ssh {self} true' works"
                    ) from error

    def _forget(self, transport: paramiko.Transport) -> None:
        """Let a dead connection go, unless another thread has made a new one already."""
        with self._lock:
            if self._connection is not None and self._connection.transport is transport:
                self._drop()

    def _transport(self) -> paramiko.Transport:
        if self._connection is None or not self._connection.is_connected:
            self._drop()
            self._connection = open_connection(self._door)
        transport: paramiko.Transport = self._connection.transport
        return transport

    def _drop(self) -> None:
        if self._connection is not None:
            close(self._connection)
        self._connection, self._sftp = None, None


_shared: dict[ShellDoor, tuple[Ssh, int]] = {}
_shared_lock = threading.Lock()


def share(door: ShellDoor) -> Ssh:
    """The one connection of this process through that door; `unshare` gives it back, and the last to do so closes it."""
    with _shared_lock:
        ssh, users = _shared.get(door) or (Ssh(door), 0)
        _shared[door] = (ssh, users + 1)
        return ssh


def unshare(door: ShellDoor) -> None:
    with _shared_lock:
        ssh, users = _shared.pop(door)
        if users > 1:
            _shared[door] = (ssh, users - 1)
            return
    ssh.close()
