"""YAML read strictly: what is missing, of another type, or left over is an error that names the file and the path of the key."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from westward.errors import InputError

_REQUIRED: Any = object()
_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    object: "a value",
}
T = TypeVar("T")


class Reader:
    """One mapping of a YAML file, read key by key: what is missing, of another type or left over is named with its path."""

    def __init__(self, content: object, file: Path, where: str = "") -> None:
        self._file, self._where = file, where
        if not isinstance(content, dict):
            raise self.error("", f"a mapping was expected, not {type(content).__name__}")
        self._content: dict[str, Any] = {str(key): value for key, value in content.items()}
        self._seen: set[str] = set()

    def error(self, key: str, problem: str) -> InputError:
        place = ".".join(part for part in (self._where, key) if part)
        return InputError(f"{self._file}: {place + ': ' if place else ''}{problem}")

    def take(self, key: str, kind: type[T], default: Any = _REQUIRED) -> T:
        """The value of a key, which is of that kind; a whole number is also a number, and true is neither.

        Raises:
            InputError: it is missing and there is no default, or it is something else.
        """
        self._seen.add(key)
        value = self._content.get(key, default)
        if value is _REQUIRED:
            raise self.error(key, "is missing")
        if kind is float and type(value) is int:
            value = float(value)
        if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise self.error(key, f"{_KINDS[kind]} was expected, not {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(key, f"a finite number was expected, not '{value}'")
        checked: T = value
        return checked

    def count(self, key: str) -> int:
        """A whole number from 1 up."""
        value = self.take(key, int)
        if value < 1:
            raise self.error(key, f"1 or more was expected, not {value}")
        return value

    def word(self, key: str, form: re.Pattern[str], meant: str) -> str:
        """A text of the given form; `meant` says which that is."""
        value = self.take(key, str)
        if not form.fullmatch(value):
            raise self.error(key, f"{meant} was expected, not {value!r}")
        return value

    def section(self, key: str, default: Any = _REQUIRED) -> Reader:
        """The mapping under a key."""
        return Reader(self.take(key, dict, default), self._file, ".".join(part for part in (self._where, key) if part))

    def sections(self) -> Iterable[tuple[str, Reader]]:
        """Every key with its value as a mapping."""
        return [(key, self.section(key)) for key in self._content]

    def list_of(self, key: str, default: Any = _REQUIRED) -> list[Reader]:
        """The list of mappings under a key."""
        items = self.take(key, list, default)
        return [
            Reader(item, self._file, f"{self._where}{'.' if self._where else ''}{key}[{i}]")
            for i, item in enumerate(items)
        ]

    def names(self) -> list[str]:
        return list(self._content)

    def done(self) -> None:
        """Raises InputError where the mapping holds a key that nobody asked for."""
        left = sorted(set(self._content) - self._seen)
        if left:
            raise self.error(left[0], f"is not known here; known: {', '.join(sorted(self._seen))}")


class _Loader(yaml.SafeLoader):
    """Names the line of what PyYAML only trips over: a date such as 2026-02-30, a number without digits."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"{error} (a text belongs in quotes)", problem_mark=node.start_mark
            ) from error


_OURS = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, file: Path) -> Reader:
    """A mapping from YAML text; `file` is what errors call it.

    Raises:
        InputError: it is not YAML, or something else than a mapping.
    """
    try:
        return Reader(_load(text), file)
    except yaml.YAMLError as error:
        raise InputError(f"'{file}' is not YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"'{file}' is nested too deeply") from error


def _load(text: str) -> object:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def open_yaml(file: Path, ours: bool = False) -> Reader:
    """A YAML file with a mapping at its top.

    Args:
        ours: it comes with Westward: read by libyaml where PyYAML has it, which takes a tenth of the time and says less of an error.

    Raises:
        InputError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        text = file.read_text()
        return Reader(yaml.load(text, _OURS), file) if ours else read_yaml(text, file)  # noqa: S506 - one of the safe loaders
    except OSError as error:
        raise InputError(f"cannot read '{file}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{file}' is not a text in UTF-8: {error}") from error
