"""What happens when a cluster does not answer: the user is told, nothing is guessed, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from contract.clusters import PLAIN, Lab, westward
from contract.test_life import wait_for

pytestmark = pytest.mark.lab


@contextmanager
def paused(clusters: Lab, node: str) -> Iterator[None]:
    """All processes of a node stopped: connections are still accepted for it, and nothing answers."""
    container = docker.from_env().containers.get(f"{clusters.name}.{node}")
    container.pause()
    try:
        yield
    finally:
        container.unpause()


def token_file(clusters: Lab, cluster: str) -> Path:
    return Path(os.environ["WESTWARD_STATE_DIR"]) / "labs" / clusters.name / cluster / "researcher.jwt"


@pytest.fixture
def expired_token(clusters: Lab) -> Iterator[None]:
    """West's token replaced by a real one that has run out."""
    file = token_file(clusters, "west")
    good = file.read_text()
    short = (
        clusters.exec("west-ctl", "scontrol", "token", "username=researcher", "lifespan=1")
        .strip()
        .removeprefix("SLURM_JWT=")
    )
    time.sleep(2.1)
    file.write_text(short)
    yield
    file.write_text(good)


@pytest.mark.full
def test_a_hanging_site_is_marked_and_the_other_is_chosen(clusters: Lab):
    west, east = clusters.site("west"), clusters.site("east")
    with paused(clusters, "west-ctl"):
        plan = westward("plan", "allreduce", "--json").json
        assert plan["chosen"]["site"] == east
        assert [(item["site"], item["reachable"]) for item in plan["rejections"]] == [(west, False)]
        assert "no answer" in plan["rejections"][0]["reason"]
    assert westward("plan", "allreduce", "--json").json["chosen"]["site"] == west


def test_jobs_of_a_silent_site_are_unknown_and_come_back(clusters: Lab, submit):
    east = clusters.site("east")
    job = submit(*PLAIN, "command=[sleep,25]", "--site", east)
    wait_for(job["key"], "RUNNING")
    with paused(clusters, "east-ctl"):
        with ThreadPoolExecutor() as both:  # each waits for the site in vain
            told, shown = both.map(lambda words: westward(*words), [("jobs", "--json"), ("jobs",)])
        listed = next(item for item in told.json if item["key"] == job["key"])
        assert listed["state"] == "UNKNOWN" and listed["phase"] == "released"
        assert "no answer" in listed["reason"]
        assert "last seen" in next(line for line in shown.out.splitlines() if job["key"] in line)
    wait_for(job["key"], "COMPLETED", within_s=60)


def test_a_submission_without_an_answer_is_in_doubt_and_settled_later(clusters: Lab, tmp_path: Path):
    """slurmctld hangs after the site was chosen: the request is out, and nobody knows."""
    east = clusters.site("east")
    plan_then_hang = """
import sys, docker
from datetime import UTC, datetime
from westward.catalogue.load import load_catalogue
from westward.cli.main import main
from westward.jobs import lifecycle
from westward.slurm import restcall
restcall.SUBMIT_TIMEOUT_S = 3
container = docker.from_env().containers.get(sys.argv.pop(1))
def hang(step, job):
    if step == "intent":  # its version is known, its doors are open
        running[0]._client(job.site).accounting_backlog()
    if step == "attempt":
        container.pause()
running = []
init = lifecycle.Jobs.__init__
def begin(self, *a, **k):
    running.append(self)
    init(self, *a, **{**k, "on_step": hang})
lifecycle.Jobs.__init__ = begin
main()
"""
    node = f"{clusters.name}.east-ctl"
    client = [
        sys.executable,
        "-c",
        plan_then_hang,
        node,
        "submit",
        *PLAIN,
        "command=[/bin/true]",
        "name=doubtful",
        "--site",
        east,
    ]
    try:
        said = subprocess.run(client, capture_output=True, text=True, timeout=90, check=False)
    finally:
        docker.from_env().containers.get(node).unpause()
    assert said.returncode == 4, said.stderr
    assert "no answer" in said.stderr and "westward jobs" in said.stderr
    job = next(item for item in westward("jobs", "--json").json if item["name"] == "doubtful")
    wait_for(job["key"], "COMPLETED")
    states = [state for _, state in clusters.accounted("east", job["slurm_name"])]
    assert [state for state in states if not state.startswith("CANCELLED")] == ["COMPLETED"]


def test_an_expired_token_says_so_and_the_next_door_is_used(clusters: Lab, expired_token: None):
    """What is said where there is no other door: tests/contract/test_bad_doors.py."""
    said = westward("submit", *PLAIN, "command=[/bin/true]", "--site", clusters.site("west"), "--wait")
    assert said.status == 0
    assert "refused the token of user 'researcher' (expired" in said.err and "using shell" in said.err


def test_a_token_that_others_can_read_is_not_used(clusters: Lab):
    file = token_file(clusters, "west")
    file.chmod(0o644)
    try:
        said = westward("plan", "allreduce", "--site", clusters.site("west"))
    finally:
        file.chmod(0o600)
    assert said.status == 4 and "chmod 600" in said.err


def test_no_secret_in_what_is_printed_or_kept(clusters: Lab, submit):
    job = submit(*PLAIN, "command=[env]")
    wait_for(job["key"], "COMPLETED")
    token = token_file(clusters, job["site"].removeprefix(f"{clusters.name}-")).read_text().strip()
    ledger = (Path(os.environ["WESTWARD_STATE_DIR"]) / "ledger.sqlite").read_bytes()
    assert token.encode() not in ledger
    log = westward("logs", job["key"]).out
    assert "SLURM_JOB_ID" in log and token not in log and "SLURM_JWT" not in log


def test_a_full_disk_loses_nothing(clusters: Lab, submit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The ledger's disk is full: the job is refused before anything is sent."""
    disk = tmp_path / "disk"
    disk.mkdir()
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    subprocess.run([*as_root, "mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", str(disk)], check=True)
    try:
        (disk / "labs").symlink_to(Path(os.environ["WESTWARD_STATE_DIR"]) / "labs")
        monkeypatch.setenv("WESTWARD_STATE_DIR", str(disk))
        assert westward("jobs").status == 0
        filler = disk / "filler"
        filling = subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
        assert b"No space left" in filling.stderr
        said = westward("submit", *PLAIN, "command=[/bin/true]", "name=nospace")
        assert said.status == 4 and "full" in said.err
        for cluster in ("east", "west"):
            assert "nospace" not in clusters.exec(f"{cluster}-ctl", "squeue", "-ah", "-t", "all", "-o", "%j")
        filler.unlink()
        assert westward("submit", *PLAIN, "command=[/bin/true]", "name=nospace", "--wait").status == 0
    finally:
        subprocess.run([*as_root, "umount", str(disk)], check=True)
