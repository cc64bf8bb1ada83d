"""What has become of each point of a sweep, from what the ledger knows of its job. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from westward.jobs.watching import MAY_COME_BACK
from westward.model.job import Array, JobState
from westward.model.sweep import SweepPoint
from westward.store.ledger import OPEN, Job, Phase

IN_DOUBT = "IN_DOUBT"
NOT_SUBMITTED = "NOT_SUBMITTED"
# what a point can be: a state of its job or task, or one of these two words
Word = JobState | str


def whereabouts(point: SweepPoint, job: Job) -> tuple[Word, bool]:
    """What a point is now, and whether that is the end of it."""
    if job.phase in (Phase.INTENT, Phase.SUBMITTING):
        return IN_DOUBT, False
    if job.phase is Phase.REFUSED:
        return NOT_SUBMITTED, True
    over = job.phase not in OPEN
    if point.task is None:
        return job.state, over
    task = _tasks(tuple(job.task_ids.items())).get(point.task)
    if task is not None and task.final:
        # its array goes on, so what a cluster may still put back into its queue is not at an end
        return task, over or task not in MAY_COME_BACK
    if over:
        # cancelled or lost as a whole; of any other array that has ended its cluster should have told every task
        whole = job.state in (JobState.CANCELLED, JobState.LOST)
        return (job.state, True) if whole else (JobState.UNKNOWN, False)
    if job.state is JobState.UNKNOWN:
        return JobState.UNKNOWN, False
    return task or JobState.PENDING, False


def missing(now: tuple[Word, bool]) -> bool:
    """Whether nothing has come of a point, and nothing will. Of what is unknown that cannot be said, so it is never run again."""
    state, over = now
    return over and state not in (JobState.COMPLETED, JobState.UNKNOWN)


@lru_cache(maxsize=64)
def _tasks(ids: tuple[tuple[JobState, str], ...]) -> Mapping[int, JobState]:
    return {task: state for state, which in ids for task in Array.parse(which).task_ids}
