"""Each template that ships runs on real clusters, and what it leaves is right."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from contract.clusters import Lab, wait_until, westward
from westward.jobs.templatefiles import names

pytestmark = pytest.mark.lab

# torch is on no node of a lab: this has torchrun's command line and reads the variables that torchrun reads (torch.distributed.argparse_util:
# PET_ and the option's name). It starts the workers with the variables that torchrun gives them, and no process group is formed.
TORCHRUN = """\
    #!/usr/bin/python3
    import os, subprocess, sys
    said = {name: os.environ["PET_" + name] for name in ("NNODES", "NPROC_PER_NODE", "RDZV_BACKEND", "RDZV_ENDPOINT", "RDZV_ID", "MAX_RESTARTS")}
    assert said["RDZV_BACKEND"] == "c10d" and said["RDZV_ID"] == os.environ["SLURM_JOB_ID"], said
    head, port = said["RDZV_ENDPOINT"].split(":")
    assert 1024 < int(port) < 65536
    each = int(said["NPROC_PER_NODE"])
    first = int(os.environ["SLURM_NODEID"]) * each
    workers = [
        subprocess.Popen(sys.argv[1:], env={**os.environ, "RANK": str(first + local), "LOCAL_RANK": str(local),
                         "WORLD_SIZE": str(each * int(said["NNODES"])), "MASTER_ADDR": head, "MASTER_PORT": port})
        for local in range(each)
    ]
    sys.exit(max([worker.wait() for worker in workers]))
"""
TRAIN = """\
    #!/bin/sh
    echo "$(hostname) $WORLD_SIZE $LOCAL_RANK $MASTER_ADDR $*" > "rank-$RANK"
"""
# Apptainer is in no image of a lab: this shows how it is called, and runs what it is to run
APPTAINER = """\
    #!/bin/bash
    printf '%s\\n' "$@" > apptainer-argv
    while [ "${1##*/}" != tiny.sif ]; do shift; done
    shift
    exec "$@"
"""


@pytest.fixture(scope="module")
def west(clusters: Lab) -> str:
    """A site whose nodes have what the templates call."""
    for path, text in {"torchrun": TORCHRUN, "my train.sh": TRAIN}.items():
        put(clusters, "west-ctl", f"/shared/researcher/{path}", text)
    for node in ("west-n1", "west-n2"):
        put(clusters, node, "/usr/local/bin/apptainer", APPTAINER)
    return clusters.site("west")


def put(clusters: Lab, node: str, path: str, text: str) -> None:
    clusters.exec(node, "sh", "-c", 'printf %s "$2" > "$1" && chmod 755 "$1"', "sh", path, textwrap.dedent(text))


def at(clusters: Lab, job: Any, name: str) -> str:
    """A file of the job's directory, as it lies at the site."""
    return clusters.exec("west-ctl", "cat", f"/shared/researcher/{job['slurm_name']}/{name}")


def run(*words: str, status: int = 0) -> Any:
    said = westward("submit", *words, "--wait", "--json", timeout_s=240)
    assert said.status == status, (said.out, said.err)
    return said.json if said.out else said


def test_every_template_is_run_here() -> None:
    text = Path(__file__).read_text() + Path(__file__).with_name("test_life.py").read_text()
    assert [name for name in names("job") if not re.search(rf'(run|westward|submit)\([^)]*"{name}"', text)] == []


def test_command(west: str) -> None:
    assert run("command", "command=[echo,hello]", "--site", west)["state"] == "COMPLETED"


def test_collectives(west: str) -> None:
    record = run("collectives", "max_bytes=4096", "iterations=10", "--site", west)["record"]
    operations = ["allreduce", "reduce", "broadcast", "all_gather", "reduce_scatter", "alltoall", "sendrecv"]
    assert list(dict.fromkeys(row["op"] for row in record["rows"])) == operations
    assert {row["wrong"] for row in record["rows"]} == {0} and record["verification"]["checked"] > 10_000
    by_op = {row["op"]: row for row in record["rows"] if row["bytes"] == 4096}
    for name, factor in (
        ("allreduce", 1.0),
        ("all_gather", 0.5),
        ("alltoall", 0.5),
        ("reduce", 1.0),
        ("broadcast", 1.0),
    ):
        assert by_op[name]["busbw"] == pytest.approx(by_op[name]["algbw"] * factor), (
            "2(n-1)/n, (n-1)/n and 1 for two ranks"
        )


def test_stream(west: str) -> None:
    record = run("stream", "array_bytes=16777216", "repeats=3", "--site", west)["record"]
    assert [row["kernel"] for row in record["rows"]] == ["copy", "scale", "add", "triad"]
    assert [row["moved"] / row["array"] for row in record["rows"]] == [2, 2, 3, 3]
    assert record["verification"] == {**record["verification"], "checked": 4 * 2097152, "wrong": 0}


def test_torchrun(clusters: Lab, west: str) -> None:
    job = run(
        "torchrun", "torchrun=/shared/researcher/torchrun", "script='/shared/researcher/my train.sh'", "args=['--lr 0.1',last]",
        "accelerators=h100:3", "cpus_per_task=1", "walltime=00:02:00", "--site", west,
    )  # fmt: skip
    said = [at(clusters, job, f"rank-{rank}").split() for rank in range(6)]
    assert {words[1] for words in said} == {"6"}, "three workers on each of two nodes"
    assert [words[2] for words in said] == ["0", "1", "2"] * 2
    assert len({words[0] for words in said[:3]}) == 1 and len({words[0] for words in said}) == 2
    assert {words[3] for words in said} == {said[0][0]}, "they meet at the first node"
    assert all(words[4:] == ["--lr", "0.1", "last"] for words in said)


@pytest.mark.full
def test_inference(clusters: Lab, west: str) -> None:
    words = [
        "inference",
        "walltime=00:01:00",
        "margin=35",
        "every=1",
        "accelerators=any:1",
        "cpus_per_task=1",
        "max_rtt_ms=50",
        "--site",
        west,
    ]
    said = westward("submit", *words, "--json")
    assert said.status == 0, said.err
    job = said.json
    wait_until(lambda: "serving at " in westward("logs", job["key"]).out, lambda: westward("logs", job["key"]).out)
    endpoint = at(clusters, job, "endpoint").strip()
    fetch = "import sys, urllib.request; print(urllib.request.urlopen('http://' + sys.argv[1] + '/').status)"
    assert clusters.exec("west-ctl", "python3", "-c", fetch, endpoint).strip() == "200", (
        "it answers where it says, from another host"
    )
    assert westward("watch", job["key"]).status == 0
    record = json.loads(westward("results", job["key"], "--json").out)["record"]
    assert (
        record["rows"][0]["endpoint"] == endpoint and record["rows"][0]["failed"] == 0 and record["rows"][0]["up"] > 5
    )
    assert clusters.accounted("west", job["slurm_name"])[0][1] == "COMPLETED", "not TIMEOUT: it ended before its limit"


def test_inference_is_kept_near_its_users(clusters: Lab) -> None:
    plan = westward("plan", "inference", "--json").json
    assert plan["chosen"]["site"] == clusters.site("east")
    assert {item["site"]: item["reason"] for item in plan["rejections"]} == {
        clusters.site(
            "west"
        ): "its round trip from yangtze-river-delta is 24.3 ms (estimated), at most 20 ms was asked for"
    }
    assert westward("plan", "inference", "region=ningxia", "--json").json["chosen"]["site"] == clusters.site("west")
    assert westward("plan", "inference", "max_rtt_ms=0.1").status == 3


def test_a_service_that_ends_by_itself_has_failed(west: str) -> None:
    words = [
        "inference",
        "serve='exit 3'",
        "accelerators=null",
        "cpus_per_task=1",
        "max_rtt_ms=null",
        "walltime=00:01:00",
        "--site",
        west,
    ]
    said = westward("submit", *words, "--wait")
    assert said.status == 1
    key = said.out.split(" is job ")[1].split()[0]
    assert "the service ended with 3 before it answered" in westward("logs", key).out


def test_packed(clusters: Lab, west: str) -> None:
    line = "echo $TASK of $ITEM on $(hostname); sleep 0.2"
    job = run(
        "packed",
        f'run="{line}"',
        "tasks=0",
        "items=[a,b c,\"x$y\",'*',e,f,g,h]",
        "nodes=2",
        "cpus_per_task=2",
        "--site",
        west,
    )
    rows = job["record"]["rows"]
    assert [(row["task"], row["exit_code"]) for row in rows] == [(task, 0) for task in range(8)]
    assert [row["item"] for row in rows][1:4] == ["b c", "x$y", "*"]
    assert len({row["host"] for row in rows}) == 2
    assert at(clusters, job, "tasks/1.out").startswith("1 of b c on ")


def test_packed_one_that_fails_stops_no_other(clusters: Lab, west: str) -> None:
    said = westward(
        "submit",
        "packed",
        "--wait",
        'run="[ $TASK != 3 ] || exit 7; echo well"',
        "tasks=20",
        "cpus_per_task=4",
        "--site",
        west,
    )
    assert said.status == 1
    assert "FAILED" in said.err
    key = said.out.split(" is job ")[1].split()[0]
    assert "1 of 20 tasks failed: 3" in westward("logs", key).out
    name = next(job["slurm_name"] for job in westward("jobs", "--all", "--json").json if job["key"] == key)
    record = json.loads(at(clusters, {"slurm_name": name}, "result.json"))
    assert [row["exit_code"] for row in record["rows"]] == [7 if task == 3 else 0 for task in range(20)]
    assert at(clusters, {"slurm_name": name}, "tasks/19.out") == "well\n"


def test_apptainer(clusters: Lab, west: str) -> None:
    clusters.exec("west-ctl", "sh", "-c", "cd /shared/researcher && mkdir -p images && printf tiny >images/tiny.sif")
    job = run(
        "apptainer", "container.image=images/tiny.sif", "container.binds=['/shared/my data:/data:ro']", "accelerators=h100:1",
        "command=[sh,-c,'echo in $PWD']", "--site", west,
    )  # fmt: skip
    directory = f"/shared/researcher/{job['slurm_name']}"
    assert at(clusters, job, "apptainer-argv").splitlines() == [
        "exec", f"--bind={directory}", f"--pwd={directory}", "--nv", "--bind=/shared/my data:/data:ro",
        "/shared/researcher/images/tiny.sif", "sh", "-c", "echo in $PWD",
    ]  # fmt: skip
    assert westward("logs", job["key"]).out.strip() == f"in {directory}"
    container = westward("provenance", job["key"], "--json").json["container"]
    assert container == {
        "image": "images/tiny.sif",
        "digest": f"sha256:{hashlib.sha256(b'tiny').hexdigest()}",
        "why": "",
    }


def test_any_template_takes_a_container(clusters: Lab, west: str) -> None:
    job = run("stream", "array_bytes=65536", "repeats=2", "container.image=/images/tiny.sif", "--site", west)
    assert job["record"]["verification"]["wrong"] == 0
    assert "/images/tiny.sif" in at(clusters, job, "apptainer-argv")


def test_analysis(clusters: Lab, west: str) -> None:
    clusters.exec(
        "west-ctl",
        "sh",
        "-c",
        "mkdir -p '/shared/researcher/my data' && echo 12345 > '/shared/researcher/my data/a.txt'",
    )
    job = run(
        "analysis",
        "inputs=['my data/a.txt','/shared/researcher/my data']",
        "cpus_per_task=1",
        "mem=100M",
        "--site",
        west,
    )
    assert at(clusters, job, "report.txt").split()[0] == "6"


def test_analysis_does_not_start_without_its_data(west: str) -> None:
    said = westward(
        "submit",
        "analysis",
        "--wait",
        "inputs=[here.txt,/nowhere/b.txt]",
        "mem=100M",
        "cpus_per_task=1",
        "--site",
        west,
    )
    assert said.status == 1 and "FAILED with exit code 66" in said.err
    key = said.out.split(" is job ")[1].split()[0]
    log = westward("logs", key).out
    assert f"the input /nowhere/b.txt is not at site {west}, or may not be read there" in log
    assert "the input /shared/researcher/here.txt is not" in log
