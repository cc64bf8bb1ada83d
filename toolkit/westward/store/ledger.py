"""The ledger: what was meant, what was sent, under which handle it runs, and how it ended. SQL through SQLAlchemy.

A job's row is written before anything is sent, and every step after that is one committed transaction; so whoever reads it after a
crash knows how far it got. A claim lets one process at a time move a job on; it ends with its process, however that ended. Steps are
fenced by the claim: a process that slept while another took over records nothing any more, and is told so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from westward.directories import state_dir
from westward.errors import InputError, NotFound
from westward.model.job import KEY_ALPHABET, KEY_LENGTH, JobState, JobStatus
from westward.store import leases, owner, rows, schema
from westward.store.database import Database
from westward.store.leases import Lease
from westward.store.rows import OPEN, UNSETTLED, Intent, Job, Phase, Watched
from westward.store.schema import jobs as _jobs
from westward.store.schema import sites as _sites

__all__ = ["CLAIM_LASTS", "OPEN", "UNSETTLED", "Intent", "Job", "Lease", "Ledger", "Phase", "Watched", "ledger_file"]

_KEYS_AT_ONCE = 10_000  # SQLite takes 32,766 values in one statement
# a claim from another host counts as left behind after this long; no step takes nearly as long, and steps are fenced by it
CLAIM_LASTS = timedelta(minutes=15)


def ledger_file() -> Path:
    """Where this user's own ledger is, unless WESTWARD_LEDGER names a database."""
    return state_dir() / "ledger.sqlite"


class Ledger:
    """The jobs of one user. SQLite in the state directory, or the database of `WESTWARD_LEDGER`.

    One `Ledger` is one claimant: what moves jobs on independently of it, in the same process too, has one of its own.

    Raises:
        StorageError: (from every method) the database cannot be read or written; what was committed before is safe.
        InputError: WESTWARD_LEDGER is no address of a database.
    """

    def __init__(self, url: str | None = None) -> None:
        self._database = Database(url or os.environ.get("WESTWARD_LEDGER") or f"sqlite:///{ledger_file()}")
        self._transaction, self._reading = self._database.transaction, self._database.reading
        self._owner = owner.claimant()

    def close(self) -> None:
        self._database.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Job:
        (job,) = self._select(_jobs.c.key == key)
        return job

    def get_many(self, keys: Sequence[str]) -> list[Job]:
        """The jobs of those keys, in their order."""
        found = {job.key: job for part in _parts(keys) for job in self._select(_jobs.c.key.in_(part))}
        return [found[key] for key in keys]

    def again(self, jobs: Sequence[Job]) -> list[Job]:
        """These jobs as they are now, in their order."""
        known = {job.key: job for job in jobs}
        now: dict[str, Job] = {}
        query = sql.select(_jobs.c.key, *rows.CHANGING, *_OF_SITE).select_from(_WITH_SITES)
        with self._reading() as db:
            for part in _parts(list(known)):
                found = db.execute(query.where(_jobs.c.key.in_(part)))
                now |= {row.key: rows.job_again(known[row.key], row) for row in found}
        return [now[job.key] for job in jobs]

    def find(self, text: str) -> Job:
        """The job that a user names: by its key, the beginning of it, or the name it has at its cluster.

        Raises:
            NotFound: no job is meant by that.
            InputError: several are.
        """
        start = text.rpartition("~")[2].lower()
        found = []
        if start and set(start) <= set(KEY_ALPHABET):
            last = start.ljust(
                KEY_LENGTH, "z"
            )  # as many letters as a key has, the last one: no key that begins so comes after it
            found = self._select(_jobs.c.key.between(start, last), limit=3)
        if not found:
            raise NotFound(f"no job here has a key that begins with {text!r}", "list them with 'westward jobs'")
        if len(found) > 1:
            raise InputError(
                f"'{text}' is the beginning of several keys: {', '.join(sorted(job.key for job in found))}",
                "write more of it",
            )
        return found[0]

    def jobs(self, *, phases: Sequence[Phase] | None = None, limit: int | None = None) -> list[Job]:
        """Jobs, newest first."""
        return self._select(_jobs.c.phase.in_(phases) if phases is not None else sql.true(), limit=limit)

    def unsettled(self) -> dict[str, list[str]]:
        """The keys of all jobs on their way to a cluster, by site, oldest first."""
        query = sql.select(_jobs.c.site, _jobs.c.key).where(_jobs.c.phase.in_(UNSETTLED)).order_by(_jobs.c.created_at)
        found: dict[str, list[str]] = {}
        with self._reading() as db:
            for site, key in db.execute(query):
                found.setdefault(site, []).append(key)
        return found

    def watched(self, keys: Sequence[str] | None = None) -> dict[str, list[Watched]]:
        """The jobs that were let go and have not ended (of those keys only), by site."""
        query = sql.select(_jobs.c.site, *(_jobs.c[name] for name in Watched._fields)).where(
            _jobs.c.phase == Phase.RELEASED, _jobs.c.job_id.is_not(None)
        )
        state = Watched._fields.index("state")
        queries = [query] if keys is None else [query.where(_jobs.c.key.in_(part)) for part in _parts(keys)]
        found: dict[str, list[Watched]] = {}
        with self._reading() as db:
            for query in queries:
                for site, *values in db.execute(query):
                    values[state] = JobState(values[state])
                    found.setdefault(site, []).append(Watched(*values))
        return found

    def counts(self) -> dict[tuple[Phase, JobState], int]:
        """How many jobs are in each phase and state; those of a site that is silent count as UNKNOWN."""
        # grouped as the index has them: it alone is read, from its beginning to its end
        same = (_jobs.c.phase, _jobs.c.site, _jobs.c.state)
        found: Counter[tuple[Phase, JobState]] = Counter()
        with self._reading() as db:
            silent = set(db.execute(sql.select(_sites.c.name).where(_sites.c.silent_since.is_not(None))).scalars())
            for phase, site, state, count in db.execute(sql.select(*same, sql.func.count()).group_by(*same)):
                unknown = phase == Phase.RELEASED and site in silent
                found[Phase(phase), JobState.UNKNOWN if unknown else JobState(state)] += count
        return found

    def cancel_wishes(self) -> dict[str, list[str]]:
        """The keys of jobs that were let go, are to be cancelled, and whose sites have not been told so, by site."""
        query = sql.select(_jobs.c.site, _jobs.c.key).where(
            _LET_GO, _jobs.c.cancelled.is_(True), _jobs.c.cancel_sent.is_(False)
        )
        found: dict[str, list[str]] = {}
        with self._reading() as db:
            for site, key in db.execute(query):
                found.setdefault(site, []).append(key)
        return found

    def perhaps_twins(self, window: timedelta, thorough: bool = True) -> dict[str, list[tuple[str, str, int | None]]]:
        """(key, name, id) of jobs that needed more than one submit request, by site, until `window` has passed after the last.

        They are due again when twice as long has passed since that request as had at the last search; `thorough` wants all.
        """
        since = _now() - _jobs.c.attempted_at
        searched = _jobs.c.twins_searched_at - _jobs.c.attempted_at
        due = sql.or_(_jobs.c.twins_searched_at.is_(None), searched < window.total_seconds())
        if not thorough:
            due = sql.and_(due, sql.or_(_jobs.c.twins_searched_at.is_(None), since > 2 * searched + 1))
        query = sql.select(_jobs.c.site, _jobs.c.key, _jobs.c.slurm_name, _jobs.c.job_id).where(
            schema.SENT_AGAIN, _jobs.c.phase.not_in(UNSETTLED), due
        )
        found: dict[str, list[tuple[str, str, int | None]]] = {}
        with self._reading() as db:
            for site, key, name, job_id in db.execute(query):
                found.setdefault(site, []).append((key, name, job_id))
        return found

    def pulse(self) -> tuple[int, float]:
        """Differs where jobs were added, or got on or off their way, since it was taken last."""
        on_their_way = sql.select(sql.func.count()).where(_jobs.c.phase.in_(UNSETTLED))
        with self._reading() as db:
            newest = db.execute(sql.select(sql.func.max(_jobs.c.created_at))).scalar()
            return db.execute(on_their_way).scalar() or 0, newest or 0.0

    # --- the steps of jobs on their way; each is taken only for those whose claim is (still) ours ------------------------

    def add(self, intents: Sequence[Intent]) -> list[Job]:
        """Write the intents: from now on the jobs are found and go on, whatever becomes of this process, which holds their claims."""
        if not intents:
            return []
        added = [rows.row(intent, self._owner, _now()) for intent in intents]
        with self._transaction() as db:
            db.execute(sql.insert(_jobs), added)
        return [rows.new_job(intent, row["created_at"]) for intent, row in zip(intents, added, strict=True)]

    @contextmanager
    def claim(self, keys: Sequence[str]) -> Iterator[list[str]]:
        """Try to be the one process that moves these jobs on; yields those that we may. Taken over from a process that is gone."""
        mine: list[str] = []
        with self._transaction() as db:
            for part in _parts(keys):
                query = sql.select(_jobs.c.key, _jobs.c.claim, _jobs.c.claimed_at).where(_jobs.c.key.in_(part))
                mine += [key for key, holder, at in db.execute(query) if self._free(holder, at)]
            for part in _parts(mine):
                db.execute(sql.update(_jobs).where(_jobs.c.key.in_(part)).values(claim=self._owner, claimed_at=_now()))
        with self.keep(mine):
            yield mine

    @contextmanager
    def keep(self, keys: Sequence[str]) -> Iterator[None]:
        """Give up these claims of ours at the end; `add` made them."""
        try:
            yield
        finally:
            self._update(keys, self._ours, claim=None, claimed_at=None)

    def _free(self, holder: str | None, at: float | None) -> bool:
        if holder is None or holder == self._owner:
            return True
        alive = owner.runs(holder)
        return not alive if alive is not None else (at or 0.0) < _now() - CLAIM_LASTS.total_seconds()

    def mine(self, keys: Sequence[str]) -> dict[str, bool]:
        """Those that are still ours, and whether somebody wants them cancelled."""
        query = sql.select(_jobs.c.key, _jobs.c.cancelled).where(self._ours)
        with self._reading() as db:
            return {
                key: cancelled
                for part in _parts(keys)
                for key, cancelled in db.execute(query.where(_jobs.c.key.in_(part)))
            }

    def attempt(self, keys: Sequence[str]) -> set[str]:
        """A submit request is about to leave for each; those for which it may."""
        values = {"phase": Phase.SUBMITTING, "attempts": _jobs.c.attempts + 1, "attempted_at": _now()}
        return self._update(keys, self._ours, **values)

    def not_sent(self, keys: Sequence[str]) -> None:
        """The requests of that attempt did not leave after all."""
        self._update(keys, self._ours, attempts=_jobs.c.attempts - 1)

    def handles(self, ids: Mapping[str, int]) -> set[str]:
        """The cluster has these jobs under these ids; those that may go on."""
        if not ids:
            return set()
        # once it has a handle, another id of its name is a twin's
        without = sql.and_(self._ours, sql.or_(_jobs.c.phase == Phase.INTENT, _jobs.c.phase == Phase.SUBMITTING))
        query = sql.update(_jobs).where(_jobs.c.key == sql.bindparam("its_key"), without)
        query = query.values(
            phase=Phase.HELD, job_id=sql.bindparam("its_id"), reason="", seen_at=_now(), missing_since=None
        )
        with self._transaction() as db:
            which = sql.select(_jobs.c.key).where(without)
            ours = {
                key for part in _parts(list(ids)) for key in db.execute(which.where(_jobs.c.key.in_(part))).scalars()
            }
            if ours:
                db.execute(query, [{"its_key": key, "its_id": ids[key]} for key in ours])
        return ours

    def released(self, keys: Sequence[str], wanted: bool = True) -> set[str]:
        """These were let go; those that are recorded as let go now.

        The others stay as they are: held by what is written here, until they have been cancelled, which somebody wished for
        meanwhile. `wanted` False: that has been done, or there was no such job to cancel.
        """
        still = sql.and_(self._ours, _jobs.c.cancelled.is_(False)) if wanted else self._ours
        return self._update(keys, still, phase=Phase.RELEASED, seen_at=_now())

    def gone(self, reasons: Mapping[str, str]) -> None:
        """Held by what is written here, and not in the queue: let go unrecorded, or no more. From now on they are watched."""
        values = {"phase": Phase.RELEASED, "state": JobState.UNKNOWN, "missing_since": _now()}
        self._tell(reasons, self._ours, **values)

    def refused(self, reasons: Mapping[str, str]) -> None:
        """These jobs are at no cluster and will be at none."""
        self._tell(reasons, self._ours, phase=Phase.REFUSED, state=JobState.CANCELLED, ended_at=_now())

    def called_off(self, reasons: Mapping[str, str]) -> None:
        """These were cancelled while they were held."""
        self._tell(reasons, self._ours, phase=Phase.ENDED, state=JobState.CANCELLED, ended_at=_now(), seen_at=_now())

    def doubtful(self, reasons: Mapping[str, str]) -> None:
        """Why these could not be settled when it was last tried."""
        self._tell(reasons, _one_of(UNSETTLED))

    # --- what anybody may write ----------------------------------------------------------------------------------------

    def cancel_wanted(self, key: str) -> None:
        """Remembered first, so that a job in doubt is cancelled when it is found."""
        self._update([key], sql.true(), cancelled=True, cancel_sent=False)

    def cancel_sent(self, keys: Sequence[str]) -> None:
        """Their clusters have been told to end them, or have nothing to end."""
        self._update(keys, sql.true(), cancel_sent=True)

    def searched_for_twins(self, keys: Sequence[str]) -> None:
        """Their clusters hold no other job of their names now."""
        self._update(keys, sql.true(), twins_searched_at=_now())

    def abandon(self, sites: Sequence[str], reason: str) -> int:
        """Jobs that were going on at sites that are no more: LOST. How many they were."""
        gone = {"phase": Phase.ENDED, "state": JobState.LOST, "reason": reason, "ended_at": _now()}
        with self._transaction() as db:
            db.execute(sql.delete(_sites).where(_sites.c.name.in_(sites)))
            return db.execute(
                sql.update(_jobs).where(_jobs.c.site.in_(sites), _jobs.c.phase.in_(OPEN)).values(**gone)
            ).rowcount

    # --- what clusters say; of a job that has ended nothing is written any more ------------------------------------------

    def seen(self, statuses: Mapping[str, JobStatus], ended: Collection[str]) -> None:
        """What their clusters say of these jobs now; those named in `ended` do not go on any more."""
        now = _now()
        values = [{"its_key": key, **rows.seen(status, key in ended, now)} for key, status in statuses.items()]
        if values:
            query = sql.update(_jobs).where(_jobs.c.key == sql.bindparam("its_key"), _LET_GO)
            with self._transaction() as db:
                db.execute(query, values)

    def ended(self, keys: Collection[str], not_seen_since: datetime) -> None:
        """The final state that was seen of these stays: no later attempt came. Nothing is written where somebody saw another one."""
        final = _jobs.c.state.in_([state for state in JobState if state.final])
        still = sql.and_(_LET_GO, final, _jobs.c.seen_at <= not_seen_since.timestamp())
        self._update(sorted(keys), still, phase=Phase.ENDED)

    def missing(self, reasons: Mapping[str, str]) -> None:
        """Their clusters answer that there are no such jobs. UNKNOWN, since an accounting may lag behind; `seen_at` stays."""
        since = sql.func.coalesce(_jobs.c.missing_since, _now())
        self._tell(reasons, _LET_GO, state=JobState.UNKNOWN, missing_since=since)

    def unheard(self, reasons: Mapping[str, str]) -> None:
        """They have left their queues, and the accounting does not answer: UNKNOWN, and no sign that they are missing."""
        self._tell(reasons, _LET_GO, state=JobState.UNKNOWN)

    def lost(self, reasons: Mapping[str, str]) -> None:
        """They are nowhere, and nothing that could still tell of them is left unasked."""
        self._tell(reasons, _one_of(OPEN), phase=Phase.ENDED, state=JobState.LOST, ended_at=_now())

    def site_answered(self, site: str) -> None:
        """All that is known of the site's jobs is as of now."""
        self._write_site(site, {"answered_at": _now(), "silent_since": None, "problem": ""})

    def site_silent(self, site: str, problem: str) -> None:
        """The site does not answer: its jobs are UNKNOWN until it does, last seen when it answered last."""
        since = sql.func.coalesce(_sites.c.silent_since, _now())
        self._write_site(site, {"silent_since": since, "problem": problem})

    def _write_site(self, site: str, values: Mapping[str, Any]) -> None:
        with self._transaction() as db:
            if db.execute(sql.update(_sites).where(_sites.c.name == site).values(**values)).rowcount:
                return
            new = {name: _now() if isinstance(value, sql.ColumnElement) else value for name, value in values.items()}
            db.execute(sql.insert(_sites).values(name=site, **new))

    # --- leases ------------------------------------------------------------------------------------------------------

    def take_lease(self, name: str, lasts: timedelta) -> bool:
        """Take or renew a lease; False where another living process holds it."""
        with self._transaction() as db:
            return leases.take(db, name, self._owner, lasts)

    def drop_lease(self, name: str) -> None:
        """Give up a lease of ours."""
        with self._transaction() as db:
            leases.drop(db, name, self._owner)

    def lease(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        with self._reading() as db:
            return leases.look(db, name)

    # --- rows --------------------------------------------------------------------------------------------------------

    @property
    def _ours(self) -> sql.ColumnElement[bool]:
        return _jobs.c.claim == self._owner

    def _select(self, where: sql.ColumnElement[bool], limit: int | None = None) -> list[Job]:
        query = sql.select(*rows.COLUMNS, *_OF_SITE).select_from(_WITH_SITES)
        query = query.where(where).order_by(_jobs.c.created_at.desc(), _jobs.c.key).limit(limit)
        with self._reading() as db:
            return [rows.job(row) for row in db.execute(query)]

    def _update(self, keys: Sequence[str], where: sql.ColumnElement[bool], **values: Any) -> set[str]:
        """Write the same into those of the rows for which `where` holds; which they are."""
        if not keys:
            return set()
        query = sql.update(_jobs).where(where).values(**values).returning(_jobs.c.key)
        with self._transaction() as db:
            return {key for part in _parts(keys) for key in db.execute(query.where(_jobs.c.key.in_(part))).scalars()}

    def _tell(self, reasons: Mapping[str, str], where: sql.ColumnElement[bool], **values: Any) -> None:
        """Write a reason of its own, and the same of everything else, into those of the rows for which `where` holds."""
        if reasons:
            query = sql.update(_jobs).where(_jobs.c.key == sql.bindparam("its_key"), where)
            query = query.values(reason=sql.bindparam("its_reason"), **values)
            with self._transaction() as db:
                db.execute(query, [{"its_key": key, "its_reason": reason} for key, reason in reasons.items()])


_LET_GO = _jobs.c.phase == Phase.RELEASED
_OF_SITE = (_sites.c.problem, _sites.c.answered_at)
_WITH_SITES = _jobs.outerjoin(_sites, _sites.c.name == _jobs.c.site)


def _one_of(phases: Sequence[Phase]) -> sql.ColumnElement[bool]:
    """For a statement that is sent for many rows at once, which takes no IN."""
    return sql.or_(*(_jobs.c.phase == phase for phase in phases))


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _KEYS_AT_ONCE] for start in range(0, len(keys), _KEYS_AT_ONCE))


def _now() -> float:
    return datetime.now(UTC).timestamp()
