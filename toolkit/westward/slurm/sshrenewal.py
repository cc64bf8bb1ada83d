"""A key or a certificate for ssh that is renewed unattended: by the door's own command, where a host takes none that we have."""

from __future__ import annotations

import shlex
import threading
import time
from dataclasses import dataclass

from westward import process
from westward.errors import AccessRefused, WestwardError
from westward.model.site import ShellDoor
from westward.model.units import format_duration

TIMEOUT_S = 60
# a command that did not help is not run again for so long after it has ended: every command at the site would
PAUSE_S = 60


@dataclass(frozen=True, slots=True)
class _Run:
    """The last run of a door's command: when it ended (monotonic clock; None: it is still running), and what went wrong."""

    ended_at: float | None = None
    problem: str = ""


_runs: dict[ShellDoor, _Run] = {}
_lock = threading.Lock()


def renew(door: ShellDoor, refused: AccessRefused) -> None:
    """Run the door's command, at most once a minute in this process.

    Raises:
        AccessRefused: that the host does not let us in (`refused`), and why the command does not change that.
    """
    with _lock:
        last = _runs.get(door)
        if last is not None and (last.ended_at is None or time.monotonic() < last.ended_at + PAUSE_S):
            raise _refused(door, refused, _lately(door, last)) from refused
        _runs[door] = _Run()
    problem = "it was interrupted"
    try:
        problem = _run(door)
    finally:
        with _lock:
            _runs[door] = _Run(time.monotonic(), problem)
    if problem:
        raise _refused(door, refused, problem) from refused


def without_help(door: ShellDoor, refused: AccessRefused) -> AccessRefused:
    """That the host does not let us in, though the door's command has just been run."""
    return _refused(door, refused, f"{_named(door)} ended well, and changed nothing")


def _run(door: ShellDoor) -> str:
    """What went wrong; empty where nothing did. What it prints may hold a secret: only its complaint is repeated."""
    try:
        done = process.run(door.renew_command, timeout_s=TIMEOUT_S, check=False)
    except WestwardError as error:
        return f"not renewed: {error}"
    return f"{_named(door)} ended with status {done.status}: {done.complaint}" if done.status else ""


def _lately(door: ShellDoor, last: _Run) -> str:
    if last.ended_at is None:
        return f"{_named(door)} is running"
    ago = format_duration(time.monotonic() - last.ended_at)
    return f"{ago} ago, {last.problem}" if last.problem else f"{_named(door)} was run {ago} ago"


def _named(door: ShellDoor) -> str:
    return f"'{shlex.join(door.renew_command)}'"


def _refused(door: ShellDoor, refused: AccessRefused, why: str) -> AccessRefused:
    step = f"run {_named(door)} by hand and see what it says"
    return AccessRefused(f"{refused}; {why}", f"{step}; then {refused.next_step}" if refused.next_step else step)
