"""The ledger in a file of this host."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from westward.store.database import WAIT_S, Connection, Database, told
from westward.store.filesystem import refuse_network_filesystem

_LEAST_FREE_BYTES = 64 * 1024
_ADDRESS = "sqlite:///"
_MEMORY = ":memory:"


class SqliteDatabase(Database):
    """A file, or the memory of this process for the address `sqlite://`. Several threads may use it: each has a connection meanwhile."""

    other_version = "use that version, or move the file away to begin a new one"

    def __init__(self, url: str) -> None:
        self.place = url.removeprefix(_ADDRESS) if url.startswith(_ADDRESS) else _MEMORY
        if not self.place.startswith((":", "file:")):
            refuse_network_filesystem(Path(self.place).parent)
        self._free: list[sqlite3.Connection] = []
        self._check_version()

    def close(self) -> None:
        while self._free:
            self._free.pop().close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The write lock is taken at the start: two claims then wait for each other instead of failing half-way."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back
                yield _Connection(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self._connection() as connection:
            yield _Connection(connection)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            try:
                connection = self._free.pop()
            except IndexError:
                connection = _connect(self.place)
            try:
                yield connection
            finally:
                self._free.append(connection)

    def _told(self) -> AbstractContextManager[None]:
        step = "free space or mend the permissions there; nothing that was recorded is lost"
        return told(self.place, sqlite3.Error, step, self._cause)

    def _cause(self, error: sqlite3.Error) -> str:
        """What the database says; a full disk by its name, since SQLite may call it an I/O error."""
        folder = Path(self.place).parent
        full = folder.is_dir() and shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
        return f"its disk is full ({error})" if full else str(error)

    def _version(self) -> int | None:
        with self.reading() as db:
            if not db.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema'"):
                return None
            return next((version for (version,) in db.rows("SELECT version FROM schema")), None)

    def _prepare(self) -> int | None:
        import sqlalchemy as sql

        from westward.store import schema

        with self._connection() as connection:
            engine = sql.create_engine("sqlite://", creator=lambda: connection, poolclass=sql.StaticPool)
            sql.event.listen(engine, "begin", lambda db: db.exec_driver_sql("BEGIN IMMEDIATE"))
            try:
                with engine.begin() as db:
                    return schema.prepare(db)
            except sql.exc.DBAPIError as error:
                raise error.orig or error from error


def _connect(place: str) -> sqlite3.Connection:
    """WAL lets readers go on while one writes; FULL makes a committed step survive a power loss, which exactly-once rests on."""
    connection = sqlite3.connect(
        place, timeout=WAIT_S, isolation_level=None, check_same_thread=False, uri=place.startswith("file:")
    )
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if path:
        os.chmod(path, 0o600)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class _Connection:
    """`Connection` through Python's own driver, which has no lists as values."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._execute(statement, values).fetchall()

    def write(self, statement: str, **values: Any) -> int:
        return self._execute(statement, values).rowcount

    def write_each(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        self._connection.executemany(statement, values)

    def _execute(self, statement: str, values: dict[str, Any]) -> sqlite3.Cursor:
        if "keys" in values:
            values["keys"] = json.dumps(list(values["keys"]))
            statement = statement.replace("IN :keys", "IN (SELECT value FROM json_each(:keys))")
        return self._connection.execute(statement, values)
