"""Slurm's file name patterns, filled in as slurmd does: sbatch(1), "filename pattern". Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SYMBOL = re.compile(r"%(?P<width>\d*)(?P<letter>[A-Za-z%])")
_WIDEST = 10  # "a number larger than 10 is replaced by 10"


def filled(pattern: str, values: Mapping[str, int | str]) -> tuple[str, list[str]]:
    """The name, and the symbols in it whose value is not among `values`, by letter; those stay as they are.

    A number between "%" and the letter pads a number with zeros. A backslash anywhere keeps all symbols from being filled in; it is
    left out itself.
    """
    if "\\" in pattern:
        return pattern.replace("\\", ""), []
    missing: list[str] = []

    def one(found: re.Match[str]) -> str:
        letter = found["letter"]
        if letter == "%":
            return "%"
        if letter not in values:
            missing.append(f"%{letter}")
            return found[0]
        value = values[letter]
        width = min(int(found["width"] or 0), _WIDEST)
        return f"{value:0{width}d}" if isinstance(value, int) and width else str(value)

    return _SYMBOL.sub(one, pattern), missing
