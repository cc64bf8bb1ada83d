"""Where templates and policies lie: the user's own directories first, then what ships. Read as files: nothing is composed here.

A directory is one of those that WESTWARD_CONF names (several with a colon between), `conf` in the current directory, or Westward's own, in that
order. Of each only the groups `job` and `policy` count, and in these only files of our form: `./conf` may well belong to another
program. Under `shipped/` lies what ships, for a template that extends the one whose name it has.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from westward.errors import InputError, Unsafe

CONF = Path(__file__).parents[1] / "conf"
VARIABLE = "WESTWARD_CONF"
GROUPS = ("job", "policy")
SHIPPED = "shipped"
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
_HEAD = re.compile(r"#+\s*@package +(?P<package>\S+)")
_TEMPLATE_SAYS = {"description", "command"}


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory of templates. `origin` is what a user calls it; `trusted` where nobody asks whose files these are."""

    path: Path
    origin: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a group.

    Attributes:
        problem: why it is not used; empty where it is.
        unsafe: somebody else can write it.
    """

    group: str
    name: str
    file: Path
    origin: str
    problem: str = ""
    unsafe: bool = False


def names(group: str) -> tuple[str, ...]:
    """What there is in a group, by name."""
    return tuple(sorted(_used(folders(), group)))


def entry(group: str, name: str) -> Entry:
    """The file that a name stands for.

    Raises:
        KeyError: there is none.
    """
    return _used(folders(), group)[name]


def entries(group: str) -> tuple[Entry, ...]:
    """Every file of a group, the directory that goes before the others first; also those that are not used."""
    return _entries(folders(), group)


def refuse_unsafe(group: str, name: str) -> None:
    """Raises Unsafe where `./conf` has a file of that name which others can write: whose it is decides what is run."""
    for found in entries(group):
        if found.name != name or (found.unsafe and not found.problem):
            continue
        if not found.unsafe:
            return
        raise Unsafe(
            f"{found.file} is not used: {found.problem}",
            f"if you trust it, name its directory: export {VARIABLE}={found.file.parents[1].resolve()}; else go to another directory",
        )


def folders() -> tuple[Folder, ...]:
    """The directories, the one that goes before the others first.

    Raises:
        InputError: WESTWARD_CONF names something that is no directory.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:  # somebody has removed it
        here = ""
    return _folders(os.environ.get(VARIABLE, ""), here, CONF)


@cache
def _folders(named: str, here: str, shipped: Path) -> tuple[Folder, ...]:
    wanted = [Folder(Path(here, part).absolute(), VARIABLE, True) for part in named.split(":") if part]
    for folder in wanted:
        if not folder.path.is_dir():
            raise InputError(
                f"{VARIABLE} names '{folder.path}', which is no directory", f"make it, or: unset {VARIABLE}"
            )
    if here:
        wanted.append(Folder(Path(here, "conf"), "./conf", False))
    found: dict[Path, Folder] = {}
    for folder in (*wanted, Folder(shipped, "Westward", True)):
        real = Path(os.path.realpath(folder.path))
        if real == Path(os.path.realpath(shipped)):
            folder = Folder(shipped, "Westward", True)
        if folder.path.is_dir():
            found.setdefault(real, folder)
    return tuple(found.values())


@cache
def _entries(searched: tuple[Folder, ...], group: str) -> tuple[Entry, ...]:
    return tuple(one for folder in searched for one in _in(folder, group))


@cache
def _used(searched: tuple[Folder, ...], group: str) -> dict[str, Entry]:
    used: dict[str, Entry] = {}
    for one in _entries(searched, group):
        if not one.problem:
            used.setdefault(one.name, one)
    return used


def _in(folder: Folder, group: str) -> Iterator[Entry]:
    place = folder.path / group
    try:
        files = sorted(place.glob("*.yaml"))
    except OSError:
        return
    for file in files:
        unsafe = "" if folder.trusted else _writable_by_others(folder.path, place, file)
        problem = unsafe or ("" if folder.origin == "Westward" else _foreign(group, file))
        yield Entry(group, file.stem, file, folder.origin, problem, bool(unsafe))


def _writable_by_others(*paths: Path) -> str:
    """Whose these files also are; empty where they are the user's own, or root's, and nobody else writes them."""
    for path in paths:
        try:
            seen = path.stat()
        except OSError as error:
            return f"'{path}' cannot be looked at ({error.strerror})"
        if seen.st_uid not in (os.getuid(), 0):
            return f"'{path}' belongs to {_user(seen.st_uid)}"
        if seen.st_mode & stat.S_IWOTH:
            return f"everybody can write '{path}' (chmod o-w)"
        if seen.st_mode & stat.S_IWGRP and not _own_group(seen.st_gid):
            return f"a group can write '{path}' (chmod g-w)"
    return ""


def _own_group(gid: int) -> bool:
    """It is the private group that many systems give each user, or root's."""
    try:
        me = pwd.getpwuid(os.getuid())
        return gid == 0 or (gid == me.pw_gid and grp.getgrgid(gid).gr_name == me.pw_name)
    except KeyError:
        return False


def _user(uid: int) -> str:
    try:
        return f"user '{pwd.getpwuid(uid).pw_name}'"
    except KeyError:
        return f"user {uid}"


def _foreign(group: str, file: Path) -> str:
    """Why a file is not of our form; empty where it is. One that cannot be read as YAML is ours where its head says so: it is broken then."""
    if not _NAME.fullmatch(file.stem):
        return "its name is not one word"
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        return "it cannot be read as text"
    if group == "job" and _package(text) != "_global_":
        return "no template of Westward's: its first line is not '# @package _global_'"
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return "" if group == "job" else "it is not YAML"
    if group == "policy":
        return (
            ""
            if isinstance(content, dict) and isinstance(content.get("weights"), dict)
            else "no policy of Westward's: it has no weights"
        )
    if isinstance(content, dict) and (_TEMPLATE_SAYS & content.keys() or _extends(content)):
        return ""
    return "no template of Westward's: it has neither a description nor a command, and extends no template"


def _extends(content: dict[Any, Any]) -> list[str]:
    """The templates in its defaults."""
    listed = content.get("defaults")
    words = [word for word in listed if isinstance(word, str)] if isinstance(listed, list) else []
    return [word for word in words if re.match(rf"/(?:{SHIPPED}/)?job/", word)]


def _package(text: str) -> str | None:
    """What the head of a file says of its package, which is a line of Hydra's; None where it says nothing."""
    for line in filter(None, map(str.strip, text[:512].splitlines())):
        if said := _HEAD.fullmatch(line):
            return said["package"]
        if not line.startswith("#"):
            break
    return None


def cycle(group: str, name: str) -> list[str]:
    """The files that extend each other in a circle, from a template on; empty where there is none."""
    road: list[str] = []
    word: str | None = f"/{group}/{name}"
    while word is not None and word not in road:
        road.append(word)
        word = next(iter(_extended_by(word)), None)
    return [*road[road.index(word) :], word] if word is not None else []


def _extended_by(word: str) -> list[str]:
    return _extends(_content(word))


def written(name: str) -> dict[str, Any]:
    """What a template and those that it extends write of each key; nothing is resolved, and what cannot be read is left out."""
    return _written(f"/job/{name}", ())


def _written(word: str, before: tuple[str, ...]) -> dict[str, Any]:
    if word in before:
        return {}
    content = _content(word)
    found: dict[str, Any] = {}
    for base in _extends(content):
        found |= _written(base, (*before, word))
    for key, value in content.items():
        if key != "defaults":
            known = found.get(str(key))
            found[str(key)] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
    return found


def _content(word: str) -> dict[Any, Any]:
    file = file_of(word)
    try:
        content = yaml.safe_load(file.read_text()) if file else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def file_of(config_path: str) -> Path | None:
    """The file behind Hydra's name for it: `job/gemm`, `shipped/job/gemm`, or a part such as `job/parts/big`."""
    parts = config_path.removesuffix(".yaml").strip("/").split("/")
    if parts[0] == SHIPPED:
        parts = parts[1:]
        searched: tuple[Folder, ...] = (Folder(CONF, "Westward", True),)
    else:
        searched = folders()
    if len(parts) < 2 or parts[0] not in GROUPS or ".." in parts:
        return None
    if len(parts) == 2:
        found = _used(searched, parts[0]).get(parts[1])
        return found.file if found else None
    for folder in searched:
        file = folder.path.joinpath(*parts).with_name(f"{parts[-1]}.yaml")
        if file.is_file() and (
            folder.trusted or not _writable_by_others(folder.path, *reversed(file.parents[: len(parts) - 1]), file)
        ):
            return file
    return None
