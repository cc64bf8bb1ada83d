"""Submit and walk away: what a user sees afterwards, from whatever shell, of real jobs at real clusters."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.clusters import PLAIN, Judge, Lab, wait_until, westward
from westward.model.job import JobState

pytestmark = pytest.mark.lab
WESTWARD = [sys.executable, "-m", "westward.cli.main"]
TALKS = "command=[bash,-c,'for i in {1..20}; do echo out $i; echo err $i >&2; sleep 1; done']"
TALKED = "".join(f"out {i}\nerr {i}\n" for i in range(1, 21))


@dataclass
class Running:
    """A command that goes on; what it has printed so far is in two files."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    def ended(self, within_s: float = 120) -> tuple[int, str, str]:
        try:
            self.process.wait(timeout=within_s)
        finally:
            self.process.kill()
        err = (self.folder / "err").read_text()
        assert "Traceback" not in err, err
        return self.process.returncode, self.out, err


def started(*words: str) -> Running:
    folder = Path(tempfile.mkdtemp())
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return Running(subprocess.Popen([*WESTWARD, *words], stdout=out, stderr=err), folder)


def ended(running: Running, within_s: float = 120) -> tuple[int, str, str]:
    return running.ended(within_s)


def test_it_returns_at_once_and_says_how_to_go_on(clusters: Lab) -> None:
    said = westward("submit", *PLAIN, "command=[sleep,10]", "--site", clusters.site("west"))
    assert said.status == 0, said
    key = said.out.split(" is job ")[1].split()[0]
    assert f"westward watch {key}" in said.out and f"westward logs -f {key}" in said.out
    assert f"westward results {key}" in said.out
    assert westward("results", key).status == 2, "it has not ended yet"
    assert westward("watch", key).status == 0
    assert westward("results", key).status == 0


def test_the_terminal_is_closed_after_submit_and_another_picks_the_job_up(clusters: Lab) -> None:
    """A shell in a terminal of its own, which goes away with all that runs in it as soon as the job is there."""
    name = f"walked-away-{os.getpid()}"
    words = [*PLAIN, "command=[bash,-c,'sleep 5; echo done']", f"name={name}", "--site", clusters.site("east")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*WESTWARD, "submit", *words, "--wait"])

    def jobs() -> list[dict[str, Any]]:
        return [job for job in westward("jobs", "--json").json if job["name"] == name]

    try:
        wait_until(lambda: any(job["phase"] == "released" for job in jobs()), "it was not submitted")
    finally:
        os.killpg(pid, signal.SIGHUP)
        os.close(terminal)
        os.waitpid(pid, 0)
    (job,) = jobs()
    assert westward("watch", job["key"]).status == 0
    assert westward("logs", job["key"]).out == "done\n"
    (job,) = jobs()
    assert (job["state"], job["attempts"]) == ("COMPLETED", 1)
    assert clusters.accounted("east", job["slurm_name"]) == [(str(job["slurm_job_id"]), "COMPLETED")]


def test_wait_ends_with_the_job_and_its_exit_code(clusters: Lab) -> None:
    said = westward("submit", *PLAIN, "command=[bash,-c,'exit 3']", "--wait")
    assert (said.status, "FAILED with exit code 3" in said.err) == (1, True)
    points = ["name=a,b", "command=[bash,-c,'[ ${name} = a ]']"]
    said = westward("submit", *PLAIN, *points, "-m", "--wait")
    assert said.status == 1, said
    assert "1 of 2 points failed:\n  name=b: FAILED" in said.err, said
    sweep = said.out.split(" is sweep ")[1].split(":")[0]
    assert f"westward retry {sweep}" in said.err
    assert westward("watch", sweep, "--json").status == 1, "of a sweep, by its key"


@pytest.fixture
def over_ssh(clusters: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The western cluster as one who has an ssh key and no file system of it."""
    described = Path(os.environ["WESTWARD_STATE_DIR"]) / "labs" / clusters.name / "sites"
    site = yaml.safe_load((described / f"{clusters.site('west')}.yaml").read_text())
    doors = [door for door in site["access"]["doors"] if door["door"] == "shell"]
    sites = tmp_path / "config" / "westward" / "sites"
    sites.mkdir(parents=True)
    (sites / "far.yaml").write_text(yaml.safe_dump(site | {"name": "far", "access": {"doors": doors}}))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return "far"


class TestLogs:
    @pytest.mark.parametrize("way", ["ssh", pytest.param("mount", marks=pytest.mark.full)])
    def test_are_followed_until_the_job_ends(
        self, clusters: Lab, submit: Callable[..., Any], way: str, request: pytest.FixtureRequest
    ) -> None:
        """The lab's own descriptions name a directory of this host that its nodes share."""
        site = request.getfixturevalue("over_ssh") if way == "ssh" else clusters.site("west")
        job = submit(*PLAIN, TALKS, "--site", site)
        follower = started("logs", "-f", job["key"])
        wait_until(lambda: "out 2" in follower.out, "it writes nothing")
        assert Judge(clusters, "west").state(job["slurm_job_id"]) == "RUNNING", "it is read while it runs"
        status, out, err = ended(follower)
        assert (status, out) == (0, TALKED), err
        assert f"job {job['key']} ended COMPLETED" in err
        assert westward("logs", job["key"], "--tail", "2").out == "out 20\nerr 20\n"

    @pytest.mark.full
    def test_of_a_job_that_waits_say_so_and_begin_with_it(self, clusters: Lab, submit: Callable[..., Any]) -> None:
        east = clusters.site("east")
        first = submit(*PLAIN, "command=[sleep,10]", "--site", east)
        job = submit(*PLAIN, "command=[echo,hello]", f"depends_on=['afterok:{first['key']}']", "--site", east)
        status, out, err = ended(started("logs", "-f", job["key"]))
        assert (status, out) == (0, "hello\n"), err
        assert f"job {job['key']} has not started: PENDING" in err

    def test_of_a_script_with_a_file_for_stderr(self, clusters: Lab, tmp_path: Path) -> None:
        script = tmp_path / "two.sh"
        script.write_text(
            "#!/bin/sh\n#SBATCH -t 5 -o out-%j.txt -e err-%j.txt\necho out; echo err >&2; sleep 2; echo more\n"
        )
        said = westward("route", "--site", clusters.site("west"), "--json", str(script))
        assert said.status == 0, said
        status, out, err = ended(started("logs", "-f", said.json["key"]))
        assert (status, out) == (0, "out\nmore\n"), err
        assert "err\n" in err

    def test_of_one_task_end_with_it(self, clusters: Lab, submit: Callable[..., Any]) -> None:
        words = [
            "array=0-1",
            "command=[bash,-c,'echo task $SLURM_ARRAY_TASK_ID; sleep $((SLURM_ARRAY_TASK_ID * 200))']",
        ]
        job = submit(*PLAIN, *words, "--site", clusters.site("west"))
        status, out, err = ended(started("logs", "-f", job["key"], "--task", "0"))
        assert (status, out) == (0, "task 0\n"), err
        assert f"task 0 of job {job['key']} ended COMPLETED" in err

    @pytest.mark.full
    def test_go_on_when_the_site_comes_back(self, clusters: Lab, submit: Callable[..., Any], over_ssh: str) -> None:
        job = submit(*PLAIN, TALKS, "--site", over_ssh)
        follower = started("logs", "-f", job["key"])
        wait_until(lambda: "out 1" in follower.out, "it writes nothing")
        clusters.exec("west-ctl", "pkill", "-STOP", "-o", "sshd")  # nobody new is let in
        others = "listener=$(pgrep -o sshd); for p in $(pgrep sshd); do [ $p = $listener ] || kill -9 $p; done"
        clusters.exec("west-ctl", "sh", "-c", f"{others}; true")  # and those who are in are thrown out
        try:
            time.sleep(8)
        finally:
            clusters.exec("west-ctl", "pkill", "-CONT", "-o", "sshd")
        status, out, err = ended(follower, within_s=90)
        assert (status, out) == (0, TALKED), err
        assert err.count("may well go on there") <= 1 and "Traceback" not in err

    @pytest.mark.full  # a cluster lets a job wait for two minutes before it starts again
    def test_of_a_job_that_is_put_back_begin_anew_with_it(
        self, clusters: Lab, submit: Callable[..., Any], over_ssh: str
    ) -> None:
        says = "command=[bash,-c,'echo attempt $SLURM_RESTART_COUNT; sleep 6']"
        job = submit(*PLAIN, says, "requeue=true", "options.open-mode=truncate", "--site", over_ssh)
        follower = started("logs", "-f", job["key"])
        wait_until(lambda: "attempt" in follower.out, "it writes nothing")
        clusters.exec("west-ctl", "scontrol", "requeue", str(job["slurm_job_id"]))
        status, out, err = ended(follower, within_s=240)
        # slurmd and the script say in between that it was put back
        said = [line for line in out.splitlines() if line.startswith("attempt")]
        assert (status, said) == (0, ["attempt", "attempt 1"]), (out, err)
        assert "was put back into the queue" in err


class TestWatch:
    def test_many_at_once_each_change_a_line(self, clusters: Lab, submit: Callable[..., Any]) -> None:
        good = submit(*PLAIN, "command=[sleep,3]", "--site", clusters.site("west"))
        bad = submit(*PLAIN, "command=[bash,-c,'sleep 5; exit 9']", "--site", clusters.site("east"))
        status, out, err = ended(started("watch", good["key"], bad["key"], "--json"))
        assert (status, "1 of 2 jobs failed" in err) == (1, True), err
        changes = [json.loads(line) for line in out.splitlines()]
        last = {change["key"]: change for change in changes if change["change"] == "job"}
        assert {key: change["state"] for key, change in last.items()} == {
            good["key"]: "COMPLETED",
            bad["key"]: "FAILED",
        }
        assert all(len([c for c in changes if c["key"] == key]) <= 4 for key in last), "only changes are told"

    def test_all_that_go_on_on_a_terminal_until_q(self, clusters: Lab, submit: Callable[..., Any]) -> None:
        job = submit(*PLAIN, "command=[sleep,200]", "walltime='00:05:00'", "--site", clusters.site("west"))
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ |= {"COLUMNS": "140", "LINES": "40", "TERM": "xterm"}
            os.execv(sys.executable, [*WESTWARD, "watch"])
        shown, until = b"", time.monotonic() + 40
        while b"5 min" not in shown or b"RUNNING" not in shown:
            assert time.monotonic() < until, shown
            shown += os.read(terminal, 65536)
        os.write(terminal, b"q")
        try:
            while True:
                shown += os.read(terminal, 65536)
        except OSError:  # it has ended
            pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        text = shown.decode()
        assert job["key"] in text and clusters.site("west") in text and "ends by" in text
        assert "the job goes on" in text


class TestExplain:
    def test_a_job_that_waits_for_what_is_in_use(self, clusters: Lab, submit: Callable[..., Any]) -> None:
        east = clusters.site("east")
        taken = ["command=[sleep,300]", "nodes=2", "cpus_per_task=8", "--site", east]
        first, second = submit(*PLAIN, *taken), submit(*PLAIN, *taken)

        def told() -> Any:
            return westward("explain", second["key"], "--json").json

        wait_until(lambda: told()["reason"] == "Resources", told)
        said = westward("explain", second["key"]).out
        assert "what it asks for is not free yet (Resources)" in said
        assert "named by --site" in said and f"as Slurm job {second['slurm_job_id']}" in said
        running = westward("explain", first["key"]).out
        assert "it runs, for" in running and "of 5 min that it may take" in running
        assert f"westward logs -f {first['key']}" in running

    def test_one_that_failed(self, clusters: Lab, submit: Callable[..., Any]) -> None:
        job = submit(*PLAIN, "command=[bash,-c,'kill -9 $$']")
        assert westward("watch", job["key"]).status == 1
        told = westward("explain", job["key"], "--json").json
        assert told["state"] == JobState.FAILED and "SIGKILL" in told["now"][0], told
        events = [event["what"] for event in told["events"]]
        assert events[0] == "written into the ledger" and events[-1] == "ended FAILED"
        assert any(event.startswith("started on ") for event in events)
        assert told["forecast"]["cost"] > 0 and told["forecast"]["started"]
        assert [out["site"] for out in told["decision"]["offers"]]

    def test_one_that_no_cluster_took(self, clusters: Lab) -> None:
        assert westward("submit", *PLAIN, "account=nobody", "name=refused").status == 2
        job = next(job for job in westward("jobs", "--json").json if job["name"] == "refused")
        said = westward("explain", job["key"]).out
        assert "it is at no cluster, and will be at none" in said and "refuses" in said


def test_results_go_where_they_are_wanted(clusters: Lab, tmp_path: Path) -> None:
    words = ["launcher=none", "outputs=[a.txt,b.txt]", "command=[bash,-c,'echo a > a.txt; exit 5']"]
    said = westward("submit", "command", *words, "--json")
    key = said.json["key"]
    assert westward("watch", key).status == 1
    fetched = westward("results", key, "--output-dir", str(tmp_path / "here"))
    assert fetched.status == 1 and "exit code 5" in fetched.err
    assert (tmp_path / "here" / "a.txt").read_text() == "a\n", "what is there of a job that failed"
    (tmp_path / "here" / "a.txt").write_text("mine")
    again = westward("results", key, "--output-dir", str(tmp_path / "here"))
    assert again.status == 5 and (tmp_path / "here" / "a.txt").read_text() == "mine"
    assert westward("results", key, "--output-dir", str(tmp_path / "here"), "--force").status == 1
    assert (tmp_path / "here" / "a.txt").read_text() == "a\n"
