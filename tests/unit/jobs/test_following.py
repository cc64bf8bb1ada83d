"""`logs -f`: what a job writes, until it has ended, through whatever happens to it and to its site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from unit.jobs.test_scripts import a_script
from unit.jobs.world import KNOWN, World, decision, submit
from westward.errors import InputError, Unreachable
from westward.jobs import following as module
from westward.jobs.following import Follower
from westward.model.job import Array, JobState
from westward.slurm.files import Part, SiteFiles, open_files
from westward.store.ledger import Job

TURNS = 60


@dataclass
class Followed:
    """What a user sees; what happens meanwhile, a look at a time."""

    world: World
    root: Path
    happens: list[Callable[[], Any]] = field(default_factory=list)
    out: bytes = b""
    err: bytes = b""
    said: list[str] = field(default_factory=list)
    away: Unreachable | None = None

    def part(self, path: str, start: int, most: int) -> Part:
        if self.away:
            raise self.away
        return self.files.part(path, start, most)

    @property
    def files(self) -> SiteFiles:
        site = KNOWN.sites["west"]
        return open_files(replace(site, files={site.root: self.root}))

    def follow(self, job: Job, **more: Any) -> JobState:
        return Follower(
            self.world.jobs(), self.world.ledger, job, self, write=self.write, tell=self.said.append, **more
        ).follow()

    def write(self, piece: bytes, is_stderr: bool) -> None:
        if is_stderr:
            self.err += piece
        else:
            self.out += piece

    def writes(self, job: Job, text: str) -> Callable[[], None]:
        def write() -> None:
            path = self.root / Path(job.submission.stdout).relative_to(job.submission.root)
            with path.open("a") as log:
                log.write(text)

        return write

    def becomes(self, job: Job, state: JobState, **more: Any) -> Callable[[], None]:
        return lambda: self.world.cluster.set(job.job_id or 0, state, **more)


@pytest.fixture
def followed(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    """Each sleep lets the next thing happen, and as much time pass as makes the next question due."""
    made = Followed(world, tmp_path)
    clock, turns = [0.0], iter(range(TURNS))

    def sleep(_seconds: float) -> None:
        if made.happens:
            made.happens.pop(0)()
        clock[0] += 1.2
        assert next(turns, None) is not None, "it is followed for ever"

    monkeypatch.setattr(module, "LAST_ASK_S", 1.0)
    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return made


def test_what_it_writes_comes_as_it_is_written(world: World, followed: Followed) -> None:
    job = submit(world)
    followed.happens = [
        followed.becomes(job, JobState.RUNNING),
        followed.writes(job, "one\n"),
        followed.writes(job, "two\n"),
        followed.becomes(job, JobState.COMPLETED),
    ]
    assert followed.follow(job) is JobState.COMPLETED
    assert followed.out == b"one\ntwo\n"
    assert followed.said[0] == f"job {job.key} has not started: PENDING at 'west'"


def test_what_it_wrote_last_is_not_lost(world: World, followed: Followed) -> None:
    """Its end is seen before a shared file system shows its last lines."""
    job = submit(world)
    followed.happens = [followed.becomes(job, JobState.FAILED, exit_code=3), followed.writes(job, "last words\n")]
    assert followed.follow(job) is JobState.FAILED
    assert followed.out == b"last words\n"


def test_why_it_waits_is_told_once_for_each_reason(world: World, followed: Followed) -> None:
    job = submit(world)
    followed.happens = [
        followed.becomes(job, JobState.PENDING, reason="Priority"),
        int,
        int,
        followed.becomes(job, JobState.PENDING, reason="Resources"),
        int,
        followed.becomes(job, JobState.COMPLETED),
    ]
    followed.follow(job)
    assert [said.partition(": ")[2] for said in followed.said] == [
        "PENDING at 'west'",
        "PENDING (Priority) at 'west'",
        "PENDING (Resources) at 'west'",
    ]


def test_a_site_that_goes_away_and_comes_back_is_told_once(world: World, followed: Followed) -> None:
    job = submit(world)

    def away(error: Unreachable | None) -> Callable[[], None]:
        return lambda: setattr(followed, "away", error)

    followed.happens = [
        followed.writes(job, "one\n"),
        away(Unreachable("site 'west': the connection was lost")),
        int,
        int,
        followed.writes(job, "two\n"),
        away(None),
        followed.becomes(job, JobState.COMPLETED),
    ]
    followed.follow(job)
    assert followed.out == b"one\ntwo\n"
    assert [said for said in followed.said if "PENDING" not in said] == [
        f"site 'west': the connection was lost; job {job.key} may well go on there, and is followed again once it answers",
        "site 'west' answers again",
    ]


def test_a_site_that_cannot_be_read_from_the_first_is_an_error(world: World, followed: Followed) -> None:
    followed.away = Unreachable("site 'west': nobody answers")
    with pytest.raises(Unreachable, match="nobody answers"):
        followed.follow(submit(world))


def test_a_job_that_is_put_back_is_followed_in_its_next_attempt(world: World, followed: Followed) -> None:
    job = submit(world)

    def anew() -> None:
        (followed.root / Path(job.submission.stdout).name).write_text("second\n")

    followed.happens = [
        followed.becomes(job, JobState.RUNNING),
        followed.writes(job, "first\n"),
        followed.becomes(job, JobState.PENDING, reason="BeginTime", restarts=1),
        anew,
        followed.becomes(job, JobState.COMPLETED, restarts=1),
    ]
    assert followed.follow(job) is JobState.COMPLETED
    assert followed.out == b"first\nsecond\n"
    assert f"job {job.key} was put back into the queue of 'west' (restart 1)" in followed.said


def test_stderr_has_a_file_of_its_own_where_the_script_says_so(world: World, followed: Followed) -> None:
    job = world.jobs().submit(a_script("-o out.txt", "-e err.txt"), decision())
    (followed.root / "out.txt").write_text("out\n")
    (followed.root / "err.txt").write_text("err\n")
    followed.happens = [followed.becomes(job, JobState.COMPLETED)]
    followed.follow(job)
    assert (followed.out, followed.err) == (b"out\n", b"err\n")


def test_the_last_lines_of_what_is_there_and_then_all(world: World, followed: Followed) -> None:
    job = submit(world)
    followed.writes(job, "one\ntwo\nthree\n")()
    followed.happens = [followed.writes(job, "four\nfive\n"), followed.becomes(job, JobState.COMPLETED)]
    followed.follow(job, lines=1)
    assert followed.out == b"three\nfour\nfive\n"


class TestATaskOfAnArray:
    def test_ends_before_the_others(self, world: World, followed: Followed) -> None:
        job = submit(world, array=Array("0-3"))
        (followed.root / Path(job.submission.stdout.replace("%a", "2")).name).write_text("task 2\n")
        followed.happens = [
            followed.becomes(job, JobState.RUNNING, task_ids={JobState.RUNNING: "0-3"}),
            followed.becomes(
                job, JobState.RUNNING, reason="x", task_ids={JobState.RUNNING: "1", JobState.FAILED: "0,2-3"}
            ),
        ]
        assert followed.follow(job, task=2) is JobState.FAILED
        assert followed.out == b"task 2\n"

    def test_has_to_be_named(self, world: World, followed: Followed) -> None:
        with pytest.raises(InputError, match="is an array"):
            followed.follow(submit(world, array=Array("0-1")))
