"""Which process holds something in the ledger, and whether it still runs."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

_numbers = itertools.count()


def claimant() -> str:
    """host/pid/start time.number: a pid alone is reused, and a process may hold things in several hands, which differ by number."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_time(os.getpid())}.{next(_numbers)}"


def runs(owner: str) -> bool | None:
    """Whether the process of that identity still runs; None where it is on another host, since only that one can tell."""
    host, pid, started = owner.rsplit("/", 2)
    return _start_time(int(pid)) == started.partition(".")[0] if host == socket.gethostname() else None


def pid_here(owner: str) -> int | None:
    """Its process id, where it runs on this host."""
    return int(owner.rsplit("/", 2)[1]) if runs(owner) else None


def _start_time(pid: int) -> str | None:
    """Field 22 of proc(5)'s /proc/PID/stat, in clock ticks after boot; None where no such process runs any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # dead, and only not reaped yet
