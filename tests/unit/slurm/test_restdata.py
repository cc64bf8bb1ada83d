"""Answers of a real slurmrestd (Slurm 24.11.5) -> model."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime

import pytest

from unit.slurm.replay import body_of, token
from westward.model.job import JobState, Submission
from westward.slurm import restdata

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


def test_a_job_that_was_cancelled_while_it_waited_never_started() -> None:
    """slurmdbd says so with the number 4294967294, which is a day in the year 2106."""
    status = restdata.accounted_status(body_of("accounted_cancelled")["jobs"][0])
    assert status.state is JobState.CANCELLED
    assert status.started_at is None
    assert status.ended_at is not None
    assert status.nodes == ""


def test_the_state_list_names_jobs_by_text() -> None:
    listed = {restdata.plain_job_id(job): job["state"] for job in body_of("jobs_state")["jobs"]}
    assert listed[2] == ["RUNNING"]
    assert None not in listed
    assert restdata.plain_job_id({"job_id": "12_3"}) is None


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
    ("answer", "outage"), [("error_partition", False), ("release_unknown", False), ("error_token_slurmdb", True)]
)
def test_refusals_and_outages_are_told_apart(answer: str, outage: bool) -> None:
    assert [restdata.is_outage(error) for error in body_of(answer)["errors"]] == [outage]


def test_an_error_is_told_in_slurms_words() -> None:
    assert restdata.error_text(body_of("error_partition")["errors"][0]) == (
        "Invalid partition name specified: Batch job submission failed"
    )
    assert restdata.error_text({}) == "no reason given"


@pytest.mark.parametrize(
    "text",
    [token(sun="me"), "no token", "a.ü.c", "", "a." + base64.urlsafe_b64encode(b"[1]").decode() + ".c"],
    ids=["no expiry", "no token", "not ASCII", "empty", "not an object"],
)
def test_what_is_no_token_with_an_expiry_is_called_that(text: str) -> None:
    assert restdata.token_problem(text) == " (it is not a JWT with an expiry)"


def test_a_token_says_for_how_long_it_is_over() -> None:
    assert restdata.token_problem(token(exp=time.time() - 3 * 3600 - 20)) == " (expired 3 h ago)"
    assert restdata.token_problem(token(exp=time.time() + 180)) == ""
