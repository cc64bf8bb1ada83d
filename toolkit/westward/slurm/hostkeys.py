"""Host keys: which are known, which are revoked, and what paramiko has to refuse before it says who we are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey


class UnknownHostKey(paramiko.SSHException):
    """A host showed a key, and no known_hosts names that host."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("host key not known")
        self.key = key


class RevokedHostKey(paramiko.SSHException):
    """A host showed a key that a known_hosts marks as revoked."""

    def __init__(self, key: paramiko.PKey, path: str) -> None:
        super().__init__("host key revoked")
        self.key = key
        self.path = path


class RejectUnknown(paramiko.MissingHostKeyPolicy):
    """Refuses, and remembers the key for the message."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise UnknownHostKey(key)


def load(keys: paramiko.HostKeys, paths: Sequence[str]) -> None:
    """Load what can be read; of two keys of one kind for a host the first counts. paramiko's own `load` stops at an @ line."""
    seen: set[tuple[str, str]] = set()
    for path in paths:
        for line in Path(path).read_text(errors="replace").splitlines():
            if line.lstrip()[:1] in ("", "#", "@"):
                continue
            try:
                entry = HostKeyEntry.from_line(" ".join(line.split()))
            except (InvalidHostKey, paramiko.SSHException, ValueError):
                continue
            if entry is None or entry.key is None:
                continue
            kind = entry.key.get_name()
            for name in entry.hostnames:
                if (name, kind) not in seen:
                    seen.add((name, kind))
                    keys.add(name, kind, entry.key)


def revoked(paths: Sequence[str]) -> dict[str, str]:
    """Where each key stands that a line "@revoked" names; paramiko passes over such lines. Revoked for one host is revoked for all."""
    found: dict[str, str] = {}
    for path in paths:
        for line in Path(path).read_text(errors="replace").splitlines():
            mark, *words = line.split() or [""]
            found |= dict.fromkeys(words if mark.lower() == "@revoked" else (), path)
    return found


def checking(marked: Mapping[str, str]) -> Callable[..., paramiko.Transport]:
    """Makes transports that look for the host's key among the revoked ones before anybody says who we are."""

    class Transport(paramiko.Transport):
        def start_client(self, event: threading.Event | None = None, timeout: float | None = None) -> None:
            super().start_client(event, timeout)
            key = self.get_remote_server_key()
            if key.get_base64() in marked:
                raise RevokedHostKey(key, marked[key.get_base64()])

    return Transport
