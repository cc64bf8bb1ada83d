"""What the contract tests share: the command line as a user runs it, and what the clusters themselves say, who are the judge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from westward.lab import engine

# a job of our template without its benchmark: says what it does, and promises no file
PLAIN = ["gemm", "outputs=[]", "launcher=none"]
ENDED = frozenset(
    [
        "COMPLETED",
        "FAILED",
        "TIMEOUT",
        "OUT_OF_MEMORY",
        "NODE_FAIL",
        "PREEMPTED",
        "CANCELLED",
        "BOOT_FAIL",
        "DEADLINE",
        "LAUNCH_FAILED",
    ]
)
_KEY = re.compile(r"(?:^|(?<=\s))([A-Za-z][A-Za-z/:_]*)=")


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def westward(*args: str, timeout_s: float = 120, environment: Mapping[str, str] | None = None) -> Said:
    """Run `westward ARGS` in a process of its own, as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "westward.cli.main", *args],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def wait_until(there: Callable[[], bool], what: object, within_s: float = 40, every_s: float = 0.2) -> None:
    """Look until `there`; `what` is said (called, where it can be) when it does not come."""
    until = time.monotonic() + within_s
    while not there():
        assert time.monotonic() < until, f"after {within_s:.0f} s: {what() if callable(what) else what}"
        time.sleep(every_s)


@dataclass(frozen=True)
class Lab:
    """The lab under test: its sites and what its clusters themselves say."""

    name: str

    def site(self, cluster: str) -> str:
        return f"{self.name}-{cluster}"

    def run(self, node: str, *argv: str, user: str = "root") -> engine.Answer:
        """Run a command on a node, whatever its exit status."""
        return engine.execute(engine.connect(), f"{self.name}.{node}", argv, user=user)

    def exec(self, node: str, *argv: str) -> str:
        said = self.run(node, *argv)
        assert said.status == 0, said
        return said.stdout

    def accounted(self, cluster: str, name: str) -> list[tuple[str, str]]:
        """(job id, state) of every record that the cluster's accounting has under that job name, duplicates included."""
        out = self.exec(
            f"{cluster}-ctl",
            *["sacct", "-aXDnP", "-S", "now-1hour", "-E", "now+1hour", "-o", "jobid,state", "--name"],
            name,
        )
        return [(line.split("|")[0], line.split("|")[1]) for line in out.splitlines()]

    def queued(self, cluster: str, name: str) -> list[str]:
        return self.exec(f"{cluster}-ctl", "squeue", "-ah", "-t", "all", "-n", name, "-o", "%i").split()


@dataclass(frozen=True)
class Judge:
    """One cluster, asked by root on its controller, by none of the doors under test."""

    lab: Lab
    cluster: str

    def root(self, *argv: str) -> str:
        return self.lab.exec(f"{self.cluster}-ctl", *argv)

    def jobs(self, job_id: int) -> list[dict[str, str]]:
        """`scontrol show job`: one record, or several of an array's tasks; none where slurmctld does not know it."""
        said = self.lab.run(f"{self.cluster}-ctl", "scontrol", "-o", "show", "job", str(job_id))
        return [pairs(line) for line in said.stdout.splitlines() if line.startswith("JobId=")]

    def job(self, job_id: int) -> dict[str, str]:
        (record,) = self.jobs(job_id)
        return record

    def node(self, name: str) -> dict[str, str]:
        return pairs(self.root("scontrol", "-d", "-o", "show", "node", name))

    def states(self, job_ids: Collection[int]) -> dict[int, set[str]]:
        """By job: its state, or those of its tasks; from the accounting where it has left the queue."""
        found: dict[int, set[str]] = {job_id: set() for job_id in job_ids}
        for line in self.root("squeue", "-ahr", "-t", "all", "-o", "%F %T").splitlines():
            job_id, state = line.split()
            if int(job_id) in found:
                found[int(job_id)].add(state)
        left = [str(job_id) for job_id, states in found.items() if not states]
        if left:
            for line in self.root("sacct", "-aXnP", "-o", "jobid,state", "-j", ",".join(left)).splitlines():
                job, _, state = line.partition("|")
                found[int(job.partition("_")[0])].add(state.split()[0])
        return found

    def state(self, job_id: int) -> str:
        return "+".join(sorted(self.states([job_id])[job_id]))

    def wait(self, job_ids: Iterable[int], *wanted: str, within_s: float = 60) -> None:
        """Until each of these jobs, and all tasks of an array, are in one of these states."""
        ids = list(job_ids)
        wait_until(
            lambda: all(states and states <= set(wanted) for states in self.states(ids).values()),
            lambda: f"{self.cluster}: not all {'/'.join(wanted)}: {self.states(ids)}",
            within_s,
        )

    def wait_for_end(self, job_ids: Iterable[int], within_s: float = 60) -> None:
        self.wait(job_ids, *ENDED, within_s=within_s)

    def wait_until_left(self, job_ids: Collection[int], within_s: float = 60) -> None:
        """Until slurmctld has forgotten these jobs (MinJobAge) and the accounting alone knows them."""
        wanted = {str(job_id) for job_id in job_ids}

        def left() -> bool:
            return not wanted & set(self.root("squeue", "-ah", "-t", "all", "-o", "%F").split())

        wait_until(left, f"{self.cluster}: some of {wanted} stay in the queue", within_s, every_s=0.5)

    def records(self, job_ids: Collection[int], fields: str) -> list[list[str]]:
        """`sacct` with duplicates, without steps: those fields of each record of these jobs."""
        ids = ",".join(map(str, job_ids))
        return [line.split("|") for line in self.root("sacct", "-aXDnP", "-o", fields, "-j", ids).splitlines()]


def pairs(line: str) -> dict[str, str]:
    """Key=value of a line that scontrol prints with -o."""
    marks = list(_KEY.finditer(line))
    ends = [mark.start() for mark in marks[1:]] + [len(line)]
    found: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=True):
        found.setdefault(mark[1], line[mark.end() : end].strip())
    return found
