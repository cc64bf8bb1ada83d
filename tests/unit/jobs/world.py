"""A user's whole world in memory: a ledger, and clusters that lose answers, deliver late, go away, and are set up anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

import pytest

from unit.federation.worlds import NOW, catalogue, cluster, job, site, snapshot
from unit.store.databases import Fresh
from westward.errors import Unreachable, WestwardError
from westward.federation.router import route
from westward.jobs import steps
from westward.jobs.lifecycle import Jobs, Step
from westward.model.decision import TERMS, Decision, Policy
from westward.model.job import Attempt, JobSpec, JobState, JobStatus, Submission
from westward.model.limits import Limits
from westward.model.site import Site
from westward.slurm.client import InDoubt, Known, Poll
from westward.store.ledger import Job, Ledger

KNOWN = catalogue(site("west"), site("east"))
STEPS = ["intent", "attempt", "sent", "held", "released"]
SILENT = Unreachable("site 'west': nobody answers")
DOUBT = InDoubt("site 'west': no answer")


class Killed(BaseException):
    """The process is gone: nothing after this line runs in it."""


def fails(error: BaseException, times: int = 99) -> Callable[[], None]:
    left = iter([error] * times)

    def fail() -> None:
        for each in left:
            raise each

    return fail


@dataclass
class Cluster:
    """One Slurm cluster as slurmctld and slurmdbd together remember it.

    Attributes:
        started: the ids of jobs that were let go, in that order. Exactly once means exactly one of each of ours.
        before, after: what happens at the client before a request arrives, and after it was carried out, by request ("any" for all);
            submit requests also by the job's place among all that were ever sent: "submit 0", "submit 1", ...
        asked: every request that arrived.
        late: submissions that are still on their way.
        backlog: what slurmctld owes slurmdbd, or why it cannot be told.
        talkative: a poll tells of every job, as that of a door that was just opened does of arrays.
        allowance: what its user may have there, or why that cannot be told.
        attempts: the records of its accounting, oldest first, or why they cannot be told.
    """

    jobs: dict[int, JobStatus] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    late: list[Submission] = field(default_factory=list)
    next_id: int = 1
    backlog: int | WestwardError = 0
    talkative: bool = False
    allowance: Limits | WestwardError = field(default_factory=lambda: Limits("u", {}, max_array_size=1001))

    attempts: list[Attempt] | WestwardError = field(default_factory=list)

    def accept(self, submission: Submission) -> int:
        job_id, self.next_id = self.next_id, self.next_id + 1
        held = submission.hold
        self.jobs[job_id] = JobStatus(
            job_id, submission.name, JobState.PENDING, "JobHeldUser" if held else "None", held=held
        )
        if not held:
            self.started.append(job_id)
        return job_id

    def deliver(self) -> None:
        """What was on its way arrives."""
        while self.late:
            self.accept(self.late.pop())

    def set(self, job_id: int, state: JobState, **more: Any) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], **{"state": state, "reason": "", "held": False, **more})

    def alive(self) -> list[int]:
        return [job_id for job_id, job in self.jobs.items() if not job.state.final]

    def set_up_anew(self) -> None:
        """It has forgotten everything, and counts its ids from one again."""
        self.jobs.clear()
        self.next_id = 1


class Client:
    """`SlurmClient` to that cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def _arriving(self, request: str) -> None:
        self.cluster.before.get("any", lambda: None)()
        self.cluster.before.get(request, lambda: None)()
        self.cluster.asked.append(request)

    def _done(self, request: str) -> None:
        self.cluster.after.get(request, lambda: None)()

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        return [self._submit(submission) for submission in submissions]

    def _submit(self, submission: Submission) -> int | WestwardError:
        place = f"submit {len(self.cluster.submissions)}"
        self.cluster.submissions.append(submission)
        try:
            self._arriving("submit")
            self._arriving(place)
        except WestwardError as error:
            if isinstance(error, InDoubt):
                self.cluster.late.append(submission)
            return error
        job_id = self.cluster.accept(submission)
        try:
            self._done("submit")
            self._done(place)
        except WestwardError as error:
            return error
        return job_id

    def _each(self, request: str, job_ids: Sequence[int], do: Callable[[int], None]) -> dict[int, WestwardError]:
        failed: dict[int, WestwardError] = {}
        for job_id in job_ids:
            try:
                self._arriving(request)
                self._arriving(f"{request} {job_id}")
                do(job_id)
                self._done(request)
            except WestwardError as error:
                failed[job_id] = error
        return failed

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        def do(job_id: int) -> None:
            if self.cluster.jobs[job_id].held:
                self.cluster.set(job_id, JobState.PENDING)
                self.cluster.started.append(job_id)

        return self._each("release", job_ids, do)

    def cancel(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        def do(job_id: int) -> None:
            if job_id in self.cluster.alive():
                self.cluster.set(job_id, JobState.CANCELLED)

        return self._each("cancel", job_ids, do)

    def find(self, names: Collection[str]) -> dict[str, list[JobStatus]]:
        self._arriving("find")
        if isinstance(self.cluster.backlog, WestwardError):  # slurmdbd is down: not finding a job proves nothing
            raise self.cluster.backlog
        return {
            name: [status for _, status in sorted(self.cluster.jobs.items()) if status.name == name] for name in names
        }

    def poll(self, known: Mapping[int, Known]) -> Poll:
        self._arriving("poll")
        here = {job_id: self.cluster.jobs[job_id] for job_id in known if job_id in self.cluster.jobs}
        changed = {
            job_id: status
            for job_id, status in here.items()
            if self.cluster.talkative or Known(status.state, status.reason) != known[job_id]
        }
        gone = frozenset(known) - here.keys()
        if isinstance(self.cluster.backlog, WestwardError):  # slurmdbd is down
            return Poll(changed, frozenset(), dict.fromkeys(gone, str(self.cluster.backlog)))
        return Poll(changed, gone)

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Attempt]:
        self._arriving("history")
        if isinstance(self.cluster.attempts, WestwardError):
            raise self.cluster.attempts
        return [each for each in self.cluster.attempts if each.status.name in names]

    def limits(self) -> Limits:
        self._arriving("limits")
        if isinstance(self.cluster.allowance, WestwardError):
            raise self.cluster.allowance
        return self.cluster.allowance

    def accounting_backlog(self) -> int:
        self._arriving("backlog")
        if isinstance(self.cluster.backlog, WestwardError):
            raise self.cluster.backlog
        return self.cluster.backlog

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()


def quiet(step: str, job: Job) -> None:
    pass


@dataclass
class World:
    """One user with one ledger, and two clusters; most tests use the one in the west.

    Attributes:
        again: a second `Ledger` on the same database: as another process has it.
    """

    ledger: Ledger
    again: Callable[[], Ledger]
    cluster: Cluster = field(default_factory=Cluster)
    east: Cluster = field(default_factory=Cluster)

    def connect(self, site: Site) -> Any:
        return Client(self.cluster if site.name == "west" else self.east)

    def jobs(self, on_step: Step = quiet, ledger: Ledger | None = None) -> Jobs:
        """As one command of the user has them."""
        return Jobs(ledger or self.ledger, KNOWN.sites, self.connect, on_step, where=lambda: {"host": "here"})

    def only(self) -> Job:
        (job,) = self.ledger.jobs()
        return job

    def settle(self) -> list[tuple[Job, WestwardError]]:
        return self.jobs().settle()

    def other_process(self, name: str = "elsewhere") -> Ledger:
        """The ledger as a process of another host has it."""
        ledger = self.again()
        ledger._owner = f"{name}/1/1"
        return ledger


def decision(where: str = "west") -> Decision:
    policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
    state = snapshot({"west": cluster(), "east": cluster()})
    return route(job(), policy, "ningxia", KNOWN, state, NOW, where)


def a_job(**more: Any) -> JobSpec:
    return replace(job(), **more)


def submit(world: World, where: str = "west", **more: Any) -> Job:
    return world.jobs().submit(a_job(**more), decision(where))


def many(count: int, **more: Any) -> list[tuple[JobSpec, Decision]]:
    return [(a_job(**more), decision())] * count


def killed_at(step: str, after: int = 0) -> Step:
    """Dies when that step has been told for that many jobs."""
    left = iter(range(after))

    def on_step(reached: str, _job: Job) -> None:
        if reached == step and next(left, None) is None:
            raise Killed

    return on_step


def assert_started_once(world: World) -> None:
    """Every job of the ledger was let go exactly once, under the id it has there, and nothing else is alive."""
    ids = sorted(job.job_id or 0 for job in world.ledger.jobs() if job.site == "west")
    assert sorted(world.cluster.started) == ids
    assert sorted(world.cluster.alive()) == ids
    names = {job.submission.name: job.job_id for job in world.ledger.jobs() if job.site == "west"}
    assert {world.cluster.jobs[job_id].name: job_id for job_id in ids} == names


@pytest.fixture
def world(database: Fresh) -> Iterator[World]:
    yield World(database.ledger(), database.ledger)
    database.close()


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its cluster does not have is submitted again at once."""
    monkeypatch.setattr(steps, "FIRST_RETRY_S", 0.0)
