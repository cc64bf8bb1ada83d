"""`westward plan -m` and `submit -m`, as a user runs them: real processes, a site by its shell door, and programs that stand for Slurm's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.federation.worlds import SITES
from unit.slurm.fakes import FakeSlurm, said
from westward.directories import config_dir
from westward.slurm import limittext
from westward.store.ledger import Ledger, Phase


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster with two nodes of 8 CPUs; it refuses whoever wants the size or the memory 666."""
    folder = tmp_path / "bin"
    folder.mkdir()
    made = FakeSlurm(folder)
    for name in ("node", "partition", "config"):
        (folder / f"{name}.txt").write_text(said("24.11", name))
    made.program("scontrol", f'for word; do last=$word; done; [ "$1" = release ] || cat {folder}/$last.txt')
    made.program("sacct", "")
    made.program("squeue", "")
    made.program("id", "echo researcher")
    made.program("sacctmgr", f"case $4 in user) echo research;; *) cat {folder}/$4.txt;; esac")
    may_submit(made)
    made.program(
        "sbatch",
        'if grep -q -e --size=666 -e --mem=666M; then echo "sbatch: error: Batch job submission failed: Invalid account" >&2; exit 1; fi\n'
        f'n=$(mktemp {folder}/job.XXXXXX); echo $((1000 + $(stat -c %i "$n") % 1000000))',
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    site = yaml.safe_load((SITES / "west.yaml").read_text())
    site["access"] = {"doors": [{"door": "shell"}]}
    site["cluster"] = "v2411"  # as what was captured says
    sites = config_dir() / "sites"
    sites.mkdir(parents=True)
    (sites / "west.yaml").write_text(yaml.safe_dump(site))
    return made


def may_submit(slurm: FakeSlurm, most: str = "", used: int = 0, max_wall: str = "") -> None:
    """What the researcher may have there: so many jobs, of which some are there already, and so long a time each."""
    columns = limittext.CHARGE_FORMAT.split(",")
    row = {"account": "research", "qos": "normal", "maxsubmitjobs": most, "maxwall": max_wall}
    (slurm.folder / "assoc.txt").write_text("|".join(row.get(name, "") for name in columns) + "\n")
    (slurm.folder / "qos.txt").write_text("normal" + "|" * limittext.QOS_FORMAT.count(",") + "\n")
    (slurm.folder / "users=researcher.txt").write_text(
        "QOS=normal(1) GrpJobs=N(0)\n"
        f"ClusterName=v2411 Account=research UserName=researcher(1001) Partition= MaxSubmitJobs={most or 'N'}({used})\n"
    )


def westward(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "westward.cli.main", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def sweep_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def lines(text: str, word: str) -> list[str]:
    return [line for line in text.splitlines() if word in line]


class TestSubmit:
    def test_points_that_ask_for_the_same_are_one_array(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=16,32,64", "dtype=f32,f64", "-m", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        told = sweep_of(done)
        points = told["points"]
        assert [point["overrides"] for point in points] == [
            [f"size={size}", f"dtype={dtype}"] for size in (16, 32, 64) for dtype in ("f32", "f64")
        ]
        (job,) = Ledger().jobs()
        assert {(point["job"], point["error"]) for point in points} == {(job.key, None)}
        assert [point["task"] for point in points] == list(range(6))
        assert (job.phase, job.site, job.submission.array, job.sweep) == (Phase.RELEASED, "west", "0-5", told["sweep"])
        for point in points:
            block = job.submission.script.partition(f"\n{point['task']})\n")[2].partition(";;")[0]
            assert all(f"--{override}" in block for override in point["overrides"])
        assert len(slurm.calls("sbatch")) == 1
        assert len([call for call in slurm.calls("scontrol") if call[0] == "-d"]) == 1, "one snapshot"

    def test_each_set_of_resources_is_an_array_of_its_own(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=16,32,64", "nodes=1,2", "-m", "--json")
        assert done.returncode == 0, done.stderr
        told = sweep_of(done)
        assert [(job["nodes"], job["array"], job["points"]) for job in told["jobs"]] == [
            (1, "0-2", [0, 2, 4]), (2, "0-2", [1, 3, 5]),
        ]  # fmt: skip
        found = {job.key: job.submission.nodes for job in Ledger().jobs()}
        assert [found[point["job"]] for point in told["points"]] == [1, 2] * 3

    def test_it_is_said_how_to_go_on(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=16,32", "nodes=1,2", "begin=600", "--multirun")
        assert done.returncode == 0, done.stderr
        jobs = list(reversed(Ledger().jobs()))
        assert all("--begin=" in job.submission.script for job in jobs)
        key = jobs[0].sweep
        assert f"gemm is sweep {key}: 4 of 4 points submitted" in done.stdout
        assert f"westward results {key}" in done.stdout
        for job, asks in zip(
            jobs, ("1 node with 1 CPU, 2 GiB, 5 min", "2 nodes with 1 CPU, 2 GiB each, 5 min"), strict=True
        ):
            (line,) = lines(done.stdout, job.key)
            assert asks in line and "west" in line and "PENDING" in line

    def test_a_job_that_is_refused_stops_none_of_the_others(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=16,32", "mem=666M,1G", "-m")
        assert done.returncode == 2
        (line,) = lines(done.stdout, "Invalid account")
        assert "refuses" in line and "666 MiB" in line
        assert "2 of 4 points submitted" in done.stdout
        assert "error: 2 of 4 points failed:" in done.stderr
        assert "size=32 mem=666M: site 'west' refuses" in done.stderr
        assert sorted(job.phase for job in Ledger().jobs()) == [Phase.REFUSED, Phase.RELEASED]

    def test_what_was_refused_is_in_the_json_too(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=666", "nodes=1,2", "-m", "--json")
        assert done.returncode == 2
        told = sweep_of(done)
        assert {job["exit_code"] for job in told["jobs"]} == {2}
        assert all("Invalid account" in point["error"] and point["job"] is None for point in told["points"])
        assert f"next:  when that is mended: westward retry {told['sweep']}" in done.stderr
        assert [job.phase for job in Ledger().jobs()] == [Phase.REFUSED] * 2

    @pytest.mark.parametrize(
        ("overrides", "code", "said"),
        [
            (["size=16,32", "nodes=1,64"], 3, "2 of 4 points cannot be submitted, so none was:"),
            (["size=16,32", "nodes=64"], 3, "no site can run this job"),
            (["size=16,big"], 2, "point 'size=big' cannot be composed: template 'gemm': size=big: an integer was expected"),
            (["siz=16,32"], 2, "has no key 'siz'; nearest: size"),
            (["options.nice=1", "+options.Nope=1,2"], 2, "'Nope' is not a long option of sbatch"),
            (["size=range(0,1000000)"], 2, "a sweep may have 10,000"),
        ],
    )  # fmt: skip
    def test_one_that_cannot_be_stops_all_before_anything_is_sent(
        self, slurm: FakeSlurm, overrides: list[str], code: int, said: str
    ) -> None:
        done = westward("submit", "gemm", *overrides, "-m")
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert (slurm.calls("sbatch"), Ledger().jobs()) == ([], [])

    def test_more_than_go_together_all_arrive(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "walltime=range(1,151)", "-m")
        assert done.returncode == 0, done.stderr
        assert "150 of 150 points submitted (100 of the jobs shown)" in done.stdout
        assert {job.phase for job in Ledger().jobs()} == {Phase.RELEASED}
        assert len(slurm.calls("sbatch")) == 150

    def test_without_m_it_is_one_job(self, slurm: FakeSlurm) -> None:
        done = westward("submit", "gemm", "size=16,32")
        assert done.returncode == 2
        assert "names several values" in done.stderr
        assert "add -m for a job for each" in done.stderr
        assert slurm.calls("sbatch") == []


class TestPlan:
    def test_where_each_point_goes_and_what_it_costs(self, slurm: FakeSlurm) -> None:
        done = westward("plan", "gemm", "nodes=1,2", "size=16,32", "-m")
        assert (done.returncode, done.stderr) == (0, "")
        for nodes, cost in ((1, " 0.005 "), (2, " 0.011 ")):
            for size in (16, 32):
                line = lines(done.stdout, f"nodes={nodes} size={size} ")[0]
                assert "west" in line and "gpu" in line and cost in line
        assert "4 points in 2 arrays: 4 at west; cost 0.03" in done.stdout
        for number, asks in ((1, "1 node with 1 CPU, 2 GiB, 5 min"), (2, "2 nodes with 1 CPU, 2 GiB each, 5 min")):
            (line,) = lines(done.stdout, asks)
            assert line.split()[:4] == [str(number), "2", "west", "gpu"]
        assert "limits: all 2 jobs within" in done.stdout
        assert slurm.calls("sbatch") == []
        assert len([call for call in slurm.calls("scontrol") if "assoc_mgr" in call]) == 1, "the limits are read once"

    def test_each_job_is_held_beside_the_limits_those_counted_that_go_before_it(self, slurm: FakeSlurm) -> None:
        may_submit(slurm, most="7", used=2, max_wall="01:00:00")
        overrides = ["walltime=2:00:00,5,6,7", "size=16,32", "-m"]
        done = westward("plan", "gemm", *overrides)
        assert done.returncode == 2
        assert "limits, of 4 jobs: 2 refused; 1 accepted, but never started; 1 within" in done.stdout
        (line,) = lines(done.stdout, "MaxSubmitJobs ")
        assert line.split()[:3] == ["3-4", "west", "refused"] and line.split("MaxSubmitJobs")[1].split()[:3] == [
            "7",
            "6",
            "2",
        ]
        (line,) = lines(done.stdout, "MaxWall")
        assert line.split()[:4] == ["1", "west", "never", "starts"]
        assert "4 of 8 points would be refused:" in done.stderr
        assert "walltime=6 size=16: site 'west' would refuse this job" in done.stderr
        assert "MaxSubmitJobs is 7, 6 in use, asked: 2" in done.stderr and "westward cancel" in done.stderr
        told = sweep_of(westward("plan", "gemm", *overrides, "--json"))
        assert [job["limits"]["verdict"] for job in told["jobs"]] == ["never starts", "ok", "refused", "refused"]
        assert told["jobs"][1]["limits"]["findings"] == [] and told["jobs"][1]["limits"]["within"] > 3

    def test_where_the_limits_cannot_be_read_that_is_said(self, slurm: FakeSlurm) -> None:
        slurm.program("sacctmgr", "echo 'sacctmgr: error: Sending PersistInit msg: Connection refused' >&2; exit 1")
        done = westward("plan", "gemm", "size=16,32", "-m")
        assert done.returncode == 0
        assert "limits: the job is within all that are set" in done.stdout
        assert "'west': the limits of QOS and accounts cannot be read now" in done.stderr

    def test_what_fits_nowhere_is_shown_beside_what_does(self, slurm: FakeSlurm) -> None:
        done = westward("plan", "gemm", "nodes=1,64", "-m")
        assert done.returncode == 3
        assert "west" in lines(done.stdout, "nodes=1 ")[0]
        assert "out: no site can run this job" in lines(done.stdout, "nodes=64 ")[0]
        assert "2 points in 1 job: 1 at west" in done.stdout
        assert "1 of 2 points cannot be submitted" in done.stderr

    def test_json_has_a_decision_for_each(self, slurm: FakeSlurm) -> None:
        told = sweep_of(westward("plan", "gemm", "size=16,32", "-m", "--json"))
        first, second = told["points"]
        (job,) = told["jobs"]
        assert (job["site"], job["array"], job["points"], job["nodes"]) == ("west", "0-1", [0, 1], 1)
        assert first["job"] == second["job"] == 0
        assert (first["overrides"], second["overrides"]) == (["size=16"], ["size=32"])
        assert first["chosen"]["site"] == "west" and first["chosen"]["cost"]["total"] > 0
        assert first["error"] is None
