"""Host lists, by ClusterShell, which is loaded only by what reads a cluster's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetParseError

from westward.errors import InputError

_PARTS = re.compile(r"(?:[^,\[\]]|\[[^\]]*\])+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


def expand(text: str) -> list[str]:
    """The names of a host list in the order in which they stand there; twice where they are there twice.

    Raises:
        InputError: it is no host list; the message has the part that is none.
    """
    if set("[]") & set(_BRACKETS.sub("", text)):
        raise InputError(f"'{text}' is no host list: a bracket without its other one")
    names: list[str] = []
    for part in _PARTS.findall(text):
        names += _expanded(part)
    return names


def _expanded(part: str) -> list[str]:
    brackets = _BRACKETS.findall(part)
    if len(brackets) == 1 and "," in brackets[0]:  # NodeSet would sort them
        before, after = part.split(f"[{brackets[0]}]")
        return [name for one in brackets[0].split(",") for name in _expanded(f"{before}[{one}]{after}")]
    try:
        return list(NodeSet(part.strip(), resolver=RESOLVER_NOGROUP))
    except NodeSetParseError as error:
        raise InputError(f"'{part}' is no host list: {error}") from error


def fold(names: Iterable[str]) -> str:
    """A host list of those names, in their natural order, as short as it goes."""
    found = NodeSet(resolver=RESOLVER_NOGROUP)
    for name in names:
        found.add(name)
    return str(found)


def in_order(names: Iterable[str]) -> list[str]:
    """Those names once each, in the order in which `fold` has them."""
    return expand(fold(names))
