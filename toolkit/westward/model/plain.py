"""Values as plain ones that JSON can hold, and back: for what is kept and read again by the same version's types.

Of what is read, a field that is missing has its default, and one that is not known is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def plain(value: Any) -> Any:
    """A value of ours as dicts, lists and scalars; of a dataclass what is not its default."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: plain(found)
            for item in fields(value)
            if not _is_default(item, found := getattr(value, item.name))
        }
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum | Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list | frozenset | set):
        return [plain(inner) for inner in value]
    return value


def _is_default(item: Any, value: Any) -> bool:
    if item.default is not MISSING:
        return bool(value == item.default)
    return item.default_factory is not MISSING and bool(value == item.default_factory())


def built(kind: type[T], found: Any) -> T:
    """The value of that type that `plain` made this of.

    Raises:
        TypeError, ValueError, KeyError: it was made of another one.
    """
    return cast(T, _built(kind, found))


def _built(kind: Any, found: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _of_union(inner, found)
    if origin in (tuple, list, frozenset, set):
        return origin(_built(inner[0], each) for each in found)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_built(inner[0], name): _built(inner[1], each) for name, each in found.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        types = _types(cast(Any, kind))
        return kind(**{name: _built(types[name], each) for name, each in found.items() if name in types})
    if kind is datetime:
        return datetime.fromisoformat(found)
    if isinstance(kind, type) and issubclass(kind, StrEnum | Path):
        return kind(found)
    return found


def _of_union(kinds: tuple[Any, ...], found: Any) -> Any:
    if found is None:
        return None
    some = [kind for kind in kinds if kind is not type(None)]
    if len(some) == 1:
        return _built(some[0], found)
    # of several dataclasses the one that has all the fields; scalars are what they are
    named = [
        kind
        for kind in some
        if is_dataclass(kind) and isinstance(found, dict) and found.keys() <= _types(cast(Any, kind)).keys()
    ]
    return _built(named[0], found) if named else found


@cache
def _types(kind: Any) -> dict[str, Any]:
    return {
        name: hint
        for name, hint in get_type_hints(kind).items()
        if name in {item.name for item in fields(cast(Any, kind))}
    }
