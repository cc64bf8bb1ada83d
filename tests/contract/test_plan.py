"""`westward plan` and budgets as a user has them, on two real clusters."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.clusters import Judge, Lab, wait_until, westward

pytestmark = pytest.mark.lab

JOB = ["command", "command=[sleep,60]", "mem=10M", "walltime=00:10:00"]


@pytest.fixture
def quota(clusters: Lab) -> Iterator[Judge]:
    """The west, where the researcher may have two jobs at once and run one of them."""
    judge = Judge(clusters, "west")
    change = ("sacctmgr", "-i", "modify", "user", "researcher", "set")
    judge.root(*change, "MaxJobs=1", "MaxSubmitJobs=2")
    shown = ("scontrol", "-o", "show", "assoc_mgr", "flags=assoc", "users=researcher")
    wait_until(lambda: "MaxSubmitJobs=2(" in judge.root(*shown), "the limit does not come")
    try:
        yield judge
    finally:
        judge.root("scancel", "--user=researcher")
        judge.root(*change, "MaxJobs=-1", "MaxSubmitJobs=-1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A project that may spend an accelerator-hour; one of its own for each test, since their ledger is one."""
    name = f"thesis-{request.node.name}"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "westward").mkdir()
    file = tmp_path / "westward" / "budgets.yaml"
    file.write_text(f"projects: {{{name}: {{since: 2020-01-01, accelerator_hours: 1}}}}\n")
    return name


def test_a_quota_that_fills_up_is_foreseen_and_submit_says_which_it_is(clusters: Lab, submit, quota: Judge):
    west = ["--site", clusters.site("west")]
    said = westward("plan", *JOB, *west)
    assert said.status == 0, said.err
    assert "within all" in said.out and "by sbatch --test-only, on west-n" in said.out
    assert "0.1667 node-hours, 0.1667 core-hours" in said.out
    submit(*JOB, *west)
    said = westward("plan", *JOB, *west)
    assert said.status == 0 and "accepted, and waits:" in said.out
    assert "MaxJobs is 1, 1 in use, asked: 1" in said.out
    submit(*JOB, *west)
    said = westward("plan", *JOB, *west)
    assert said.status == 2
    assert "MaxSubmitJobs is 2, 2 in use, asked: 1" in said.out and "would refuse this job" in said.err
    assert "westward cancel" in said.err
    facts = json.loads(westward("plan", *JOB, *west, "--json").out)
    assert facts["limits"]["verdict"] == "refused" and facts["test_only"]["refusal"]
    refused = westward("submit", *JOB, *west)
    assert refused.status == 2
    assert "MaxSubmitJobs is 2, 2 in use, asked: 1" in refused.err and "westward cancel" in refused.err
    elsewhere = westward("plan", *JOB, "--site", clusters.site("east"))
    assert elsewhere.status == 0 and f"elsewhere {clusters.site('west')}/gpu: refused" in elsewhere.out


def test_a_quota_is_foreseen_for_a_sweep_and_for_a_script_as_for_a_job(
    clusters: Lab, quota: Judge, tmp_path: Path
) -> None:
    """Two jobs may be there, and one may run: of three arrays that go there one by one two are let in, if each is one job."""
    west = ["--site", clusters.site("west")]
    words = ["command", "command=[sleep,60]", "mem=10M", *west, "-m"]
    said = westward("plan", *words, "walltime=5,6,7")
    assert said.status == 2, said
    assert "limits, of 3 jobs: 1 refused; 2 within" in said.out
    assert "1 of 3 points would be refused" in said.err and "MaxSubmitJobs is 2, 2 in use, asked: 1" in said.err
    fits = westward("plan", *words, "walltime=5,6")
    assert (fits.status, "limits: all 2 jobs within" in fits.out) == (0, True), fits
    # the array is cut in two, and the second part has no room
    cut = westward("plan", *words, "env.N=1,2,3", "--json")
    assert cut.status == 2
    assert [(job["points"], job["limits"]["verdict"]) for job in json.loads(cut.out)["jobs"]] == [
        ([0, 1], "ok"),
        ([2], "refused"),
    ]
    # as foreseen; which of them is the one is not, since several are sent at a time
    done = westward("submit", *words, "walltime=5,6,7", "--json")
    assert done.status == 2
    assert sum(bool(job["error"]) for job in json.loads(done.out)["jobs"]) == 1
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --time=5 --mem=10M\nhostname\n")
    plan = westward("route", "--plan", *west, str(script))
    assert (
        plan.status == 2 and "limits     refused:" in plan.out and "MaxSubmitJobs is 2, 2 in use, asked: 1" in plan.out
    )
    quota.root("scancel", "--user=researcher")
    wait_until(lambda: not quota.root("squeue", "-h", "-u", "researcher"), "they do not go")
    plan = westward("route", "--plan", *west, str(script))
    assert plan.status == 0 and "limits     within all" in plan.out, plan


def test_what_has_changed_since_the_last_submission(clusters: Lab, submit, tmp_path, monkeypatch):
    job = submit(*JOB, "--site", clusters.site("west"))
    same = westward("plan", *JOB, "--site", clusters.site("west"), "--diff")
    assert f"against job {job['key']} of" in same.out and "nothing has changed" in same.out
    other = westward("plan", *JOB, "walltime=00:20:00", "--site", clusters.site("east"), "--diff")
    assert "00:10:00 -> 00:20:00" in other.out and "+#SBATCH --time=00:20:00" in other.out
    assert f"{clusters.site('west')} -> {clusters.site('east')}" in other.out
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "never.yaml").write_text("# @package _global_\ndefaults: [/job/command]\nname: never\n")
    monkeypatch.setenv("WESTWARD_CONF", str(tmp_path))
    assert "was submitted before" in westward("plan", "never", "--diff").out


def test_what_a_job_ran_before_it_was_put_back_is_spent_too(clusters: Lab, project: str):
    """Put back after some seconds, it runs again to its end: the project has spent what sacct has of both attempts."""
    judge = Judge(clusters, "west")
    words = ["command", "command=[sleep,6]", "accelerators=any:4", "walltime=10", "requeue=true", f"project={project}"]
    job = westward("submit", *words, "--site", clusters.site("west"), "--json").json
    number = job["slurm_job_id"]
    judge.wait([number], "RUNNING")
    time.sleep(3)
    judge.root("scontrol", "requeue", str(number))
    wait_until(lambda: judge.state(number) == "PENDING", lambda: judge.job(number))
    judge.root("scontrol", "update", f"jobid={number}", "starttime=now")  # Slurm would wait for two minutes
    assert westward("watch", job["key"]).status == 0
    elapsed = judge.root("sacct", "-X", "-D", "-n", "-P", "-j", str(number), "-o", "ElapsedRaw").split()
    assert len(elapsed) == 2 and min(map(int, elapsed)) >= 2, elapsed
    (left,) = json.loads(westward("budgets", "--json").out)
    # started and ended are whole seconds
    assert abs(left["spent"]["accelerator_hours"] - 4 * sum(map(int, elapsed)) / 3600) < 4 * 1.5 / 3600


def test_of_two_at_once_one_has_what_the_project_has_left(clusters: Lab, project: str):
    """Four submissions of 40 accelerator-minutes each, as processes of their own: only one fits into the hour."""
    words = [
        "submit",
        "command",
        "command=[sleep,5]",
        "accelerators=any:4",
        "walltime=10",
        f"project={project}",
        "--json",
    ]

    def run(_: int) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "westward.cli.main", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(run, range(4)))
    assert sorted(each.returncode for each in done) == [0, 5, 5, 5], [each.stderr for each in done]
    (kept,) = [json.loads(each.stdout) for each in done if each.returncode == 0]
    assert all(f"project '{project}' has not enough left" in each.stderr for each in done if each.returncode)
    plan = westward("plan", *words[1:-1])
    assert plan.status == 5 and "0.3333 accelerator-hours left of 1" in plan.out
    # when it has ended it counts with what it ran
    assert westward("watch", kept["key"]).status == 0
    (left,) = json.loads(westward("budgets", "--json").out)
    assert left["reserved"]["accelerator_hours"] == 0 and left["spent"]["accelerator_hours"] < 0.1
    assert westward("plan", *words[1:-1]).status == 0
