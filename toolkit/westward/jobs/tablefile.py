"""A sweep's table as a file: CSV, JSON, or Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from westward.errors import InputError, StorageError, Unsafe
from westward.jobs.sweeptable import SweepTable

# spreadsheets run a cell that begins so, and what is in it was written by a job
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\w.,:/-]*\Z)")


class TableFormat(StrEnum):
    """How a table is written; TABLE is for people, and only on a terminal."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def as_csv(table: SweepTable) -> str:
    """RFC 4180 with a line of titles. A text that a spreadsheet would run as a formula gets an apostrophe before it; nothing is empty text."""
    made = io.StringIO(newline="")
    writer = csv.writer(made)
    writer.writerow([_cell(column.title) for column in table.columns])
    writer.writerows([_cell(row[column.name]) for column in table.columns] for row in table.rows)
    return made.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return f"'{value}" if _FORMULA.match(value) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


def as_json(table: SweepTable, **more: Any) -> str:
    """Columns with their units, and the rows as objects; what is no number (NaN) is null."""
    rows = [{name: _finite(value) for name, value in row.items()} for row in table.rows]
    columns = [{"name": column.name, "unit": column.unit} for column in table.columns]
    return json.dumps({**more, "columns": columns, "rows": rows}, indent=2, default=str)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_parquet(table: SweepTable) -> bytes:
    """A column for each, typed by its values: where they are of several kinds, texts. A column's unit is in its field's metadata.

    Raises:
        InputError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow, which is not installed here",
            "pip install 'westward[parquet]', or take --format csv",
        ) from error
    arrays = [pyarrow.array(_column([row[column.name] for row in table.rows])) for column in table.columns]
    fields = [
        pyarrow.field(column.name, array.type, metadata={"unit": column.unit} if column.unit else None)
        for column, array in zip(table.columns, arrays, strict=True)
    ]
    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays, schema=pyarrow.schema(fields)), made)
    return made.getvalue()


def _column(values: Sequence[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1 or any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values):
        return [None if value is None else str(value) for value in values]
    return list(values)


def check_target(target: Path, force: bool) -> None:
    """
    Raises:
        Unsafe: it is there, and may not be replaced.
    """
    if not force and (target.exists() or target.is_symlink()):
        raise Unsafe(f"'{target}' is there already; nothing was written", "name another file, or --force")


def write_file(content: str | bytes, target: Path, force: bool) -> None:
    """Write a file of the user's, whole or not at all.

    Raises:
        Unsafe: it is there, and may not be replaced.
        StorageError: it cannot be written.
    """
    check_target(target, force)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror}", "name another file") from error
