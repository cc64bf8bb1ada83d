"""Slurm's reason codes in words."""

from __future__ import annotations

import pytest

from westward.slurm.reasons import explained


@pytest.mark.parametrize(
    ("reason", "meaning", "remedy"),
    [
        ("Priority", "jobs of higher priority are before it", "shorter walltime"),
        ("Resources", "what it asks for is not free yet", "fewer nodes"),
        ("QOSMaxJobsPerUserLimit", "its QOS sets to running jobs for each user is reached", "wait until"),
        ("QOSMaxCpuPerUserLimit", "its QOS sets to CPUs for each user", "wait until"),
        ("QOSGrpGRES", "its QOS sets to accelerators or other GRES for all its jobs together", "wait until"),
        ("QOSMaxWallDurationPerJobLimit", "its QOS sets to wall-clock time in one job", "never start"),
        ("QOSMinGRES", "its QOS wants more accelerators", "ask for more"),
        ("AssocGrpCPUMinutesLimit", "its account sets to CPU minutes for all its jobs together is reached: the budget", "ask for more"),
        ("AssocGrpCPURunMinutesLimit", "CPU minutes of what runs", "wait until"),
        ("AssocGrpGRESMinutes", "accelerator minutes", "elsewhere"),
        ("AssocMaxSubmitJobLimit", "jobs that run or wait", "wait until"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "down, drained, or reserved for maintenance", "walltime"),
        ("ReqNodeNotAvail(Unavailable:n1)", "down, drained, or reserved for maintenance", "walltime"),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", "down, drained", "wait"),
        ("Dependency", "waits for another job", "explain"),
        ("DependencyNeverSatisfied", "can never come", "cancel it"),
        ("BeginTime", "earliest start", "begin"),
        ("JobHeldUser", "held, by its user", "release"),
        ("JobHeldAdmin", "an administrator", "ask"),
        ("PartitionTimeLimit", "longer than its partition allows", "shorter walltime"),
        ("InvalidQOS", "not valid for its account", "qos="),
        ("InvalidAccount", "not valid at its cluster", "account="),
    ],
)  # fmt: skip
def test_each_says_what_it_means_and_what_helps(reason: str, meaning: str, remedy: str) -> None:
    found = explained(reason)
    assert found is not None
    assert (meaning in found.meaning, remedy in found.remedy) == (True, True), found


@pytest.mark.parametrize("reason", ["", "NewInSlurm99", "site 'west': nobody answers", "QOS", "Assoc"])
def test_what_is_none_of_slurm_s_is_left_as_it_is(reason: str) -> None:
    assert explained(reason) is None
