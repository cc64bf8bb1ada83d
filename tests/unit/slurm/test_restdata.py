"""Answers of real slurmrestds (Slurm 24.11.5 and 26.05.5) -> model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from unit.slurm.replay import NEW, OLD, body_of
from westward.model.job import JobChange, JobState, Submission
from westward.slurm import restdata
from westward.slurm.faults import Fault

GIB = 1024**3
NOW = datetime(2026, 11, 22, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize("version", ["", "_v0.0.41"])
def test_an_idle_cluster(version: str) -> None:
    state = restdata.cluster_state(body_of(f"nodes_idle{version}"), body_of(f"partitions{version}"), [], NOW)
    assert state.version == "24.11.5"
    assert [(p.name, p.up, p.max_walltime_s, p.max_nodes) for p in state.partitions] == [
        ("gpu", True, 7 * 86400, None),
        ("cpu", True, 7 * 86400, None),
    ]
    assert [node.name for node in state.nodes] == ["west-n1", "west-n2"]
    node = state.nodes[0]
    assert (node.cpus, node.cpus_used, node.mem_bytes, node.mem_used_bytes) == (8, 0, 16000 * 1024**2, 0)
    assert (node.accelerators, node.accelerators_used) == ({"h100": 4}, {})
    assert node.partitions == ("gpu", "cpu")
    assert node.usable
    assert (state.running_ends, state.taken_at) == ({}, NOW)


@pytest.mark.parametrize("version", ["", "_v0.0.41"])
def test_a_busy_cluster(version: str) -> None:
    jobs = body_of(f"jobs_mixed{version}")["jobs"]
    state = restdata.cluster_state(body_of("nodes_busy"), body_of("partitions"), jobs, NOW)
    busy, idle = state.nodes
    assert (busy.cpus_used, busy.accelerators_used, busy.usable) == (1, {"h100": 4}, True)
    assert busy.mem_used_bytes == GIB // 4
    assert (idle.cpus_used, idle.accelerators_used, idle.usable) == (0, {}, True)
    running = next(job for job in jobs if job["job_state"] == ["RUNNING"])
    assert state.running_ends == {"west-n1": datetime.fromtimestamp(running["end_time"]["number"], UTC)}


@pytest.mark.parametrize("version", ["", "_v0.0.41"])
def test_jobs_of_every_kind_in_the_queue(version: str) -> None:
    found = {
        job["name"].partition("~")[0]: restdata.queued_status(job) for job in body_of(f"jobs_mixed{version}")["jobs"]
    }
    running, waiting, kept, cancelled = (found[name] for name in ("running", "waiting", "kept", "odd"))
    assert (running.state, running.held, running.nodes) == (JobState.RUNNING, False, "west-n1")
    assert running.started_at is not None
    assert running.ended_at is None
    assert (waiting.state, waiting.held, waiting.reason) == (JobState.PENDING, False, "Resources")
    assert waiting.started_at is None
    assert (kept.state, kept.held, kept.reason) == (JobState.PENDING, True, "JobHeldUser")
    assert (cancelled.state, cancelled.held) == (JobState.CANCELLED, False)
    assert cancelled.ended_at is not None


@pytest.mark.parametrize(
    ("answer", "state", "exit_code", "signal", "reason"),
    [
        ("job_completed", JobState.COMPLETED, 0, None, ""),
        ("job_failed", JobState.FAILED, 3, None, "NonZeroExitCode"),
        ("job_timeout", JobState.TIMEOUT, None, 15, "TimeLimit"),
    ],
)
def test_the_queue_remembers_how_a_job_ended(
    answer: str, state: JobState, exit_code: int | None, signal: int | None, reason: str
) -> None:
    status = restdata.queued_status(body_of(answer)["jobs"][0])
    assert (status.state, status.exit_code, status.signal, status.reason) == (state, exit_code, signal, reason)
    assert status.submitted_at is not None
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.submitted_at <= status.started_at <= status.ended_at


@pytest.mark.parametrize(
    ("answer", "state", "exit_code"),
    [
        ("accounted_completed", JobState.COMPLETED, 0),
        ("accounted_failed", JobState.FAILED, 3),
        ("accounted_failed_v0.0.41", JobState.FAILED, 3),
        ("accounted_timeout", JobState.TIMEOUT, 0),
    ],
)
def test_the_accounting_knows_how_a_job_ended(answer: str, state: JobState, exit_code: int) -> None:
    status = restdata.accounted_status(body_of(answer)["jobs"][0])
    assert (status.state, status.exit_code) == (state, exit_code)
    assert status.started_at is not None
    assert status.ended_at is not None
    assert status.started_at <= status.ended_at
    assert status.nodes == "west-n1" or status.nodes == "west-n2"


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["PENDING", "REVOKED"], JobState.REVOKED),
        (["RUNNING", "STOPPED"], JobState.SUSPENDED),
        (["COMPLETED", "COMPLETING"], JobState.RUNNING),
        ([], JobState.UNKNOWN),
    ],
)
def test_queue_and_accounting_read_flags_as_the_commands_show_them(words: list[str], state: JobState) -> None:
    queued = restdata.queued_status(body_of("job_completed")["jobs"][0] | {"job_state": words})
    record = body_of("accounted_completed")["jobs"][0]
    record["state"]["current"] = words
    assert queued.state is restdata.accounted_status(record).state is state
    assert (queued.exit_code is not None) == (queued.ended_at is not None) == state.final


def test_a_job_that_was_cancelled_while_it_waited_never_started() -> None:
    """slurmdbd says so with the number 4294967294, which is a day in the year 2106."""
    status = restdata.accounted_status(body_of("accounted_cancelled")["jobs"][0])
    assert status.state is JobState.CANCELLED
    assert status.started_at is None
    assert status.ended_at is not None
    assert status.nodes == ""


def test_a_submission_says_everything_and_is_held(submission: Submission) -> None:
    fields = restdata.job_fields(submission)
    assert fields["hold"] is True
    assert fields["requeue"] is False
    assert (fields["name"], fields["partition"], fields["account"]) == ("job~aaaaaaaaaaaa", "gpu", "research")
    assert (fields["nodes"], fields["tasks"], fields["tasks_per_node"], fields["cpus_per_task"]) == ("2", 4, 2, 3)
    assert fields["tres_per_node"] == "gres/gpu:h100:4"
    assert fields["memory_per_node"]["number"] == 1024
    assert fields["time_limit"]["number"] == 5
    assert fields["environment"] == ["A=1", 'B=it\'s\n"b"']
    assert "qos" not in fields


@pytest.mark.parametrize(
    ("answer", "changes", "fault"),
    [
        ("error_partition", True, Fault.REFUSED),
        ("release_unknown", True, Fault.REFUSED),
        ("error_token_slurmdb", False, Fault.DATABASE),
        ("error_controller_down_state", False, Fault.SILENT),
        ("error_controller_down_job", False, Fault.SILENT),
        ("error_controller_down_update", True, Fault.SILENT),
        ("error_controller_down_cancel", True, Fault.SILENT),
        ("error_controller_down_submit", True, Fault.NOT_DONE),
    ],
)
def test_refusals_and_outages_are_told_apart(answer: str, changes: bool, fault: Fault) -> None:
    assert [restdata.fault(error, changes=changes) for error in body_of(answer)["errors"]] == [fault]


def test_the_number_decides_and_words_where_there_is_none() -> None:
    def fault(number: int | None, said: str) -> Fault:
        return restdata.fault({"error_number": number, "error": said}, changes=True)

    assert fault(104, "Connection reset by peer") is fault(1002, "Message send failure") is Fault.SILENT
    assert fault(2000, "the partition 'Socket timed out' is invalid") is Fault.REFUSED
    assert fault(0, "Failed to open slurmdbd connection") is fault(None, "slurmdbd") is Fault.DATABASE
    assert fault(-1, "Unspecified error") is Fault.REFUSED, "a job_submit.lua that returns slurm.ERROR"


def test_an_error_is_told_in_slurms_words() -> None:
    assert restdata.error_text(body_of("error_partition")["errors"][0]) == (
        "Invalid partition name specified: Batch job submission failed"
    )
    assert restdata.error_text({}) == "no reason given"


@pytest.mark.parametrize("suffix", ["", "_v0.0.42", "_v0.0.43", "_v0.0.44"])
def test_every_version_of_26_05_is_understood(suffix: str) -> None:
    held = restdata.queued_status(body_of(f"job_held{suffix}", NEW)["jobs"][0])
    assert (held.state, held.held, held.reason, held.partition) == (JobState.PENDING, True, "JobHeldUser", "gpu")
    failed = restdata.queued_status(body_of(f"job_failed{suffix}", NEW)["jobs"][0])
    assert (failed.state, failed.exit_code, failed.reason) == (JobState.FAILED, 3, "NonZeroExitCode")
    done = restdata.accounted_status(body_of(f"accounted_completed{suffix}", NEW)["jobs"][0])
    assert (done.state, done.exit_code, done.name) == (JobState.COMPLETED, 0, "done~dddddddddddd")


def test_the_newest_version_says_which_partition_is_the_default() -> None:
    state = restdata.cluster_state(body_of("nodes_busy", NEW), body_of("partitions", NEW), [], NOW)
    assert {p.name: p.default for p in state.partitions}["gpu"] is True
    assert {p.name: p.default for p in state.partitions}["low"] is False
    assert state.version == "26.05.5"
    assert any(node.cpus_used for node in state.nodes)


def test_a_job_cancelled_while_it_waited_never_started_and_waits_for_nothing() -> None:
    """slurmctld gives it the moment of its end as its start, and goes on naming what it waited for."""
    status = restdata.queued_status(body_of("job_cancelled", NEW)["jobs"][0])
    assert (status.state, status.started_at, status.reason) == (JobState.CANCELLED, None, "")


def test_a_job_that_goes_on_has_no_exit_code() -> None:
    status = restdata.queued_status(body_of("job_running", NEW)["jobs"][0])
    assert (status.state, status.exit_code, status.signal) == (JobState.RUNNING, None, None)


def test_a_submission_passes_on_the_rest_of_it(submission: Submission) -> None:
    full = replace(submission, array="0-9%2", dependency="afterok:12", begin_at=1795500000, requeue=True, hold=False)
    fields = restdata.job_fields(full)
    assert (fields["array"], fields["dependency"]) == ("0-9%2", "afterok:12")
    assert fields["begin_time"] == {"set": True, "infinite": False, "number": 1795500000}
    assert (fields["requeue"], fields["hold"]) == (True, False)
    assert fields["script"] == submission.script


def test_a_change_names_only_what_is_to_change() -> None:
    assert restdata.change_fields(JobChange()) == {}
    fields = restdata.change_fields(JobChange(walltime_s=90, nodes=2, at_once=4, dependency=""))
    assert fields["time_limit"]["number"] == 2, "Slurm counts minutes, rounded up"
    assert (fields["nodes"], fields["array"], fields["dependency"]) == ("2", "4", "")
    assert set(fields) == {"time_limit", "nodes", "array", "dependency"}


@pytest.mark.parametrize("release", [OLD, NEW])
def test_an_attempt_says_what_it_used(release: str) -> None:
    attempts = [restdata.attempt(record) for record in body_of("accounted_array", release)["jobs"]]
    assert sorted(attempt.task for attempt in attempts if attempt.task is not None) == [0, 1, 2, 3, 4]
    assert {attempt.status.job_id for attempt in attempts} == {min(attempt.status.job_id for attempt in attempts)}
    failed = next(attempt for attempt in attempts if attempt.task == 0)
    assert (failed.status.state, failed.status.exit_code) == (JobState.FAILED, 4)
    assert failed.account == "research"
    assert (failed.usage.tres["cpu"], failed.usage.tres["node"]) == (1, 1)
    assert failed.usage.tres["mem"] % 1024**2 == 0
    assert 4 <= failed.usage.elapsed_s <= 10
    assert failed.usage.cpu_s is not None
    assert 0 < failed.usage.cpu_s < 1
    assert failed.usage.energy_j is None, "nobody measures it there; Slurm says 0 or a number for 'no value'"


def test_what_nobody_measured_is_absent_and_not_zero() -> None:
    record = body_of("accounted_completed", NEW)["jobs"][0]
    record["tres"]["allocated"].append({"type": "energy", "name": "", "id": 3, "count": -2})
    assert restdata.attempt(record).usage.energy_j is None
    record["tres"]["allocated"][-1]["count"] = 18446744073709551614
    assert restdata.attempt(record).usage.energy_j is None
    record["tres"]["allocated"][-1]["count"] = 1234
    assert restdata.attempt(record).usage.energy_j == 1234
    assert "energy" not in restdata.attempt(record).usage.tres
    record["steps"] = []
    assert restdata.attempt(record).usage.cpu_s is None


def test_the_most_memory_of_any_step_counts() -> None:
    record = body_of("accounted_completed", NEW)["jobs"][0]
    for step, count in zip(record["steps"], (5000, 7000), strict=False):
        step["tres"]["requested"]["max"] = [{"type": "mem", "name": "", "id": 2, "count": count}]
    assert restdata.attempt(record).usage.max_rss_bytes == 7000


@pytest.mark.parametrize(("release", "qos"), [(OLD, ("normal",)), (NEW, ("normal", "urgent"))])
def test_who_we_are(release: str, qos: tuple[str, ...]) -> None:
    conf = body_of("conf", NEW)["slurm_conf"] if release == NEW else None
    account = restdata.account(
        "researcher", body_of("associations", release)["associations"], body_of("diag", release), conf
    )
    assert (account.user, account.default_account, account.home) == ("researcher", "research", None)
    assert account.associations[0].qos == qos
    assert account.associations[0].partition is None
    assert account.clock is not None
    assert account.max_array_size == (1001 if release == NEW else None)


def test_somebody_elses_associations_are_not_ours() -> None:
    known = body_of("associations", NEW)["associations"]
    assert restdata.account("nobody", known, body_of("diag", NEW), None).default_account is None


def test_what_slurm_left_out_is_told() -> None:
    assert "no_such_field" in restdata.dropped(body_of("submitted_unknown_field", NEW)["warnings"])
    assert restdata.dropped(body_of("submitted", NEW)["warnings"]) == "", "a held job has a warning of its own"


def test_an_error_without_a_number_is_told_by_its_description() -> None:
    assert restdata.error_text(body_of("signal_unknown", NEW)["errors"][0]) == "Unknown signal (null)"


def test_one_task_that_was_not_changed_is_told() -> None:
    answer = {
        "results": [
            {"job_id": 1, "error_code": 0, "error": "No error"},
            {"job_id": 1, "error_code": 2024, "error": "Job is pending"},
        ]
    }
    assert restdata.unchanged(answer, frozenset()) == [{"error_number": 2024, "error": "Job is pending"}]
    assert restdata.unchanged(answer, frozenset({2024})) == []
    assert restdata.unchanged({"results": None, "status": None}, frozenset()) == []
