"""A job starts exactly once, whenever its client dies. Judged by the clusters' own accounting, not by our ledger."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contract.clusters import PLAIN, Lab, westward

pytestmark = pytest.mark.lab

# submits a job and kills its own process, hard, right after the named step
KILLED_AT = """
import os, signal, sys
from datetime import UTC, datetime
from westward.catalogue.load import load_catalogue
from westward.federation.router import route
from westward.federation.snapshot import take_snapshot
from westward.jobs.lifecycle import Jobs
from westward.jobs.template import compose_job
from westward.store.ledger import Ledger

def die(step, job):
    if step == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

catalogue = load_catalogue()
composed = compose_job("gemm", ["outputs=[]", "launcher=none", "command=[/bin/true]"])
decision = route(composed.spec, composed.policy, composed.region, catalogue, take_snapshot(catalogue.sites), datetime.now(UTC))
with Jobs(Ledger(), catalogue.sites, on_step=die) as jobs:
    jobs.submit(composed.spec, decision)
"""


@pytest.fixture
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A ledger with nothing else in it, over the same lab."""
    labs = Path(os.environ["WESTWARD_STATE_DIR"]) / "labs"
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "labs").symlink_to(labs)
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(state))


def settled_job():
    """The one job of the ledger, after the next command has had time to bring it to its end."""
    deadline = time.monotonic() + 40
    while True:
        listed = westward("jobs", "--json").json
        assert len(listed) <= 1
        if not listed or listed[0]["phase"] in ("ended", "refused"):
            return listed[0] if listed else None
        assert time.monotonic() < deadline, listed
        time.sleep(0.5)


def starts(clusters: Lab, job) -> list[str]:
    """States of all records under the job's name at all clusters; what never became eligible is in no accounting, only in the queue."""
    found = []
    for cluster in ("east", "west"):
        found += [state for _, state in clusters.accounted(cluster, job["slurm_name"])]
    return found


@pytest.mark.parametrize("step", ["intent", "attempt", "sent", "held", "released"])
def test_killed_right_after_each_step(clusters: Lab, own_ledger, step: str):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, step], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    job = settled_job()
    assert (job["phase"], job["state"]) == ("ended", "COMPLETED")
    assert starts(clusters, job) == ["COMPLETED"]


def test_killed_at_any_moment(clusters: Lab, own_ledger, tmp_path: Path):
    """The real command, killed after a random time: either nothing was recorded and nothing ran, or it ran once."""
    moments = random.Random(20261122)
    ran, takes_s = 0, 0.0
    for round_number in range(7):
        state = tmp_path / f"round-{round_number}"
        state.mkdir(mode=0o700)
        (state / "labs").symlink_to((tmp_path / "state" / "labs").resolve())
        os.environ["WESTWARD_STATE_DIR"] = str(state)
        command = [sys.executable, "-m", "westward.cli.main", "submit", *PLAIN, "command=[/bin/true]"]
        began = time.monotonic()
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if round_number == 0:  # this one may end: it tells how long it takes here and now
            assert client.wait(60) == 0
            takes_s = time.monotonic() - began
            continue
        time.sleep(moments.uniform(0.4, 1.0) * takes_s)
        client.kill()
        client.wait()
        job = settled_job()
        if job is not None:
            ran += 1
            assert (job["phase"], job["state"]) == ("ended", "COMPLETED")
            assert starts(clusters, job) == ["COMPLETED"]
    assert ran > 0, "every client was killed before it had recorded anything: the moments are too early"


def test_a_late_twin_is_found_and_never_starts(clusters: Lab, own_ledger):
    """The first request arrives only after the job was submitted again: what a gateway that holds requests does."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, "attempt"], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    job = settled_job()
    assert job["attempts"] == 2 and job["state"] == "COMPLETED"
    late = """
import sys
from westward.catalogue.load import load_catalogue
from westward.slurm.client import open_client
from westward.store.ledger import Ledger
job = Ledger().find(sys.argv[1])
with open_client(load_catalogue().sites[job.site]) as client:
    print(*client.submit([job.submission]))
"""
    twin = subprocess.run(
        [sys.executable, "-c", late, job["key"]], capture_output=True, text=True, timeout=60, check=True
    )
    cluster = job["site"].removeprefix(f"{clusters.name}-")
    assert twin.stdout.strip() in clusters.queued(cluster, job["slurm_name"])
    westward("jobs")
    states = clusters.exec(
        f"{cluster}-ctl", "squeue", "-ah", "-t", "all", "-n", job["slurm_name"], "-o", "%i %T"
    ).split("\n")
    assert f"{twin.stdout.strip()} CANCELLED" in states
    assert [state for state in starts(clusters, job) if not state.startswith("CANCELLED")] == ["COMPLETED"]


def test_two_processes_settle_the_same_job_once(clusters: Lab, own_ledger):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, "intent"], capture_output=True, text=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "westward.cli.main", "jobs"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    job = settled_job()
    assert job["attempts"] == 1
    assert starts(clusters, job) == ["COMPLETED"]
