"""The database under the ledger: SQLite for one host, PostgreSQL for several. How one is opened, and what is the same with both.

Statements are text that both understand, with values as `:name`. SQLite is spoken to through Python's own driver and PostgreSQL through
SQLAlchemy, which makes the tables of both: whoever only reads or writes a ledger that is there starts without loading it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from westward.errors import StorageError

VERSION = 4  # of the tables
WAIT_S = 30  # how long one who writes waits for another one


class Connection(Protocol):
    """One connection. Texts of statements are constants: a value is never part of one.

    A list may be named as the last of `IN :keys`, and by no other name.
    """

    def rows(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """What a statement finds."""
        ...

    def write(self, statement: str, **values: Any) -> int:
        """How many rows it changed."""
        ...

    def write_each(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        """The same statement for each of many values."""
        ...


class Database(ABC):
    """One database with the ledger's tables in it. Whoever writes does so alone: both kinds of database then behave the same.

    Raises:
        StorageError: (from every method) it cannot be read or written; what was committed before is safe.
        InputError: its address is none of a database that can hold a ledger.
    """

    place: str  # what messages call it, without a secret
    other_version: str  # the next step where another version wrote it

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Connection]:
        """To write: whole or not at all, and nobody else writes meanwhile."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """To read: nobody who writes has to wait for it, or it for them."""

    @abstractmethod
    def _version(self) -> int | None:
        """The version that the database says it has; None for an empty one."""

    @abstractmethod
    def _prepare(self) -> int | None:
        """Make the tables, or bring older ones up to date; the version found then."""

    def _check_version(self) -> None:
        found = self._version()
        if found is None or found < VERSION:
            found = self._prepare()
        if found != VERSION:
            raise StorageError(
                f"the ledger '{self.place}' was written by another version of Westward (schema {found}, not {VERSION})",
                self.other_version,
            )


@contextmanager
def told(place: str, error_type: type[Exception], next_step: str, cause: Any = str) -> Iterator[None]:
    """What a database complains of, in our words; `cause` words it.

    Raises:
        StorageError: it complains.
    """
    try:
        yield
    except error_type as error:
        raise StorageError(f"the ledger '{place}' cannot be used: {cause(error)}", next_step) from error


def open_database(url: str) -> Database:
    """The database of an address: sqlite:///FILE or postgresql://...

    Raises:
        StorageError, InputError: as its methods.
    """
    if is_embedded(url):
        from westward.store.sqlite import SqliteDatabase

        return SqliteDatabase(url)
    from westward.store.postgresql import PostgresqlDatabase

    return PostgresqlDatabase(url)


def is_embedded(url: str) -> bool:
    """Whether an address names a file of this host."""
    return url.startswith("sqlite:")


def has_password(url: str) -> bool:
    """Whether a database's address tells a password, which everybody could read who reads the address.

    Raises:
        InputError: it is no address of a database.
    """
    if is_embedded(url):
        return False
    from westward.store.postgresql import parsed

    found = parsed(url)
    return found.password is not None or "password" in found.query
