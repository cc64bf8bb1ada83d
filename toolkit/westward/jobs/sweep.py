"""Overrides in Hydra's grammar; and the points of a sweep: what `-m` makes of overrides that name several values.

All of it is Hydra's own: its parser reads `a,b`, `choice()`, `range()`, `sort()`, `shuffle()` and `tag()`, its types say which values these name,
and the points come as from its BasicSweeper: the last key changes fastest, and a key that is named twice has the later values in the
earlier place. The product is made here because the Compose API runs no sweeper. Pure: nothing is composed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import islice, product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from westward.errors import InputError

# as many jobs as slurmctld holds unless its sysadmin lets it hold more (MaxJobCount): one sweep more would fill a cluster
MOST_POINTS = 10_000
_NUMBER = re.compile("[1-9][0-9]{0,17}", re.ASCII)


def parse_overrides(overrides: Sequence[str]) -> list[Override]:
    """`key=value` texts as Hydra reads them.

    Raises:
        InputError: one of them is not of that form.
    """
    try:
        return [_parse(text) for text in overrides]
    except HydraException as error:
        wrong = next((text for text in overrides if "=" not in text), None)
        what = f"'{wrong}' is not of the form key=value" if wrong else first_line(error)
        raise InputError(what, "quote a value with spaces or special characters twice: 'name=\"my job\"'") from error


def sweep_points(overrides: Sequence[str]) -> list[list[str]]:
    """The points of a sweep, each as overrides with one value a key; a single one where no key has several.

    Raises:
        InputError: an override cannot be read, its values cannot be listed or are none, or there are more than MOST_POINTS points.
    """
    values = {override.get_key_element(): _values(override) for override in parse_overrides(overrides)}
    count = math.prod(map(len, values.values()))
    if count > MOST_POINTS:
        raise _too_many(f"these overrides make {count:,} points")
    return [list(point) for point in product(*values.values())]


def labels(points: Sequence[Sequence[str]]) -> list[str]:
    """Each point by the overrides in which the points differ; by all of them where they differ in none."""
    differ = [len(set(column)) > 1 for column in zip(*points, strict=True)]
    return [
        " ".join(text for text, differs in zip(point, differ, strict=True) if differs or not any(differ))
        for point in points
    ]


def _values(override: Override) -> list[str]:
    """The override once for each value that it names."""
    line = override.input_line or ""
    if not override.is_sweep_override():
        return [line]
    swept = override.value()
    if not isinstance(swept, ChoiceSweep | RangeSweep):
        raise InputError(f"'{line}': its values cannot be listed", "name them: a,b,c, choice(a,b,c) or range(1,9)")
    try:
        # counted first, and no further than needed: shuffle() puts all values of a range into a list, and a range may have no end
        if sum(1 for _ in islice(_listed(swept), MOST_POINTS + 1)) > MOST_POINTS:
            raise _too_many(f"'{line}' alone makes more than {MOST_POINTS:,} points")
        found = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    except (HydraException, ValueError, ArithmeticError) as error:
        raise InputError(f"'{line}' names no values: {first_line(error)}") from error
    if not found:
        raise InputError(f"'{line}' names no value at all")
    return found


def _listed(swept: ChoiceSweep | RangeSweep) -> Iterable[object]:
    return swept.list if isinstance(swept, ChoiceSweep) else swept.range()


def _too_many(what: str) -> InputError:
    return InputError(
        f"{what}; a sweep may have {MOST_POINTS:,}",
        "submit it in parts; many runs that differ in a number only are one array: array=0-9999",
    )


def first_line(error: Exception) -> str:
    """Its words up to a line break, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _parse(text: str) -> Override:
    """A sweep names the same few texts again and again, or whole numbers: those differ from one another by the number only."""
    key, equals, value = text.partition("=")
    if equals and _NUMBER.fullmatch(value):
        return replace(_parsed(f"{key}=0"), _value=int(value), input_line=text)
    return _parsed(text)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Override:
    (parsed,) = _parser().parse_overrides([text])
    return parsed


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()
