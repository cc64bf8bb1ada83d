"""One table of a sweep: a row for each point, or for each row of its record. Pure.

Columns: the point's number; the keys in which the points differ; its state, site, job, task and what is wrong with it; then those of the
records. A name that is taken already is told apart: `sweep.state`, `result.size`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from westward.model.sweep import SweepPoint

_FIXED = ("point", "state", "site", "job", "task", "problem")
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Column:
    """A column, and the unit of its values; empty for text and pure numbers."""

    name: str
    unit: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class SweepTable:
    """The rows, each with a value for every column; None where it has none."""

    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A point, what became of it, and what it left: several for a point that is an array of its own."""

    point: SweepPoint
    state: str
    site: str
    task: int | None
    problem: str = ""
    record: Mapping[str, Any] | None = None


def sweep_table(told: Sequence[Told]) -> SweepTable:
    """The table of these, in their order."""
    swept = _swept([each.point for each in told])
    names = {key: _free(key, _FIXED, "sweep") for key in swept}
    taken = (*_FIXED, *names.values())
    fixed = [Column("point"), *(Column(name) for name in names.values()), *map(Column, _FIXED[1:])]
    results: dict[str, Column] = {}
    rows: list[Mapping[str, Any]] = []
    for each in told:
        values = _overrides(each.point)
        start = {
            "point": each.point.number,
            **{name: values.get(key) for key, name in names.items()},
            "state": each.state,
            "site": each.site,
            "job": each.point.job,
            "task": each.task,
            "problem": each.problem,
        }
        columns, records = _of_record(each.record)
        for column in columns:
            results.setdefault(column.name, Column(_free(column.name, taken, "result"), column.unit))
        rows += [
            {**start, **{results[name].name: value for name, value in record.items()}} for record in records or [{}]
        ]
    # a record that repeats what was swept says nothing new
    again = {
        names[key]
        for key in swept
        if key in results and all(_repeats(row, names[key], results[key].name) for row in rows)
    }
    all_columns = (*fixed, *(column for name, column in results.items() if names.get(name) not in again))
    return SweepTable(all_columns, tuple({column.name: row.get(column.name) for column in all_columns} for row in rows))


def _repeats(row: Mapping[str, Any], name: str, result: str) -> bool:
    return result not in row or bool(row[result] == row[name])


def _free(name: str, taken: Sequence[str], prefix: str) -> str:
    while name in taken:
        name = f"{prefix}.{name}"
    return name


def _swept(points: Sequence[SweepPoint]) -> list[str]:
    """The keys in which the points differ, in their order; all keys where they differ in none."""
    values: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for point in points:
        for key, value in _pairs(point).items():
            values.setdefault(key, set()).add(value)
            counts[key] = counts.get(key, 0) + 1
    differ = [key for key, found in values.items() if len(found) > 1 or counts[key] < len(points)]
    return differ or list(values)


def _pairs(point: SweepPoint) -> dict[str, str]:
    found = (override.partition("=") for override in point.overrides)
    return {key.lstrip("+~"): value for key, _, value in found}


def _overrides(point: SweepPoint) -> dict[str, Any]:
    return {key: _value(text) for key, text in _pairs(point).items()}


def _value(text: str) -> Any:
    """What an override says: a number, a word of YAML's, or a text, without the quotes around it."""
    if _NUMBER.fullmatch(text):
        return int(text) if len(text) < 19 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace(f"\\{text[0]}", text[0]) if quoted else text


def _of_record(record: Mapping[str, Any] | None) -> tuple[list[Column], list[dict[str, Any]]]:
    """The columns and rows of a benchmark's record; of any other one its scalars, as one row."""
    if not record:
        return [], []
    if isinstance(record.get("columns"), list) and isinstance(record.get("rows"), list):
        columns = [
            Column(str(each.get("name")), str(each.get("unit") or ""))
            for each in record["columns"]
            if isinstance(each, Mapping)
        ]
        rows = [
            {column.name: _scalar(row.get(column.name)) for column in columns}
            for row in record["rows"]
            if isinstance(row, Mapping)
        ]
        return columns, rows
    return [Column(str(name)) for name in record], [{str(name): _scalar(value) for name, value in record.items()}]


def _scalar(value: Any) -> Any:
    if isinstance(value, str):  # JSON can spell half a character, which no file can hold
        return value.encode(errors="backslashreplace").decode()
    return value if value is None or isinstance(value, int | float) else json.dumps(value)
