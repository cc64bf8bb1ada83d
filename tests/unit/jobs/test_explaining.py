"""What `westward explain` makes of what is known of a job."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from unit.jobs.test_scripts import a_script
from unit.jobs.world import DOUBT, World, a_job, decision, fails, submit
from westward.jobs.explaining import Explanation, explain
from westward.model.job import After, Attempt, Dependency, JobState, JobStatus, Usage
from westward.model.units import format_duration
from westward.store.ledger import Job, Phase, SiteWord

HOUR = timedelta(hours=1)


def told(job: Job, *attempts: Attempt, **more: Any) -> Explanation:
    given: dict[str, Any] = {"word": None, "now": job.created_at + HOUR, "agent": False, **more}
    return explain(job, attempts, **given)


def ended(world: World, state: JobState, **more: Any) -> Job:
    job = submit(world)
    now = job.created_at
    values = {"phase": Phase.ENDED, "started_at": now + HOUR / 2, "ended_at": now + HOUR, **more}
    return replace(job, state=state, **values)


@pytest.mark.parametrize(
    ("state", "more", "why", "then"),
    [
        (JobState.COMPLETED, {}, "it ended well", "westward results"),
        (JobState.FAILED, {"exit_code": 7}, "its script ended with exit code 7", "westward logs"),
        (JobState.FAILED, {"exit_code": 127}, "a program in it was not found", "westward logs"),
        (JobState.FAILED, {"exit_code": 137}, "signal 9 (SIGKILL), as a node does that runs out of memory", "westward logs"),
        (JobState.FAILED, {"signal": 11}, "ended by signal 11 (SIGSEGV)", "westward logs"),
        (JobState.TIMEOUT, {}, "its time limit of 01:00:00 was reached", "walltime="),
        (JobState.OUT_OF_MEMORY, {}, "used more memory than it had asked for", "mem="),
        (JobState.NODE_FAIL, {}, "a node that it ran on failed", "requeue=true"),
        (JobState.PREEMPTED, {}, "for a more urgent job", "requeue=true"),
        (JobState.CANCELLED, {"cancelled": True}, "by 'westward cancel'", ""),
        (JobState.CANCELLED, {}, "at its cluster, not by Westward", "administrators"),
        (JobState.CANCELLED, {"reason": "DependencyNeverSatisfied"}, "what it waits for can never come", "submit it again"),
        (JobState.CANCELLED, {"reason": "job x at 'east' is FAILED"}, "job x at 'east' is FAILED", ""),
        (JobState.LOST, {"reason": "neither queue nor accounting knows it"}, "no trace of it", "submit it again"),
    ],
)  # fmt: skip
def test_how_it_ended_and_what_helps(world: World, state: JobState, more: dict[str, Any], why: str, then: str) -> None:
    found = told(ended(world, state, **more))
    assert (why in " ".join(found.now), then in " ".join(found.next)) == (True, True), found


def test_why_it_waits_and_until_when(world: World) -> None:
    job = submit(world)
    job = replace(job, reason="QOSMaxJobsPerUserLimit", restarts=2, estimated_start=job.created_at + 2 * HOUR)
    found = told(job)
    assert found.now == (
        "it waits: the limit that its QOS sets to running jobs for each user is reached (QOSMaxJobsPerUserLimit)",
        "it had started before: its cluster put it back 2 times",
        "its cluster means to start it in 1 h",
    )
    assert found.next == ("wait until some of those have ended, or submit at another site",)


def test_a_reason_that_nobody_knows_is_shown_as_it_is(world: World) -> None:
    assert told(replace(submit(world), reason="NewInSlurm99")).now == ("it waits: NewInSlurm99",)


def test_one_whose_site_is_silent(world: World) -> None:
    job = replace(submit(world), state=JobState.UNKNOWN)
    word = SiteWord("west", job.created_at, job.created_at + HOUR / 2, "site 'west': nobody answers")
    found = told(job, word=word)
    assert found.now[0] == "its site has not answered for 30 min: site 'west': nobody answers"
    assert found.next == ("westward site check west",)


def test_one_that_waits_for_another_site_and_for_somebody_to_let_it_go(world: World) -> None:
    first = submit(world, "east")
    job = submit(world, depends_on=(Dependency(After.OK, first.key),))
    assert told(job).now == (
        f"it is held at its cluster until jobs at other sites have come so far: {first.key} (afterok)",
    )
    assert "westward agent start" in told(job).next[0]
    assert told(job, agent=True).next == ("the agent takes it further",)


def test_one_in_doubt(world: World) -> None:
    world.cluster.before["submit"] = fails(DOUBT)
    world.jobs().submit_many([(a_job(), decision())])
    assert "in doubt; it cannot start twice" in told(world.only()).now[0]


def test_one_that_nobody_took(world: World) -> None:
    job = replace(submit(world), phase=Phase.REFUSED, reason="site 'west' refuses: Invalid account")
    assert told(job).now == ("it is at no cluster, and will be at none: site 'west' refuses: Invalid account",)


def test_what_happened_in_its_order_each_attempt_told(world: World) -> None:
    job = ended(world, JobState.COMPLETED, restarts=1)
    at = job.created_at

    def attempt(state: JobState, restarts: int, *minutes: int) -> Attempt:
        submitted, started, over = (at + timedelta(minutes=minute) for minute in minutes)
        status = JobStatus(1, job.submission.name, state, submitted_at=submitted, started_at=started, ended_at=over)
        return Attempt(replace(status, restarts=restarts, nodes="n1"), Usage(60, {}, energy_j=500))

    found = told(job, attempt(JobState.NODE_FAIL, 0, 1, 2, 3), attempt(JobState.COMPLETED, 1, 3, 5, 6))
    assert [event.what for event in found.events] == [
        "written into the ledger",
        "sent to its cluster",
        "taken into its queue (attempt 1)",
        "started on n1 (attempt 1)",
        "ended NODE_FAIL (attempt 1)",
        "taken into its queue (attempt 2)",
        "started on n1 (attempt 2)",
        "ended COMPLETED (attempt 2)",
    ]
    assert found.forecast.energy_j == 1000


def test_what_was_expected_beside_what_came(world: World) -> None:
    job = ended(world, JobState.COMPLETED)
    found = told(job).forecast
    assert job.decision["chosen"]["cost"]["compute"] > 0
    assert found.start is not None and found.end_by == found.start + HOUR
    assert found.cost is not None and found.cost_so_far == pytest.approx(found.cost / 2), "it ran for half of its limit"


def test_the_decision_reads_back_as_it_was_made(world: World) -> None:
    made = decision()
    assert told(submit(world)).decision == made
    assert told(replace(submit(world), decision={"of": "another version"})).decision is None


def test_what_was_asked_of_its_cluster(world: World) -> None:
    job = submit(world)
    assert told(job).became == (
        "1 node, 1 task, gpu:h100:4 a node, at most 01:00:00",
        "partition gpu, account research",
        f"as Slurm job 1, {job.submission.name}",
    )
    routed = world.jobs().submit(a_script("-t 90", "-a 1-4"), decision())
    assert "at most 01:30:00" in told(routed).became and "array 1-4" in told(routed).became


def test_one_that_runs(world: World) -> None:
    job = submit(world)
    job = replace(job, state=JobState.RUNNING, started_at=job.created_at)
    assert told(job, now=job.created_at + HOUR / 4).now == (
        f"it runs, for {format_duration(900)} of 1 h that it may take",
    )
