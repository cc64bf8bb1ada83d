"""Where a cluster listens: the URL of a door, checked, and the door that it means."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from westward.errors import InputError
from westward.model.site import Door, NativeDoor, RestDoor, ShellDoor

FORMS = "ssh://[USER@]HOST[:PORT], https://HOST:PORT, http://127.0.0.1:PORT, unix:///PATH, local, or native"
HOST = re.compile(
    r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*"
)  # a name, an address or a Host of ~/.ssh/config; never an option of ssh
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*\$?")
USER_FORM = "letters, digits and ._@+- are expected, the first a letter, a digit or _"


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """What a URL does not say of a door; each kind of door takes what concerns it. Paths are absolute."""

    user: str | None = None
    token_file: Path | None = None
    token_command: tuple[str, ...] = ()
    identity_file: Path | None = None
    known_hosts: Path | None = None
    commands: str | None = None
    renew_command: tuple[str, ...] = ()


def door_at(url: str, options: DoorOptions = DoorOptions()) -> Door:  # frozen
    """The door that a URL means: one that a site's description may hold.

    Raises:
        InputError: it is no such URL, or something that the door needs is not given, or not of its form.
    """
    if options.user is not None and not USER.fullmatch(options.user):
        raise InputError(f"'{options.user}' cannot be the name of a user", USER_FORM)
    if options.commands is not None and not options.commands.startswith("/"):
        raise InputError(
            f"'{options.commands}' does not say where the Slurm commands are there: a directory from / on was expected",
            "run 'which sbatch' there: --commands /opt/slurm/bin",
        )
    if url == "local":
        return ShellDoor(commands=options.commands)
    if url == "native":
        return NativeDoor()
    if url.startswith("ssh://"):
        return _ssh(url, options)
    problem = rest_url_problem(url)
    if problem:
        raise InputError(f"'{url}': {problem}", f"ssh://{url}" if _is_bare(url) else "")
    if options.user is None:
        raise InputError(f"'{url}' needs the name of your user there", "add --user NAME")
    if not options.token_file and not options.token_command:
        raise InputError(
            f"'{url}' needs a token: slurmrestd asks everybody for one",
            "write what 'scontrol token' prints there to a file of mode 600 and add --token-file FILE, or add --token-command 'PROGRAM ...'",
        )
    return RestDoor(url, options.user, options.token_file, options.token_command)


def rest_url_problem(url: str) -> str:
    """What is wrong with the address of a slurmrestd; empty where nothing is."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is no address: {error}"
    if parts.scheme == "unix":
        return "" if parts.path.startswith("/") and not parts.netloc else "write unix:///PATH"
    if parts.scheme not in ("http", "https"):
        return f"is not a way to a cluster; write {FORMS}"
    if not parts.hostname or port == 0:
        return f"names no host; write {parts.scheme}://HOST:PORT"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "holds more than an address; the user and the token are given beside it"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "a token would go over the network in the clear; use https:// (http:// is for this host alone)"
    return ""


def _ssh(url: str, options: DoorOptions) -> ShellDoor:
    try:
        parts = urlsplit(url)
        host, port = _host_as_written(parts), parts.port
    except ValueError as error:
        raise InputError(f"'{url}' is no address: {error}", "write ssh://[USER@]HOST[:PORT]") from error
    user = parts.username or options.user
    if (
        not HOST.fullmatch(host)
        or (user is not None and not USER.fullmatch(user))
        or port == 0
        or parts.password
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise InputError(f"'{url}' is no address for ssh", "write ssh://[USER@]HOST[:PORT]")
    return ShellDoor(
        host, user, port, options.identity_file, options.known_hosts, options.commands, options.renew_command
    )


def _is_bare(text: str) -> bool:
    """Whether it is what one would give to ssh itself: [USER@]HOST[:PORT]."""
    try:
        _ssh(f"ssh://{text}", DoorOptions())
    except InputError:
        return False
    return not text.endswith((":", "/"))


def _host_as_written(parts: SplitResult) -> str:
    """The host in the case that it was written in, as ~/.ssh/config compares it; urlsplit would lower it."""
    netloc = parts.netloc.rpartition("@")[2]
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
