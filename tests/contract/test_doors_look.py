"""What is read through the doors: the cluster, who we are, and jobs by name and by number. Equal through all, and what the cluster says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.clusters import wait_until
from contract.doors import MIB, NOT_OFFERED, Opened, several_doors, through
from westward.model.accelerators import AcceleratorRequest
from westward.model.job import JobChange, JobState, new_key, slurm_name
from westward.model.resources import Resources
from westward.slurm.client import Known, NotOffered

pytestmark = pytest.mark.lab

DAY = 86400
UNKNOWN_ID = 3999998
# how each method can be called without doing anything, where the door refuses it anyhow
CALLS: Mapping[str, tuple[Any, ...]] = {
    "account": (),
    "try_out": (None,),
    "hold": ([UNKNOWN_ID],),
    "signal": (UNKNOWN_ID, "USR1"),
    "requeue": (UNKNOWN_ID,),
    "update": (UNKNOWN_ID, JobChange(walltime_s=600)),
    "history": (datetime.now(UTC),),
    "accounting_backlog": (),
}


@through()
def test_what_a_door_does_not_offer_it_says_and_it_is_just_this(opened: Opened):
    listed = NOT_OFFERED.get((opened.cluster, opened.door), frozenset())
    assert listed <= set(CALLS)
    for method in sorted(listed):
        with pytest.raises(NotOffered) as told:
            getattr(opened.client, method)(*CALLS[method])
        assert opened.site.name in str(told.value) and told.value.next_step


@through()
def test_partitions_nodes_and_accelerators(opened: Opened):
    """One node partly used, the other drained by its administrator: seen as they are, then as they were."""
    wanted = Resources(
        ntasks_per_node=2, cpus_per_task=2, mem_bytes=500 * MIB, accelerators=AcceleratorRequest("any", 2), walltime_s=3600
    )  # fmt: skip
    first, second = opened.node(1), opened.node(2)
    has = 2 if opened.cluster == "v2205" else 4
    job_id = opened.start(opened.submission("sleep", "300", resources=wanted, hold=False, options={"nodelist": first}))
    opened.judge.wait([job_id], "RUNNING")
    opened.judge.root("scontrol", "update", f"nodename={second}", "state=drain", "reason=fans: 2 of 4 = dead")
    try:
        state = opened.client.state()
    finally:
        opened.judge.root("scontrol", "update", f"nodename={second}", "state=undrain")
    version = opened.judge.root("scontrol", "--version").split()[1]
    assert state.version == version
    assert abs(state.taken_at - datetime.now(UTC)) < timedelta(seconds=30)
    partitions = {each.name: (each.up, each.max_walltime_s, each.max_nodes, each.default) for each in state.partitions}
    # which partition is the default is not in every data_parser
    tells = (opened.cluster, opened.door) != ("v2411", "rest")
    assert partitions == {
        "gpu": (True, DAY, None, True if tells else None),
        "low": (True, 7 * DAY, None, False if tells else None),
        "cloud": (True, 3600, None, False if tells else None),
    }
    nodes = {node.name: node for node in state.nodes}
    used, drained = nodes[first], nodes[second]
    assert (set(used.states), used.usable, used.reason) == ({"MIXED"}, True, "")
    assert (used.cpus, used.cpus_used, used.mem_bytes, used.mem_used_bytes) == (8, 4, 8000 * MIB, 500 * MIB)
    assert (used.accelerators, used.accelerators_used) == ({opened.chip: has}, {opened.chip: 2})
    assert set(used.partitions) == {"gpu", "low"}
    assert (set(drained.states), drained.usable) == ({"IDLE", "DRAIN"}, False)
    assert drained.reason == "fans: 2 of 4 = dead"
    assert (drained.cpus_used, drained.mem_used_bytes, drained.accelerators_used.get(opened.chip, 0)) == (0, 0, 0)
    ends = datetime.fromisoformat(opened.judge.job(job_id)["EndTime"]).replace(tzinfo=UTC)
    assert state.running_ends == {first: ends}
    # its controller may have lost sight of it for a moment: the other clusters' tests keep the host busy
    wait_until(lambda: opened.judge.node(second)["State"] == "IDLE", lambda: opened.judge.node(second))
    again = {node.name: node for node in opened.client.state().nodes}[second]
    assert (set(again.states), again.usable, again.reason) == ({"IDLE"}, True, "")


@through("account")
def test_who_we_are(opened: Opened):
    """What a door cannot tell is None or empty; what it tells is the truth."""
    account = opened.client.account()
    assert (account.cluster, account.user, account.default_account) == (opened.cluster, "researcher", "research")
    told = {each.account: (each.partition, set(each.qos)) for each in account.associations}
    assert told == {"research": (None, {"normal", "urgent"}), "teaching": (None, {"normal", "urgent"})}
    assert account.home in (None, "/shared/researcher") and account.max_array_size in (None, 1001)
    if account.clock is not None:
        assert abs(account.clock - datetime.now(UTC)) < timedelta(seconds=10)
    if opened.door == "shell":
        assert account.home and account.clock and account.max_array_size
        assert ("pmix" if opened.cluster == "v2411" else "pmi2") in account.mpi


@through()
def test_find_none_one_and_two_among_many_names(opened: Opened):
    nobody = slurm_name("nobody", new_key())
    one, two = opened.submission("/bin/true"), opened.submission("/bin/true")
    first, *twins = opened.submit(one, two, two)
    # no part of another name, no pattern
    others = [one.name[:-1], one.name.upper(), "%", "*", one.name + "2"]
    many = [slurm_name("many", new_key()) for _ in range(700)]
    found = opened.client.find([nobody, one.name, two.name, *others, *many])
    assert set(found) == {nobody, one.name, two.name, *others, *many}
    assert [status.job_id for status in found[one.name]] == [first]
    assert [status.job_id for status in found[two.name]] == sorted(twins)
    assert sum(len(jobs) for jobs in found.values()) == 3
    assert opened.client.find([]) == {}
    status = found[one.name][0]
    submitted = datetime.fromisoformat(opened.judge.job(first)["SubmitTime"]).replace(tzinfo=UTC)
    assert (status.name, status.partition, status.submitted_at) == (one.name, "gpu", submitted)


@through()
def test_poll_tells_what_is_otherwise_and_nothing_else(opened: Opened):
    waiting, running, ended = opened.submit(
        opened.submission("/bin/true"), opened.shell("sleep 300"), opened.shell("exit 4")
    )
    opened.judge.wait([running], "RUNNING")
    opened.judge.wait([ended], "FAILED")
    known = {
        waiting: Known(JobState.PENDING, "JobHeldUser"),
        running: Known(JobState.PENDING, "Resources"),
        ended: Known(JobState.RUNNING),
        UNKNOWN_ID: Known(JobState.RUNNING),
    }
    poll = opened.client.poll(known)
    assert poll.gone == {UNKNOWN_ID}
    assert {job_id: status.state for job_id, status in poll.changed.items()} == {
        running: JobState.RUNNING,
        ended: JobState.FAILED,
    }
    assert (poll.changed[ended].exit_code, poll.changed[ended].signal) == (4, None)
    record = opened.judge.job(running)
    now = poll.changed[running]
    started = datetime.fromisoformat(record["StartTime"]).replace(tzinfo=UTC)
    assert (now.nodes, now.started_at, now.ended_at, now.exit_code) == (record["NodeList"], started, None, None)
    assert (now.reason, now.held, now.partition, now.restarts) == ("", False, "gpu", 0)
    told = {job_id: Known(status.state, status.reason) for job_id, status in poll.changed.items()}
    again = opened.client.poll({**known, **told})
    assert (again.changed, again.gone) == ({}, {UNKNOWN_ID})
    assert opened.client.poll({}).changed == {}


@through("accounting_backlog")
def test_the_accounting_is_owed_nothing_after_a_while(opened: Opened):
    wait_until(lambda: opened.client.accounting_backlog() == 0, "slurmctld still owes slurmdbd something")


@several_doors
def test_the_doors_describe_the_same_cluster(all_doors: Mapping[tuple[str, str], Opened], cluster: str):
    doors = [opened for (name, _), opened in all_doors.items() if name == cluster]
    wanted = Resources(nodes=2, mem_bytes=500 * MIB, accelerators=AcceleratorRequest("any", 1), walltime_s=3600)
    with doors[0].cleared():
        job_id = doors[0].start(doors[0].submission("sleep", "300", resources=wanted, hold=False))
        doors[0].judge.wait([job_id], "RUNNING")
        moment = datetime.fromtimestamp(time.time(), UTC)
        states = {}
        for opened in doors:
            state = opened.client.state()
            states[opened.door] = replace(
                state,
                taken_at=moment,
                partitions=tuple(
                    replace(each, default=None) for each in sorted(state.partitions, key=lambda each: each.name)
                ),
                nodes=tuple(
                    replace(node, states=tuple(sorted(node.states)), partitions=tuple(sorted(node.partitions)))
                    for node in sorted(state.nodes, key=lambda each: each.name)
                ),
            )
    reference = states.pop(doors[0].door)
    for door, state in states.items():
        assert state == reference, door


@several_doors
def test_the_doors_tell_the_same_of_jobs_that_wait_and_run(all_doors: Mapping[tuple[str, str], Opened], cluster: str):
    """Each door's jobs, as each door tells of them: found by name, and polled."""
    doors = [opened for (name, _), opened in all_doors.items() if name == cluster]
    begin = datetime.fromtimestamp(int(time.time()) + 3600, UTC)
    asked = [
        submission
        for opened in doors
        for submission in (
            opened.submission("/bin/true"),
            opened.submission("/bin/true", hold=False, begin_at=begin),
            opened.shell("sleep 300"),
            opened.shell("sleep 300", resources=Resources(nodes=2, mem_bytes=64 * MIB)),
        )
    ]
    with doors[0].cleared():
        ids = [
            job_id
            for number, opened in enumerate(doors)
            for job_id in opened.submit(*asked[4 * number : 4 * number + 4])
        ]
        running = [job_id for number, job_id in enumerate(ids) if number % 4 > 1]
        waiting = [job_id for number, job_id in enumerate(ids) if number % 4 < 2]
        doors[0].judge.wait(running, "RUNNING")
        wait_until(
            lambda: {doors[0].judge.job(job_id)["Reason"] for job_id in waiting} == {"JobHeldUser", "BeginTime"},
            "some job that should wait does not",
        )
        found = {opened.door: opened.client.find([each.name for each in asked]) for opened in doors}
        polled = {
            opened.door: opened.client.poll(dict.fromkeys(ids, Known(JobState.FAILED))).changed for opened in doors
        }
    reference = {jobs[0].job_id: jobs[0] for jobs in found[doors[0].door].values()}
    assert set(reference) == set(ids)
    for opened in doors:
        assert {jobs[0].job_id: jobs[0] for jobs in found[opened.door].values()} == reference, opened
        assert polled[opened.door] == reference, opened
