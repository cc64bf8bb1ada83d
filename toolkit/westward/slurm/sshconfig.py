"""~/.ssh/config as ssh itself reads it: included files, conditions, and the way to a host over its jump hosts.

paramiko reads one file and leaves `Include` out, takes a condition that it does not know for true, and Fabric visits jump hosts in the
wrong order. So the text is put into a form that paramiko reads rightly, and the hops are found here.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import paramiko

from westward.errors import Unreachable

FILES = ("~/.ssh/config", "/etc/ssh/ssh_config")
_INCLUDES = 8  # so deep may one ssh configuration include another
_JUMPS = 8
_SETTING = re.compile(r"(?P<key>\w+)(?:\s*=\s*|\s+)(?P<value>\S.*)")
_WITH_VALUE = frozenset({"host", "originalhost", "user", "localuser", "exec"})
_WITHOUT = frozenset({"canonical", "final"})
_NEVER = "Host !*\n"

Conditions = tuple[str, ...]  # words of a Match line, all of which have to be true; none for every host


class BadConfiguration(Unreachable):
    """The user's ssh configuration says something that cannot be meant. Nothing was sent."""

    transient = False


class Hop(NamedTuple):
    """A host on the way, with what the configuration says of it."""

    host: str
    user: str | None
    port: int | None
    settings: Mapping[str, Any]


def read() -> paramiko.SSHConfig:
    """The user's configuration, then the system's.

    Raises:
        BadConfiguration: a line cannot be read.
    """
    parsed = paramiko.SSHConfig()
    for name in FILES:
        try:
            parsed.parse(_lines(Path(name).expanduser(), ()))
        except paramiko.ConfigParseError as error:
            raise _bad(name, str(error)) from error
    return parsed


def _bad(place: str, why: str) -> BadConfiguration:
    return BadConfiguration(f"{place} cannot be used: {why}", "'ssh -G HOST' says what ssh itself makes of it")


def _lines(path: Path, outer: Conditions | None, depth: int = 0) -> Iterator[str]:
    """A configuration's lines with those of the files that it includes. What an included file says holds under the conditions of the
    block that includes it (`outer`; None: never), and after it that block goes on."""
    if depth > _INCLUDES or not path.is_file():
        return
    here = outer
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise _bad(str(path), error.strerror or str(error)) from error
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        place = f"line {number} of {path}"
        setting = _SETTING.fullmatch(line)
        if setting is None:
            raise _bad(place, f"'{line}' is no setting with a value")
        key, value = setting["key"].lower(), setting["value"]
        if key in ("host", "match", "include"):
            try:
                words = shlex.split(value, comments=True)
            except ValueError as error:
                raise _bad(place, str(error)) from error
        if key == "include":
            for pattern in words:
                for name in sorted(glob.glob(os.path.join(_folder(path), os.path.expanduser(pattern)))):
                    yield from _lines(Path(name), here, depth + 1)
            yield _block(here)
        elif key in ("host", "match"):
            own = ("originalhost", ",".join(words)) if key == "host" else _conditions(words, place)
            here = None if own is None or outer is None else (*outer, *own)
            yield _block(here)
        else:
            yield line + "\n"


def _folder(path: Path) -> str:
    return "/etc/ssh" if path.is_relative_to("/etc/ssh") else os.path.expanduser("~/.ssh")


def _conditions(words: list[str], place: str) -> Conditions | None:
    """The conditions of a Match line; None where one of them is not known here (tagged, localnetwork, version, ...): then it is never true."""
    told: list[str] = []
    known = True
    left = [part for word in words for part in (word.split("=", 1) if re.match(r"!?\w+=", word) else [word])]
    while left:
        word = left.pop(0).lower()
        bare = word.removeprefix("!")
        if bare == "all":
            known &= word == bare
            continue
        told.append(word)
        if bare in _WITHOUT:
            continue
        if not left:
            raise _bad(place, f"Match {word} has no value")
        told.append(left.pop(0))
        known &= bare in _WITH_VALUE
    return tuple(told) if known else None


def _block(conditions: Conditions | None) -> str:
    if conditions is None:
        return _NEVER
    return f"Match {shlex.join(conditions)}\n" if conditions else "Host *\n"


def way(config: paramiko.SSHConfig, host: str) -> list[Hop]:
    """The jump hosts on the way to a host, in the order in which they are visited, and the host itself.

    As ssh does it: the first jump host may have a way of its own, unless that would lead over a host that is being sought already
    ("Host *" with a ProxyJump holds for the jump host as well).

    Raises:
        BadConfiguration: the way has no end, or a value cannot be read.
    """
    last = _hop(config, host)
    hops, seen = [last], {last.host.lower()}
    while jumps := _jumps(config, hops[0], seen):
        if len(hops) > _JUMPS:
            raise _bad(FILES[0], f"the way to '{host}' leads over more than {_JUMPS} jump hosts")
        seen |= {hop.host.lower() for hop in jumps}
        hops = [*jumps, *hops]
    return hops


def _jumps(config: paramiko.SSHConfig, hop: Hop, seen: set[str]) -> list[Hop]:
    told = str(hop.settings.get("proxyjump") or "none")
    if told.lower() == "none":
        return []
    jumps = [_hop(config, word.strip().removeprefix("ssh://")) for word in told.split(",") if word.strip()]
    return [] if any(jump.host.lower() in seen for jump in jumps) else jumps


def _hop(config: paramiko.SSHConfig, text: str) -> Hop:
    """From [USER@]HOST[:PORT]. A colon in the host (IPv6) needs brackets where a port follows."""
    user, _, rest = text.rpartition("@")
    port = re.fullmatch(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d+))?", rest)
    host = (port["six"] or port["host"]) if port else rest
    try:
        settings = config.lookup(host)
        int(settings.get("port", 22))
    except (KeyError, ValueError, TypeError, paramiko.SSHException) as error:
        raise _bad(FILES[0], f"what it says of '{host}': {error}") from error
    return Hop(host, user or None, int(port["port"]) if port and port["port"] else None, settings)
