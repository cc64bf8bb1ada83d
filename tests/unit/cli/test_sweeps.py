"""`westward retry SWEEP` and `results SWEEP`, as a user runs them; what the cluster says of the tasks is written into the ledger here."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from unit.cli.test_multirun import lines, slurm, sweep_of, westward
from unit.slurm.fakes import FakeSlurm
from westward.model.job import Array, JobState, JobStatus
from westward.store.ledger import Ledger

__all__ = ["slurm"]


def a_sweep(*more: str) -> dict[str, Any]:
    done = westward("submit", "gemm", "size=16,32,64", "outputs=[]", *more, "-m", "--json")
    assert done.returncode == 0, done.stderr
    return sweep_of(done)


def ends(key: str, tasks: dict[JobState, str], over: bool = True) -> None:
    ledger = Ledger()
    job = ledger.get(key)
    counts = {state: Array.parse(ids).tasks for state, ids in tasks.items()}
    worst = next((state for state in counts if state is not JobState.COMPLETED), JobState.COMPLETED)
    status = JobStatus(
        job.job_id or 0,
        job.submission.name,
        worst,
        exit_code=3,
        started_at=datetime.now(UTC),
        tasks=counts,
        task_ids=tasks,
    )
    ledger.seen({key: status}, ended=[key] if over else [])


MIXED = {JobState.COMPLETED: "0,2", JobState.FAILED: "1"}


class TestResults:
    def test_one_table_with_what_failed_in_it(self, slurm: FakeSlurm) -> None:
        told = a_sweep()
        ends(told["jobs"][0]["key"], MIXED)
        done = westward("results", told["sweep"][:6])
        assert done.returncode == 1
        assert [line.split()[:3] for line in lines(done.stdout, "west")] == [
            ["0", "16", "COMPLETED"], ["1", "32", "FAILED"], ["2", "64", "COMPLETED"],
        ]  # fmt: skip
        assert "3 points: 2 COMPLETED, 1 FAILED" in done.stderr
        assert f"sweep {told['sweep']}: 1 of 3 points did not succeed:\n  size=32: ended FAILED" in done.stderr
        key = told["jobs"][0]["key"]
        assert (
            f"next:  what it wrote: westward logs {key} --task 1; submit again what is missing: westward retry {told['sweep']}"
            in done.stderr
        )

    def test_all_went_well(self, slurm: FakeSlurm) -> None:
        told = a_sweep()
        ends(told["jobs"][0]["key"], {JobState.COMPLETED: "0-2"})
        assert westward("results", told["sweep"]).returncode == 0

    def test_csv_into_a_file_which_is_never_overwritten_untold(self, slurm: FakeSlurm, tmp_path: Path) -> None:
        told = a_sweep()
        ends(told["jobs"][0]["key"], MIXED)
        file = tmp_path / "my table.csv"
        assert westward("results", told["sweep"], "--output", str(file)).returncode == 1
        with file.open(newline="") as text:
            rows = list(csv.DictReader(text))
        assert [(row["size"], row["state"], row["task"]) for row in rows] == [
            ("16", "COMPLETED", "0"), ("32", "FAILED", "1"), ("64", "COMPLETED", "2"),
        ]  # fmt: skip
        beside = tmp_path / "my table.csv.provenance.json"
        facts = json.loads(beside.read_text())
        assert facts["overrides"] == ["size=16,32,64", "outputs=[]"] and len(facts["jobs"][0]["points"]) == 3
        assert facts["submitted"][facts["jobs"][0]["submitted"]]["directory"] == str(Path.cwd())
        file.unlink()
        done = westward("results", told["sweep"], "--output", str(file))
        assert done.returncode == 5 and f"'{beside}' is there already" in done.stderr
        assert not file.exists()
        assert westward("results", told["sweep"], "--output", str(file), "--format", "json", "--force").returncode == 1
        assert json.loads(file.read_text())["sweep"] == told["sweep"]

    def test_json_on_the_terminal(self, slurm: FakeSlurm) -> None:
        told = a_sweep()
        ends(told["jobs"][0]["key"], MIXED)
        for words in (["--json"], ["--format", "json"]):
            found = json.loads(westward("results", told["sweep"], *words).stdout)
            assert [row["size"] for row in found["rows"]] == [16, 32, 64]
            assert (found["template"], found["overrides"]) == ("gemm", ["size=16,32,64", "outputs=[]"])

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--format", "xlsx"], "one of table, csv, json, parquet was expected"),
            (["--format", "parquet"], "a Parquet file is not for a terminal"),
            (["--format", "table", "--output", "x"], "--format table is for a terminal"),
            (["--output-dir", "x"], "its table is one file"),
        ],
    )
    def test_what_cannot_be_is_said(self, slurm: FakeSlurm, words: list[str], said: str) -> None:
        done = westward("results", a_sweep()["sweep"], *words)
        assert done.returncode == 2 and said in done.stderr

    def test_a_job_has_no_table(self, slurm: FakeSlurm) -> None:
        told = a_sweep()
        done = westward("results", told["jobs"][0]["key"], "--format", "csv")
        assert done.returncode == 2 and f"its sweep: westward results {told['sweep']}" in done.stderr


class TestRetry:
    def test_only_what_failed_is_submitted_again(self, slurm: FakeSlurm) -> None:
        told = a_sweep("nodes=1,2")
        ends(told["jobs"][0]["key"], MIXED)
        ends(told["jobs"][1]["key"], {JobState.COMPLETED: "0,1", JobState.CANCELLED: "2"})
        done = westward("retry", told["sweep"])
        assert done.returncode == 0, done.stderr
        assert f"gemm is sweep {told['sweep']}: 2 of 2 points submitted again" in done.stdout
        assert len(slurm.calls("sbatch")) == 4
        new = {job.key: job for job in Ledger().jobs()[:2]}
        assert {job.sweep for job in new.values()} == {told["sweep"]}
        assert sorted(job.submission.nodes or 0 for job in new.values()) == [1, 2]
        for key in new:
            status = JobStatus(new[key].job_id or 0, new[key].submission.name, JobState.COMPLETED)
            Ledger().seen({key: status}, ended=[key])
        facts = json.loads(westward("provenance", told["sweep"], "--json").stdout)
        again = [job for job in facts["jobs"] if job["job"] in new]
        assert [(job["submitted"], job["config"]["dtype"], "size" in job["config"]) for job in again] == [
            (1, "f64", False)
        ] * 2
        assert sorted(job["points"][0]["overrides"][0] for job in again) == ["size=32", "size=64"]
        shown = westward("provenance", told["sweep"])
        assert shown.returncode == 0 and "Traceback" not in shown.stderr
        for key in new:
            assert f"job {key}" in shown.stdout
        once_more = westward("retry", told["sweep"])
        assert (once_more.returncode, once_more.stdout) == (
            0,
            f"nothing of sweep {told['sweep']} is missing: 6 COMPLETED\n",
        )
        assert westward("results", told["sweep"]).returncode == 0
        assert len(slurm.calls("sbatch")) == 4

    def test_so_is_what_ended_well_and_left_no_result(self, slurm: FakeSlurm) -> None:
        told = a_sweep("outputs=[result.json]")
        ends(told["jobs"][0]["key"], {JobState.COMPLETED: "0-2"})
        folder = Path(Ledger().get(told["jobs"][0]["key"]).submission.directory)
        for task in (0, 2):
            (folder / str(task)).mkdir(parents=True)
            (folder / str(task) / "result.json").write_text('{"status": "ok"}')
        again = sweep_of(westward("retry", told["sweep"], "--json"))
        assert [point["point"] for point in again["points"]] == [1]

    def test_json_says_which_points_they_are(self, slurm: FakeSlurm) -> None:
        told = a_sweep()
        ends(told["jobs"][0]["key"], {JobState.COMPLETED: "1", JobState.TIMEOUT: "0,2"})
        again = sweep_of(westward("retry", told["sweep"], "--json"))
        assert [(point["point"], point["overrides"][0], point["task"]) for point in again["points"]] == [
            (0, "size=16", 0), (2, "size=64", 1),
        ]  # fmt: skip
        key = again["jobs"][0]["key"]
        assert {point["job"] for point in again["points"]} == {key}
        ends(key, {JobState.COMPLETED: "0,1"})
        assert sweep_of(westward("retry", told["sweep"], "--json"))["points"] == []

    def test_what_was_refused_is_refused_again_and_said(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=16,32", "mem=666M,1G", "-m", "--json")
        assert done.returncode == 2
        sweep = sweep_of(done)["sweep"]
        done = westward("results", sweep)
        assert done.returncode == 1 and "not submitted: site 'west' refuses" in done.stderr
        done = westward("retry", sweep)
        assert done.returncode == 2 and "Invalid account" in done.stderr
        assert len(slurm.calls("sbatch")) == 3

    def test_a_name_that_is_no_sweep_s(self, slurm: FakeSlurm) -> None:
        told = a_sweep()
        done = westward("retry", told["jobs"][0]["key"])
        assert done.returncode == 2 and f"retry the sweep: westward retry {told['sweep']}" in done.stderr
        done = westward("retry", "zzzz")
        assert done.returncode == 2 and "no sweep here has a key that begins with 'zzzz'" in done.stderr


def test_jobs_show_how_far_an_array_is(slurm: FakeSlurm) -> None:
    told = a_sweep()
    ends(told["jobs"][0]["key"], MIXED)
    (line,) = lines(westward("jobs").stdout, told["jobs"][0]["key"])
    assert f"gemm (sweep {told['sweep']})" in line and "2 COMPLETED, 1 FAILED" in line
    (facts,) = json.loads(westward("jobs", "--json").stdout)
    assert (facts["sweep"], facts["task_ids"]) == (told["sweep"], {"COMPLETED": "0,2", "FAILED": "1"})


def test_a_sweep_is_cancelled_by_its_name(slurm: FakeSlurm) -> None:
    told = a_sweep("nodes=1,2")
    ends(told["jobs"][0]["key"], MIXED)
    done = westward("cancel", told["sweep"])
    assert done.returncode == 0 and "cancellation sent to 1 job" in done.stdout, done.stderr
    assert {job.key: job.cancelled for job in Ledger().jobs()} == {
        told["jobs"][0]["key"]: False, told["jobs"][1]["key"]: True,
    }  # fmt: skip
