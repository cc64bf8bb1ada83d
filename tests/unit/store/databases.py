"""The databases that every test of the ledger runs on: SQLite, and PostgreSQL where WESTWARD_TEST_POSTGRES names one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from westward.store.database import Connection
from westward.store.ledger import Ledger

POSTGRES = "WESTWARD_TEST_POSTGRES"


@dataclass
class Fresh:
    """An empty database, and the ledgers that were opened on it."""

    url: str
    opened: list[Ledger] = field(default_factory=list)

    @property
    def embedded(self) -> bool:
        return self.url.startswith("sqlite")

    def ledger(self) -> Ledger:
        """The ledger on it, as one process has it."""
        self.opened.append(Ledger(self.url))
        return self.opened[-1]

    def close(self) -> None:
        for ledger in self.opened:
            ledger.close()


def sqlite(folder: Path) -> Fresh:
    return Fresh(f"sqlite:///{folder / 'ledger.sqlite'}")


def postgres(url: str) -> Iterator[Fresh]:
    """A schema of its own in the PostgreSQL at `url` (postgresql://...), gone at the end."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sql.create_engine(sql.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.exec_driver_sql(f"CREATE SCHEMA {name}")
    mark = "&" if "?" in url else "?"
    fresh = Fresh(f"{url}{mark}options=-csearch_path%3D{name}")
    try:
        yield fresh
    finally:
        fresh.close()
        with engine.connect() as db:
            db.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
        engine.dispose()


@dataclass
class Noting:
    """A connection whose statements are noted, each with its values."""

    connection: Connection
    said: list[tuple[str, Mapping[str, Any]]]
    reads: bool

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        if self.reads:
            self.said.append((statement, values))
        return self.connection.rows(statement, **values)

    def write(self, statement: str, **values: Any) -> int:
        self.said.append((statement, values))
        return self.connection.write(statement, **values)

    def write_each(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        self.said.extend((statement, each) for each in values)
        self.connection.write_each(statement, values)


@contextmanager
def noted(ledger: Ledger, reads: bool = True) -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    """What a ledger says to its database meanwhile, each row that it writes by itself; without `reads`, only what it writes."""
    said: list[tuple[str, Mapping[str, Any]]] = []

    def noting(opened: Callable[[], AbstractContextManager[Connection]]) -> Any:
        @contextmanager
        def opens() -> Iterator[Connection]:
            with opened() as db:
                yield Noting(db, said, reads)

        return opens

    before = ledger._reading, ledger._transaction
    ledger._reading, ledger._transaction = map(noting, before)  # type: ignore[method-assign]
    try:
        yield said
    finally:
        ledger._reading, ledger._transaction = before  # type: ignore[method-assign]


@pytest.fixture(params=["sqlite", "postgres"] if POSTGRES in os.environ else ["sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """An empty database of each kind that there is. Tests of a live PostgreSQL override this one: `yield from postgres(url)`."""
    if request.param == "postgres":
        yield from postgres(os.environ[POSTGRES])
        return
    fresh = sqlite(tmp_path)
    yield fresh
    fresh.close()
