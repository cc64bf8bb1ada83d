"""Jobs that are stopped, save their state, are started again and go on from it; on every Slurm version and through every door.

The program counts, keeps what it has counted in its directory, and ends with 85 when it is told to stop. Its time limit is two minutes and Slurm
tells it 50 s before, or up to a minute earlier, so it is stopped after 10 to 70 s. Slurm puts a job back with a delay of two minutes; root takes that away here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.clusters import ENDED, Judge, wait_until
from contract.doors import CLUSTERS, DOORS, Opened, through
from westward.model.checkpoint import Checkpoint
from westward.model.job import Array, JobState, Launcher, Submission
from westward.model.resources import Resources

pytestmark = [pytest.mark.lab, pytest.mark.full]  # time limits are whole minutes

STEP_S = 0.1
COUNTS = f"""
import os, signal, sys, time
told = []
for name in ("SIGUSR1", "SIGUSR2", "SIGTERM"):
    signal.signal(getattr(signal, name), lambda number, _: told.append(signal.Signals(number).name))
attempt, attempts = int(os.environ["WESTWARD_RESTARTS"]), int(sys.argv[1])
try:
    done = int(open("counted").read())
except FileNotFoundError:
    done = 0
print(f"attempt {{attempt}} from {{done}} after {{os.environ['WESTWARD_PREVIOUS'] or 'nothing'}}", flush=True)
goal = done + 20
while done < goal or attempt + 1 < attempts:
    time.sleep({STEP_S})
    done += 1
    if told:
        open("counting", "w").write(str(done))
        os.replace("counting", "counted")
        print(f"saved {{done}} at {{told[0]}}", flush=True)
        sys.exit(85)
print(f"finished {{done}}", flush=True)
"""
MIB = 1024**2
TWO_MINUTES = Resources(mem_bytes=64 * MIB, walltime_s=120)
ONCE, TWICE, NEVER = "1", "2", "1000"  # with which attempt the program is through
OFTEN = 1  # restarts that one of the jobs may have


@dataclass
class Story:
    """What happened at one cluster: by door and kind of job, what was submitted and its id."""

    jobs: dict[tuple[str, str], tuple[Submission, int]] = field(default_factory=dict)

    def ids(self, *kinds: str) -> list[int]:
        return [job_id for (_, kind), (_, job_id) in self.jobs.items() if not kinds or kind in kinds]


class Stage:
    """One cluster with all its doors. Preemption has the first node, the rest the second."""

    def __init__(self, doors: list[Opened]) -> None:
        self.doors = doors
        self.judge: Judge = doors[0].judge
        self.story = Story()

    def play(self) -> Story:
        self.judge.root("scancel", "--user=researcher")
        self.submit()
        self.cancel()
        self.preempt("preempted")
        self.judge.root("scontrol", "update", "partitionname=low", "gracetime=20")
        try:
            self.preempt("preempted in grace")
        finally:
            self.judge.root("scontrol", "update", "partitionname=low", "gracetime=0")
        wait_until(self.has_ended, lambda: self.judge.states(self.story.ids()), within_s=400, every_s=2)
        return self.story

    def add(self, opened: Opened, kind: str, *command: str, restarts: int = 3, **words: Any) -> None:
        spec = {
            "launcher": Launcher.SRUN,
            "checkpoint": Checkpoint("USR1", 50, restarts),
            "resources": TWO_MINUTES,
            "partition": "gpu",
            "options": {"nodelist": opened.node(2)},
            **words,
        }
        submission = opened.submission(*command, hold=False, **spec)
        self.story.jobs[opened.door, kind] = submission, opened.start(submission)

    def submit(self) -> None:
        counts = ("python3", "-c", COUNTS)
        for opened in self.doors:
            self.add(opened, "resumed", *counts, TWICE)
        for opened in self.doors[-1:]:
            self.add(opened, "cancelled", *counts, NEVER)
            self.add(opened, "without srun", *counts, TWICE, launcher=Launcher.NONE)
            self.add(opened, "two tasks", *counts, TWICE, array=Array("3-4"))
            self.add(opened, "too often", *counts, NEVER, restarts=OFTEN)
            self.add(opened, "short", *counts, ONCE)
            self.add(opened, "failed", "bash", "-c", "exit 3")
            self.add(opened, "deaf", "bash", "-c", "trap '' USR1; exec sleep 600", launcher=Launcher.NONE)

    def preempt(self, kind: str) -> None:
        """Whoever waits for the better partition takes the place of those in the worse."""
        long = Resources(mem_bytes=64 * MIB, walltime_s=600)
        for opened in self.doors:
            there = {"nodelist": opened.node(1)}
            self.add(opened, kind, "python3", "-c", COUNTS, TWICE, partition="low", resources=long, options=there)
        wait_until(
            lambda: all("attempt 0" in self.written(opened, kind) for opened in self.doors),
            lambda: self.judge.states(self.story.ids(kind)),
        )
        opened = self.doors[-1]
        whole = Resources(cpus_per_task=8, mem_bytes=64 * MIB)
        preemptor = opened.start(opened.shell("sleep 1", options={"nodelist": opened.node(1)}, resources=whole))
        self.judge.wait([preemptor], "COMPLETED", within_s=90)

    def cancel(self) -> None:
        opened = self.doors[-1]
        wait_until(lambda: "attempt 0" in self.written(opened, "cancelled"), "cancelled: started")
        self.judge.root("scancel", *map(str, self.story.ids("cancelled")))

    def written(self, opened: Opened, kind: str) -> str:
        submission, _ = self.story.jobs[opened.door, kind]
        file = opened.here(submission.stdout)
        return file.read_text() if file.exists() else ""

    def has_ended(self) -> bool:
        """Whether all have; what was put back may start at once."""
        waiting = self.judge.root("squeue", "-ahr", "-t", "pending", "-o", "%i %r").splitlines()
        for job_id in [line.split()[0] for line in waiting if "BeginTime" in line]:
            self.judge.lab.run(f"{self.judge.cluster}-ctl", "scontrol", "update", f"jobid={job_id}", "starttime=now")
        return all(states and states <= ENDED for states in self.judge.states(self.story.ids()).values())


@pytest.fixture(scope="module")
def stories(all_doors: Mapping[tuple[str, str], Opened]) -> Iterator[Mapping[str, Story]]:
    """The stories of all clusters, told side by side."""
    stages = [Stage([all_doors[name, door] for name, door in DOORS if name == cluster]) for cluster in CLUSTERS]
    with ThreadPoolExecutor(len(stages)) as pool:
        yield dict(zip(CLUSTERS, pool.map(Stage.play, stages), strict=True))


def of(stories: Mapping[str, Story], opened: Opened, kind: str) -> tuple[Submission, int]:
    return stories[opened.cluster].jobs[opened.door, kind]


def once(stories: Mapping[str, Story], all_doors: Mapping[tuple[str, str], Opened], cluster: str) -> Opened:
    """The door through which the jobs came that are the same through every door."""
    return next(
        all_doors[cluster, door]
        for name, door in DOORS
        if (door, "too often") in stories[cluster].jobs and name == cluster
    )


def records(opened: Opened, job_id: int) -> list[list[str]]:
    """State and exit code of each attempt, by the cluster's accounting."""
    return [[state.split()[0], code] for state, code in opened.judge.records([job_id], "state,exitcode")]


def told(text: str) -> list[str]:
    """What the program itself printed, but for how far it had counted."""
    return re.findall(r"^(?:attempt \d|saved|finished)|(?<=after )\w+$|(?<= at )SIG\w+$", text, re.MULTILINE)


def goes_on(text: str) -> bool:
    """Each attempt begins where the one before it was saved."""
    saved = re.findall(r"^saved (\d+)", text, re.MULTILINE)
    began = re.findall(r"^attempt \d from (\d+)", text, re.MULTILINE)
    return began == ["0", *saved][: len(began)]


TOLD_TWICE = ["attempt 0", "nothing", "saved", "SIGUSR1", "attempt 1", "CHECKPOINT", "finished"]


@through()
def test_it_is_told_saves_its_state_and_goes_on_from_there(stories: Mapping[str, Story], opened: Opened):
    submission, job_id = of(stories, opened, "resumed")
    text = opened.written(submission)
    assert told(text) == TOLD_TWICE, text
    assert goes_on(text)
    assert records(opened, job_id) == [["REQUEUED", "0:0"], ["COMPLETED", "0:0"]]
    assert int(re.findall(r"^finished (\d+)", text, re.MULTILINE)[0]) == int(opened.written(submission, "counted")) + 20


@through()
@pytest.mark.parametrize("kind", ["preempted", "preempted in grace"])
def test_a_preempted_job_goes_on_and_knows_why(stories: Mapping[str, Story], opened: Opened, kind: str):
    """Slurm puts it back, not the job; its program is told by SIGTERM."""
    submission, job_id = of(stories, opened, kind)
    text = opened.written(submission)
    assert told(text) == ["attempt 0", "nothing", "saved", "SIGTERM", "attempt 1", "PREEMPTED", "finished"], text
    assert goes_on(text)
    assert records(opened, job_id) == [["PREEMPTED", "0:0"], ["COMPLETED", "0:0"]]


@through("history")
def test_the_attempts_are_seen_from_outside(stories: Mapping[str, Story], opened: Opened):
    names = {kind: of(stories, opened, kind)[0].name for kind in ("resumed", "preempted")}
    found = opened.client.history(datetime.now(UTC) - timedelta(hours=1), list(names.values()))
    ends = {
        kind: [(each.status.state, each.status.ended_at is not None) for each in found if each.status.name == name]
        for kind, name in names.items()
    }
    assert ends["resumed"] == [(JobState.PENDING, True), (JobState.COMPLETED, True)]
    assert ends["preempted"] == [(JobState.PREEMPTED, True), (JobState.COMPLETED, True)]


@pytest.mark.parametrize("cluster", CLUSTERS)
class TestOnceACluster:
    @pytest.fixture
    def opened(self, stories: Mapping[str, Story], all_doors: Mapping[tuple[str, str], Opened], cluster: str) -> Opened:
        return once(stories, all_doors, cluster)

    def test_without_srun(self, stories: Mapping[str, Story], opened: Opened):
        submission, job_id = of(stories, opened, "without srun")
        assert told(opened.written(submission)) == TOLD_TWICE
        assert records(opened, job_id) == [["REQUEUED", "0:0"], ["COMPLETED", "0:0"]]

    def test_each_task_of_an_array_by_itself(self, stories: Mapping[str, Story], opened: Opened):
        submission, job_id = of(stories, opened, "two tasks")
        for task in ("3", "4"):
            text = opened.here(submission.stdout.replace("%a", task)).read_text()
            assert told(text) == TOLD_TWICE, text
            assert goes_on(text)
        assert sorted(state for state, _ in records(opened, job_id)) == [*["COMPLETED"] * 2, *["REQUEUED"] * 2]

    def test_a_limit_of_restarts_ends_it_as_failed(self, stories: Mapping[str, Story], opened: Opened):
        submission, job_id = of(stories, opened, "too often")
        assert records(opened, job_id) == [*[["REQUEUED", "0:0"]] * OFTEN, ["FAILED", "85:0"]]
        text = opened.written(submission)
        assert goes_on(text)
        assert f"saved, and not put back: started again {OFTEN} times already (checkpoint.restarts={OFTEN})" in text

    @pytest.mark.parametrize(
        ("kind", "end"),
        [
            ("short", ["COMPLETED", "0:0"]),
            ("failed", ["FAILED", "3:0"]),
            ("deaf", ["TIMEOUT", "0:0"]),
            ("cancelled", ["CANCELLED", "0:0"]),
        ],
    )
    def test_what_ends_otherwise_is_not_put_back(
        self, stories: Mapping[str, Story], opened: Opened, kind: str, end: list[str]
    ):
        """Also where it is cancelled and says that it has saved its state."""
        submission, job_id = of(stories, opened, kind)
        assert records(opened, job_id) == [end]
        if kind == "cancelled":
            assert told(opened.written(submission)) == ["attempt 0", "nothing", "saved", "SIGTERM"]
