"""Leases: one process at a time, on whatever host, may do a thing that goes on for long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sql

from westward.store import owner
from westward.store.schema import leases as _leases


class Lease(NamedTuple):
    """Who holds a lease, and since when. `alive` is False where the holder is gone, or has not renewed it in time: it may hang."""

    holder: str
    since: datetime
    until: datetime
    alive: bool


def take(db: sql.Connection, name: str, holder: str, lasts: timedelta) -> bool:
    """Take or renew a lease; False where another living process holds it."""
    now = datetime.now(UTC).timestamp()
    mine = {"holder": holder, "until": now + lasts.total_seconds()}
    held = db.execute(sql.select(_leases).where(_leases.c.name == name)).one_or_none()
    if held is None:
        db.execute(sql.insert(_leases).values(name=name, since=now, **mine))
        return True
    if held.holder != holder:
        if _lease(held).alive:
            return False
        mine["since"] = now
    db.execute(sql.update(_leases).where(_leases.c.name == name).values(**mine))
    return True


def drop(db: sql.Connection, name: str, holder: str) -> None:
    """Give up a lease of that holder's."""
    db.execute(sql.delete(_leases).where(_leases.c.name == name, _leases.c.holder == holder))


def look(db: sql.Connection, name: str) -> Lease | None:
    """Who holds it, or held it last."""
    held = db.execute(sql.select(_leases).where(_leases.c.name == name)).one_or_none()
    return _lease(held) if held is not None else None


def _lease(row: Any) -> Lease:
    runs = owner.runs(row.holder)
    return Lease(
        holder=row.holder,
        since=datetime.fromtimestamp(row.since, UTC),
        until=datetime.fromtimestamp(row.until, UTC),
        alive=runs is not False and row.until > datetime.now(UTC).timestamp(),
    )
