"""The ledger in a PostgreSQL database, for several hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import sqlalchemy as sql

from westward.errors import InputError
from westward.store import schema
from westward.store.database import WAIT_S, Connection, Database, told

_CONNECT_S = 10
_WRITER = 0x7765737477617264  # "westward": the lock that one who writes holds


class PostgresqlDatabase(Database):
    """A database by its address, `postgresql://USER@HOST/DATABASE`."""

    other_version = "use that version, or name another database in WESTWARD_LEDGER"

    def __init__(self, url: str) -> None:
        self._engine = _engine(parsed(url))
        self.place = f"{self._engine.url.host or 'localhost'}/{self._engine.url.database}"
        self._check_version()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self._writing() as db:
            yield _Connection(db)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._told(), self._engine.connect() as db:
            yield _Connection(db)

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        """Whoever writes does so alone, as with SQLite: rows locked one by one in two orders would end in a deadlock."""
        with self._told(), self._engine.begin() as db:
            db.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_S}s'")
            db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")
            yield db

    def _told(self) -> AbstractContextManager[None]:
        step = "see that the database answers and lets this user in; nothing that was recorded is lost"
        return told(self.place, sql.exc.DBAPIError, step, lambda error: str(error.orig).strip())

    def _version(self) -> int | None:
        with self._told(), self._engine.connect() as db:
            if not sql.inspect(db).has_table(schema.schema.name):
                return None
            return db.execute(sql.select(schema.schema.c.version)).scalar()

    def _prepare(self) -> int | None:
        with self._writing() as db:
            return schema.prepare(db)


class _Connection:
    """`Connection` through SQLAlchemy."""

    def __init__(self, connection: sql.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(_text(statement), values)]

    def write(self, statement: str, **values: Any) -> int:
        return self._connection.execute(_text(statement), values).rowcount

    def write_each(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        self._connection.execute(_text(statement), values)


@cache
def _text(statement: str) -> sql.TextClause:
    made = sql.text(statement)
    return made.bindparams(sql.bindparam("keys", expanding=True)) if "IN :keys" in statement else made


def parsed(url: str) -> sql.URL:
    """An address of a PostgreSQL database, with the driver that is used here.

    Raises:
        InputError: it is none. It is not repeated: there may be a password in it.
    """
    try:
        found = sql.make_url(url)
        if found.get_backend_name() != "postgresql":
            raise ValueError(found.get_backend_name())
    except (sql.exc.ArgumentError, ValueError) as error:
        raise InputError(
            "WESTWARD_LEDGER is not the address of a PostgreSQL database",
            "write postgresql://USER@HOST/DATABASE, the password in ~/.pgpass",
        ) from error
    return found.set(drivername="postgresql+psycopg")


def _engine(url: sql.URL) -> sql.Engine:
    try:
        return sql.create_engine(url, connect_args={"connect_timeout": _CONNECT_S})
    except (ImportError, sql.exc.NoSuchModuleError) as error:
        raise InputError(
            f"the driver for the database of WESTWARD_LEDGER is not installed here ({url.get_driver_name()})",
            "pip install 'westward[postgres]'",
        ) from error
