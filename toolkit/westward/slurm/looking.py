"""What every door does alike when it looks at jobs: how far back, how many at a time, in which order, and what is news."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from westward.model.job import JobState, JobStatus
from westward.slurm.client import Known

# how far back the accounting is searched for a name
ACCOUNTING_SINCE = timedelta(days=31)
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


class Told:
    """What was told of arrays, whose counts change while their state does not."""

    def __init__(self) -> None:
        self._counts: dict[int, Mapping[JobState, int]] = {}

    def is_news(self, was: Known, status: JobStatus) -> bool:
        """Whether there is something to tell of a job; takes it for told."""
        before = self._counts.get(status.job_id)
        if status.tasks:
            self._counts[status.job_id] = status.tasks
            if before != status.tasks:
                return True
        return not same(was, status.state, status.reason)
