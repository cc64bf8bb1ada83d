"""`westward provenance`: what a job came from, while it goes on and afterwards."""

from __future__ import annotations

import json

from unit.cli.test_multirun import slurm, westward
from unit.slurm.fakes import FakeSlurm
from westward.store.ledger import Ledger

__all__ = ["slurm"]


def test_of_a_job_that_goes_on(slurm: FakeSlurm) -> None:
    assert westward("submit", "gemm", "size=64", "checkpoint.signal=USR1").returncode == 0
    (job,) = Ledger().jobs()
    told = json.loads(westward("provenance", job.key, "--json").stdout)
    assert told["config"]["size"] == 64
    assert told["submitted"]["westward"] and told["script"] == job.submission.script
    shown = westward("provenance", job.key)
    assert shown.returncode == 0 and "Traceback" not in shown.stderr
    words = " ".join(shown.stdout.split())
    for said in ("size=64", "policy=", "'signal': 'USR1'", f"'westward provenance {job.key}' fetches them"):
        assert said in words
    assert "container" not in words and "requeue" not in words, "what says nothing is left out"


def test_a_job_that_is_not_known(slurm: FakeSlurm) -> None:
    assert westward("provenance", "zzzz").returncode == 2
