"""What a change of Slurm's configuration takes, and what it does to jobs: from the table `slurm/changes.yaml`, by release. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from westward.slurm.confcompare import Difference
from westward.slurm.confmeaning import Release, release_of
from westward.yamlfile import Reader, open_yaml

TABLE = Path(__file__).parents[1] / "_data" / "slurm" / "changes.yaml"
ADDED, REMOVED = "+", "-"
HARMS = ("always", "jobs", "running", "node", "gres", "partition")
_TAKEN_UP = "taken up by 'scontrol reconfigure'; jobs run on"
_SEE = "slurm.conf(5) DESCRIPTION"


class Class(IntEnum):
    """How deep a change goes; the greater, the deeper."""

    LIVE = 0
    RESTART = 1
    DRAINED = 2
    DESTROYS = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change takes.

    Attributes:
        daemons: those that have to start again for it.
        harms: what is lost or disturbed by it, a word of HARMS; empty for nothing.
        why: a sentence.
        see: where Slurm's manuals say it.
        nodes: a host list of those it is about; empty where it is about the whole cluster.
    """

    kind: Class
    daemons: tuple[str, ...]
    harms: str
    why: str
    see: str
    nodes: str = ""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule of the table; `keys` empty for every key."""

    file: str
    line: str
    keys: frozenset[str]
    since: Release
    before: Release
    effect: Effect

    def fits(self, file: str, line: str, key: str, release: Release) -> bool:
        return (
            self.file == file
            and (file != "slurm.conf" or self.line == line)
            and (not self.keys or key.lower() in self.keys)
            and self.since <= release < self.before
        )


def effect_of(difference: Difference, release: Release) -> Effect:
    """What that difference takes on a cluster of that release."""
    line, _, name = difference.about.partition("=")
    key = _key(difference)
    found = next((rule.effect for rule in _rules() if rule.fits(difference.where, line, key, release)), None)
    effect = found or Effect(Class.LIVE, (), "", _TAKEN_UP, _SEE)
    nodes = name if line == "NodeName" else ""
    return Effect(effect.kind, effect.daemons, effect.harms, effect.why, effect.see, nodes)


def name_of(difference: Difference) -> str:
    """What `--allow` calls a change: its key, or the line of it that comes or goes, as `PartitionName=gpu`."""
    return difference.what or difference.about or difference.where


def daemons_of(effects: Iterable[Effect]) -> tuple[str, ...]:
    """All that have to start again, each once."""
    return tuple(dict.fromkeys(daemon for effect in effects for daemon in effect.daemons))


def _key(difference: Difference) -> str:
    if difference.what:
        return difference.what
    return ADDED if difference.before is None else REMOVED if difference.after is None else ""


@cache
def _rules() -> tuple[_Rule, ...]:
    """
    Raises:
        InputError: the table says something that cannot be meant.
    """
    table = open_yaml(TABLE)
    found = tuple(map(_rule, table.list_of("rules")))
    table.done()
    return found


def _rule(reader: Reader) -> _Rule:
    kind, harms = reader.take("class", str), reader.take("harms", str, "")
    if kind not in map(str, Class) or (harms and harms not in HARMS):
        raise reader.error("class", f"'{kind}', '{harms}' are not both known")
    daemons: list[Any] = reader.take("daemons", list, [])
    keys: list[Any] = reader.take("keys", list, [])
    rule = _Rule(
        reader.take("file", str),
        reader.take("line", str, ""),
        frozenset(str(key).lower() for key in keys),
        release_of(reader.take("since", str, "00.00")),
        release_of(reader.take("before", str, "99.99")),
        Effect(Class[kind.upper()], tuple(map(str, daemons)), harms, reader.take("why", str), reader.take("see", str)),
    )
    reader.done()
    return rule
