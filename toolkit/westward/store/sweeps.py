"""Sweeps in the ledger: what was asked for, and to which job each point belongs.

A point belongs to one job at a time, and changes to another in the transaction that writes that job's intent; only from the job that the
writer saw. So of two who want the same point run again one comes too late, and a process that is killed leaves a point with the old job or
with a new one that goes on, never with none or two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from westward.errors import InputError
from westward.model.job import KEY_ALPHABET, KEY_LENGTH, Task
from westward.model.sweep import Sweep, SweepPoint
from westward.store.database import Connection, Database

Where = tuple[str, int | None]  # the key of a job, and the index of a task in it
_SWEEP = "key, name, template, overrides, site, shapes, created_at"
_POINT = "number, label, overrides, shape, command, env, job, task"


class Sweeps:
    """The sweeps of one ledger. Raises what `Ledger` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, text: str) -> Sweep | None:
        """The sweep whose key begins so; None where there is none.

        Raises:
            InputError: there are several.
        """
        start = text.lower()
        if not start or not set(start) <= set(KEY_ALPHABET):
            return None
        last = start.ljust(KEY_LENGTH, "z")
        query = f"SELECT {_SWEEP} FROM sweeps WHERE key BETWEEN :first AND :last LIMIT 3"
        with self._database.reading() as db:
            found = [_sweep(row) for row in db.rows(query, first=start, last=last)]
        if len(found) > 1:
            keys = ", ".join(sorted(sweep.key for sweep in found))
            raise InputError(f"'{text}' is the beginning of several sweeps: {keys}", "write more of it")
        return found[0] if found else None

    def newest(self, limit: int) -> list[Sweep]:
        """The newest first."""
        query = f"SELECT {_SWEEP} FROM sweeps ORDER BY created_at DESC, key LIMIT :limit"
        with self._database.reading() as db:
            return [_sweep(row) for row in db.rows(query, limit=limit)]

    def points(self, key: str) -> list[SweepPoint]:
        """The points of a sweep, in its order."""
        query = f"SELECT {_POINT} FROM points WHERE sweep = :sweep ORDER BY number"
        with self._database.reading() as db:
            return [_point(row) for row in db.rows(query, sweep=key)]

    def jobs(self, key: str) -> list[str]:
        """The keys of every job that was ever made for it, oldest first."""
        query = "SELECT key FROM jobs WHERE sweep = :sweep ORDER BY created_at, key"
        with self._database.reading() as db:
            return [job for (job,) in db.rows(query, sweep=key)]

    def add(self, sweep: Sweep, points: Sequence[SweepPoint], jobs: Callable[[Connection], None]) -> None:
        """Write a sweep, its points and their jobs, all or nothing."""
        with self._database.transaction() as db:
            jobs(db)
            db.write(
                f"INSERT INTO sweeps ({_SWEEP}) VALUES (:key, :name, :template, :overrides, :site, :shapes, :now)",
                key=sweep.key,
                name=sweep.name,
                template=sweep.template,
                overrides=json.dumps(sweep.overrides),
                site=sweep.site,
                shapes=json.dumps(sweep.shapes),
                now=datetime.now(UTC).timestamp(),
            )
            names = ", ".join(f":{name}" for name in _POINT.split(", "))
            db.write_each(
                f"INSERT INTO points (sweep, {_POINT}) VALUES (:sweep, {names})",
                [{"sweep": sweep.key, **_row(point)} for point in points],
            )

    def move(self, key: str, moves: Mapping[int, tuple[Where, Where]], jobs: Callable[[Connection], None]) -> bool:
        """Give points, by number, from the job that each was seen at to a new one, and write these jobs; False where one is not there any more."""
        with self._database.transaction() as db:
            now = {number: (job, task) for number, job, task in db.rows(_WHERE, sweep=key)}
            if any(now.get(number) != seen for number, (seen, _) in moves.items()):
                return False
            jobs(db)
            db.write_each(
                "UPDATE points SET job = :job, task = :task WHERE sweep = :sweep AND number = :number",
                [
                    {"sweep": key, "number": number, "job": job, "task": task}
                    for number, (_, (job, task)) in moves.items()
                ],
            )
            return True


_WHERE = "SELECT number, job, task FROM points WHERE sweep = :sweep"


def _row(point: SweepPoint) -> dict[str, Any]:
    return {
        "number": point.number,
        "label": point.label,
        "overrides": json.dumps(point.overrides),
        "shape": point.shape,
        "command": json.dumps(point.does.command),
        "env": json.dumps(dict(point.does.env)),
        "job": point.job,
        "task": point.task,
    }


def _sweep(row: Sequence[Any]) -> Sweep:
    key, name, template, overrides, site, shapes, created_at = row
    made = datetime.fromtimestamp(created_at, UTC)
    return Sweep(key, name, template, tuple(_read(overrides)), site, tuple(_read(shapes)), made)


def _point(row: Sequence[Any]) -> SweepPoint:
    number, label, overrides, shape, command, env, job, task = row
    does = Task(tuple(_read(command)), _read(env))
    return SweepPoint(number, label, tuple(_read(overrides)), shape, does, job, task)


def _read(found: Any) -> Any:
    """PostgreSQL's driver has read JSON already."""
    return json.loads(found) if isinstance(found, str) else found
