"""What can be measured of the way to a site by the wire of its door, without Slurm: the round trip, and whether a directory can be written."""

from __future__ import annotations

import secrets
import socket
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from westward.errors import WestwardError
from westward.model.site import Door, NativeDoor, RestDoor, ShellDoor
from westward.process import Completed

TRIES = 5
TIMEOUT_S = 10
_PORTS = {"http": 80, "https": 443}


def is_here(door: Door) -> bool:
    """Whether the door is on this host by its kind: there is no way to it that could be measured."""
    return isinstance(door, NativeDoor) or (isinstance(door, ShellDoor) and door.host is None)


def round_trip_s(door: Door) -> float | None:
    """Seconds there and back, median of `TRIES`; 0 for a door that `is_here`, None where it cannot be measured.

    By ssh it is a word that a shell there says back, jump hosts included; to slurmrestd it is the making of a connection.
    """
    try:
        match door:
            case ShellDoor() if not is_here(door):
                return _by_ssh(door)
            case RestDoor():
                return _median(lambda: _connect(door.url))
            case _:
                return 0.0
    except (WestwardError, OSError):
        return None


def _by_ssh(door: ShellDoor) -> float:
    # ssh is loaded only where it is used: it takes longer than all the rest of a command
    from westward.slurm import ssh

    try:
        with ssh.share(door).shell() as channel:
            channel.settimeout(TIMEOUT_S)
            heard = bytearray()

            def echo(word: bytes) -> None:
                heard.clear()
                channel.sendall(b"echo " + word + b"\n")
                while word + b"\n" not in heard:
                    piece = channel.recv(4096)
                    if not piece:
                        raise OSError("the connection ended")
                    heard.extend(piece)

            echo(secrets.token_hex(8).encode())  # what a login script prints is over when this has come back
            return _median(lambda: echo(b"x"))
    finally:
        ssh.unshare(door)


def _connect(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(parts.path)
    else:
        port = parts.port or _PORTS[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=TIMEOUT_S).close()


def _median(trip: Callable[[], None]) -> float:
    took = []
    for _ in range(TRIES):
        began = time.perf_counter()
        trip()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def writable(door: Door, directory: str) -> bool | None:
    """Whether this user can write into a directory at the site; None where the door cannot tell: it takes a shell."""
    if not isinstance(door, ShellDoor):
        return None
    from westward.slurm.commands import Request
    from westward.slurm.shell import commands_at

    commands = commands_at(door)
    try:
        request = Request(("test", "-w", directory))
        (answer,) = commands.each([request], at_once=1, timeout_s=TIMEOUT_S, repeat=True)
    finally:
        commands.close()
    return answer.status == 0 if isinstance(answer, Completed) and answer.status in (0, 1) else None
