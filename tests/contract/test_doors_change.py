"""What becomes of a job that waits or runs when its user says so, the same through every door. Judged by slurmctld and by the job."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from contract.clusters import wait_until
from contract.doors import SMALL, Opened, through
from westward.errors import SiteRefused
from westward.model.job import Array, JobChange, JobState, Launcher
from westward.model.resources import Resources
from westward.slurm.client import Known, NotOffered

pytestmark = pytest.mark.lab

UNKNOWN_ID = 3999999
HOUR = 3600


def in_an_hour() -> datetime:
    return datetime.fromtimestamp(int(time.time()) + HOUR, UTC)


@through()
def test_held_until_released_and_released_twice(opened: Opened):
    """A job that is let go afterwards runs to its end while the held ones wait; then all are released in one call."""
    asked = [opened.submission("/bin/true") for _ in range(3)]
    held = opened.submit(*asked)
    later = opened.start(opened.submission("/bin/true", hold=False))
    opened.judge.wait([later], "COMPLETED")
    for job_id, submission in zip(held, asked, strict=True):
        record = opened.judge.job(job_id)
        assert (record["JobState"], record["Priority"], record["Reason"]) == ("PENDING", "0", "JobHeldUser")
        status = opened.found(submission)
        assert (status.state, status.held, status.reason) == (JobState.PENDING, True, "JobHeldUser")
        assert (status.started_at, status.estimated_start, status.nodes) == (None, None, "")
    assert opened.client.release(held) == {}
    assert opened.client.release(held) == {}
    opened.judge.wait(held, "COMPLETED")
    assert opened.client.release([*held, UNKNOWN_ID]) == {}, "a job that has ended, or is not known, stays as it is"


@through("hold", "update")
def test_hold_again(opened: Opened):
    submission = opened.submission("/bin/true", begin_at=in_an_hour())
    job_id = opened.start(submission)
    assert opened.client.release([job_id]) == {}
    assert opened.found(submission).held is False
    assert opened.client.hold([job_id]) == {}
    assert opened.judge.job(job_id)["Priority"] == "0"
    assert opened.found(submission).held is True
    assert opened.client.release([job_id]) == {}
    assert opened.judge.job(job_id)["Priority"] != "0"
    opened.client.update(job_id, JobChange(begin_at=int(time.time())))
    opened.judge.wait([job_id], "COMPLETED")


@through()
def test_cancel_waiting_running_ended_and_unknown_in_one_call(opened: Opened):
    asked = {
        "waiting": opened.submission("/bin/true"),
        "running": opened.shell("sleep 300"),
        "ended": opened.shell("true"),
    }
    ids = dict(zip(asked, opened.submit(*asked.values()), strict=True))
    opened.judge.wait([ids["ended"]], "COMPLETED")
    opened.judge.wait([ids["running"]], "RUNNING")
    everything = [*ids.values(), UNKNOWN_ID]
    assert opened.client.cancel(everything) == {}
    opened.judge.wait([ids["waiting"], ids["running"]], "CANCELLED")
    assert opened.client.cancel(everything) == {}
    assert opened.judge.state(ids["ended"]) == "COMPLETED"
    found = opened.client.find([submission.name for submission in asked.values()])
    states = {word: found[submission.name][0].state for word, submission in asked.items()}
    assert states == {"waiting": JobState.CANCELLED, "running": JobState.CANCELLED, "ended": JobState.COMPLETED}


@through("signal")
def test_a_signal_reaches_the_step_and_not_the_batch_shell(opened: Opened):
    step = "trap 'echo step got it; exit 0' USR1; echo ready; while :; do sleep 0.1; done"
    submission = opened.submission(
        "bash", "-c", step, launcher=Launcher.SRUN, hold=False, setup=("trap 'echo batch got it' USR1",)
    )  # fmt: skip
    job_id = opened.start(submission)
    output = opened.here(submission.stdout)
    wait_until(lambda: output.exists() and "ready" in output.read_text(), lambda: opened.judge.jobs(job_id))
    opened.client.signal(job_id, "USR1")
    opened.judge.wait([job_id], "COMPLETED")
    said = opened.written(submission)
    assert "step got it" in said and "batch got it" not in said
    with pytest.raises(SiteRefused):
        opened.client.signal(job_id, "USR1")


@through("requeue", "update")
def test_requeue_counts_and_the_later_attempt_decides(opened: Opened):
    """The first attempt is put back while it runs; the second ends otherwise than the first was about to."""
    submission = opened.shell('[ "${SLURM_RESTART_COUNT:-0}" = 1 ] && exit 0; sleep 300; exit 9', requeue=True)
    stubborn = opened.shell("sleep 300", requeue=False)
    job_id, other = opened.submit(submission, stubborn)
    opened.judge.wait([job_id, other], "RUNNING")
    with pytest.raises(SiteRefused):
        opened.client.requeue(other)
    opened.client.requeue(job_id)
    opened.judge.wait([job_id], "PENDING")
    status = opened.found(submission)
    assert (status.state, status.restarts, status.state.final) == (JobState.PENDING, 1, False)
    # not at once: while a node still clears away the first attempt, the second fails there; Slurm itself waits for two minutes
    opened.client.update(job_id, JobChange(begin_at=int(time.time()) + 5))
    opened.judge.wait([job_id], "COMPLETED")
    status = opened.found(submission)
    assert (status.state, status.restarts, status.exit_code) == (JobState.COMPLETED, 1, 0)
    assert opened.judge.job(job_id)["Restarts"] == "1"
    if opened.offers("history"):
        since = datetime.fromtimestamp(time.time() - HOUR, UTC)

        def told() -> list[tuple[int, JobState]]:
            return [(each.status.job_id, each.status.state) for each in opened.client.history(since, [submission.name])]

        # slurmdbd may hear of it a moment later than slurmctld
        wait_until(lambda: told()[-1:] == [(job_id, JobState.COMPLETED)], told)
        attempts = told()
        assert len(attempts) == len(opened.judge.records([job_id], "state")) == 2


@through("update")
def test_update_changes_each_thing_and_nothing_else(opened: Opened):
    """Every field of JobChange, on a job that waits, read back from slurmctld."""
    first, job_id = opened.submit(
        opened.submission("/bin/true"),
        opened.submission("/bin/true", array=Array("0-3", 2), begin_at=in_an_hour()),
    )
    before = opened.judge.job(job_id)
    begin = int(time.time()) + 2 * HOUR
    told = datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for change, field, value in (
        (JobChange(walltime_s=1800), "TimeLimit", "00:30:00"),
        (JobChange(partition="low"), "Partition", "low"),
        (JobChange(account="teaching"), "Account", "teaching"),
        (JobChange(qos="urgent"), "QOS", "urgent"),
        (JobChange(begin_at=begin), "StartTime", told),
        (JobChange(dependency=f"afterany:{first}"), "Dependency", f"afterany:{first}(unfulfilled)"),
        (JobChange(at_once=1), "ArrayTaskThrottle", "1"),
    ):
        opened.client.update(job_id, change)
        assert opened.judge.job(job_id)[field] == value, change
    after = opened.judge.job(job_id)
    same = ("JobName", "NumNodes", "NumTasks", "MinMemoryNode", "WorkDir", "StdOut", "Requeue", "Priority", "Reason")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    opened.client.update(job_id, JobChange())
    with pytest.raises(SiteRefused):
        opened.client.update(job_id, JobChange(partition="nowhere"))
    with pytest.raises(SiteRefused):
        opened.client.update(UNKNOWN_ID, JobChange(walltime_s=600))


@through("update")
def test_update_nodes_and_the_limit_of_a_running_job(opened: Opened):
    waiting, running = opened.submit(
        opened.submission("/bin/true", resources=replace(SMALL, ntasks_per_node=2)), opened.shell("sleep 300")
    )
    if (opened.cluster, opened.door) == ("v2605", "native"):
        with pytest.raises(NotOffered):
            opened.client.update(waiting, JobChange(nodes=2))
    else:
        opened.client.update(waiting, JobChange(nodes=2))
        assert opened.judge.job(waiting)["NumNodes"] in ("2", "2-2")
    opened.judge.wait([running], "RUNNING")
    opened.client.update(running, JobChange(walltime_s=300))
    assert opened.judge.job(running)["TimeLimit"] == "00:05:00"
    with pytest.raises(SiteRefused):
        opened.client.update(running, JobChange(walltime_s=7200))


@through("update")
def test_begin_time_is_honoured_and_told(opened: Opened):
    begin = in_an_hour()
    submission = opened.submission("/bin/true", hold=False, begin_at=begin)
    job_id = opened.start(submission)
    wait_until(lambda: opened.judge.job(job_id)["Reason"] == "BeginTime", lambda: opened.judge.job(job_id))
    status = opened.found(submission)
    assert (status.state, status.reason, status.held) == (JobState.PENDING, "BeginTime", False)
    assert status.estimated_start == begin
    polled = opened.client.poll({job_id: Known(JobState.RUNNING)}).changed[job_id]
    assert (polled.reason, polled.estimated_start) == ("BeginTime", begin)
    opened.client.update(job_id, JobChange(begin_at=int(time.time()) + 2))
    opened.judge.wait([job_id], "COMPLETED")
    ended = opened.found(submission)
    assert ended.started_at is not None and ended.started_at < begin


@through()
def test_dependencies(opened: Opened):
    """afterok and afternotok, met and never to be met."""
    good, bad = (opened.submission("bash", "-c", command) for command in ("true", "exit 3"))
    ids = opened.submit(good, bad)
    after = {
        (word, which): opened.submission("/bin/true", dependency=f"{word}:{ids[which]}", hold=False)
        for word in ("afterok", "afternotok", "afterany")
        for which in (0, 1)
    }
    waiting = dict(zip(after, opened.submit(*after.values()), strict=True))
    wait_until(
        lambda: {opened.judge.job(job_id)["Reason"] for job_id in waiting.values()} == {"Dependency"},
        lambda: [opened.judge.job(job_id) for job_id in waiting.values()],
    )
    found = opened.client.find([submission.name for submission in after.values()])
    assert {jobs[0].reason for jobs in found.values()} == {"Dependency"}
    assert {jobs[0].held for jobs in found.values()} == {False}
    assert opened.client.release(ids) == {}
    met = [waiting["afterok", 0], waiting["afternotok", 1], waiting["afterany", 0], waiting["afterany", 1]]
    never = [waiting["afterok", 1], waiting["afternotok", 0]]
    opened.judge.wait(met, "COMPLETED")
    opened.judge.wait(never, "CANCELLED")
    polled = opened.client.poll(dict.fromkeys(never, Known(JobState.PENDING, "Dependency"))).changed
    assert {job_id: (status.state, status.reason) for job_id, status in polled.items()} == dict.fromkeys(
        never, (JobState.CANCELLED, "DependencyNeverSatisfied")
    )


@through()
def test_arrays(opened: Opened):
    """Tasks are counted by state while some run and some wait (%limit), a failed one decides, and the whole is cancelled as one."""
    go = opened.here(f"/shared/researcher/go-{opened}-{time.time_ns()}")
    path = f"/shared/researcher/{go.name}"
    script = f'until [ -e {path} ]; do sleep 0.1; done; [ "$SLURM_ARRAY_TASK_ID" != 4 ] || exit 5'
    limited = opened.shell(script, array=Array("2,4,6-8", 2))
    endless = opened.shell("sleep 300", array=Array("0-5", 2))
    ids = opened.submit(limited, endless)
    for job_id in ids:
        wait_until(
            lambda job_id=job_id: opened.judge.states([job_id])[job_id] == {"RUNNING", "PENDING"},
            lambda job_id=job_id: opened.judge.jobs(job_id),
        )
    told = opened.found(limited)
    assert (told.job_id, told.name, told.state) == (ids[0], limited.name, JobState.RUNNING)
    assert told.tasks == {JobState.RUNNING: 2, JobState.PENDING: 3}
    polled = opened.client.poll(dict.fromkeys(ids, Known(JobState.PENDING))).changed
    assert polled[ids[0]].tasks == {JobState.RUNNING: 2, JobState.PENDING: 3}
    assert polled[ids[1]].tasks == {JobState.RUNNING: 2, JobState.PENDING: 4}
    again = opened.client.poll(dict.fromkeys(ids, Known(JobState.RUNNING)))
    assert (again.changed, again.gone) == ({}, frozenset())

    assert opened.client.cancel([ids[1]]) == {}
    opened.judge.wait([ids[1]], "CANCELLED")
    go.touch()
    opened.judge.wait([ids[0]], "COMPLETED", "FAILED")
    limits = {ids[0]: {JobState.COMPLETED: 4, JobState.FAILED: 1}, ids[1]: {JobState.CANCELLED: 6}}
    polled = opened.client.poll(dict.fromkeys(ids, Known(JobState.RUNNING))).changed
    assert {job_id: status.tasks for job_id, status in polled.items()} == limits
    assert (polled[ids[0]].state, polled[ids[0]].exit_code) == (JobState.FAILED, 5)
    assert polled[ids[1]].state is JobState.CANCELLED
    for submission, job_id in ((limited, ids[0]), (endless, ids[1])):
        status = opened.found(submission)
        assert (status.job_id, status.state, status.tasks) == (job_id, polled[job_id].state, limits[job_id])
    for task in (2, 4, 6, 7, 8):
        assert opened.here(limited.stdout.replace("%a", str(task))).exists()
        assert opened.here(f"{limited.directory}/{task}").is_dir()


@through()
def test_estimated_start_behind_a_running_job(opened: Opened):
    """The scheduler plans a job that waits for all of a node to start at the limit of the one that runs there."""
    whole = Resources(nodes=2, cpus_per_task=8, mem_bytes=SMALL.mem_bytes, walltime_s=600)
    running = opened.submission("sleep", "300", resources=whole, hold=False)
    waiting = opened.submission("/bin/true", resources=whole, hold=False)
    first = opened.start(running)
    opened.judge.wait([first], "RUNNING")
    second = opened.start(waiting)

    def planned() -> bool:
        told = opened.judge.job(second)
        return told["StartTime"] != "Unknown" and told["Reason"] in ("Resources", "Priority")

    wait_until(planned, lambda: opened.judge.job(second))
    ends = datetime.fromisoformat(opened.judge.job(first)["EndTime"]).replace(tzinfo=UTC)
    status = opened.found(waiting)
    assert status.state is JobState.PENDING and status.reason in ("Resources", "Priority")
    assert status.estimated_start is not None and abs((status.estimated_start - ends).total_seconds()) <= 60
    state = opened.client.state()
    assert state.running_ends == {opened.node(1): ends, opened.node(2): ends}
    assert {node.name: node.cpus_used for node in state.nodes if node.cpus_used} == {
        opened.node(1): 8,
        opened.node(2): 8,
    }
