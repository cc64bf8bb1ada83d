"""The script of a job that saves its state and is put back, run here: the programs of Slurm that it calls are stand-ins that note it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from westward.catalogue.load import load_site
from westward.jobs.template import compose_job
from westward.model.decision import Cost, Offer
from westward.slurm.script import render

SITE = Path(__file__).parents[2] / "data" / "sites" / "west.yaml"
SAVES = "trap 'echo told; exit 85' USR1; echo began; for i in {1..100}; do sleep 0.1; done; echo finished"


class Job:
    """One attempt, with what a cluster would say of it."""

    def __init__(self, root: Path, *overrides: str, restarts: int = 0, record: str = "JobState=RUNNING") -> None:
        root.mkdir(exist_ok=True)
        tools = root / "tools"
        tools.mkdir(exist_ok=True)
        self.asked = root / "asked"
        for name, said in {
            "scontrol": f'[ "$1" != --version ] || echo slurm-wlm 24.11.5; [ "$2" != show ] || echo "JobId=7 {record} Reason=None"',
            "sacct": "printf 'PREEMPTED\\nRUNNING\\n'",
        }.items():
            (tools / name).write_text(f'#!/bin/bash\necho "{name} $*" >>{self.asked}\n{said}\n')
            (tools / name).chmod(0o755)
        composed = compose_job("command", ["checkpoint.signal=USR1", "outputs=[]", *overrides])
        site = replace(load_site(SITE), root=str(root))
        offer = Offer(site.name, "cpu", None, 0.0, None, None, None, Cost())
        self.submission = render(composed.spec, offer, site, "abcdefghijkl")
        (root / "script").write_text(self.submission.script)
        self.log = root / "log"
        slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": self.submission.name}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["bash", str(root / "script")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=root,
                env={
                    "PATH": f"{tools}:/usr/bin:/bin",
                    "HOME": str(root),
                    "SLURM_RESTART_COUNT": str(restarts),
                    **slurm,
                },
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def calls(self) -> list[str]:
        return self.asked.read_text().splitlines() if self.asked.exists() else []

    def until(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)

    def end(self) -> int:
        return self.process.wait(20)


Start = Callable[..., Job]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def one(program: str, *overrides: str, **words: object) -> Job:
        quoted = program.replace("\\", "\\\\").replace("'", "\\'")
        return Job(tmp_path / "job", f"command=[bash,-c,'{quoted}']", *overrides, **words)  # type: ignore[arg-type]

    return one


REQUEUE = ["scontrol -o show job 7", "scontrol requeue 7"]


def test_told_saved_and_put_back(start: Start) -> None:
    job = start(SAVES)
    job.until("began")
    os.kill(job.process.pid, signal.SIGUSR1)
    assert job.end() == 85
    assert "told" in job.said() and "finished" not in job.said()
    assert job.calls() == REQUEUE


def test_a_signal_that_comes_before_the_program_is_kept_for_it(start: Start) -> None:
    job = start(SAVES, 'setup=["echo preparing; sleep 0.5"]')
    job.until("preparing")
    os.kill(job.process.pid, signal.SIGUSR1)
    assert job.end() == 85
    assert "told" in job.said()
    assert job.calls() == REQUEUE


def test_it_may_be_told_several_times(start: Start) -> None:
    job = start("trap 'echo told' USR1; echo began; for i in {1..60}; do sleep 0.1; done; exit 4")
    job.until("began")
    for times in (1, 2, 3):
        os.kill(job.process.pid, signal.SIGUSR1)
        deadline = time.monotonic() + 5
        while job.said().count("told") < times and time.monotonic() < deadline:
            time.sleep(0.02)
    assert job.end() == 4
    assert job.said().count("told") == 3
    assert job.calls() == []


@pytest.mark.parametrize("code", [0, 1, 3, 84, 86, 127, 255])
def test_any_other_end_is_the_job_s_own(start: Start, code: int) -> None:
    job = start(f"exit {code}")
    assert job.end() == code
    assert job.calls() == []


def test_a_program_that_stops_by_itself_says_so_too(start: Start) -> None:
    job = start("exit 7", "checkpoint.exit_code=7")
    assert job.end() == 7
    assert job.calls() == REQUEUE


def test_a_limit_of_restarts(start: Start) -> None:
    job = start("exit 85", "checkpoint.restarts=2", restarts=2)
    assert job.end() == 85
    assert "not put back: started again 2 times already (checkpoint.restarts=2)" in job.said()
    assert not any("requeue" in call for call in job.calls())


def test_a_job_that_is_being_cancelled_is_left_alone(start: Start) -> None:
    job = start("trap 'echo saving; exit 85' TERM; echo began; for i in {1..100}; do sleep 0.1; done")
    job.until("began")
    os.killpg(job.process.pid, signal.SIGTERM)  # as slurmd does: to all its processes
    assert job.end() == 85
    assert "saving" in job.said()
    assert job.calls() == []


@pytest.mark.parametrize("record", ["JobState=CANCELLED", "JobState=COMPLETING", "JobState=TIMEOUT"])
def test_so_is_one_that_has_ended_for_slurm(start: Start, record: str) -> None:
    job = start("exit 85", record=record)
    assert job.end() == 85
    assert job.calls() == REQUEUE[:1]


def test_and_one_that_slurm_itself_puts_back(start: Start) -> None:
    job = start("exit 85", record="JobState=RUNNING Reason=None PreemptTime=2026-01-31T08:00:00")
    assert job.end() == 85
    assert job.calls() == [*REQUEUE[:1], "scontrol --version"]
    assert "Slurm puts the job back" in job.said()


def test_the_next_attempt_knows_why(start: Start) -> None:
    job = start("exit 85")
    assert job.end() == 85
    tells = "echo now $WESTWARD_RESTARTS $WESTWARD_PREVIOUS"
    again = start(tells, restarts=1)
    assert again.end() == 0
    assert "now 1 CHECKPOINT\n" in again.said()
    preempted = start(tells, restarts=2)
    assert preempted.end() == 0
    assert "now 2 PREEMPTED\n" in preempted.said()
    assert preempted.calls()[-1] == f"sacct -DXnP -o state -j 7 --name {preempted.submission.name}"


def test_what_slurm_is_asked_for() -> None:
    spec = compose_job("command", ["checkpoint.signal=sigusr2", "checkpoint.before_s=300"]).spec
    site = load_site(SITE)
    submission = render(spec, Offer(site.name, "cpu", None, 0.0, None, None, None, Cost()), site, "abcdefghijkl")
    assert submission.requeue
    assert submission.options == {"open-mode": "append", "signal": "B:USR2@300"}
