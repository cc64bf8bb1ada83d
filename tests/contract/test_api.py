"""The Python API on real clusters, and the notebook that shows it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import westward
from contract.clusters import Lab
from contract.clusters import westward as command_line
from westward.errors import InputError, NoSiteFits
from westward.model.job import JobState

pytestmark = pytest.mark.lab
NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "tour.ipynb"


def test_a_template_and_its_result(clusters: Lab) -> None:
    job = westward.submit("gemm", size=256, dtype="f32", site=None, policy="cheapest")
    assert job.outputs == ("result.json",)
    result = job.result(timeout=120)
    assert result.ok and result.record is not None and result.files["result.json"].is_file()
    assert {row["dtype"] for row in result.record["rows"]} == {"f32"}
    cluster = job.site.removeprefix(f"{clusters.name}-")
    assert clusters.accounted(cluster, Path(job.directory).name)[0][1] == "COMPLETED"


def test_any_command_with_any_value(clusters: Lab) -> None:
    hostile = 'it\'s "1", 2\n$(hostname) ${name}'
    job = westward.submit(
        ["sh", "-c", 'printf "%s" "$WORDS"; printf "|%s" "$@"', "sh", hostile, ""], env={"WORDS": hostile}
    )
    assert job.wait(120) is JobState.COMPLETED
    assert job.logs() == f"{hostile}|{hostile}|"


def test_jobs_at_two_sites_come_as_they_end(clusters: Lab) -> None:
    wanted = [(9, "east"), (1, "west"), (5, "east")]
    jobs = [westward.submit(["sleep", str(seconds)], site=clusters.site(cluster)) for seconds, cluster in wanted]
    assert list(westward.as_completed(jobs, timeout=120)) == [jobs[1], jobs[2], jobs[0]]
    assert {job.state for job in jobs} == {JobState.COMPLETED}


def test_a_failure_is_raised_with_the_end_of_its_log(clusters: Lab) -> None:
    job = westward.submit(["sh", "-c", "seq 20; printf 'the \\033[2Jreason\\n'; exit 7"])
    with pytest.raises(westward.JobFailed) as told:
        job.result(timeout=120)
    assert "FAILED with exit code 7" in str(told.value) and str(told.value).endswith(
        "the \N{REPLACEMENT CHARACTER}[2Jreason"
    )
    assert told.value.log.startswith("1\n2\n") and job.key in told.value.next_step
    assert job.status().exit_code == 7


def test_waiting_has_an_end_and_cancel_ends_the_job(clusters: Lab) -> None:
    job = westward.submit(["sleep", "300"])
    assert not job.done()
    with pytest.raises(TimeoutError):
        job.result(timeout=0.5)
    job.cancel()
    assert job.wait(60) is JobState.CANCELLED and job.done()
    with pytest.raises(westward.JobFailed, match="CANCELLED"):
        job.result()


def test_the_command_line_and_another_handle_see_the_same_job(clusters: Lab) -> None:
    job = westward.submit(["true"], name="seen twice")
    assert command_line("watch", job.key).status == 0
    again = westward.job(job.key[:6])
    assert again == job and again.name == "seen twice" and again.wait(0) is JobState.COMPLETED
    assert job in westward.list_jobs(limit=5)


def test_a_sweep_where_a_point_fails(clusters: Lab) -> None:
    values = [
        ["sh", "-c", f"echo {word}; sleep {seconds}; exit {code}"] for word, seconds, code in (("a", 4, 0), ("b", 0, 3))
    ]
    made = westward.sweep("command", command=values, walltime="00:05:00", overrides=["name=two"])
    assert len(made.jobs) == 1 and [point.task for point in made] == [0, 1]  # one array
    assert [point.number for point in made.as_completed(timeout=120)] == [1, 0]
    first, second = made.results()
    assert isinstance(first, westward.JobResult) and first.ok
    assert isinstance(second, westward.JobFailed) and str(second).endswith("ended FAILED; its log ends:\n  b")
    again = westward.find_sweep(made.key)
    assert [str(point.state) for point in again] == ["COMPLETED", "FAILED"] and again[0].logs() == "a\n"


def test_what_the_points_of_a_sweep_wrote(clusters: Lab) -> None:
    made = westward.sweep("gemm", size=[64, 128], repeats=1, dtype="f32")
    for point, result in zip(made, made.results(timeout=120), strict=True):
        assert isinstance(result, westward.JobResult) and result.record is not None, result
        assert f"size={result.record['rows'][0]['size']}" in point.overrides
        assert result.files["result.json"].parent.name == str(point.task)


def test_a_script_goes_as_it_is(clusters: Lab, tmp_path: Path) -> None:
    script = tmp_path / "train.sbatch"
    script.write_text('#!/bin/sh\n#SBATCH --time=9\necho "$SLURM_JOB_NUM_NODES: $1"\n')
    job = westward.route(script, "two words", options=["-N", "2"], site=clusters.site("east"))
    assert job.wait(120) is JobState.COMPLETED
    assert job.logs() == "2: two words\n"


def test_what_cannot_be_is_said_before_anything_is_submitted(clusters: Lab) -> None:
    before = len(westward.list_jobs())
    decision = westward.plan("allreduce", nodes=20)
    assert decision.chosen is None and {item.site for item in decision.rejections} >= {clusters.site("east")}
    with pytest.raises(NoSiteFits, match="2 of 2 nodes usable, 20 were asked for"):
        westward.submit("allreduce", nodes=20)
    with pytest.raises(InputError, match="has no key 'sise'"):
        westward.submit("gemm", sise=1)
    assert len(westward.list_jobs()) == before


def test_it_waits_beside_an_event_loop(clusters: Lab) -> None:
    async def both() -> tuple[list[JobState], float]:
        jobs = [westward.submit(["sleep", "2"]) for _ in range(2)]
        begun, longest = time.monotonic(), 0.0
        waiting = asyncio.gather(*(asyncio.to_thread(job.wait, 120) for job in jobs))
        while not waiting.done():
            before = time.monotonic()
            await asyncio.sleep(0.05)
            longest = max(longest, time.monotonic() - before)
        assert time.monotonic() - begun > 1
        return list(await waiting), longest

    states, longest = asyncio.run(both())
    assert states == [JobState.COMPLETED] * 2
    assert longest < 1  # the loop went on meanwhile


def test_the_notebook_runs(clusters: Lab, tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    program = tmp_path / "tour.py"
    program.write_text("\n\n".join("".join(cell["source"]) for cell in code))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no such data set" in done.stdout
