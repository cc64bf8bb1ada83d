"""Where jobs are watched: one question to each site a tick, whatever the number of its jobs.

What happens when a cluster does not answer: its jobs are UNKNOWN, last seen when it answered last, and they come back when it does. A job
that its cluster says it does not have is UNKNOWN too, and LOST only when nothing is left that could still tell of it: its cluster has
answered so for a while, slurmdbd answers, and slurmctld owes it nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from westward.errors import WestwardError
from westward.jobs.side_by_side import side_by_side
from westward.model.job import Attempt, JobState, JobStatus
from westward.slurm.client import Known, SlurmClient
from westward.store.ledger import Ledger, Restarted, Watched

# a job that nobody knows is LOST only after this long: clocks differ, and records are on their way
LOST_AFTER = timedelta(minutes=2)
# after these ends a cluster may put a job back into its queue, so they are final only when they have been seen for a while
MAY_COME_BACK = frozenset({JobState.NODE_FAIL, JobState.PREEMPTED, JobState.BOOT_FAIL, JobState.LAUNCH_FAILED})
FINAL_AFTER = timedelta(seconds=30)
# how far a cluster's clock may be from ours before its word on when a job ended misleads
CLOCKS_DIFFER = timedelta(minutes=5)


def tick(ledger: Ledger, client: Callable[[str], SlurmClient], keys: Sequence[str] | None = None) -> int:
    """Ask every site once about its jobs (or about those of the given keys), and record what it says; how many are otherwise."""

    def ask(item: tuple[str, list[Watched]]) -> int:
        site, watched = item
        try:
            changed = _ask(ledger, client(site), watched)
        except WestwardError as error:
            ledger.site_silent(site, str(error))
            return 0
        ledger.site_answered(site)
        return changed

    return sum(side_by_side(ask, ledger.watched(keys=keys).items()))


def _ask(ledger: Ledger, client: SlurmClient, watched: Sequence[Watched]) -> int:
    by_id, missing = _newest_of_each_id(watched)
    poll = client.poll({job_id: Known(job.state, job.reason) for job_id, job in by_id.items()})
    seen: dict[str, JobStatus] = {}
    for job_id, status in poll.changed.items():
        job = by_id[job_id]
        if status.name == job.slurm_name:
            seen[job.key] = status
        else:
            missing[job.key] = (job, f"its id {job_id} now belongs to another job")
    for job_id in poll.gone:
        missing[by_id[job_id].key] = (by_id[job_id], "neither queue nor accounting of its site knows it")
    now = datetime.now(UTC)
    # a door that was opened just now tells of every array, whether or not that is news
    same = {job.key: job.seen_at for job in watched if job.key in seen and _stays(job, seen[job.key])}
    lasted = {job.key for job in watched if (job.key not in seen or job.key in same) and _has_lasted(job, now)}
    ended = {key for key, status in seen.items() if _is_the_end(status, now)}
    ledger.seen(seen, ended, {key: at for key, at in same.items() if at is not None})
    ledger.unheard(
        {
            by_id[job_id].key: why
            for job_id, why in poll.unheard.items()
            if by_id[job_id].key not in lasted
            and (by_id[job_id].state, by_id[job_id].reason) != (JobState.UNKNOWN, why)
        }
    )
    ledger.ended(lasted, not_seen_since=now - FINAL_AFTER)
    _count_earlier_attempts(ledger, client, ended | lasted)
    for key in missing.keys() & lasted:  # its cluster has forgotten a job that had ended
        del missing[key]
    return len(seen) + len(lasted) + _record_missing(ledger, client, missing, now)


def _count_earlier_attempts(ledger: Ledger, client: SlurmClient, keys: Collection[str]) -> None:
    """What jobs that have ended ran before they were put back, which the accounting alone keeps, and a project pays for. Where it
    does not answer that stays unknown."""
    jobs = ledger.restarted(keys)
    if not jobs:
        return
    since = datetime.fromtimestamp(min(job.created_at for job in jobs), UTC) - CLOCKS_DIFFER
    try:
        told = client.history(since, [job.slurm_name for job in jobs])
    except WestwardError:
        return
    attempts: dict[str, list[Attempt]] = {}
    for attempt in told:
        attempts.setdefault(attempt.status.name, []).append(attempt)
    ledger.ran_before(
        {job.key: _ran_before(job, attempts[job.slurm_name]) for job in jobs if job.slurm_name in attempts}
    )


def _ran_before(job: Restarted, attempts: Sequence[Attempt]) -> float:
    """Seconds that the attempts before the last one ran; of an array each of its tasks on average."""
    last: dict[int | None, Attempt] = {attempt.task: attempt for attempt in attempts}
    earlier = (
        attempt
        for attempt in attempts
        if (attempt is not last[attempt.task] if attempt.task is not None else _before(attempt, job.started_at))
    )
    return sum(attempt.usage.elapsed_s for attempt in earlier) / job.tasks


def _before(attempt: Attempt, start: float | None) -> bool:
    """Whether it began before that start. The record of the last attempt itself may not be there yet."""
    began = attempt.status.started_at
    return began is not None and (start is None or began.timestamp() < start)


def _newest_of_each_id(watched: Sequence[Watched]) -> tuple[dict[int, Watched], dict[str, tuple[Watched, str]]]:
    """One job for each Slurm id, and the older ones: a cluster that was set up anew counts its ids from one again."""
    by_id: dict[int, Watched] = {}
    older: dict[str, tuple[Watched, str]] = {}
    for job in sorted(watched, key=lambda job: job.created_at, reverse=True):
        newest = by_id.setdefault(job.job_id, job)
        if newest is not job:
            older[job.key] = (job, f"its id {job.job_id} now belongs to job {newest.key}")
    return by_id, older


def _is_the_end(status: JobStatus, now: datetime) -> bool:
    """Whether this is the end of the job, and not only of an attempt that another one may follow."""
    if status.state not in MAY_COME_BACK and not MAY_COME_BACK.intersection(status.tasks):
        return status.state.final
    return status.ended_at is not None and now - status.ended_at > CLOCKS_DIFFER


def _stays(job: Watched, status: JobStatus) -> bool:
    """Whether it is in the final state in which it was seen before."""
    return status.state.final and status.state is job.state


def _has_lasted(job: Watched, now: datetime) -> bool:
    return job.state.final and now.timestamp() - (job.seen_at or 0.0) > FINAL_AFTER.total_seconds()


def _record_missing(
    ledger: Ledger, client: SlurmClient, missing: Mapping[str, tuple[Watched, str]], now: datetime
) -> int:
    new = {key: why for key, (job, why) in missing.items() if job.missing_since is None}
    ledger.missing(new)
    long_ago = now.timestamp() - LOST_AFTER.total_seconds()
    late = {
        key: why
        for key, (job, why) in missing.items()
        if job.missing_since is not None and job.missing_since <= long_ago
    }
    if not late or not _all_is_accounted(client):
        return len(new)
    # what was on its way to the accounting when it was asked has arrived by now
    found = _by_name(client, [missing[key][0] for key in late])
    ledger.seen(found, ended={key for key, status in found.items() if _is_the_end(status, now)})
    ledger.lost({key: why for key, why in late.items() if key not in found})
    return len(new) + len(late)


def _by_name(client: SlurmClient, jobs: Sequence[Watched]) -> dict[str, JobStatus]:
    """Those that queue or accounting have under their name and id."""
    found = client.find([job.slurm_name for job in jobs])
    return {job.key: status for job in jobs for status in found[job.slurm_name] if status.job_id == job.job_id}


def _all_is_accounted(client: SlurmClient) -> bool:
    """Whether the accounting answers, and nothing is on its way to it; where that cannot be told, it is not so."""
    try:
        return client.accounting_backlog() == 0
    except WestwardError:
        return False
