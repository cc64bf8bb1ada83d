"""What a run shows: progress on stderr, then the record as a file and as a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from westward_bench.arguments import EXIT_FAILED, EXIT_OK
from westward_bench.record import Record, RecordWriteError, Scalar, write_atomic


def remove_earlier(path: Path | None) -> None:
    """Removes an earlier run's record, which would pass for this run's if this one dies."""
    if path is not None:
        path.resolve().unlink(missing_ok=True)


def deliver(record: Record, path: Path | None, as_json: bool) -> int:
    """Stores the record, prints it, and returns the exit code: 0, or 1 if the run failed or could not be stored."""
    stored = True
    if path is not None:
        try:
            write_atomic(path, record)
        except RecordWriteError as error:
            stored = False
            print(f"westward_bench: {error}", file=sys.stderr)
    print(record.to_json() if as_json else format_table(record), end="")
    if record.status != "ok":
        print(f"westward_bench: {record.benchmark} failed: {record.message}", file=sys.stderr)
    return EXIT_OK if record.status == "ok" and stored else EXIT_FAILED


def format_table(record: Record) -> str:
    """The record as text: a title, the rows under their columns and units, the verification, the status."""
    lines = [f"# {record.benchmark} on {', '.join(record.provenance.hosts)} at {record.provenance.started}"]
    if record.rows:
        lines += _columns([
            [column.name for column in record.columns],
            [column.unit for column in record.columns],
            *([_cell(row[column.name]) for column in record.columns] for row in record.rows),
        ])  # fmt: skip
    if record.verification is not None:
        lines.append(f"# verified: {record.verification.checked} values, {record.verification.wrong} wrong")
    lines.append(f"# status: {record.status}" + (f": {record.message}" if record.message else ""))
    return "\n".join(lines) + "\n"


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cell(value: Scalar) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 1000 else _plain(value)


def _plain(value: Scalar) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


class Progress:
    """A line on stderr about a run's progress: rewritten on a terminal, else a new line at most every 10 seconds."""

    INTERVAL_S = 10.0

    def __init__(self, label: str, total: int, stream: TextIO | None = None, enabled: bool = True) -> None:
        self._label, self._total, self._done = label, total, 0
        self._stream = stream or sys.stderr
        self._enabled = enabled
        self._shown_at = time.monotonic()

    def step(self, what: str) -> None:
        """One of the `total` parts is done; `what` names it."""
        self._done += 1
        if not self._enabled:
            return
        line = f"{self._label}: {self._done}/{self._total} {what}"
        if self._stream.isatty():
            end = "\n" if self._done == self._total else ""
            print(f"\r\x1b[K{line}", end=end, file=self._stream, flush=True)
        elif time.monotonic() - self._shown_at >= self.INTERVAL_S:
            self._shown_at = time.monotonic()
            print(line, file=self._stream, flush=True)
