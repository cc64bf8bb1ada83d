"""Leases: one process at a time, on whatever host, may do a thing that goes on for long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from westward.store import owner
from westward.store.database import Connection


class Lease(NamedTuple):
    """Who holds a lease, and since when. `alive` is False where the holder is gone, or has not renewed it in time: it may hang."""

    holder: str
    since: datetime
    until: datetime
    alive: bool


def take(db: Connection, name: str, holder: str, lasts: timedelta) -> bool:
    """Take or renew a lease; False where another living process holds it."""
    now = datetime.now(UTC).timestamp()
    held = look(db, name)
    if held is not None and held.holder != holder and held.alive:
        return False
    mine = {"name": name, "holder": holder, "now": now, "until": now + lasts.total_seconds()}
    if held is None:
        db.write("INSERT INTO leases (name, holder, since, until) VALUES (:name, :holder, :now, :until)", **mine)
    elif held.holder == holder:
        db.write("UPDATE leases SET until = :until WHERE name = :name", **mine)
    else:
        db.write("UPDATE leases SET holder = :holder, since = :now, until = :until WHERE name = :name", **mine)
    return True


def drop(db: Connection, name: str, holder: str) -> None:
    """Give up a lease of that holder's."""
    db.write("DELETE FROM leases WHERE name = :name AND holder = :holder", name=name, holder=holder)


def look(db: Connection, name: str) -> Lease | None:
    """Who holds it, or held it last."""
    found = db.rows("SELECT holder, since, until FROM leases WHERE name = :name", name=name)
    return _lease(*found[0]) if found else None


def _lease(holder: str, since: float, until: float) -> Lease:
    runs = owner.runs(holder)
    return Lease(
        holder=holder,
        since=datetime.fromtimestamp(since, UTC),
        until=datetime.fromtimestamp(until, UTC),
        alive=runs is not False and until > datetime.now(UTC).timestamp(),
    )
