"""What a job waits for: put into the words of its own cluster, or, across sites, waited for by us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from westward.errors import InputError
from westward.model.job import After, Dependency, JobState
from westward.store.ledger import OPEN, Job, Ledger, Phase


def told(ledger: Ledger, wanted: Sequence[Dependency], site: str) -> tuple[str | None, tuple[Dependency, ...]]:
    """What the job's own cluster can wait for, in its words, and what somebody of ours has to wait for.

    Raises:
        NotFound: a job named there is not in the ledger.
        InputError: a dependency can never be met.
    """
    native, ours = [], []
    for dependency in wanted:
        job = ledger.find(dependency.key)
        answer = is_met(dependency, job)
        if answer is False:
            raise InputError(f"'{dependency}' can never be met: job {job.key} is {_end(job)}")
        if answer is None and job.site == site and job.job_id is not None:
            native.append(f"{dependency.after}:{job.job_id}")
        elif answer is None:
            if dependency.after is After.CORRESPONDING:
                where = f"at '{job.site}'" if job.site != site else "in doubt"
                raise InputError(
                    f"'{dependency}': tasks can only correspond within one site, '{site}'; job {job.key} is {where}"
                )
            ours.append(Dependency(dependency.after, job.key))
    return ",".join(native) or None, tuple(ours)


def met(ledger: Ledger, jobs: Iterable[Job]) -> dict[str, bool | str | None]:
    """Whether everything that each of these waits for at other sites has come: why not where it never will, None where it may yet."""
    keys = {dependency.key for job in jobs for dependency in job.waits_for}
    others = {other.key: other for other in ledger.get_many(sorted(keys))}
    return {job.key: _all_met(job, others) for job in jobs}


def is_met(dependency: Dependency, job: Job) -> bool | None:
    """Whether what another job waits for has come: False where it never will, None where it may yet."""
    over = job.phase not in OPEN
    good = job.phase is Phase.ENDED and job.state is JobState.COMPLETED
    match dependency.after:
        case After.START:
            return True if job.started_at is not None or over else None
        case After.ANY:
            return True if over else None
        case After.NOT_OK:
            return not good if over else None
        case _:
            return good if over else None


def _all_met(job: Job, others: Mapping[str, Job]) -> bool | str | None:
    answers = [(dependency, is_met(dependency, others[dependency.key])) for dependency in job.waits_for]
    never = [dependency for dependency, met in answers if met is False]
    if never:
        other = others[never[0].key]
        return f"'{never[0]}' can never be met: job {other.key} at '{other.site}' is {_end(other)}"
    return None if any(met is None for _, met in answers) else True


def _end(job: Job) -> str:
    return "not submitted" if job.phase is Phase.REFUSED else str(job.state)
