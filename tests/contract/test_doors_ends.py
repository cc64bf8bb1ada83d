"""Every end that a job can come to, as each door tells it: while slurmctld still knows the job, and when only the accounting does.

All jobs of all doors of a cluster are submitted first and waited for once, the clusters side by side. The judge is the cluster's own
accounting. Not to be had here: OUT_OF_MEMORY (needs cgroups that the lab's nodes may not write), BOOT_FAIL (a node that does not
come up gives NODE_FAIL on these versions), LAUNCH_FAILED and REVOKED (a federation): they are only parsed, in tests/unit/model.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from contract.clusters import Judge, wait_until
from contract.doors import CLUSTERS, DOORS, Looked, Opened, each_cluster, several_doors, through
from westward.model.job import Array, Attempt, JobState, JobStatus, Launcher, Submission
from westward.model.resources import Resources
from westward.slurm.client import Known

pytestmark = pytest.mark.lab

# by kind of job: how it ends
ENDS = {
    "good": JobState.COMPLETED,
    "exit code": JobState.FAILED,
    "signal": JobState.FAILED,
    "no output file": JobState.FAILED,
    "cancelled waiting": JobState.CANCELLED,
    "cancelled running": JobState.CANCELLED,
    "array": JobState.FAILED,
    "preempted": JobState.PREEMPTED,
    "node died": JobState.NODE_FAIL,
    "second node": JobState.COMPLETED,
    "node never came": JobState.NODE_FAIL,
    "deadline": JobState.DEADLINE,
    "time limit": JobState.TIMEOUT,
}
QUICK = ("good", "exit code", "signal", "no output file", "cancelled waiting", "cancelled running", "array")
SPIN = "i=0; while ((i < 150000)); do ((i += 1)); done"
# 22.05 ends a job at its deadline only while it waits for resources
NO_DEADLINE = ("v2205",)


@dataclass
class Story:
    """What happened at one cluster.

    Attributes:
        jobs: (door, kind of job) -> what was submitted, and its id.
        looks: (moment, door) -> what that door said of all jobs of all doors that had to do with that moment.
        codes: (moment, id) -> exit code and signal ("0:15") as slurmctld had them then; a cancelled job's differ from the accounting's.
        judged: id -> (state, exit code and signal) of the last record that the accounting has of it.
    """

    began: datetime
    jobs: dict[tuple[str, str], tuple[Submission, int]] = field(default_factory=dict)
    looks: dict[tuple[str, str], Looked] = field(default_factory=dict)
    codes: dict[tuple[str, int], str] = field(default_factory=dict)
    judged: dict[int, tuple[str, str]] = field(default_factory=dict)
    history: dict[str, list[Attempt]] = field(default_factory=dict)
    records: list[list[str]] = field(default_factory=list)

    def ids(self, *kinds: str) -> list[int]:
        return [job_id for (_, kind), (_, job_id) in self.jobs.items() if kind in kinds]

    def kinds(self, cluster: str) -> list[str]:
        return [kind for kind in ENDS if not (kind == "deadline" and cluster in NO_DEADLINE)]


class Stage:
    """One cluster with all its doors, on which the story is played. Preemption and dead nodes have the first node, the rest the second."""

    def __init__(self, doors: Sequence[Opened]) -> None:
        self.doors = doors
        self.judge: Judge = doors[0].judge
        self.story = Story(datetime.now(UTC) - timedelta(seconds=2))

    def play(self) -> Story:
        self.clear()
        self.submit_early()
        self.preempt()
        self.quick()
        self.fail_a_node()
        self.fail_to_boot()
        self.wait_for_limits()
        everything = self.story.ids(*ENDS, "put back")
        self.judge.wait_until_left(everything)
        self.look("in the accounting", everything)
        for opened in self.doors:
            if opened.offers("history"):
                names = [submission.name for submission, _ in self.story.jobs.values()]
                self.story.history[opened.door] = opened.client.history(self.story.began, names)
        fields = "jobidraw,jobid,jobname,state,exitcode,elapsedraw,alloctres,account,qos,nodelist"
        self.story.records = self.judge.records(everything, fields)
        for record in self.story.records:
            self.story.judged[int(record[0])] = (record[3].split()[0], record[4])
        return self.story

    def clear(self) -> None:
        """Nothing of an earlier test runs any more, and both nodes are there."""
        self.judge.root("scancel", "--user=researcher")
        free = [{"IDLE"}, {"IDLE"}]
        names = [self.doors[0].node(1), self.doors[0].node(2)]
        wait_until(
            lambda: [set(self.judge.node(name)["State"].split("+")) for name in names] == free,
            lambda: [self.judge.node(name)["State"] for name in names],
        )

    def add(self, opened: Opened, kind: str, submission: Submission) -> None:
        self.story.jobs[opened.door, kind] = submission, opened.start(submission)

    def look(self, moment: str, job_ids: Iterable[int]) -> None:
        ids = list(job_ids)
        names = [submission.name for submission, job_id in self.story.jobs.values() if job_id in ids]
        for job_id in ids:
            for record in self.judge.jobs(job_id)[:1]:
                self.story.codes[moment, job_id] = record["ExitCode"]
        for opened in self.doors:
            poll = opened.client.poll(dict.fromkeys(ids, Known(JobState.SUSPENDED)))
            self.story.looks[moment, opened.door] = Looked(opened.client.find(names), poll.changed, poll.gone)

    def submit_early(self) -> None:
        for opened in self.doors:
            first, second = {"nodelist": opened.node(1)}, {"nodelist": opened.node(2)}
            short = Resources(mem_bytes=64 * 1024**2, walltime_s=60)
            self.add(opened, "time limit", opened.shell("sleep 600", options=second, resources=short))
            for kind, requeue in (("preempted", False), ("put back", True)):
                self.add(opened, kind, opened.shell("sleep 600", partition="low", options=first, requeue=requeue))
            if opened.cluster not in NO_DEADLINE:
                self.add(opened, "deadline", opened.submission("/bin/true", resources=short))
        for job_id in self.story.ids("deadline"):
            self.judge.root("scontrol", "update", f"jobid={job_id}", "deadline=now+65")

    def preempt(self) -> None:
        """Whoever waits for the better partition takes the place of those in the worse."""
        self.judge.wait(self.story.ids("preempted", "put back"), "RUNNING")
        opened = self.doors[-1]
        whole = Resources(cpus_per_task=8, mem_bytes=64 * 1024**2)
        preemptor = opened.start(opened.shell("sleep 1", options={"nodelist": opened.node(1)}, resources=whole))
        self.judge.wait(self.story.ids("preempted"), "PREEMPTED")
        self.judge.wait(self.story.ids("put back"), "PENDING")
        self.look("preempted", self.story.ids("preempted", "put back"))
        self.judge.root("scancel", *map(str, self.story.ids("put back")))
        self.judge.wait([preemptor], "COMPLETED")

    def quick(self) -> None:
        for opened in self.doors:
            there = {"nodelist": opened.node(2)}
            spin = opened.submission("bash", "-c", SPIN, launcher=Launcher.SRUN, hold=False, options=there)
            self.add(opened, "good", spin)
            self.add(opened, "exit code", opened.shell("exit 7", options=there))
            self.add(opened, "signal", opened.submission("true", setup=("kill -9 $$",), hold=False, options=there))
            self.add(
                opened, "no output file", opened.submission("true", hold=False, options={**there, "error": "/no/x"})
            )
            self.add(opened, "cancelled waiting", opened.submission("true"))
            self.add(opened, "cancelled running", opened.shell("sleep 600", options=there))
            fails = '[ "$SLURM_ARRAY_TASK_ID" != 2 ] || exit 3'
            self.add(opened, "array", opened.shell(fails, array=Array("1-3"), options=there))
        self.judge.wait(self.story.ids("cancelled running"), "RUNNING")
        self.judge.root("scancel", *map(str, self.story.ids("cancelled waiting", "cancelled running")))
        self.judge.wait_for_end(self.story.ids(*QUICK))
        self.look("quick", self.story.ids(*QUICK))

    def fail_a_node(self) -> None:
        for opened in self.doors:
            there = {"nodelist": opened.node(1)}
            self.add(opened, "node died", opened.shell("sleep 600", options=there))
            again = '[ "${SLURM_RESTART_COUNT:-0}" = 1 ] || sleep 600'
            self.add(opened, "second node", opened.shell(again, options=there, requeue=True))
        self.judge.wait(self.story.ids("node died", "second node"), "RUNNING")
        node = self.doors[0].node(1)
        self.judge.root("scontrol", "update", f"nodename={node}", "state=down", "reason=contract")
        self.judge.wait(self.story.ids("node died"), "NODE_FAIL")
        self.judge.wait(self.story.ids("second node"), "PENDING")
        self.look("node", self.story.ids("node died", "second node"))
        # it may be back by itself: its slurmd is as well as before
        self.judge.lab.run(f"{self.judge.cluster}-ctl", "scontrol", "update", f"nodename={node}", "state=resume")
        for job_id in self.story.ids("second node"):
            self.judge.root("scontrol", "update", f"jobid={job_id}", "starttime=now")

    def fail_to_boot(self) -> None:
        """One after another: there is one such node, and it is down after each."""
        for opened in self.doors:
            # already up where it was not started before
            self.judge.lab.run(
                f"{opened.cluster}-ctl", "scontrol", "update", f"nodename={opened.cluster}-c1", "state=resume"
            )
            self.add(opened, "node never came", opened.shell("true", partition="cloud"))
            # of the one before slurmctld may be forgetting just now
            _, job_id = self.story.jobs[opened.door, "node never came"]
            self.judge.wait([job_id], "NODE_FAIL")
            self.look(f"boot {opened.door}", [job_id])

    def wait_for_limits(self) -> None:
        late = self.story.ids("time limit", "deadline", "second node")
        self.judge.wait_for_end(late, within_s=150)
        self.look("late", late)


@pytest.fixture(scope="module")
def stories(all_doors: Mapping[tuple[str, str], Opened]) -> Mapping[str, Story]:
    """The stories of all clusters, told side by side."""
    stages = [Stage([all_doors[name, door] for name, door in DOORS if name == cluster]) for cluster in CLUSTERS]
    with ThreadPoolExecutor(len(stages)) as pool:
        return dict(zip(CLUSTERS, pool.map(Stage.play, stages), strict=True))


@through()
def test_the_cluster_agrees_with_what_should_have_happened(stories: Mapping[str, Story], opened: Opened):
    """The judge first: the accounting's last record of each job has the state that the story is about."""
    story = stories[opened.cluster]
    last = {kind: story.judged[story.jobs[opened.door, kind][1]][0] for kind in story.kinds(opened.cluster)}
    assert last == {kind: str(ENDS[kind]) for kind in last} | {"array": last["array"]}
    assert story.judged[story.jobs[opened.door, "put back"][1]][0] == "CANCELLED"


@through()
@pytest.mark.parametrize("moment", ["queue", "accounting"])
def test_final_states(stories: Mapping[str, Story], opened: Opened, moment: str):
    """State, exit code and signal of each of this door's jobs, found and polled, while slurmctld knows it and afterwards."""
    story = stories[opened.cluster]
    wrong = []
    for kind in story.kinds(opened.cluster):
        submission, job_id = story.jobs[opened.door, kind]
        when = "in the accounting" if moment == "accounting" else _moment(kind, opened)
        looked = story.looks[when, opened.door]
        code, _, signal = story.codes.get((when, job_id), story.judged[job_id][1]).partition(":")
        if kind == "array":
            code, signal = "3", "0"
        # what a signal ended has no exit code
        exit_code = int(code) - 128 if opened.door == "native" and int(code) >= 128 else int(code)
        expected = (job_id, ENDS[kind], None if int(signal) else exit_code, int(signal) or None)
        for how, status in (("find", _last(looked.found[submission.name])), ("poll", looked.polled[job_id])):
            told = status and (status.job_id, status.state, status.exit_code, status.signal)
            if told != expected:
                wrong.append(f"{kind}, {how}: {told}, not {expected}")
    assert not wrong, "\n".join(wrong)


def _last(statuses: Sequence[JobStatus]) -> JobStatus | None:
    return statuses[-1] if statuses else None


def _moment(kind: str, opened: Opened) -> str:
    if kind in QUICK:
        return "quick"
    moments = {"preempted": "preempted", "node died": "node", "node never came": f"boot {opened.door}"}
    return moments.get(kind, "late")


@through()
def test_what_was_put_back_was_never_final(stories: Mapping[str, Story], opened: Opened):
    """Preempted, or its node died, and it may be requeued: it waits again, and counts how often it was put back."""
    story = stories[opened.cluster]
    for kind, moment in (("put back", "preempted"), ("second node", "node")):
        submission, job_id = story.jobs[opened.door, kind]
        looked = story.looks[moment, opened.door]
        for status in (looked.found[submission.name][-1], looked.polled[job_id]):
            assert (status.state, status.restarts, status.state.final) == (JobState.PENDING, 1, False), (kind, status)
            assert (status.exit_code, status.signal, status.ended_at) == (None, None, None), (kind, status)
        assert len(looked.found[submission.name]) == 1


@through()
def test_the_accounting_answers_for_what_slurmctld_has_forgotten(stories: Mapping[str, Story], opened: Opened):
    story = stories[opened.cluster]
    looked = story.looks["in the accounting", opened.door]
    assert looked.gone == frozenset()
    assert set(looked.polled) == {job_id for _, job_id in story.jobs.values()}
    tasks = {JobState.COMPLETED: 2, JobState.FAILED: 1}
    submission, job_id = story.jobs[opened.door, "array"]
    assert looked.polled[job_id].tasks == looked.found[submission.name][0].tasks == tasks
    assert not [status for status in looked.polled.values() if status.held or status.estimated_start]


@several_doors
def test_the_doors_tell_the_same_of_every_end(stories: Mapping[str, Story], cluster: str):
    """At each moment every door says the same of the jobs of all of them, found or polled, in every field."""
    story, wrong = stories[cluster], []
    doors = [door for name, door in DOORS if name == cluster]
    kinds = {job_id: f"{door} {kind}" for (door, kind), (_, job_id) in story.jobs.items()}
    for moment in dict.fromkeys(moment for moment, _ in story.looks):
        reference = story.looks[moment, doors[0]].polled
        for door in doors:
            looked = story.looks[moment, door]
            found = {jobs[-1].job_id: jobs[-1] for jobs in looked.found.values() if jobs}
            for how, said in (("polled", looked.polled), ("found", found)):
                wrong += [
                    f"{moment}, {kinds[job_id]}, {how} by {door}: {difference}"
                    for job_id in sorted({*reference, *said})
                    if (difference := _difference(reference.get(job_id), said.get(job_id), door))
                ]
    assert not wrong, "\n".join(wrong)


def _difference(one: JobStatus | None, other: JobStatus | None, door: str) -> str:
    """In which fields two doors differ. pyslurm tells exit codes from 128 on as 128 less, as does sacct."""
    if other is None or one is None:
        return f"{one} | {other}"
    if door == "native" and one.exit_code is not None and one.exit_code >= 128:
        one = replace(one, exit_code=one.exit_code - 128)
    names = JobStatus.__slots__
    return ", ".join(
        f"{name}: {getattr(one, name)} | {getattr(other, name)}"
        for name in names
        if getattr(one, name) != getattr(other, name)
    )


@through("history")
def test_history_has_every_attempt_with_what_it_used(stories: Mapping[str, Story], opened: Opened):
    """Each record of the accounting on its own: requeued attempts, tasks of arrays, what was allocated, CPU time, no energy."""
    story = stories[opened.cluster]
    history = story.history[opened.door]
    mine = sorted((record[1], record[3].split()[0], int(record[5]), record[7], record[8]) for record in story.records)
    told = sorted(
        (
            f"{each.status.job_id}_{each.task}" if each.task is not None else str(each.status.job_id),
            "REQUEUED"
            if _requeued(each, history) and each.status.state is JobState.PENDING
            else str(each.status.state),
            each.usage.elapsed_s,
            each.account,
            each.qos,
        )
        for each in history
    )
    assert told == mine
    starts = [each.status.submitted_at for each in history]
    assert starts == sorted(starts, key=lambda moment: moment or datetime.min.replace(tzinfo=UTC))

    _, job_id = story.jobs[opened.door, "good"]
    (good,) = [each for each in history if each.status.job_id == job_id]
    assert good.usage.tres == {"cpu": 1, "mem": 64 * 1024**2, "node": 1, "billing": 1}
    assert good.usage.cpu_s is not None and 0.05 < good.usage.cpu_s < 30
    assert good.usage.energy_j is None
    assert good.task is None and good.account == "research" and good.qos == "normal"
    _, job_id = story.jobs[opened.door, "second node"]
    first, second = [each.status for each in history if each.status.job_id == job_id]
    assert (first.state, second.state) == (JobState.NODE_FAIL, JobState.COMPLETED)
    assert first.ended_at is not None and second.started_at is not None and first.ended_at <= second.started_at
    _, job_id = story.jobs[opened.door, "array"]
    tasks = {each.task: each.status.state for each in history if each.status.job_id == job_id}
    assert tasks == {1: JobState.COMPLETED, 2: JobState.FAILED, 3: JobState.COMPLETED}


def _requeued(attempt: Attempt, history: Sequence[Attempt]) -> bool:
    return (
        attempt.status.ended_at is not None and sum(each.status.job_id == attempt.status.job_id for each in history) > 1
    )


@several_doors
def test_the_doors_tell_the_same_history(stories: Mapping[str, Story], cluster: str):
    doors = [door for name, door in DOORS if name == cluster and door in stories[cluster].history]
    reference = stories[cluster].history[doors[0]]
    for door in doors[1:]:
        for one, other in zip(reference, stories[cluster].history[door], strict=True):
            # sacct cuts off what is below milliseconds, of each step
            cpu_s = other.usage.cpu_s
            if one.usage.cpu_s is not None and cpu_s is not None and abs(one.usage.cpu_s - cpu_s) < 0.005:
                other = replace(other, usage=replace(other.usage, cpu_s=one.usage.cpu_s))
            assert one == other, door


@through("history")
def test_history_begins_when_it_is_told_to(stories: Mapping[str, Story], opened: Opened):
    names = [submission.name for submission, _ in stories[opened.cluster].jobs.values()]
    later = datetime.fromtimestamp(time.time() + 60, UTC)
    assert opened.client.history(later, names) == []
    everything = opened.client.history(stories[opened.cluster].began)
    assert {each.status.name for each in everything} >= set(names)


@each_cluster
def test_nobody_was_started_twice(stories: Mapping[str, Story], cluster: str):
    """The judge of the judge: each name has one job, whatever its attempts were."""
    by_name: dict[str, set[str]] = {}
    for record in stories[cluster].records:
        by_name.setdefault(record[2], set()).add(record[1].partition("_")[0])
    assert {len(ids) for ids in by_name.values()} == {1}
