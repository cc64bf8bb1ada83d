"""The ledger: what was meant, what was sent, under which handle it runs, and how it ended.

A job's row is written before anything is sent, and every step after that is one committed transaction; so whoever reads it after a
crash knows how far it got. A claim lets one process at a time move a job on; it ends with its process, however that ended. Steps are
fenced by the claim: a process that slept while another took over records nothing any more, and is told so.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from westward.directories import state_dir
from westward.errors import InputError, NotFound
from westward.model.budget import Project
from westward.model.job import KEY_ALPHABET, KEY_LENGTH, JobState, JobStatus
from westward.store import leases, owner, rows, spending
from westward.store.database import Connection, open_database
from westward.store.leases import Lease
from westward.store.rows import OPEN, SENT_AGAIN, UNSETTLED, Intent, Job, Phase, Restarted, SiteWord, Watched
from westward.store.sweeps import Sweeps

__all__ = [
    "CLAIM_LASTS", "OPEN", "UNSETTLED", "Intent", "Job", "Lease", "Ledger", "Phase", "Restarted", "SiteWord", "Watched", "ledger_file",
]  # fmt: skip

_KEYS_AT_ONCE = 10_000  # PostgreSQL takes 65,535 values in one statement
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
        self._database = open_database(url or os.environ.get("WESTWARD_LEDGER") or f"sqlite:///{ledger_file()}")
        self._transaction, self._reading = self._database.transaction, self._database.reading
        self._owner = owner.claimant()
        self.sweeps = Sweeps(self._database)

    def close(self) -> None:
        self._database.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Job:
        (job,) = self._select("key = :key", key=key)
        return job

    def get_many(self, keys: Sequence[str]) -> list[Job]:
        """The jobs of those keys, in their order."""
        found = {job.key: job for part in _parts(keys) for job in self._select("key IN :keys", keys=part)}
        return [found[key] for key in keys]

    def again(self, jobs: Sequence[Job]) -> list[Job]:
        """These jobs as they are now, in their order."""
        known = {job.key: job for job in jobs}
        query = f"SELECT key, {rows.CHANGING}, {_OF_SITE} WHERE key IN :keys"
        now: dict[str, Job] = {}
        with self._reading() as db:
            for part in _parts(list(known)):
                now |= {key: rows.job_again(known[key], found) for key, *found in db.rows(query, keys=part)}
        return [now[job.key] for job in jobs]

    def find(self, text: str) -> Job:
        """The job that a user names: by its key, the beginning of it, or the name it has at its cluster.

        Raises:
            NotFound: no job is meant by that.
            InputError: several are.
        """
        start = text.rpartition("~")[2].lower()
        found = self._select("key BETWEEN :first AND :last", limit=3, **_beginning(start)) if _may_begin(start) else []
        if not found:
            raise NotFound(f"no job here has a key that begins with {text!r}", "list them with 'westward jobs'")
        if len(found) > 1:
            raise InputError(
                f"'{text}' is the beginning of several keys: {', '.join(sorted(job.key for job in found))}",
                "write more of it",
            )
        return found[0]

    def keys(self, start: str, limit: int) -> list[tuple[str, str, str, str]]:
        """(key, name, site, state) of the newest jobs whose key begins so."""
        query = f"SELECT key, name, site, state FROM jobs WHERE key BETWEEN :first AND :last ORDER BY {_NEWEST_FIRST} LIMIT :limit"
        if start and not _may_begin(start):
            return []
        with self._reading() as db:
            return [
                (key, name, site, state) for key, name, site, state in db.rows(query, **_beginning(start), limit=limit)
            ]

    def sites(self) -> list[SiteWord]:
        """What is known of every site that was ever asked, by name."""
        with self._reading() as db:
            return [rows.site_word(found) for found in db.rows(f"SELECT {rows.SITE_COLUMNS} FROM sites ORDER BY name")]

    def provenance(self, key: str) -> dict[str, Any]:
        """What was written down of a job's `config` and `origin` when it was submitted; None where nothing was."""
        query = "SELECT config, said FROM jobs LEFT JOIN origins ON origins.digest = jobs.origin WHERE key = :key"
        with self._reading() as db:
            config, said = next(iter(db.rows(query, key=key)), (None, None))
        return {"config": rows.read_json(config), "origin": rows.read_json(said)}

    def jobs(self, *, phases: Sequence[Phase] | None = None, limit: int | None = None) -> list[Job]:
        """Jobs, newest first."""
        return self._select(_in(phases) if phases is not None else "TRUE", limit=limit)

    def unsettled(self) -> dict[str, list[str]]:
        """The keys of all jobs on their way to a cluster, by site, oldest first."""
        return self._by_site(f"SELECT site, key FROM jobs WHERE {_UNSETTLED} ORDER BY created_at")

    def watched(self, keys: Sequence[str] | None = None) -> dict[str, list[Watched]]:
        """The jobs that were let go and have not ended (of those keys only), by site."""
        query = f"SELECT site, {', '.join(Watched._fields)} FROM jobs WHERE {_LET_GO} AND job_id IS NOT NULL"
        state = Watched._fields.index("state")
        found: dict[str, list[Watched]] = {}
        with self._reading() as db:
            told = (
                db.rows(query)
                if keys is None
                else [row for part in _parts(keys) for row in db.rows(f"{query} AND key IN :keys", keys=part)]
            )
        for site, *values in told:
            values[state] = _STATES[values[state]]
            found.setdefault(site, []).append(Watched(*values))
        return found

    def counts(self) -> dict[tuple[Phase, JobState], int]:
        """How many jobs are in each phase and state; those of a site that is silent count as UNKNOWN."""
        # grouped as the index has them: it alone is read, from its beginning to its end
        same = "phase, site, state"
        found: Counter[tuple[Phase, JobState]] = Counter()
        with self._reading() as db:
            silent = {name for (name,) in db.rows("SELECT name FROM sites WHERE silent_since IS NOT NULL")}
            for phase, site, state, count in db.rows(f"SELECT {same}, count(*) FROM jobs GROUP BY {same}"):
                unknown = phase == Phase.RELEASED and site in silent
                found[Phase(phase), JobState.UNKNOWN if unknown else JobState(state)] += count
        return found

    def last_of(self, template: str) -> Job | None:
        """The newest job of a template that was submitted; None where there is none."""
        found = self._select("template = :template AND phase <> 'refused'", limit=1, template=template)
        return found[0] if found else None

    def starts(self, site: str, limit: int = 200) -> list[tuple[float, float]]:
        """Of the newest jobs that started at a site, the seconds that were foreseen until then and those that it took.

        Jobs that had to wait for another one or for a time are not among them.
        """
        which = "phase IN ('released', 'ended') AND site = :site AND started_at IS NOT NULL"
        newest = f"SELECT key FROM jobs WHERE {which} ORDER BY {_NEWEST_FIRST} LIMIT :limit"
        query = f"SELECT decision, submission, waits_for, created_at, started_at FROM jobs WHERE key IN ({newest})"
        with self._reading() as db:
            found = db.rows(query, site=site, limit=limit)
        return [told for row in found if (told := rows.start(row)) is not None]

    def cancel_wishes(self) -> dict[str, list[str]]:
        """The keys of jobs that were let go, are to be cancelled, and whose sites have not been told so, by site."""
        return self._by_site(f"SELECT site, key FROM jobs WHERE {_LET_GO} AND cancelled AND NOT cancel_sent")

    def perhaps_twins(self, window: timedelta, thorough: bool = True) -> dict[str, list[tuple[str, str, int | None]]]:
        """(key, name, id) of jobs that needed more than one submit request, by site, until `window` has passed after the last.

        They are due again when twice as long has passed since that request as had at the last search; `thorough` wants all.
        """
        due = "(twins_searched_at IS NULL OR twins_searched_at - attempted_at < :window)"
        if not thorough:
            due += (
                " AND (twins_searched_at IS NULL OR :now - attempted_at > 2 * (twins_searched_at - attempted_at) + 1)"
            )
        query = f"SELECT site, key, slurm_name, job_id FROM jobs WHERE {SENT_AGAIN} AND NOT {_UNSETTLED} AND {due}"
        values = {"window": window.total_seconds()} | ({} if thorough else {"now": _now()})
        found: dict[str, list[tuple[str, str, int | None]]] = {}
        with self._reading() as db:
            for site, key, name, job_id in db.rows(query, **values):
                found.setdefault(site, []).append((key, name, job_id))
        return found

    def pulse(self) -> tuple[int, float]:
        """Differs where jobs were added, or got on or off their way, since it was taken last."""
        with self._reading() as db:
            ((newest,),) = db.rows("SELECT max(created_at) FROM jobs")
            ((on_their_way,),) = db.rows(f"SELECT count(*) FROM jobs WHERE {_UNSETTLED}")
        return on_their_way, newest or 0.0

    # --- the steps of jobs on their way; each is taken only for those whose claim is (still) ours ------------------------

    def add(self, intents: Sequence[Intent]) -> list[Job]:
        """Write the intents: from now on the jobs are found and go on, whatever becomes of this process, which holds their claims.

        The caps of the projects that pay for them are kept in the same transaction, by all who submit at the same time.

        Raises:
            OverBudget: they would spend more than a project has left. None was written.
        """
        if not intents:
            return []
        with self._transaction() as db:
            return self.added(db, intents)

    def added(self, db: Connection, intents: Sequence[Intent]) -> list[Job]:
        """The same in a transaction that writes more than jobs."""
        added = [rows.row(intent, self._owner, _now()) for intent in intents]
        spending.keep(db, [intent.planned for intent in intents if intent.planned is not None])
        origins = {row["origin"]: intent.origin for row, intent in zip(added, intents, strict=True) if row["origin"]}
        for digest, said in origins.items():
            db.write(rows.INSERT_ORIGIN, digest=digest, said=json.dumps(said))
        db.write_each(rows.INSERT, added)
        return [rows.new_job(intent, row["created_at"]) for intent, row in zip(intents, added, strict=True)]

    def used(self, project: Project) -> spending.Uses:
        """What a project has spent and reserved, by currency."""
        with self._reading() as db:
            return spending.used(db, project)

    @contextmanager
    def claim(self, keys: Sequence[str]) -> Iterator[list[str]]:
        """Try to be the one process that moves these jobs on; yields those that we may. Taken over from a process that is gone."""
        mine: list[str] = []
        with self._transaction() as db:
            for part in _parts(keys):
                held = db.rows("SELECT key, claim, claimed_at FROM jobs WHERE key IN :keys", keys=part)
                mine += [key for key, holder, at in held if self._free(holder, at)]
            for part in _parts(mine):
                query = "UPDATE jobs SET claim = :me, claimed_at = :now WHERE key IN :keys"
                db.write(query, keys=part, me=self._owner, now=_now())
        with self.keep(mine):
            yield mine

    @contextmanager
    def keep(self, keys: Sequence[str]) -> Iterator[None]:
        """Give up these claims of ours at the end; `add` made them."""
        try:
            yield
        finally:
            self._step(keys, "claim = NULL, claimed_at = NULL")

    def _free(self, holder: str | None, at: float | None) -> bool:
        if holder is None or holder == self._owner:
            return True
        alive = owner.runs(holder)
        return not alive if alive is not None else (at or 0.0) < _now() - CLAIM_LASTS.total_seconds()

    def mine(self, keys: Sequence[str]) -> dict[str, bool]:
        """Those that are still ours, and whether somebody wants them cancelled."""
        query = f"SELECT key, cancelled FROM jobs WHERE {_OURS} AND key IN :keys"
        with self._reading() as db:
            return {
                key: bool(cancelled)
                for part in _parts(keys)
                for key, cancelled in db.rows(query, keys=part, me=self._owner)
            }

    def attempt(self, keys: Sequence[str]) -> set[str]:
        """A submit request is about to leave for each; those for which it may."""
        return self._step(keys, "phase = 'submitting', attempts = attempts + 1, attempted_at = :now", now=_now())

    def not_sent(self, keys: Sequence[str]) -> None:
        """The requests of that attempt did not leave after all."""
        self._step(keys, "attempts = attempts - 1")

    def handles(self, ids: Mapping[str, int]) -> set[str]:
        """The cluster has these jobs under these ids; those that may go on."""
        if not ids:
            return set()
        # once it has a handle, another id of its name is a twin's
        without = f"{_OURS} AND {_in((Phase.INTENT, Phase.SUBMITTING))}"
        values = "phase = 'held', job_id = :job_id, reason = '', seen_at = :now, missing_since = NULL"
        now = _now()
        with self._transaction() as db:
            which = f"SELECT key FROM jobs WHERE key IN :keys AND {without}"
            ours = {key for part in _parts(list(ids)) for (key,) in db.rows(which, keys=part, me=self._owner)}
            told = [{"key": key, "job_id": ids[key], "now": now, "me": self._owner} for key in ours]
            if told:
                db.write_each(f"UPDATE jobs SET {values} WHERE key = :key AND {without}", told)
        return ours

    def released(self, keys: Sequence[str], wanted: bool = True) -> set[str]:
        """These were let go; those that are recorded as let go now.

        The others stay as they are: held by what is written here, until they have been cancelled, which somebody wished for
        meanwhile. `wanted` False: that has been done, or there was no such job to cancel.
        """
        still = f"{_OURS} AND NOT cancelled" if wanted else _OURS
        return self._update(keys, still, "phase = 'released', seen_at = :now", now=_now(), me=self._owner)

    def gone(self, reasons: Mapping[str, str]) -> None:
        """Held by what is written here, and not in the queue: let go unrecorded, or no more. From now on they are watched."""
        self._tell_ours(reasons, "phase = 'released', state = 'UNKNOWN', missing_since = :now")

    def refused(self, reasons: Mapping[str, str]) -> None:
        """These jobs are at no cluster and will be at none."""
        self._tell_ours(reasons, "phase = 'refused', state = 'CANCELLED', ended_at = :now")

    def called_off(self, reasons: Mapping[str, str]) -> None:
        """These were cancelled while they were held."""
        self._tell_ours(reasons, "phase = 'ended', state = 'CANCELLED', ended_at = :now, seen_at = :now")

    def doubtful(self, reasons: Mapping[str, str]) -> None:
        """Why these could not be settled when it was last tried."""
        self._tell(reasons, _UNSETTLED)

    # --- what anybody may write ----------------------------------------------------------------------------------------

    def cancel_wanted(self, key: str) -> None:
        """Remembered first, so that a job in doubt is cancelled when it is found."""
        self._update([key], "TRUE", "cancelled = TRUE, cancel_sent = FALSE")

    def cancel_sent(self, keys: Sequence[str]) -> None:
        """Their clusters have been told to end them, or have nothing to end."""
        self._update(keys, "TRUE", "cancel_sent = TRUE")

    def searched_for_twins(self, keys: Sequence[str]) -> None:
        """Their clusters hold no other job of their names now."""
        self._update(keys, "TRUE", "twins_searched_at = :now", now=_now())

    def abandon(self, sites: Sequence[str], reason: str) -> int:
        """Jobs that were going on at sites that are no more: LOST. How many they were."""
        lost = "phase = 'ended', state = 'LOST', reason = :reason, ended_at = :now"
        with self._transaction() as db:
            for site in sites:
                db.write("DELETE FROM sites WHERE name = :site", site=site)
            query = f"UPDATE jobs SET {lost} WHERE site = :site AND {_in(OPEN)}"
            return sum(db.write(query, site=site, reason=reason, now=_now()) for site in sites)

    # --- what clusters say; of a job that has ended nothing is written any more ------------------------------------------

    def seen(
        self, statuses: Mapping[str, JobStatus], ended: Collection[str], since: Mapping[str, float] | None = None
    ) -> None:
        """What their clusters say of these jobs now; those named in `ended` do not go on any more.

        Args:
            since: of those whose state is none that is new, when it was seen first, in seconds since the epoch.
        """
        now, before = _now(), since or {}
        values = [
            {"key": key, **rows.seen(status, key in ended, before.get(key, now))} for key, status in statuses.items()
        ]
        if values:
            with self._transaction() as db:
                db.write_each(f"UPDATE jobs SET {rows.SEEN} WHERE key = :key AND {_LET_GO}", values)

    def ended(self, keys: Collection[str], not_seen_since: datetime) -> None:
        """The final state that was seen of these stays: no later attempt came. Nothing is written where somebody saw another one."""
        still = f"{_LET_GO} AND {_FINAL} AND seen_at <= :since"
        self._update(keys, still, "phase = 'ended'", since=not_seen_since.timestamp())

    def restarted(self, keys: Collection[str]) -> list[Restarted]:
        """Those that have ended after several starts and that a project pays for, while it is not known how long the earlier ones ran."""
        which = "key IN :keys AND phase = 'ended' AND restarts > 0 AND project IS NOT NULL AND ran_before_s IS NULL"
        query = f"SELECT key, slurm_name, created_at, started_at, tasks FROM jobs WHERE {which}"
        with self._reading() as db:
            found = [row for part in _parts(sorted(keys)) for row in db.rows(query, keys=part)]
        return [Restarted._make((*row, rows.counted(tasks))) for *row, tasks in found]

    def ran_before(self, seconds: Mapping[str, float]) -> None:
        """How long these ran before their last start; of an array each of its tasks on average."""
        if seconds:
            told = [{"key": key, "seconds": ran} for key, ran in seconds.items()]
            with self._transaction() as db:
                db.write_each("UPDATE jobs SET ran_before_s = :seconds WHERE key = :key", told)

    def missing(self, reasons: Mapping[str, str]) -> None:
        """Their clusters answer that there are no such jobs. UNKNOWN, since an accounting may lag behind; `seen_at` stays."""
        changes = "state = 'UNKNOWN', missing_since = coalesce(missing_since, :now)"
        self._tell(reasons, _LET_GO, changes, now=_now())

    def unheard(self, reasons: Mapping[str, str]) -> None:
        """They have left their queues, and the accounting does not answer: UNKNOWN, and no sign that they are missing."""
        self._tell(reasons, _LET_GO, "state = 'UNKNOWN'")

    def lost(self, reasons: Mapping[str, str]) -> None:
        """They are nowhere, and nothing that could still tell of them is left unasked."""
        self._tell(reasons, _in(OPEN), "phase = 'ended', state = 'LOST', ended_at = :now", now=_now())

    def site_answered(self, site: str) -> None:
        """All that is known of the site's jobs is as of now."""
        self._write_site(site, "answered_at = :now, silent_since = NULL, problem = ''", now=_now())

    def site_silent(self, site: str, problem: str) -> None:
        """The site does not answer: its jobs are UNKNOWN until it does, last seen when it answered last."""
        changes = "silent_since = coalesce(silent_since, :now), problem = :problem"
        self._write_site(site, changes, now=_now(), problem=problem)

    def _write_site(self, site: str, changes: str, **values: Any) -> None:
        query = f"UPDATE sites SET {changes} WHERE name = :site"
        with self._transaction() as db:
            if not db.write(query, site=site, **values):
                db.write("INSERT INTO sites (name, problem) VALUES (:site, '')", site=site)
                db.write(query, site=site, **values)

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

    def _select(self, where: str, limit: int | None = None, **values: Any) -> list[Job]:
        which = f"SELECT key FROM jobs WHERE {where} ORDER BY {_NEWEST_FIRST}"
        if limit is not None:
            which, values = f"{which} LIMIT :limit", {**values, "limit": limit}
        # the keys first, since whole rows are long and take long to sort
        query = f"SELECT {rows.COLUMNS}, {_OF_SITE} WHERE key IN ({which}) ORDER BY {_NEWEST_FIRST}"
        with self._reading() as db:
            return [rows.job(row) for row in db.rows(query, **values)]

    def _by_site(self, query: str) -> dict[str, list[str]]:
        """The keys that a query finds beside their sites, by site."""
        found: dict[str, list[str]] = {}
        with self._reading() as db:
            for site, key in db.rows(query):
                found.setdefault(site, []).append(key)
        return found

    def _step(self, keys: Sequence[str], changes: str, **values: Any) -> set[str]:
        """Write the same into those whose claim is ours; which they are."""
        return self._update(keys, _OURS, changes, me=self._owner, **values)

    def _update(self, keys: Collection[str], where: str, changes: str, **values: Any) -> set[str]:
        """Write the same into those of the rows for which `where` holds; which they are."""
        if not keys:
            return set()
        query = f"UPDATE jobs SET {changes} WHERE key IN :keys AND {where} RETURNING key"
        with self._transaction() as db:
            return {key for part in _parts(sorted(keys)) for (key,) in db.rows(query, keys=part, **values)}

    def _tell_ours(self, reasons: Mapping[str, str], changes: str) -> None:
        """As `_tell`, into those whose claim is ours; `changes` may name the time as :now."""
        self._tell(reasons, _OURS, changes, me=self._owner, now=_now())

    def _tell(self, reasons: Mapping[str, str], where: str, changes: str = "", **values: Any) -> None:
        """Write a reason of its own, and the same of everything else, into those of the rows for which `where` holds."""
        if reasons:
            query = (
                f"UPDATE jobs SET {', '.join(filter(None, ('reason = :reason', changes)))} WHERE key = :key AND {where}"
            )
            with self._transaction() as db:
                db.write_each(query, [{"key": key, "reason": reason, **values} for key, reason in reasons.items()])


def _may_begin(start: str) -> bool:
    """Whether a key can begin so."""
    return bool(start) and set(start) <= set(KEY_ALPHABET)


def _beginning(start: str) -> dict[str, str]:
    """The first and the last key that begin so."""
    # as many letters as a key has, the last one: no key that begins so comes after it
    return {"first": start, "last": start.ljust(KEY_LENGTH, "z")}


def _in(phases: Sequence[Phase]) -> str:
    """Phases are words of ours, so they may stand in a statement."""
    return f"phase IN ({', '.join(repr(str(phase)) for phase in phases)})"


_STATES = {str(state): state for state in JobState}
_OURS = "claim = :me"
_LET_GO = "phase = 'released'"
_UNSETTLED = _in(UNSETTLED)
_FINAL = f"state IN ({', '.join(repr(str(state)) for state in JobState if state.final)})"
_OF_SITE = "problem, answered_at FROM jobs LEFT JOIN sites ON sites.name = jobs.site"
_NEWEST_FIRST = "created_at DESC, key"


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _KEYS_AT_ONCE] for start in range(0, len(keys), _KEYS_AT_ONCE))


def _now() -> float:
    return datetime.now(UTC).timestamp()
