"""A job's life on real clusters: every way it can end, told right."""

from __future__ import annotations

import time
from typing import Any

import pytest

from contract.clusters import PLAIN, Lab, wait_until, westward

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", autouse=True)
def overdue(clusters: Lab):
    """A job that runs into its time limit, started first since that takes more than a minute."""
    said = westward(
        "submit",
        *PLAIN,
        "command=[sleep,900]",
        "walltime='00:01:00'",
        "--site",
        clusters.site("west"),
        "--json",
    )
    assert said.status == 0, said.err
    return said.json


def test_allreduce_ends_with_a_verified_table(clusters: Lab):
    said = westward("submit", "allreduce", "nodes=2", "--wait", "--json")
    assert said.status == 0, said.err
    job = said.json
    assert (job["state"], job["ok"], job["attempts"]) == ("COMPLETED", True, 1)
    rows = job["record"]["rows"]
    assert [row["bytes"] for row in rows][:3] == [8, 16, 32]
    assert all(row["wrong"] == 0 and 0 < row["latency_p50"] <= row["latency_p99"] for row in rows)
    assert len(job["record"]["provenance"]["hosts"]) == 2
    cluster = job["site"].removeprefix(f"{clusters.name}-")
    assert clusters.accounted(cluster, job["slurm_name"]) == [(str(job["slurm_job_id"]), "COMPLETED")]


def test_gemm_is_compared_with_openblas_in_the_same_process(clusters: Lab):
    said = westward("submit", "gemm", "size=256", "--wait", "--json")
    assert said.status == 0, said.err
    record = said.json["record"]
    assert {row["kernel"] for row in record["rows"]} == {"westward", "openblas"}
    assert record["verification"]["wrong"] == 0


def test_the_policy_chooses_and_site_overrides(clusters: Lab):
    plan = westward("plan", "allreduce", "nodes=2", "--json").json
    assert plan["chosen"]["site"] == clusters.site("west")
    assert plan["chosen"]["cost"]["total"] == min(offer["cost"]["total"] for offer in plan["offers"])
    assert [offer["site"] for offer in plan["offers"]] == [clusters.site("west"), clusters.site("east")]
    other = westward("plan", "allreduce", "nodes=2", "--site", clusters.site("east"), "--json").json
    assert other["chosen"]["site"] == clusters.site("east") and other["overridden"]


def test_a_typed_request_rules_out_the_other_site(clusters: Lab):
    plan = westward("plan", "allreduce", "accelerators=a100:4", "--json").json
    assert plan["chosen"]["chip"] == "a100"
    assert [item["site"] for item in plan["rejections"]] == [clusters.site("west")]
    assert "has h100:4 a node, 2 x a100:4 were asked for" in plan["rejections"][0]["reason"]


def test_no_site_fits(clusters: Lab):
    said = westward("submit", "allreduce", "nodes=20")
    assert said.status == 3
    assert f"{clusters.site('east')}: gpu: 2 of 2 nodes usable, 20 were asked for" in said.err
    assert clusters.site("west") in said.err


def test_a_job_that_fails_is_never_a_success(clusters: Lab):
    said = westward("submit", *PLAIN, "command=[bash,-c,'echo to the log; exit 7']", "--wait")
    assert said.status == 1
    assert "FAILED with exit code 7" in said.err
    key = said.out.split(" is job ")[1].split()[0]
    assert "to the log" in westward("logs", key).out
    again = westward("results", key)
    assert again.status == 1 and "exit code 7" in again.err


def test_a_promised_file_that_is_missing_is_a_failure(clusters: Lab):
    said = westward("submit", "gemm", "launcher=none", "command=[/bin/true]", "--wait")
    assert said.status == 1
    assert "COMPLETED but left no result.json" in said.err


def test_a_benchmark_without_its_mpi_world_fails(clusters: Lab):
    """srun without --mpi starts singletons that end normally, each with right-looking values."""
    said = westward("submit", "allreduce", "launcher=srun", "max_bytes=64", "--wait")
    assert said.status == 1
    key = said.out.split(" is job ")[1].split()[0]
    assert "SLURM_NTASKS" in westward("logs", key).out


def test_cancel_a_running_and_a_waiting_job(clusters: Lab, submit):
    east = clusters.site("east")
    running = submit(*PLAIN, "command=[sleep,300]", "nodes=2", "cpus_per_task=8", "--site", east)
    waiting = submit(*PLAIN, "command=[sleep,300]", "nodes=2", "cpus_per_task=8", "--site", east)
    wait_for(running["key"], "RUNNING")
    assert state_of(waiting["key"]) == "PENDING"
    # Slurm gives a reason when its scheduler has looked at the job, which may be seconds later
    wait_until(lambda: shown(waiting["key"])["reason"] in ("Resources", "Priority"), lambda: shown(waiting["key"]))
    for job in (waiting, running):
        assert westward("cancel", job["key"]).status == 0
        wait_for(job["key"], "CANCELLED")
    assert westward("cancel", running["key"]).status == 0  # twice is harmless
    assert clusters.accounted("east", running["slurm_name"])[0][1].startswith("CANCELLED")


def test_another_process_sees_the_same_jobs(clusters: Lab, submit):
    job = submit(*PLAIN, "command=[/bin/true]")
    listed = {item["key"]: item for item in westward("jobs", "--json").json}
    assert listed[job["key"]]["slurm_job_id"] == job["slurm_job_id"]
    assert westward("watch", job["key"][:8]).status == 0


@pytest.mark.parametrize(
    "name",
    [
        "'",
        '"',
        "$(touch /shared/researcher/owned)",
        "`touch /shared/researcher/owned`",
        "two\nlines",
        "a;b|c&d",
        "../../etc/passwd",
        "\x1b[31m",
        "ü 算",
    ],
)
def test_a_hostile_name_reaches_no_shell(clusters: Lab, submit, name: str):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    job = submit(*PLAIN, "command=[/bin/true]", f'name="{quoted}"')
    assert job["name"] == name
    wait_for(job["key"], "COMPLETED")
    cluster = job["site"].removeprefix(f"{clusters.name}-")
    assert set(job["slurm_name"].partition("~")[0]) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )
    assert clusters.accounted(cluster, job["slurm_name"]) == [(str(job["slurm_job_id"]), "COMPLETED")]
    assert "owned" not in clusters.exec(f"{cluster}-ctl", "ls", "/shared/researcher").split()
    row = [line for line in westward("jobs").out.splitlines() if job["key"] in line]
    assert len(row) == 1 and "\x1b" not in row[0]


def test_bad_values_submit_nothing(clusters: Lab):
    before = len(westward("jobs", "--all", "--json").json)
    for args, status, words in [
        (["gemm", "nodse=2"], 2, "nearest: nodes"),
        (["gemm", "size=big"], 2, "size=big: an integer was expected"),
        (["gemm", "walltime=never"], 2, "'never' is not a time limit"),
        (["gem"], 2, "nearest: gemm"),
        (["gemm", "--site", "atlantis"], 2, "there is no site 'atlantis'"),
        (["gemm", "account=nobody"], 2, "refuses"),
    ]:
        said = westward("submit", *args)
        assert (said.status, words in said.err) == (status, True), said
    listed = westward("jobs", "--all", "--json").json
    # the cluster's own refusal is kept, and says why
    assert [job["phase"] for job in listed[: len(listed) - before]] == ["refused"]


def test_the_time_limit_is_told_as_timeout(clusters: Lab, overdue):
    wait_for(overdue["key"], "TIMEOUT", within_s=120)
    said = westward("results", overdue["key"])
    assert said.status == 1 and "ended TIMEOUT" in said.err
    explained = westward("explain", overdue["key"]).out
    assert "its time limit of 00:01:00 was reached" in explained and "walltime=" in explained


def shown(key: str) -> dict[str, Any]:
    return next(job for job in westward("jobs", "--all", "--json").json if job["key"] == key)


def state_of(key: str) -> str:
    return shown(key)["state"]


def wait_for(key: str, state: str, within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while (now := state_of(key)) != state:
        assert time.monotonic() < deadline, f"job {key} is {now}, not {state}"
        time.sleep(0.5)
