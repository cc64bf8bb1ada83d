"""Slurm's configuration files, read as Slurm reads them: what stands in them, not yet what it means (`confcompare` knows that).

A line is KEY=VALUE; keys in any case, a value with blanks in quotes, `#` begins a comment, a backslash at the end goes on with the
next line. `Include` takes in another file, relative to the directory of the first one. A line that begins with NodeName, PartitionName and the like
is about one thing, and has more pairs; one that names DEFAULT says what the lines of its kind after it need not say.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from westward.errors import InputError

Read = Callable[[str], str]

_PAIR = re.compile(r'\s*([A-Za-z0-9_.]+)\s*([-*+/]?)=\s*(?:"([^"]*)"(?=\s|$)|(\S+))(?=\s|$)')
_INCLUDE = re.compile(r"\s*include\s+(\S+)\s*$", re.IGNORECASE)
_NEEDS_QUOTES = re.compile(r"\s|^$")
_DEEPEST = 10  # files that include each other

# what begins a line about one thing, by file
SLURM_LINES = ("NodeName", "PartitionName", "NodeSet", "DownNodes", "FrontendName", "SlurmctldHost")
GRES_LINES = ("NodeName", "Name")
TOPOLOGY_LINES = ("SwitchName", "BlockName")
_ALONE = ("SlurmctldHost",)  # a value, and nothing more to say of it
_WITH_DEFAULT = ("NodeName", "PartitionName", "FrontendName")


class Settings(Mapping[str, str]):
    """Keys in any case with their values; remembers how each key was written, and the order. Equal where keys and values are."""

    __slots__ = ("_found",)

    def __init__(self, pairs: Mapping[str, str] | None = None) -> None:
        self._found: dict[str, tuple[str, str]] = {}
        for key, value in (pairs or {}).items():
            self._found[key.lower()] = (key, value)

    def __getitem__(self, key: str) -> str:
        return self._found[key.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return {key: value for key, (_, value) in self._found.items()} == {
            key: value for key, (_, value) in other._found.items()
        }

    def __hash__(self) -> int:
        return hash(frozenset((key, value) for key, (_, value) in self._found.items()))

    def __repr__(self) -> str:
        return f"Settings({dict(self)!r})"

    def without(self, *keys: str) -> Settings:
        """All but those."""
        left_out = {key.lower() for key in keys}
        return Settings({key: value for key, value in self.items() if key.lower() not in left_out})

    def over(self, defaults: Settings) -> Settings:
        """These, and of the defaults what is not in these."""
        return Settings({**self, **{key: value for key, value in defaults.items() if key not in self}})


@dataclass(frozen=True, slots=True)
class Line:
    """A line about one thing.

    Attributes:
        kind: the key that it begins with, as Slurm spells it.
        name: that key's value: a host list for nodes.
        settings: the other pairs; for nodes and partitions, those of DEFAULT lines before it too.
        where: FILE:NUMBER, to be shown.
    """

    kind: str
    name: str
    settings: Settings = field(default_factory=Settings)
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Conf:
    """One configuration file with those that it includes. Of a key that stands there twice, the last one holds."""

    settings: Settings = field(default_factory=Settings)
    lines: tuple[Line, ...] = ()
    files: tuple[str, ...] = field(default=(), compare=False)

    def of(self, kind: str) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.kind == kind)


def parse(path: str, read: Read, kinds: tuple[str, ...] = ()) -> Conf:
    """Read a file and those that it includes.

    Args:
        path: the file; `read` gets it, and each included one's path.
        kinds: what begins a line about one thing there, such as SLURM_LINES.

    Raises:
        InputError: a line that cannot be meant: file, line number, and the part. Also what `read` raises.
    """
    reading = _Reading(read, {kind.lower(): kind for kind in kinds})
    reading.take(path, 0)
    return Conf(Settings(reading.settings), tuple(reading.lines), tuple(reading.files))


def parse_text(text: str, name: str = "slurm.conf", kinds: tuple[str, ...] = SLURM_LINES) -> Conf:
    """The same of a text that includes nothing."""

    def read(path: str) -> str:
        if path != name:
            raise InputError(f"{name}: there is no '{path}' to include")
        return text

    return parse(name, read, kinds)


def written(value: str) -> str:
    """A value as it is written into a file, so that it is read back the same.

    Raises:
        InputError: no way to write it is known to Slurm: quotes and blanks together, or a line break.
    """
    escaped = value.replace("\\", "\\\\").replace("#", "\\#")
    if not _NEEDS_QUOTES.search(value) and not (value[0] == value[-1] == '"'):
        return escaped
    if '"' in value or "\n" in value:
        raise InputError(f"Slurm has no way to write the value {value!r}: quotes, and blanks or a line break")
    return f'"{escaped}"'


class _Reading:
    """What was read so far."""

    def __init__(self, read: Read, kinds: Mapping[str, str]) -> None:
        self._read, self._kinds = read, kinds
        self._defaults: dict[str, Settings] = {}
        self.settings: dict[str, str] = {}
        self.lines: list[Line] = []
        self.files: list[str] = []

    def take(self, path: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise InputError(f"{path}: files include each other")
        self.files.append(path)
        for number, text in _logical_lines(self._read(path)):
            if included := _INCLUDE.match(text):
                name = included[1].replace("%c", self._cluster())
                self.take(posixpath.join(posixpath.dirname(self.files[0]), name), depth + 1)
            else:
                self._take_line(text, f"{path}:{number}")

    def _cluster(self) -> str:
        return Settings(self.settings).get("ClusterName", "%c")

    def _take_line(self, text: str, where: str) -> None:
        (key, value), *more = _pairs(text, where)
        kind = self._kinds.get(key.lower())
        if kind and kind not in _ALONE:
            self._take_thing(kind, value, more, where)
        elif more:
            raise InputError(f"{where}: a line has one key, and '{more[0][0]}' stands behind '{key}'")
        elif kind:
            self.lines.append(Line(kind, value, where=where))
        else:
            for known in [known for known in self.settings if known.lower() == key.lower()]:
                del self.settings[known]
            self.settings[key] = value

    def _take_thing(self, kind: str, name: str, found: list[tuple[str, str]], where: str) -> None:
        settings = Settings(dict(found))
        if kind in _WITH_DEFAULT:
            whole = settings.over(self._defaults.get(kind, Settings()))
            if name.upper() == "DEFAULT":
                self._defaults[kind] = whole
                return
            settings = whole
        self.lines.append(Line(kind, name, settings, where))


def _pairs(text: str, where: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        match = _PAIR.match(text, at)
        if match is None:
            rest = "what is there" if "pass" in text.lower() else f"'{text[at:].strip()}'"  # a password is not repeated
            raise InputError(f"{where}: KEY=VALUE was expected, not {rest}")
        if match[2]:
            raise InputError(f"{where}: '{match[1]}{match[2]}=' is no '=', and the key '{match[1]}' knows no other")
        yield match[1], match[4] if match[3] is None else match[3]
        at = match.end()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments and escapes, those put together that a backslash goes on with; each with the number of its first."""
    begun, first = "", 0
    for number, raw in enumerate(text.split("\n"), start=1):
        first = first if begun else number
        line = _uncommented(raw)
        body = line.rstrip()
        if (len(body) - len(body.rstrip("\\"))) % 2:
            begun += body[:-1]
            continue
        whole = re.sub(r"\\(.)", r"\1", begun + line)
        begun = ""
        if whole.strip():
            yield first, whole
    if begun.strip():
        yield first, begun


def _uncommented(line: str) -> str:
    escaped = False
    for at, letter in enumerate(line):
        if letter == "#" and not escaped:
            return line[:at]
        escaped = letter == "\\" and not escaped
    return line
