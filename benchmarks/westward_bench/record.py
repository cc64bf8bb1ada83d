"""The result record of a benchmark run, schema "westward-result/1": one JSON object, standard library only.

A record says what was measured (`metrics`, for comparison and gates), shows it (`columns` and `rows`, a table that a
reader can print without knowing the benchmark), keeps what it was computed from (`samples`), whether the answers were
right (`verification`), and where it ran (`provenance`). Absent is null, never zero; numbers are finite.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

SCHEMA = "westward-result/1"
STATUSES = ("ok", "failed")
DIRECTIONS = ("higher", "lower", "none")

Scalar = str | int | float | bool | None
Parameter = Scalar | list[Scalar]
T = TypeVar("T")


class RecordError(ValueError):
    """A record contradicts itself or the schema; the message names the field."""


class RecordWriteError(OSError):
    """A record could not be stored; no partial file is left behind."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of merit. `direction` says which way is better: "higher", "lower", or "none" where neither is."""

    name: str
    value: float
    unit: str
    direction: str
    labels: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise RecordError(f"metric {self.name!r}: direction must be one of {', '.join(DIRECTIONS)}")
        _require_finite(self.value, f"metric {self.name!r}")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its key in every row, and its unit ("" for text and pure numbers)."""

    name: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """How many values were compared and how many of them were wrong; `method` says against what.

    `max_relative_error` and the `bound` it was held to are null where the comparison was exact.
    """

    checked: int
    wrong: int
    method: str
    max_relative_error: float | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= self.checked:
            raise RecordError(f"verification: {self.wrong} wrong of {self.checked} checked")
        for name in ("max_relative_error", "bound"):
            _require_finite(getattr(self, name), f"verification.{name}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where, when and with what a run was made. Only these fields: an environment may hold secrets.

    `versions` maps a package or library to its version; `started` and `finished` are UTC, ISO 8601.
    """

    started: str
    finished: str
    command: tuple[str, ...]
    hosts: tuple[str, ...]
    cpu_model: str | None
    cores_visible: int
    versions: Mapping[str, str]
    git_sha: str | None = None
    slurm_job_id: str | None = None
    slurm_cluster_name: str | None = None
    slurm_job_partition: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The result of one benchmark run; `samples` holds, for each row, the timings in seconds that it summarises.

    Raises:
        RecordError: on construction, where the parts contradict each other.
    """

    benchmark: str
    status: str
    parameters: Mapping[str, Parameter]
    provenance: Provenance
    message: str | None = None
    metrics: tuple[Metric, ...] = ()
    columns: tuple[Column, ...] = ()
    rows: tuple[Mapping[str, Scalar], ...] = ()
    samples: tuple[tuple[float, ...], ...] = ()
    verification: Verification | None = None
    schema: str = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise RecordError(f"schema: expected {SCHEMA!r}, got {self.schema!r}")
        if self.status not in STATUSES:
            raise RecordError(f"status: expected one of {', '.join(STATUSES)}, got {self.status!r}")
        if self.status == "failed" and not self.message:
            raise RecordError("message: a failed run must say why")
        if self.status == "ok" and self.verification is not None and self.verification.wrong:
            raise RecordError(f"status: 'ok', but {self.verification.wrong} values were wrong")
        self._check_table()

    def _check_table(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise RecordError("columns: names must differ")
        for index, row in enumerate(self.rows):
            if set(row) != set(names):
                raise RecordError(f"rows[{index}]: keys must be the column names {names}, are {list(row)}")
        if len(self.samples) != len(self.rows):
            raise RecordError(f"samples: {len(self.samples)} lists for {len(self.rows)} rows")

    def to_json(self) -> str:
        """The record as one JSON object in ASCII, ending in a newline.

        Raises:
            RecordError: a number is not finite.
        """
        try:
            return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"
        except ValueError as error:
            raise RecordError("a number in the record is infinite or not a number") from error

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record that `text` holds; ``Record.from_json(record.to_json()) == record``.

        Raises:
            RecordError: `text` is not JSON, or a field is missing, unknown, doubled or of the wrong type.
        """
        try:
            data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            raise RecordError(f"not JSON: {error}") from error
        if isinstance(data, dict) and data.get("schema", SCHEMA) != SCHEMA:
            raise RecordError(f"schema: expected {SCHEMA!r}, got {data['schema']!r}")
        return _parse(cls, data, "record", _RECORD_FIELDS)


def write_atomic(path: str | os.PathLike[str], record: Record) -> None:
    """Stores `record` at `path`: whole, or not at all. An earlier file there is replaced; a link is followed.

    The text goes to a temporary file in the same directory, is forced to disk, and takes the name in one step.

    Raises:
        RecordError: the record cannot be written as JSON.
        RecordWriteError: the file system refused; the temporary file is gone, an earlier file is as it was.
    """
    data = record.to_json().encode("ascii")
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".westward-{secrets.token_hex(8)}.tmp")
    try:
        _write_synced(temporary, data)
        os.replace(temporary, target)
    except OSError as error:
        raise RecordWriteError(error.errno, f"result not written: {error.strerror}", str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    _sync_directory(target.parent)


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    """Makes the new name durable, where the file system knows how; the file itself is complete in any case."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _require_finite(value: float | None, where: str) -> None:
    if value is not None and not math.isfinite(value):
        raise RecordError(f"{where}: expected a finite number, got {value}")


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"{name} is not a JSON number")


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise RecordError(f"field {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return result


# Strict reading. A parser takes a JSON value and the place it stands at, and returns the value or raises RecordError.

Parser = Callable[[Any, str], Any]


def _parse(kind: Callable[..., T], data: Any, where: str, fields: Mapping[str, Parser]) -> T:
    """`kind` from a JSON object that has exactly `fields`."""
    if not isinstance(data, dict):
        raise RecordError(f"{where}: expected an object, got {_kind(data)}")
    for name in data.keys() ^ fields.keys():
        raise RecordError(f"{where}: {'unknown' if name in data else 'missing'} field {name!r}")
    return kind(**{name: parse(data[name], f"{where}.{name}") for name, parse in fields.items()})


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{where}: expected text, got {_kind(value)}")
    return value


def _count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RecordError(f"{where}: expected a whole number, got {_kind(value)}")
    return value


def _number(value: Any, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RecordError(f"{where}: expected a number, got {_kind(value)}")
    return value


def _scalar(value: Any, where: str) -> Scalar:
    if isinstance(value, dict | list):
        raise RecordError(f"{where}: expected a single value, got {_kind(value)}")
    return value  # type: ignore[no-any-return]


def _optional(parse: Parser) -> Parser:
    return lambda value, where: None if value is None else parse(value, where)


def _list(parse: Parser) -> Parser:
    def parse_list(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise RecordError(f"{where}: expected a list, got {_kind(value)}")
        return tuple(parse(item, f"{where}[{index}]") for index, item in enumerate(value))

    return parse_list


def _mapping(parse: Parser) -> Parser:
    def parse_mapping(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise RecordError(f"{where}: expected an object, got {_kind(value)}")
        return {name: parse(item, f"{where}.{name}") for name, item in value.items()}

    return parse_mapping


def _parameter(value: Any, where: str) -> Parameter:
    return list(_list(_scalar)(value, where)) if isinstance(value, list) else _scalar(value, where)


def _object(kind: Callable[..., Any], fields: Mapping[str, Parser]) -> Parser:
    return lambda value, where: _parse(kind, value, where, fields)


_METRIC_FIELDS: dict[str, Parser] = {
    "name": _text, "value": _number, "unit": _text, "direction": _text, "labels": _mapping(_scalar),
}  # fmt: skip
_VERIFICATION_FIELDS: dict[str, Parser] = {
    "checked": _count, "wrong": _count, "method": _text,
    "max_relative_error": _optional(_number), "bound": _optional(_number),
}  # fmt: skip
_PROVENANCE_FIELDS: dict[str, Parser] = {
    "started": _text, "finished": _text, "command": _list(_text), "hosts": _list(_text),
    "cpu_model": _optional(_text), "cores_visible": _count, "versions": _mapping(_text), "git_sha": _optional(_text),
    "slurm_job_id": _optional(_text), "slurm_cluster_name": _optional(_text), "slurm_job_partition": _optional(_text),
}  # fmt: skip
_RECORD_FIELDS: dict[str, Parser] = {
    "schema": _text, "benchmark": _text, "status": _text, "message": _optional(_text),
    "parameters": _mapping(_parameter), "metrics": _list(_object(Metric, _METRIC_FIELDS)),
    "columns": _list(_object(Column, {"name": _text, "unit": _text})), "rows": _list(_mapping(_scalar)),
    "samples": _list(_list(_number)), "verification": _optional(_object(Verification, _VERIFICATION_FIELDS)),
    "provenance": _object(Provenance, _PROVENANCE_FIELDS),
}  # fmt: skip
