"""`./run demo` as a user types it, with a lab and a state directory of its own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = f"demo-{os.getpid()}"
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    yield name
    done = subprocess.run(
        [ROOT / "run", "westward", "lab", "down", name], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    left = docker.from_env().containers.list(all=True, filters={"label": f"org.westward.lab={name}"})
    assert not left


def test_the_demo_runs_both_jobs_and_writes_a_report(lab: str, tmp_path: Path):
    for _ in range(2):  # the second call finds everything there
        done = subprocess.run(
            [ROOT / "run", "demo", "--lab", lab],
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
            env=dict(os.environ),  # the process's own may hold the COLUMNS that readline put there
        )
        assert done.returncode == 0, done.stdout + done.stderr
        out = done.stdout
        for command in ("plan allreduce nodes=2", "submit allreduce nodes=2", "submit gemm", "bench report"):
            assert f"$ westward {command}" in out
        assert f"allreduce at {lab}-west, COMPLETED" in out
        assert f"gemm at {lab}-east, COMPLETED" in out
        assert "latency_p99" in out and "busbw" in out and "GFLOP/s" in out
        report = Path(re.search(r"^report: (.+)$", out, re.MULTILINE)[1])
        page = report.read_text()
        assert page.count("<svg") == 3 and "Slurm job" in page
        assert not re.search(r"""(src|href)=["']https?:""", page)
        assert "westward lab shell" in out and f"westward lab down {lab}" in out
