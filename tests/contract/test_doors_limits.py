"""A user's limits through every door, set and taken away by the cluster's administrator; and Slurm does to a job what was foreseen of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contract.clusters import wait_until
from contract.doors import DOORS, MIB, Opened, through
from westward.errors import SiteRefused
from westward.jobs.allowance import findings, worst
from westward.jobs.asking import asked
from westward.model.decision import Cost, Offer
from westward.model.job import Array, JobSpec, Launcher, new_key
from westward.model.limits import Cap, Verdict
from westward.model.resources import Resources
from westward.slurm import restlimits
from westward.slurm.script import render

pytestmark = pytest.mark.lab

SHELLS = [door for door in DOORS if door[1] == "shell"]
RESTS = [door for door in DOORS if door[1] == "rest"]
SMALL = Resources(mem_bytes=64 * MIB, walltime_s=120)


@contextmanager
def a_qos(opened: Opened, *settings: str) -> Iterator[str]:
    """A QOS of the researcher's with these limits."""
    name = f"capped{new_key()[:6]}"
    root = opened.judge.root
    root("sacctmgr", "-i", "add", "qos", name)
    try:
        if settings:
            root("sacctmgr", "-i", "modify", "qos", name, "set", *settings)
        root("sacctmgr", "-i", "modify", "user", "researcher", "set", f"qos+={name}")
        # slurmdbd tells slurmctld a moment later
        shown = ("scontrol", "-o", "show", "assoc_mgr", "flags=qos")
        wait_until(lambda: f"QOS={name}(" in root(*shown), f"{name} does not come")
        yield name
    finally:
        root("scancel", "--user=researcher")
        wait_until(lambda: not root("squeue", "-h", "-u", "researcher"), "its jobs do not go")
        root("sacctmgr", "-i", "delete", "qos", name)


def wish(opened: Opened, qos: str, resources: Resources = SMALL, **more: Any) -> tuple[JobSpec, Offer]:
    spec = JobSpec(
        "limits", ("sleep", "60"), resources, Launcher.NONE, idempotent=True, account="research", qos=qos, **more
    )
    return spec, Offer(opened.site.name, "gpu", None, 0.0, None, None, None, Cost())


def foreseen(opened: Opened, spec: JobSpec, offer: Offer) -> Verdict:
    limits = opened.client.limits()
    return worst(findings(asked(spec, offer, opened.site, limits), limits))


@through("limits")
def test_a_limit_is_told_with_what_counts_against_it(opened: Opened):
    settings = (
        "MaxWall=01:00:00",
        "MaxJobsPerUser=3",
        "MaxSubmitJobsPerUser=5",
        "MaxTRESPerJob=cpu=7,mem=2G",
        "Flags=DenyOnLimit",
    )
    with a_qos(opened, *settings) as name:
        spec, offer = wish(opened, name)
        ids = opened.submit(*(render(spec, offer, opened.site, new_key()) for _ in range(2)))
        opened.judge.wait(ids, "RUNNING")
        qos = opened.client.limits().qos[name]
    assert qos.flags == {"DenyOnLimit"}
    assert set(qos.caps) == {
        Cap("MaxWall", 60), Cap("MaxJobsPerUser", 3, "", 2), Cap("MaxSubmitJobsPerUser", 5, "", 2),
        Cap("MaxTRESPerJob", 7, "cpu"), Cap("MaxTRESPerJob", 2048, "mem"),
    }  # fmt: skip


@through("limits")
def test_an_accounts_limit_and_what_a_partition_asks_for(opened: Opened):
    root = opened.judge.root
    change = ("sacctmgr", "-i", "modify", "account", "research", "set")
    root(*change, "GrpTRES=cpu=5", "GrpSubmitJobs=40")
    root(
        "scontrol",
        "update",
        "partitionname=gpu",
        "AllowAccounts=research",
        "MaxMemPerNode=4000",
        "AllowGroups=researcher",
    )
    try:
        if opened.door != "rest":
            wait_until(
                lambda: "cpu=5(" in root("scontrol", "-o", "show", "assoc_mgr", "flags=assoc"), "it does not come"
            )
        limits = opened.client.limits()
    finally:
        root(*change, "GrpTRES=cpu=-1", "GrpSubmitJobs=-1")
        root("scontrol", "update", "partitionname=gpu", "AllowAccounts=ALL", "MaxMemPerNode=0", "AllowGroups=ALL")
    whole = next(each for each in limits.charges if each.account == "research" and not each.user)
    told = {(cap.name, cap.tres): cap for cap in whole.caps}
    assert {key: cap.value for key, cap in told.items()} == {("GrpTRES", "cpu"): 5, ("GrpSubmitJobs", ""): 40}
    assert {cap.used for cap in told.values()} == ({None} if opened.door == "rest" else {0.0})
    own = {each.account: set(each.qos) for each in limits.charges if each.user}
    assert own == {"research": {"normal", "urgent"}, "teaching": {"normal", "urgent"}}
    rules = limits.partitions["gpu"]
    assert (rules.state, rules.max_walltime_s, rules.max_mem_per_node_mib) == ("UP", 86400, 4000)
    assert (rules.allow_accounts, rules.allow_groups) == (("research",), ("researcher",))
    assert limits.default_account == "research"
    if opened.door == "rest":
        assert limits.groups is None and any("others use" in note for note in limits.notes)
    else:
        assert limits.groups == ("researcher",) and limits.notes == ()
    if (opened.cluster, opened.door) != ("v2411", "rest"):
        assert limits.enforced == {"associations", "limits", "qos"}


@through("limits", doors=RESTS)
def test_of_a_long_queue_what_is_held_is_not_counted_and_a_note_says_so(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(restlimits, "SCAN_AT_MOST", 0)
    with a_qos(opened, "MaxJobsPerUser=9", "MaxSubmitJobsPerUser=9", "MaxTRESPerUser=cpu=9") as name:
        spec, offer = wish(opened, name)
        later = replace(spec, array=Array.parse("0-2"), begin_at=datetime.now(UTC) + timedelta(days=40))
        held = replace(spec, idempotent=False)
        wanted = [render(each, offer, opened.site, new_key()) for each in (spec, spec, later, held)]
        opened.judge.wait(opened.submit(*wanted)[:2], "RUNNING")
        now = Cap("MaxJobsPerUser", 9, "", 2), Cap("MaxSubmitJobsPerUser", 9, "", 5), Cap("MaxTRESPerUser", 9, "cpu", 2)
        wait_until(lambda: set(opened.client.limits().qos[name].caps) == set(now), "slurmdbd tells otherwise")
        assert "jobs are listed there" in opened.client.limits().notes[-1]


@through("limits", doors=SHELLS)
def test_slurm_does_what_was_foreseen(opened: Opened):
    """Taken and never started, refused, or taken and waiting: for each kind of limit, and by Slurm's own reason."""

    def done(spec: JobSpec, offer: Offer) -> tuple[Verdict, str]:
        (answer,) = opened.client.submit([render(spec, offer, opened.site, new_key())])
        if isinstance(answer, SiteRefused):
            return Verdict.REFUSED, str(answer)
        assert isinstance(answer, int), answer
        wait_until(
            lambda: (
                opened.judge.job(answer)["Reason"] not in ("None", "Priority")
                or opened.judge.state(answer) == "RUNNING"
            ),
            "?",
        )
        if opened.judge.state(answer) == "RUNNING":
            return Verdict.OK, ""
        return Verdict.WAITS, opened.judge.job(answer)["Reason"]

    def agree(spec: JobSpec, offer: Offer, verdict: Verdict, words: str) -> None:
        told = foreseen(opened, spec, offer)
        really, reason = done(spec, offer)
        taken = Verdict.WAITS if verdict is Verdict.NEVER else verdict
        assert (told, really) == (verdict, taken), (words, reason)
        assert words.lower() in reason.lower(), reason

    two_hours = replace(SMALL, walltime_s=7200)
    with a_qos(opened, "MaxWall=01:00:00") as name:
        agree(*wish(opened, name), Verdict.OK, "")
        agree(*wish(opened, name, two_hours), Verdict.NEVER, "MaxWall")
        opened.judge.root("sacctmgr", "-i", "modify", "qos", name, "set", "Flags=DenyOnLimit")
        wait_until(
            lambda: foreseen(opened, *wish(opened, name, two_hours)) is Verdict.REFUSED, "DenyOnLimit does not come"
        )
        agree(*wish(opened, name, two_hours), Verdict.REFUSED, "")
    with a_qos(opened, "MaxJobsPerUser=1", "MaxSubmitJobsPerUser=2") as name:
        agree(*wish(opened, name), Verdict.OK, "")
        agree(*wish(opened, name), Verdict.WAITS, "QOSMaxJobsPerUserLimit")
        agree(*wish(opened, name), Verdict.REFUSED, "")
    with a_qos(opened, "MaxTRESPerJob=cpu=2", "GrpTRES=node=1") as name:
        agree(*wish(opened, name, replace(SMALL, ntasks_per_node=3)), Verdict.NEVER, "QOSMaxCpuPerJobLimit")
        agree(*wish(opened, name, replace(SMALL, nodes=2)), Verdict.NEVER, "Node")
        agree(*wish(opened, name), Verdict.OK, "")
    with a_qos(opened, "GrpTRES=cpu=2") as name:
        agree(*wish(opened, name, replace(SMALL, ntasks_per_node=2)), Verdict.OK, "")
        agree(*wish(opened, name), Verdict.WAITS, "QOSGrpCpuLimit")
    spec, offer = wish(opened, "normal")
    agree(replace(spec, account="physics"), offer, Verdict.REFUSED, "account")
    agree(replace(spec, qos="nosuch"), offer, Verdict.REFUSED, "qos")


@through("try_out")
def test_a_trial_tells_a_start_or_a_refusal_and_submits_nothing(opened: Opened):
    before = opened.judge.root("squeue", "-ah", "-u", "researcher")
    spec, offer = wish(opened, "normal")
    told = opened.client.try_out(render(replace(spec, idempotent=False), offer, opened.site, new_key()))
    assert told.start is not None and told.refusal == "" and opened.cluster in told.nodes
    refused = opened.client.try_out(render(replace(spec, qos="nosuch"), offer, opened.site, new_key()))
    assert (refused.start, "Invalid qos" in refused.refusal) == (None, True), refused
    assert opened.judge.root("squeue", "-ah", "-u", "researcher") == before
