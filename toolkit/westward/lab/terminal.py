"""A shell in a container on this terminal, where the docker program is not installed: raw mode, bytes both ways, resizing."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence

import docker

CHUNK = 65536


def interact(client: docker.DockerClient, container: str, argv: Sequence[str], user: str, home: str) -> int:
    """Connect this terminal to a command in the container until it ends; its exit status."""
    created = client.api.exec_create(
        container,
        list(argv),
        tty=True,
        stdin=True,
        environment={"TERM": os.environ.get("TERM", "xterm")},
        user=user,
        workdir=home,
    )["Id"]
    connection = client.api.exec_start(created, tty=True, socket=True)
    wire = getattr(connection, "_sock", connection)  # the SDK wraps a Unix socket, and hands out a TCP one as it is

    def resized(*_: object) -> None:
        size = shutil.get_terminal_size()
        client.api.exec_resize(created, height=size.lines, width=size.columns)

    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(keyboard)
    previous = signal.signal(signal.SIGWINCH, resized)
    try:
        tty.setraw(keyboard, termios.TCSADRAIN)  # what was typed ahead is kept
        resized()
        _pass_on(wire, keyboard, screen)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, previous)
        connection.close()
    return int(client.api.exec_inspect(created)["ExitCode"] or 0)


def _pass_on(wire: object, keyboard: int, screen: int) -> None:
    """Bytes both ways until the other end closes."""
    number: int = wire.fileno()  # type: ignore[attr-defined]
    while True:
        ready, _, _ = select.select([number, keyboard], [], [])
        if number in ready:
            arrived = os.read(number, CHUNK)
            if not arrived:
                return
            os.write(screen, arrived)
        if keyboard in ready:
            typed = os.read(keyboard, CHUNK)
            if typed:
                os.write(number, typed)
