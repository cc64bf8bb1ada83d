"""The ledger: what was meant, what was sent, under which handle it runs, and how it ended. SQL through SQLAlchemy, SQLite for one host.

A job's row is written before anything is sent, and every step after that is one committed transaction; so whoever reads it after a
crash knows how far it got. `claim` lets one process at a time move a job on; a claim ends with its process, however that ended.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from westward.directories import state_dir
from westward.errors import InputError, NotFound, StorageError
from westward.model.job import JobState, JobStatus, Submission

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 30
_LEAST_FREE_BYTES = 64 * 1024
_KEYS_AT_ONCE = 10_000  # SQLite takes 32,766 values in one statement

_metadata = sql.MetaData()
_schema = sql.Table("schema", _metadata, sql.Column("version", sql.Integer, nullable=False))
_jobs = sql.Table(
    "jobs",
    _metadata,
    sql.Column("key", sql.String(12), primary_key=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("template", sql.Text),
    sql.Column("site", sql.Text, nullable=False, index=True),
    sql.Column("phase", sql.Text, nullable=False, index=True),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("reason", sql.Text, nullable=False, default=""),
    sql.Column("job_id", sql.Integer),
    sql.Column("exit_code", sql.Integer),
    sql.Column("signal", sql.Integer),
    sql.Column("attempts", sql.Integer, nullable=False, default=0),
    sql.Column("cancelled", sql.Boolean, nullable=False, default=False),
    sql.Column("submission", sql.JSON, nullable=False),
    sql.Column("outputs", sql.JSON, nullable=False),
    sql.Column("decision", sql.JSON, nullable=False),
    sql.Column("created_at", sql.Float, nullable=False),
    sql.Column("attempted_at", sql.Float),
    sql.Column("twins_searched_at", sql.Float),
    sql.Column("seen_at", sql.Float),
    sql.Column("started_at", sql.Float),
    sql.Column("ended_at", sql.Float),
    sql.Column("claim", sql.Text),
)


class Phase(StrEnum):
    """How far a job got. Each is written after the step it names, except SUBMITTING, which is written before the request leaves."""

    INTENT = "intent"
    SUBMITTING = "submitting"
    HELD = "held"
    RELEASED = "released"
    ENDED = "ended"
    REFUSED = "refused"


UNSETTLED = (Phase.INTENT, Phase.SUBMITTING, Phase.HELD)
OPEN = (*UNSETTLED, Phase.RELEASED)


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the ledger. Times are UTC; `attempts` counts the submit requests that left this host."""

    key: str
    name: str
    template: str | None
    site: str
    phase: Phase
    state: JobState
    reason: str
    job_id: int | None
    exit_code: int | None
    signal: int | None
    attempts: int
    cancelled: bool
    submission: Submission
    outputs: tuple[str, ...]
    decision: Mapping[str, Any]
    created_at: datetime
    attempted_at: datetime | None
    seen_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


def ledger_file() -> Path:
    """Where this user's own ledger is."""
    return state_dir() / "ledger.sqlite"


class Ledger:
    """The jobs of one user (or, on a shared database, of many).

    Raises:
        StorageError: (from every method) the database cannot be read or written; what was committed before is safe.
    """

    def __init__(self, url: str | None = None) -> None:
        self._engine = sql.create_engine(url or f"sqlite:///{ledger_file()}")
        if self._engine.dialect.name == "sqlite":
            sql.event.listen(self._engine, "connect", _prepare_sqlite)
            sql.event.listen(self._engine, "begin", _begin_immediate)
        self._owner = _process_identity()
        with self._transaction() as db:
            if not sql.inspect(db).has_table(_jobs.name):
                _metadata.create_all(db)
                db.execute(sql.insert(_schema).values(version=SCHEMA_VERSION))
            found = (
                db.execute(sql.select(_schema.c.version)).scalar() if sql.inspect(db).has_table(_schema.name) else None
            )
        if found != SCHEMA_VERSION:
            raise StorageError(
                f"the ledger '{self._engine.url.database}' was written by another version of Westward (schema {found}, not {SCHEMA_VERSION})",
                "use that version, or move the file away to begin a new one",
            )

    def close(self) -> None:
        self._engine.dispose()

    def add(
        self,
        key: str,
        name: str,
        template: str | None,
        site: str,
        submission: Submission,
        outputs: Sequence[str],
        decision: Mapping[str, Any],
    ) -> Job:
        """Write the intent: from now on the job is found and goes on, whatever becomes of this process."""
        row = {
            "key": key,
            "name": name,
            "template": template,
            "site": site,
            "phase": Phase.INTENT,
            "state": JobState.PENDING,
            "submission": asdict(submission),
            "outputs": list(outputs),
            "decision": dict(decision),
            "created_at": _now(),
            "claim": self._owner,
        }
        with self._transaction() as db:
            db.execute(sql.insert(_jobs).values(**row))
        return self.get(key)

    def get(self, key: str) -> Job:
        with self._transaction() as db:
            row = db.execute(sql.select(_jobs).where(_jobs.c.key == key)).one()
        return _job(row)

    def find(self, text: str) -> Job:
        """The job that a user names: by its key, the beginning of it, or the name it has at its cluster.

        Raises:
            NotFound: no job is meant by that.
            InputError: several are.
        """
        start = text.rpartition("~")[2].lower()
        if not start.isascii():  # no key has such a letter, and not every such text can go to a database
            raise NotFound(f"no job here has a key that begins with {text!r}", "list them with 'westward jobs'")
        with self._transaction() as db:
            rows = db.execute(sql.select(_jobs).where(_jobs.c.key.startswith(start, autoescape=True)).limit(3)).all()
        if not rows or not start:
            raise NotFound(f"no job here has a key that begins with '{text}'", "list them with 'westward jobs'")
        if len(rows) > 1:
            raise InputError(
                f"'{text}' is the beginning of several keys: {', '.join(row.key for row in rows)}", "write more of it"
            )
        return _job(rows[0])

    def jobs(self, *, phases: Sequence[Phase] | None = None, limit: int | None = None) -> list[Job]:
        """Jobs, newest first."""
        query = sql.select(_jobs).order_by(_jobs.c.created_at.desc(), _jobs.c.key)
        if phases is not None:
            query = query.where(_jobs.c.phase.in_(phases))
        with self._transaction() as db:
            return [_job(row) for row in db.execute(query.limit(limit) if limit else query)]

    def perhaps_twins(self, window: timedelta) -> list[Job]:
        """Jobs that needed more than one submit request, until they were searched for the others after `window` had passed."""
        query = sql.select(_jobs).where(
            _jobs.c.attempts > 1,
            _jobs.c.phase.not_in(UNSETTLED),
            sql.or_(
                _jobs.c.twins_searched_at.is_(None),
                _jobs.c.twins_searched_at < _jobs.c.attempted_at + window.total_seconds(),
            ),
        )
        with self._transaction() as db:
            return [_job(row) for row in db.execute(query)]

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Try to be the one process that moves this job on; yields whether we are. Taken over from a process that is gone."""
        with self._transaction() as db:
            holder = db.execute(sql.select(_jobs.c.claim).where(_jobs.c.key == key)).scalar_one_or_none()
            mine = holder is None or holder == self._owner or not _alive(holder)
            if mine:
                db.execute(sql.update(_jobs).where(_jobs.c.key == key).values(claim=self._owner))
        try:
            yield mine
        finally:
            if mine:
                self._update(key, claim=None)

    def attempt(self, key: str) -> None:
        """A submit request is about to leave."""
        self._update(key, phase=Phase.SUBMITTING, attempts=_jobs.c.attempts + 1, attempted_at=_now())

    def handle(self, key: str, job_id: int) -> None:
        """The cluster holds the job under this id."""
        self._update(key, phase=Phase.HELD, job_id=job_id, seen_at=_now())

    def released(self, key: str) -> None:
        self._update(key, phase=Phase.RELEASED, seen_at=_now())

    def refused(self, key: str, reason: str) -> None:
        """The job is at no cluster and will be at none."""
        self._update(key, phase=Phase.REFUSED, state=JobState.CANCELLED, reason=reason, ended_at=_now())

    def searched_for_twins(self, key: str) -> None:
        """Its cluster holds no other job of its name now."""
        self._update(key, twins_searched_at=_now())

    def abandon(self, sites: Sequence[str], reason: str) -> int:
        """Jobs that were going on at sites that are no more: LOST. How many they were."""
        gone = {"phase": Phase.ENDED, "state": JobState.LOST, "reason": reason, "ended_at": _now()}
        with self._transaction() as db:
            return db.execute(
                sql.update(_jobs).where(_jobs.c.site.in_(sites), _jobs.c.phase.in_(OPEN)).values(**gone)
            ).rowcount

    def cancel_wanted(self, key: str) -> None:
        """Remembered first, so that a job in doubt is cancelled when it is found."""
        self._update(key, cancelled=True)

    def seen(self, key: str, status: JobStatus) -> None:
        """What its cluster says of the job now."""
        ended = {"phase": Phase.ENDED} if status.state.final else {}
        self._update(
            key,
            state=status.state,
            reason=status.reason,
            exit_code=status.exit_code,
            signal=status.signal,
            started_at=status.started_at.timestamp() if status.started_at else None,
            ended_at=status.ended_at.timestamp() if status.ended_at else None,
            seen_at=_now(),
            **ended,
        )

    def unchanged(self, keys: Sequence[str]) -> None:
        """Their cluster says of these jobs what it said before."""
        with self._transaction() as db:
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                db.execute(
                    sql.update(_jobs).where(_jobs.c.key.in_(keys[start : start + _KEYS_AT_ONCE])).values(seen_at=_now())
                )

    def unseen(self, key: str, state: JobState, reason: str) -> None:
        """Its cluster did not answer (UNKNOWN), or answers that there is no such job (LOST); `seen_at` stays what it was."""
        ended = {"phase": Phase.ENDED, "ended_at": _now()} if state.final else {}
        self._update(key, state=state, reason=reason, **ended)

    def _update(self, key: str, **values: Any) -> None:
        with self._transaction() as db:
            db.execute(sql.update(_jobs).where(_jobs.c.key == key).values(**values))

    @contextmanager
    def _transaction(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except sql.exc.DBAPIError as error:
            place = self._engine.url.database or self._engine.url.host
            raise StorageError(
                f"the ledger '{place}' cannot be used: {_cause(error, place)}",
                "free space or mend the permissions there; nothing that was recorded is lost",
            ) from error


def _cause(error: sql.exc.DBAPIError, place: str | None) -> str:
    """What the database says; a full disk by its name, since SQLite may call it an I/O error."""
    folder = Path(place).parent if place else Path()
    full = folder.is_dir() and shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
    return f"its disk is full ({error.orig})" if full else str(error.orig)


def _job(row: sql.Row[Any]) -> Job:
    values = dict(row._mapping)
    del values["claim"], values["twins_searched_at"]
    for name in ("created_at", "attempted_at", "seen_at", "started_at", "ended_at"):
        values[name] = datetime.fromtimestamp(values[name], UTC) if values[name] else None
    values |= {
        "phase": Phase(values["phase"]),
        "state": JobState(values["state"]),
        "submission": Submission(**values["submission"]),
        "outputs": tuple(values["outputs"]),
    }
    return Job(**values)


def _now() -> float:
    return datetime.now(UTC).timestamp()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """WAL lets readers go on while one writes; FULL makes a committed step survive a power loss, which exactly-once rests on."""
    connection.isolation_level = None
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if path:
        os.chmod(path, 0o600)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_TIMEOUT_S * 1000}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: sql.Connection) -> None:
    """Take the write lock at the start: two claims then wait for each other instead of failing half-way."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _process_identity() -> str:
    """host/pid/start time: a pid alone is reused. Only processes of one host share a SQLite ledger."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start_time(os.getpid())}"


def _start_time(pid: int) -> str | None:
    """Field 22 of proc(5)'s /proc/PID/stat, in clock ticks after boot; None where no such process runs any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]  # dead, and only not reaped yet


def _alive(owner: str) -> bool:
    """Whether the process of that identity still runs. One on another host counts as alive: only that host can tell."""
    host, pid, started = owner.rsplit("/", 2)
    return host != socket.gethostname() or _start_time(int(pid)) == started
