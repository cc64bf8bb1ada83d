"""`./run demo` as a user types it, with a lab and a state directory of its own, and the researcher's ten minutes on it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory):
    name = f"demo-{os.getpid()}"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WESTWARD_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        yield name
        done = westward("lab", "down", name)
        assert done.returncode == 0, done.stderr
    left = docker.from_env().containers.list(all=True, filters={"label": f"org.westward.lab={name}"})
    assert not left


def westward(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "run", "westward", *words], capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_runs_both_jobs_and_writes_a_report(lab: str):
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


def test_the_ten_minutes_are_as_they_are_told(lab: str, tmp_path: Path):
    """Every command of the tour, in its order; `k3x` and `x3g` are the job and the sweep that were submitted last."""
    tour = (ROOT / "docs" / "researcher.md").read_text()
    commands = "".join(re.findall(r"^```tour\n(.*?)^```", tour, re.MULTILINE | re.DOTALL)).splitlines()
    assert len(commands) > 15
    keys = {"k3x": "", "x3g": ""}
    for command in commands:
        for stands, key in keys.items():
            command = command.replace(stands, key)
        command = re.sub(r"--site (\w+)", rf"--site {lab}-\1", command)
        done = subprocess.run(
            ["bash", "-c", f'westward() {{ {ROOT}/run westward "$@"; }}; {command}'],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        for stands, said in (("k3x", r"is job (\w{12})"), ("x3g", r"is sweep (\w{12})")):
            if found := re.search(said, done.stdout):
                keys[stands] = found[1]
