"""What every door does alike when it looks at jobs: how far back, how many at a time, in which order, and what is news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from westward.model.job import JobState, JobStatus
from westward.slurm.client import Known

# how far back the accounting is searched for a name
ACCOUNTING_SINCE = timedelta(days=31)
# In a window of time slurmdbd has only jobs that it knows to have been eligible in it. Left out are those that were cancelled, or met their
# deadline, while they were held, and with 22.05 also some that were put back: so what ended is asked for by its state as well
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
)
Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in their order, `size` at a time."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def age(status: JobStatus) -> tuple[datetime, int]:
    """Sorts the oldest first. A job whose submission nobody dates is no older than any other: of two twins the other one is adopted."""
    return status.submitted_at or datetime.max.replace(tzinfo=UTC), status.job_id


def same(was: Known, state: JobState, reason: str) -> bool:
    """Whether a job is as it was known to be. Of what has ended, queue and accounting word the reason differently."""
    return was.state is state and (state.final or was.reason == reason)


def exited(code: int | None, signal: int | None) -> tuple[int | None, int | None]:
    """How something ended, from Slurm's "code:signal": what a signal ended has no exit code of its own."""
    return (None, signal) if signal else (code, None)


def why(state: JobState, reason: str) -> str:
    """The reason of a job in the queue, as far as it tells of its state."""
    # one that was cancelled while it waited keeps what it waited for
    if reason in ("None", "") or (state is JobState.CANCELLED and reason != "DependencyNeverSatisfied"):
        return ""
    # "RaisedSignal:9(Killed)": the signal has a field of its own
    return reason.partition(":")[0] if reason.startswith(("RaisedSignal:", "NonZeroExitCode:")) else reason


def never_started(state: JobState, nodes: str) -> bool:
    """Whether a job in the queue has had no start: one that was cancelled before gets the time of its end as its start."""
    return state is JobState.PENDING or (state.final and not nodes)


def unaccounted(why: object) -> str:
    """The note of a door that reaches its cluster, and not the cluster's accounting."""
    return f"the limits of QOS and accounts cannot be read now: {why}"


class Told:
    """What was told of arrays, whose tasks go on while their state does not."""

    def __init__(self) -> None:
        self._tasks: dict[int, tuple[Mapping[JobState, int], Mapping[JobState, str]]] = {}

    def is_news(self, was: Known, status: JobStatus) -> bool:
        """Whether there is something to tell of a job; takes it for told."""
        before = self._tasks.get(status.job_id)
        if status.tasks:
            self._tasks[status.job_id] = now = status.tasks, status.task_ids
            if before != now:
                return True
        return not same(was, status.state, status.reason)
