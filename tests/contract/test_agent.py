"""The agent: it acts when its user has logged off, one at a time, and may be killed at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.clusters import PLAIN, Lab, westward

pytestmark = pytest.mark.lab


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.full), "postgres"])
def own_ledger(
    clusters: Lab, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A ledger of our own over the same lab: in the state directory, and in a real PostgreSQL. No agent is left behind."""
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "labs").symlink_to(Path(os.environ["WESTWARD_STATE_DIR"]) / "labs")
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    if request.param == "postgres":
        monkeypatch.setenv("WESTWARD_LEDGER", request.getfixturevalue("postgres_url"))
    yield
    assert westward("agent", "stop").status == 0


def agent() -> Any:
    return westward("agent", "status", "--json").json


def ended(key: str, within_s: float = 60) -> Any:
    """The job once it has ended, by the ledger alone: no command of ours takes it further, since an agent is there."""
    until = time.monotonic() + within_s
    while True:
        (job,) = (job for job in westward("jobs", "--json").json if job["key"] == key)
        if job["phase"] in ("ended", "refused"):
            return job
        assert time.monotonic() < until, job
        time.sleep(0.5)


def test_it_releases_a_job_that_waits_for_one_at_another_site(clusters: Lab, own_ledger: None):
    first = westward("submit", *PLAIN, "command=[sleep,4]", "--site", clusters.site("west"), "--json").json
    said = westward(
        "submit", *PLAIN, "command=[/bin/true]", f"depends_on=['afterok:{first['key']}']", "--site", clusters.site("east"),
        "--json",
    )  # fmt: skip
    second = said.json
    assert second["phase"] == "held"
    assert "no agent is running" in said.err and "westward agent start" in said.err
    assert [job["key"] for job in agent()["waiting"]] == [second["key"]]
    assert westward("agent", "start").status == 0
    os.kill(int(agent()["holder"].split("/")[1]), signal.SIGKILL)  # a host that goes down takes its agent with it
    until = time.monotonic() + 10
    while agent()["alive"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert westward("agent", "start").status == 0
    before, after = ended(first["key"]), ended(second["key"])
    assert (before["state"], after["state"]) == ("COMPLETED", "COMPLETED")
    assert after["started_at"] >= before["ended_at"]
    assert [state for _, state in clusters.accounted("east", second["slurm_name"])] == ["COMPLETED"]


def test_a_job_whose_dependency_fails_is_cancelled_and_says_why(clusters: Lab, own_ledger: None):
    first = westward(
        "submit", *PLAIN, "command=[bash,-c,'sleep 8; false']", "--site", clusters.site("west"), "--json"
    ).json
    second = westward(
        "submit", *PLAIN, "command=[/bin/true]", f"depends_on=['afterok:{first['key']}']", "--site", clusters.site("east"),
        "--json",
    ).json  # fmt: skip
    assert westward("agent", "start").status == 0
    job = ended(second["key"])
    assert job["state"] == "CANCELLED" and first["key"] in job["reason"] and "FAILED" in job["reason"]
    assert clusters.accounted("east", second["slurm_name"]) in (
        [],
        [(str(second["slurm_job_id"]), "CANCELLED by 1000")],
    )


def test_there_is_one_at_a_time(own_ledger: None):
    assert westward("agent", "start").status == 0
    holder = agent()["holder"]
    second = subprocess.run(
        [sys.executable, "-m", "westward.cli.main", "agent", "run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 5 and "another agent" in second.stderr
    assert "already" in westward("agent", "start").out
    assert agent()["holder"] == holder
