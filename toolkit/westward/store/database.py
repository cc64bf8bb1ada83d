"""The database under the ledger: SQLite for one host, PostgreSQL for several. How it is opened, and what a broken one says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from westward.errors import InputError, StorageError
from westward.store import schema
from westward.store.filesystem import refuse_network_filesystem

_LEAST_FREE_BYTES = 64 * 1024
_WAIT_S = 30  # how long one who writes waits for another one
_CONNECT_S = 10
_WRITER = 0x7765737477617264  # "westward": the lock that one who writes to PostgreSQL holds


class Database:
    """One database with the ledger's tables in it. Whoever writes does so alone: both kinds of database then behave the same.

    Raises:
        StorageError: (from every method) it cannot be read or written; what was committed before is safe.
        InputError: `url` is no address of a database that can hold a ledger.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._embedded = self._engine.dialect.name == "sqlite"
        if self._embedded:
            sql.event.listen(self._engine, "connect", _prepare_sqlite)
        sql.event.listen(self._engine, "begin", _begin_sqlite if self._embedded else _begin_postgresql)
        found = self._version()
        if found is None or found < schema.VERSION:
            with self.transaction() as db:
                found = schema.prepare(db)
        if found != schema.VERSION:
            raise StorageError(
                f"the ledger '{self._place}' was written by another version of Westward (schema {found}, not {schema.VERSION})",
                "use that version, or move the file away to begin a new one"
                if self._embedded
                else "use that version, or name another database in WESTWARD_LEDGER",
            )

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sql.Connection]:
        """To write: whole or not at all, and nobody else writes meanwhile."""
        with self._told(), self._engine.begin() as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """To read: nobody who writes has to wait for it, or it for them."""
        with self._told(), self._engine.connect().execution_options(reading=True) as db:
            yield db

    @property
    def _place(self) -> str:
        url = self._engine.url
        return str(url.database if self._embedded else f"{url.host or 'localhost'}/{url.database}")

    def _version(self) -> int | None:
        """The version that the database says it has; None for an empty one."""
        with self.reading() as db:
            if not sql.inspect(db).has_table(schema.schema.name):
                return None
            return db.execute(sql.select(schema.schema.c.version)).scalar()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sql.exc.DBAPIError as error:
            raise StorageError(
                f"the ledger '{self._place}' cannot be used: {self._cause(error)}",
                "free space or mend the permissions there; nothing that was recorded is lost"
                if self._embedded
                else "see that the database answers and lets this user in; nothing that was recorded is lost",
            ) from error

    def _cause(self, error: sql.exc.DBAPIError) -> str:
        """What the database says; a full disk by its name, since SQLite may call it an I/O error."""
        said = str(error.orig).strip()
        if not self._embedded:
            return said
        folder = Path(self._engine.url.database or "").parent
        full = folder.is_dir() and shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
        return f"its disk is full ({said})" if full else said


def has_password(url: str) -> bool:
    """Whether a database's address tells a password, which everybody could read who reads the address.

    Raises:
        InputError: it is no address of a database.
    """
    parsed = _parsed(url)
    return parsed.password is not None or "password" in parsed.query


def _parsed(url: str) -> sql.URL:
    try:
        parsed = sql.make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError(parsed.get_backend_name())
    except (sql.exc.ArgumentError, ValueError) as error:  # neither is repeated: there may be a password in it
        raise InputError(
            "WESTWARD_LEDGER is not the address of a PostgreSQL database",
            "write postgresql://USER@HOST/DATABASE, the password in ~/.pgpass",
        ) from error
    return parsed.set(drivername="postgresql+psycopg") if parsed.get_backend_name() == "postgresql" else parsed


def _engine(url: str) -> sql.Engine:
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and not parsed.database.startswith((":", "file:")):
            refuse_network_filesystem(Path(parsed.database).parent)
        return sql.create_engine(parsed)
    try:
        return sql.create_engine(parsed, connect_args={"connect_timeout": _CONNECT_S})
    except (ImportError, sql.exc.NoSuchModuleError) as error:
        raise InputError(
            f"the driver for the database of WESTWARD_LEDGER is not installed here ({parsed.get_driver_name()})",
            "pip install 'westward[postgres]'",
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """WAL lets readers go on while one writes; FULL makes a committed step survive a power loss, which exactly-once rests on."""
    connection.isolation_level = None
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if path:
        os.chmod(path, 0o600)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_WAIT_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sql.Connection) -> None:
    """Take the write lock at the start: two claims then wait for each other instead of failing half-way."""
    if not connection.get_execution_options().get("reading"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: sql.Connection) -> None:
    """As for SQLite: who writes does so alone. Rows locked one by one in two orders would end in a deadlock."""
    if not connection.get_execution_options().get("reading"):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_WAIT_S}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER})")
