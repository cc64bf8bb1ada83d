"""What a submission says reaches the cluster, field by field, through every door. Judged by slurmctld's own record and by the job."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contract.clusters import wait_until
from contract.doors import CLUSTERS, DOORS, MIB, Opened, several_doors, through
from westward.errors import SiteRefused
from westward.model.accelerators import AcceleratorRequest
from westward.model.job import Array, JobState, Launcher, Submission, new_key, slurm_name
from westward.model.resources import Resources

pytestmark = pytest.mark.lab

HOSTILE = (
    "'",
    '"',
    "$(touch /shared/researcher/owned)",
    "`touch /shared/researcher/owned`",
    "two\nlines",
    "a;b|c&d>e",
    "../../etc/passwd",
    "\x1b[31m",
    "ü 算",
    "--hold",
    "%j%%\\",
)
ENVIRONMENT = {
    "PLAIN": "a value",
    "QUOTES": """it's "quoted" `so` $(so) $HOME \\ \\n""",
    "LINES": "first\nsecond\n\n",
    "WORDS": "grüße 算力 ✓",
    "EMPTY": "",
    "LIST": "a=b,c=d;e",
}
RICH = Resources(
    nodes=2,
    ntasks_per_node=2,
    cpus_per_task=3,
    mem_bytes=300 * MIB,
    accelerators=AcceleratorRequest("any", 1),
    walltime_s=5400,
)
# where and when it was submitted; and what sbatch says twice (TresPerTask repeats CPUs/Task, OOMKillStep is 0 unless asked for)
OF_ITS_DOOR = frozenset(
    [
        "JobId",
        "ArrayJobId",
        "SubmitTime",
        "SubmitLine",
        "Command",
        "AllocNode:Sid",
        "LastSchedEval",
        "TresPerTask",
        "OOMKillStep",
    ]
)
BEGIN = int(time.time()) // 60 * 60 + 7200


def rich(opened: Opened, waits_for: int, environment: Mapping[str, str] = ENVIRONMENT) -> Submission:
    """A submission that uses every field there is."""
    return opened.submission(
        "/bin/true",
        name="every field: '$(x)'",
        resources=RICH,
        launcher=Launcher.SRUN,
        setup=("module() { :; }",),
        env=environment,
        account="teaching",
        qos="urgent",
        template="gemm",
        array=Array("0-6:2", 3),
        begin_at=datetime.fromtimestamp(BEGIN, UTC),
        requeue=True,
        options={
            "comment": "it's of the contract", "nice": "7", "open-mode": "append", "mail-type": "FAIL",
            **({} if opened.door == "native" else {"mincpus": "6"}),  # pyslurm has no field for it
        },
        dependency=f"afterany:{waits_for}",
    )  # fmt: skip


@through()
def test_every_field_is_in_the_clusters_own_record(opened: Opened):
    first = opened.start(opened.submission("/bin/true"))
    wanted = rich(opened, first)
    told = opened.judge.job(opened.start(wanted))
    gpus = "gres:gpu:a100:1" if opened.cluster == "v2205" else "gres/gpu:h100:1"
    begin = datetime.fromtimestamp(BEGIN, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    expected = {
        "JobName": wanted.name,
        "UserId": told["UserId"] if told["UserId"].startswith("researcher(") else "researcher",
        "JobState": "PENDING",
        "Reason": "JobHeldUser",
        "Priority": "0",
        "Partition": "gpu",
        "Account": "teaching",
        "QOS": "urgent",
        "NumNodes": "2-2",
        "NumTasks": "4",
        "CPUs/Task": "3",
        "MinCPUsNode": "6",
        "MinMemoryNode": "300M",
        "TresPerNode": gpus,
        "TimeLimit": "01:30:00",
        "StartTime": begin,
        "EligibleTime": begin,
        "Requeue": "1",
        "ArrayTaskId": "0,2,4,6%3",
        "ArrayTaskThrottle": "3",
        "Dependency": f"afterany:{first}(unfulfilled)",
        "Nice": "7",
        "Comment": "it's of the contract",
        "WorkDir": "/shared/researcher",
    }
    if opened.door == "native":
        del expected["MinCPUsNode"]
    assert {key: told.get(key) for key in expected} == expected
    assert told["StdOut"].startswith(f"/shared/researcher/{wanted.name}.")
    assert told["StdErr"] == told["StdOut"] or (opened.cluster == "v2605" and not told.get("StdErr"))


@several_doors
def test_the_doors_make_the_same_record(all_doors: Mapping[tuple[str, str], Opened], cluster: str):
    """Whatever slurmctld tells of a job, apart from its number and the moment it came, does not depend on the door."""
    doors = [opened for (name, _), opened in all_doors.items() if name == cluster]
    with doors[0].cleared():
        first = doors[0].start(doors[0].submission("/bin/true"))
        records = {}
        for opened in doors:
            wanted = rich(opened, first)
            told = opened.judge.job(opened.start(wanted))
            records[opened.door] = {
                key: re.sub(r"job_id|\b\d+\b(?=\.%a)", "", value.replace(wanted.name, "NAME"))
                for key, value in told.items()
                if key not in OF_ITS_DOOR
            }  # fmt: skip
        reference = records.pop(doors[0].door)
        for door, record in records.items():
            same = {**reference, "MinCPUsNode": record["MinCPUsNode"]} if door == "native" else reference
            assert record == same, door


@through()
def test_the_environment_reaches_the_job_and_nothing_of_ours_does(opened: Opened):
    with_steps = opened.submission("bash", "-c", "env -0 > environment", env=ENVIRONMENT, hold=False)
    job_id = opened.start(with_steps)
    opened.judge.wait([job_id], "COMPLETED")
    told = dict(
        entry.split("=", 1) for entry in opened.written(with_steps, "environment").split("\0") if entry
    )  # fmt: skip
    assert {name: told.get(name) for name in ENVIRONMENT} == ENVIRONMENT
    assert told["SLURM_JOB_ID"] == str(job_id) and told["SLURM_JOB_NAME"] == with_steps.name
    assert (told["USER"], told["HOME"]) == ("researcher", "/shared/researcher")
    assert not {"SLURM_JWT", "SLURM_TIME_FORMAT", "SSH_CONNECTION", "LC_ALL", "TZ"} & set(told)
    assert told["PATH"].split(":")[-1] == "/bin"


@through()
def test_hostile_words_are_only_words(opened: Opened):
    """Names and arguments that would be commands, options or format letters if any shell or Slurm took them up."""
    asked = [opened.submission("printf", "%s\\n", *HOSTILE, name=name, hold=False) for name in HOSTILE]
    ids = opened.submit(*asked)
    opened.judge.wait(ids, "COMPLETED")
    for job_id, submission in zip(ids, asked, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9._-]+~[a-z2-7]{12}", submission.name)
        assert opened.written(submission) == "".join(f"{word}\n" for word in HOSTILE)
        assert opened.found(submission).job_id == job_id
    names = sorted([submission.name] for submission in asked)
    # 22.05 calls a job "allocation" for a moment, when its end reaches slurmdbd before its start
    wait_until(lambda: sorted(opened.judge.records(ids, "jobname")) == names, names)
    assert not opened.here("/shared/researcher/owned").exists()


@through()
def test_many_at_once_come_back_in_their_order(opened: Opened):
    asked = [opened.submission("/bin/true", name=f"many-{number}") for number in range(40)]
    ids = opened.submit(*asked)
    listed = dict(
        line.split() for line in opened.judge.root("squeue", "-ah", "-t", "all", "-o", "%i %j").splitlines()
    )  # fmt: skip
    assert [listed[str(job_id)] for job_id in ids] == [submission.name for submission in asked]
    assert opened.client.cancel(ids) == {}
    assert set(opened.judge.states(ids)) == set(ids)
    opened.judge.wait(ids, "CANCELLED")


@through()
def test_what_the_cluster_refuses_is_refused_alone(opened: Opened):
    """One wrong job among right ones: it alone is not there, and the error says why in the cluster's words."""
    good = [opened.submission("/bin/true") for _ in range(2)]
    bad = [
        opened.submission("/bin/true", partition="nowhere"),
        opened.submission("/bin/true", account="nobody"),
        opened.submission("/bin/true", qos="nosuchqos"),
        opened.submission("/bin/true", dependency="afterok:x"),
    ]
    answers = opened.client.submit([good[0], *bad, good[1]])
    assert isinstance(answers[0], int) and isinstance(answers[-1], int)
    refusals = answers[1:-1]
    assert [type(error) for error in refusals] == [SiteRefused] * len(bad), refusals
    said = [str(error).lower() for error in refusals]
    assert all(opened.site.name in text for text in said), said
    assert False not in [
        word in text for word, text in zip(["partition", "account", "qos", "dependency"], said, strict=True)
    ], said
    found = opened.client.find([submission.name for submission in (*good, *bad)])
    assert [len(jobs) for jobs in found.values()].count(0) == len(bad)
    names = set(opened.judge.root("squeue", "-ah", "-t", "all", "-o", "%j").split())
    assert not names & {submission.name for submission in bad}
    assert {submission.name for submission in good} <= names


@pytest.mark.parametrize("cluster", [cluster for cluster, door in DOORS if door == "rest"])
def test_rest_says_which_option_it_has_no_field_for(all_doors: Mapping[tuple[str, str], Opened], cluster: str):
    opened = all_doors[cluster, "rest"]
    known = opened.submission("/bin/true", options={"comment": "a", "nice": "7"})
    unknown = replace(known, options={"bbf": "file"})
    assert opened.client.refuses(known) == ""
    assert "--bbf" in opened.client.refuses(unknown)
    assert all_doors[cluster, "shell"].client.refuses(unknown) == ""


@through()
def test_two_jobs_of_one_name_are_two(opened: Opened):
    """The late twin of a submission that was sent twice: both are found, oldest first."""
    submission = opened.submission("/bin/true")
    first, second = opened.start(submission), opened.start(submission)
    assert [status.job_id for status in opened.client.find([submission.name])[submission.name]] == [first, second]
    assert opened.client.cancel([second]) == {}
    opened.judge.wait([second], "CANCELLED")
    states = [status.state for status in opened.client.find([submission.name])[submission.name]]
    assert states == [JobState.PENDING, JobState.CANCELLED]


@through()
def test_an_idempotent_job_needs_no_release(opened: Opened):
    submission = opened.submission("/bin/true", hold=False)
    job_id = opened.start(submission)
    opened.judge.wait([job_id], "COMPLETED")


def test_every_cluster_has_a_door():
    assert set(CLUSTERS) == {"v2205", "v2411", "v2605"}
    assert slurm_name("x", new_key()).startswith("x~")
