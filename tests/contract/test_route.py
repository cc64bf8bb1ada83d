"""What `route` submits of a user's own script is what sbatch itself makes of it: `scontrol show job` of both, for the whole corpus and each door."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.clusters import Judge, Lab, westward
from westward.catalogue.load import known_sites
from westward.errors import SiteRefused
from westward.federation.pinned import pinned
from westward.lab import engine
from westward.model.batchscript import BatchScript
from westward.model.job import new_key
from westward.model.site import Catalogue, RestDoor, ShellDoor, Site
from westward.slurm.client import open_door
from westward.slurm.routed import spec_of
from westward.slurm.sbatchfile import load, read_script
from westward.slurm.script import render

pytestmark = pytest.mark.lab

CORPUS = Path(__file__).parents[1] / "data" / "sbatch"
READ = sorted(file.stem for file in CORPUS.glob("*.sbatch") if not file.stem.startswith("refused"))
# of all kinds of option a script or two; the others take minutes
EVERY_TIME = {
    "abbreviated",
    "array-list",
    "begin-date",
    "conda",
    "export-some",
    "gpu-torchrun",
    "heredoc-directives",
    "hostile",
    "hybrid",
    "quotes",
}
KINDS = {"rest": RestDoor, "shell": ShellDoor}
# what slurmrestd has no field for, or what the host of sbatch decides: such a script needs a shell door
SHELL_ONLY = {"begin-date", "distribution", "no-kill"}
# what has to differ: the key in the name, who submitted it when, by what words and from which file; and what sbatch says twice
# (TresPerTask repeats CPUs/Task, OOMKillStep is 0 unless asked for)
ITS_OWN = frozenset(
    ["JobId", "ArrayJobId", "JobName", "SubmitTime", "EligibleTime", "AccrueTime", "StartTime", "EndTime", "SubmitLine", "Command",
     "AllocNode:Sid", "LastSchedEval", "TresPerTask", "OOMKillStep", "Scheduler"]
)  # fmt: skip


@pytest.fixture(scope="module")
def east(clusters: Lab) -> Site:
    return known_sites()[clusters.site("east")]


@pytest.fixture
def judge(clusters: Lab) -> Iterator[Judge]:
    made = Judge(clusters, "east")
    yield made
    made.root("scancel", "--user=researcher")


def record(judge: Judge, job_id: int) -> dict[str, str]:
    """The job as slurmctld has it, its own id and name taken out of the names of its files."""
    found = judge.jobs(job_id)[0]
    name = found["JobName"]
    kept = {key: value for key, value in found.items() if key not in ITS_OWN}
    for key in ("StdOut", "StdErr", "StdIn"):
        if key in kept:
            kept[key] = re.sub(rf"(?<!\d)0*{job_id}(?!\d)", "ID", kept[key].replace(name, "NAME"))
    return kept


def by_sbatch(judge: Judge, name: str) -> int | str:
    """The job that sbatch makes of it, held; or why it makes none."""
    container = f"{judge.lab.name}.east-ctl"
    text = (CORPUS / f"{name}.sbatch").read_bytes()
    put = ["docker", "exec", "-i", container, "sh", "-c", f"cat > /tmp/{name}.sbatch"]
    subprocess.run(put, input=text, check=True, timeout=60)
    argv = ["sh", "-c", f"cd /shared/researcher && exec sbatch --hold --parsable /tmp/{name}.sbatch"]
    said = engine.execute(engine.connect(), container, argv, user="researcher")
    return int(said.stdout) if said.status == 0 else said.stderr


def read(name: str) -> BatchScript:
    file = CORPUS / f"{name}.sbatch"
    return read_script(file.name, load(file), submitted_from="/nowhere")


@pytest.mark.parametrize("door", sorted(KINDS))
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERY_TIME else pytest.mark.full) for name in READ]
)
def test_route_submits_what_sbatch_makes_of_it(name: str, door: str, east: Site, judge: Judge) -> None:
    spec = spec_of(read(name), datetime.now(UTC))
    assert spec.script is not None
    decision = pinned(spec.script, east, Catalogue({}, {}, None, ""), datetime.now(UTC))
    assert decision.chosen is not None
    submission = render(spec, decision.chosen, east, new_key())
    with open_door(east, next(each for each in east.doors if isinstance(each, KINDS[door]))) as client:
        refused = client.refuses(submission)
        assert bool(refused) is (door == "rest" and name in SHELL_ONLY), refused
        if refused:
            return
        (ours,) = client.submit([submission])
    theirs = by_sbatch(judge, name)
    if isinstance(theirs, str):
        assert isinstance(ours, SiteRefused), f"sbatch refuses it: {theirs}"
        return
    assert isinstance(ours, int), ours
    mine, its = record(judge, ours), record(judge, theirs)
    # the file has the user's own name of the job, wherever the pattern has %x
    plain = {key: value.replace("NAME", spec.name) for key, value in its.items()}
    assert mine == plain
    written = judge.lab.run("east-ctl", "scontrol", "write", "batch_script", str(ours), "-").stdout
    assert written.rstrip("\n") == (CORPUS / f"{name}.sbatch").read_text().rstrip("\n")


@pytest.mark.parametrize("cluster", ["east", "west"])
def test_a_script_runs_as_it_is_and_its_output_is_found(clusters: Lab, cluster: str, tmp_path: Path) -> None:
    script = tmp_path / "my job.sbatch"
    script.write_text(
        '#!/bin/bash\n#SBATCH -J "my job" -t 5 -o said-%x-%j.txt\necho "$# [$1] [$2] $PWD $SLURM_SUBMIT_DIR"\nprintf "$WORDS"'
    )
    said = westward(
        "route",
        "--export=ALL,WORDS=by --export",
        "--site",
        clusters.site(cluster),
        "--wait",
        "--json",
        str(script),
        "a",
        "b c",
    )
    assert said.status == 0, said
    job = said.json
    assert (job["state"], job["name"], job["attempts"]) == ("COMPLETED", "my job", 1)
    assert westward("logs", job["key"]).out == "2 [a] [b c] /shared/researcher /shared/researcher\nby --export"
    assert clusters.accounted(cluster, job["slurm_name"]) == [(str(job["slurm_job_id"]), "COMPLETED")]
    clusters.exec(f"{cluster}-ctl", "test", "-s", f"/shared/researcher/said-my job-{job['slurm_job_id']}.txt")


def test_a_routed_job_is_cancelled_like_any_other(clusters: Lab, tmp_path: Path) -> None:
    script = tmp_path / "long.sh"
    script.write_text("#!/bin/sh\nsleep 600\n")
    said = westward("route", "-t10", "--site", clusters.site("east"), "--json", str(script))
    assert said.status == 0, said
    assert westward("cancel", said.json["key"]).status == 0
    ended = westward("watch", said.json["key"], "--json")
    assert (ended.status, ended.json["state"]) == (1, "CANCELLED")
    assert Judge(clusters, "east").state(said.json["slurm_job_id"]) == "CANCELLED"


def test_the_environment_goes_before_the_script_and_the_command_line_before_both(clusters: Lab, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --time=5 --comment=script --job-name=script\n")
    environment = {**os.environ, "SBATCH_TIMELIMIT": "6", "SBATCH_JOB_NAME": "environment"}
    words = ["route", "--plan", "--json", "--site", clusters.site("east"), "-J", "line", str(script)]
    plan = westward(*words, environment=environment).json
    assert {option["name"]: (option["value"], option["from"]) for option in plan["options"]} == {
        "time": ("6", "SBATCH_TIMELIMIT"),
        "comment": ("script", "line 2"),
        "job-name": ("line", "the command line"),
    }


def test_what_nothing_ties_down_goes_where_the_policy_says(clusters: Lab, tmp_path: Path) -> None:
    script = tmp_path / "free.sh"
    script.write_text("#!/bin/sh\n#SBATCH -t 5\nhostname\n")
    plan = westward("route", "--plan", "--json", "--policy", "cheapest", str(script)).json
    assert plan["obstacles"] == [] and plan["portable"]
    assert plan["site"] == plan["decision"]["chosen"]["site"]
    assert {offer["site"] for offer in plan["decision"]["offers"]} == {clusters.site("west"), clusters.site("east")}
    said = westward("route", "--policy", "cheapest", "-W", "--json", str(script))
    assert (said.status, said.json["site"], said.json["state"]) == (0, plan["site"], "COMPLETED"), said


def test_tasks_of_an_array_have_their_logs_and_another_job_waits_for_them_by_key(clusters: Lab, tmp_path: Path) -> None:
    script = tmp_path / "tasks.sh"
    script.write_text("#!/bin/sh\n#SBATCH -t 5 -a 1-2\necho task $SLURM_ARRAY_TASK_ID\n")
    east = clusters.site("east")
    first = westward("route", "--site", east, "--json", str(script)).json
    after = westward(
        "route", "-a", "0", f"--dependency=afterok:{first['key']}", "--site", east, "--wait", "--json", str(script)
    )
    assert (after.status, after.json["state"]) == (0, "COMPLETED"), after
    assert westward("jobs", "--json").status == 0
    assert [westward("logs", first["key"], "--task", task).out for task in ("1", "2")] == ["task 1\n", "task 2\n"]
    assert westward("logs", after.json["key"], "--task", "0").out == "task 0\n"
