"""Python values -> overrides in Hydra's grammar. Whatever a value holds, Hydra reads back that value and nothing else. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from os import PathLike, fspath

from hydra.core.override_parser.types import Quote, QuotedString

from westward.errors import InputError
from westward.jobs.jobconfig import OPEN

Value = str | int | float | bool | PathLike[str] | Sequence["Value"] | Mapping[str, "Value"] | None

# mappings that a template has already, so that each name in them is set by itself
_NAME_BY_NAME = (*OPEN, "budget", "policy")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)
# words that Hydra reads as something else than a text
_MEANT_OTHERWISE = frozenset({"null", "none", "true", "false", "inf", "nan"})
# backslashes count before an interpolation only
_INTERPOLATES = re.compile(r"(\\*)\$\{")


def overrides_of(values: Mapping[str, Value]) -> list[str]:
    """`key=value` for each; one for each name of a mapping that templates have already, such as env.

    Raises:
        InputError: a value is of a kind that no override can say.
    """
    found = []
    for key, value in values.items():
        if key in _NAME_BY_NAME and isinstance(value, Mapping):
            found += [_override(f"{key}.{name}", inner) for name, inner in value.items()]
        else:
            found.append(_override(key, value))
    return found


def swept_of(values: Mapping[str, Value]) -> list[str]:
    """As `overrides_of`, where a list, tuple or range is an axis: one value after the other.

    Raises:
        InputError: an axis has no value, or a value is of a kind that no override can say.
    """
    found = []
    for key, value in values.items():
        if not _is_sequence(value):
            found += overrides_of({key: value})
            continue
        assert isinstance(value, Sequence)
        if not value:
            raise InputError(f"{key}=[] names no value at all", f"{key}=[[]] is one value: an empty list")
        found.append(f"{_checked(key)}={','.join(quoted(inner, key) for inner in value)}")
    return found


def quoted(value: Value, key: str = "value") -> str:
    """The value as an override has it after its "=".

    Raises:
        InputError: it is of a kind that no override can say; `key` is named.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value, key)
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        return repr(float(value))
    if isinstance(value, PathLike):
        return _text(fspath(value), key)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_name(name, key)}:{quoted(inner, key)}' for name, inner in value.items())}}}"
    if isinstance(value, Sequence) and _is_sequence(value):
        return f"[{','.join(quoted(inner, key) for inner in value)}]"
    raise InputError(
        f"{key}={value!r}: a {type(value).__name__} cannot be said in an override",
        "give a text, a number, True, False, None, or lists and mappings of these",
    )


def _override(key: str, value: Value) -> str:
    return f"{_checked(key)}={quoted(value, key)}"


def _checked(key: str) -> str:
    """A key that is one: what `**` may hand over is any text."""
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} is not the key of an override")
    return key


def _text(text: str, key: str) -> str:
    if text == "???":
        raise InputError(
            f"{key}='???' stands for a missing value in Hydra's configurations, and cannot be a text there"
        )
    if _WORD.fullmatch(text) and text.lower() not in _MEANT_OTHERWISE:
        return text
    literal = _INTERPOLATES.sub(lambda found: rf"{found[1]}{found[1]}\${{", text)
    return str(QuotedString(text=literal, quote=Quote.single).with_quotes())


def _name(name: object, key: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _MEANT_OTHERWISE:
        raise InputError(f"{key}: {name!r} cannot be a name in an override's mapping")
    return name


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
