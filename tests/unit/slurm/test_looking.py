"""What every door does alike when it looks at jobs."""

from __future__ import annotations

from datetime import UTC, datetime

from westward.model.job import JobState, JobStatus
from westward.slurm.client import Known
from westward.slurm.looking import Told, age, chunks


def test_the_oldest_comes_first_and_what_nobody_dates_last() -> None:
    """Of two twins the first is adopted: through every door the same one."""
    dated = [
        JobStatus(id_, "a~b", JobState.PENDING, submitted_at=datetime(2026, 1, day, tzinfo=UTC))
        for id_, day in ((9, 1), (3, 2), (2, 2))
    ]
    undated = JobStatus(1, "a~b", JobState.PENDING)
    assert [job.job_id for job in sorted([undated, *dated], key=age)] == [9, 2, 3, 1]


def test_chunks_leave_nothing_out() -> None:
    assert chunks(range(5), 2) == [range(2), range(2, 4), range(4, 5)]
    assert chunks([], 2) == []


def test_an_array_is_news_when_its_counts_change() -> None:
    told = Told()
    was = Known(JobState.RUNNING)
    array = JobStatus(7, "a~b", JobState.RUNNING, tasks={JobState.RUNNING: 2})
    assert [told.is_news(was, array) for _ in range(2)] == [True, False]
    assert told.is_news(was, JobStatus(7, "a~b", JobState.RUNNING, tasks={JobState.RUNNING: 1, JobState.COMPLETED: 1}))
    assert not told.is_news(was, JobStatus(8, "a~b", JobState.RUNNING))
    assert told.is_news(Known(JobState.FAILED, "NonZeroExitCode"), JobStatus(8, "a~b", JobState.RUNNING))
    assert not told.is_news(Known(JobState.FAILED, "NonZeroExitCode"), JobStatus(8, "a~b", JobState.FAILED))
