"""`westward watch` of many jobs, read as a user reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from unit.jobs.world import SILENT, World, fails, submit, world
from unit.store.databases import database
from westward.cli.board import board, expected, progress_words, refuse_failed
from westward.errors import JobFailed
from westward.jobs.overview import Overview, Progress
from westward.model.job import Array, JobState
from westward.store.ledger import Phase

__all__ = ["database", "world"]
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def shown(overview: Overview, height: int | None = None) -> list[str]:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(board(overview, datetime.now(UTC), height))
    return [line.strip() for line in console.export_text().splitlines()]


def test_sites_and_jobs_as_they_are(world: World) -> None:
    plain, array, away = submit(world), submit(world, array=Array("0-9")), submit(world, "east")
    world.cluster.set(plain.job_id or 0, JobState.RUNNING, started_at=datetime.now(UTC) - timedelta(minutes=5))
    world.cluster.set(
        array.job_id or 0, JobState.PENDING, reason="Priority", tasks={JobState.COMPLETED: 4, JobState.PENDING: 6}
    )
    world.east.before["any"] = fails(SILENT)
    overview = Overview(world.jobs(), world.ledger)
    overview.look()
    text = shown(overview)
    (west,) = [line for line in text if line.startswith("west")]
    assert west.split() == ["west", "yes", "1", "6", "-"]
    (east,) = [line for line in text if line.startswith("east")]
    assert "silent for 0" in east and "nobody answers" in east and east.endswith("1")
    rows = {job.key: next(line for line in text if line.startswith(job.key)) for job in (plain, array, away)}
    assert "RUNNING" in rows[plain.key] and "5 min of 1 h" in rows[plain.key] and "ends by" in rows[plain.key]
    assert "4/10 tasks" in rows[array.key] and "Priority" in rows[array.key]
    assert "UNKNOWN" in rows[away.key]
    assert [line.split()[0] for line in text if line[:12] in rows] == [plain.key, array.key, away.key]
    assert "3 of 3 jobs go on" in text[-1]


def test_no_more_than_a_screen_holds(world: World) -> None:
    for _ in range(30):
        submit(world)
    overview = Overview(world.jobs(), world.ledger)
    overview.look()
    assert len(shown(overview, height=24)) <= 24
    assert "30 of 30 jobs go on, 18 not shown; q ends the watching, and no job" in shown(overview, height=24)[-1]


def test_nothing_of_a_job_s_name_reaches_the_terminal_but_its_letters(world: World) -> None:
    submit(world, name="[red]a\x1b[2Jb\nc")
    overview = Overview(world.jobs(), world.ledger)
    overview.look()
    assert any(r"[red]a\x1b[2Jb\nc" in line for line in shown(overview))


@pytest.mark.parametrize(
    ("told", "words", "when"),
    [
        (Progress(None, None, None, 600, None, None), "-", "-"),
        (Progress(3, 1000, 90.0, 600, None, None), "3/1,000 tasks, 1 min 30 s", "-"),
        (Progress(None, None, 90.0, 600, None, NOW + timedelta(days=2)), "1 min 30 s of 10 min", "ends by 2026-01-03"),
        (Progress(None, None, None, 600, NOW - timedelta(seconds=1), None), "-", "starts soon"),
    ],
)
def test_how_far_and_until_when(told: Progress, words: str, when: str) -> None:
    assert progress_words(told) == words
    assert expected(told, NOW).startswith(when)


def test_those_that_failed_are_named(world: World) -> None:
    good, bad = submit(world), submit(world)
    good = replace(good, phase=Phase.ENDED, state=JobState.COMPLETED)
    refuse_failed([good, bad])
    bad = replace(bad, phase=Phase.ENDED, state=JobState.FAILED, exit_code=3)
    with pytest.raises(JobFailed) as caught:
        refuse_failed([good, bad])
    assert str(caught.value) == f"1 of 2 jobs failed:\n  {bad.key} (job): FAILED with exit code 3"
    assert f"westward explain {bad.key}" in caught.value.next_step
