"""Slurm's metrics for Prometheus, on text captured from three releases, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from westward.provision.ansiblecode import ANSIBLE, load

METRICS = load("roles/slurm_monitoring/files/slurm_metrics.py")
DATA = Path(__file__).parents[2] / "data"
RELEASES = ["22.05", "24.11", "26.05"]
FILES = {METRICS.PING: "ping", METRICS.NODES: "nodes", METRICS.JOBS: "jobs", METRICS.DIAGNOSTICS: "diagnostics"}


def captured(release: str, name: str) -> str:
    return (DATA / f"slurm-{release}-text/metrics/{name}.txt").read_text()


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the commands print is what that release printed, with n1 in use, n2 drained and an array that is held."""
    monkeypatch.setattr(METRICS, "said", lambda argv, may_fail=False: captured(request.param, FILES[argv]))
    return str(request.param)


def written() -> str:
    return str(METRICS.text_of(METRICS.collected()))


def test_what_a_cluster_is_doing(release: str) -> None:
    lines = set(written().splitlines())
    assert lines >= {
        "slurm_up 1",
        'slurm_controller_up{role="primary",host="ctl"} 1',
        'slurm_controller_up{role="backup",host="ctl2"} 1',
        'slurm_nodes{partition="gpu",state="drained"} 1',
        'slurm_nodes{partition="gpu",state="mixed"} 1',
        'slurm_cpus{state="allocated"} 1',
        'slurm_cpus{state="idle"} 3',
        'slurm_cpus{state="other"} 4',
        'slurm_gpus{type="h100",state="allocated"} 3',
        'slurm_gpus{type="h100",state="idle"} 1',
        'slurm_gpus{type="h100",state="other"} 4',
        'slurm_jobs{partition="gpu",state="pending"} 5',
        'slurm_jobs{partition="gpu",state="running"} 1',
        'slurm_jobs_pending{reason="BeginTime"} 1',
        'slurm_jobs_pending{reason="JobHeldUser"} 3',
        'slurm_jobs_pending{reason="ReqNodeNotAvail"} 1',
        "slurm_dbd_queue 0",
    }
    for scheduler in ("main", "backfill"):
        assert any(line.startswith(f'slurm_scheduler_cycle_last_seconds{{scheduler="{scheduler}"}}') for line in lines)


def test_every_line_has_the_form_that_prometheus_reads(release: str) -> None:
    text = written()
    assert text.endswith("\n")
    sample = re.compile(r'slurm_\w+(\{\w+="[^"\\\n]*"(,\w+="[^"\\\n]*")*\})? [0-9.e+-]+')
    assert [line for line in text.splitlines() if not line.startswith("# ") and not sample.fullmatch(line)] == []
    names = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names))


def test_a_node_in_two_partitions_has_its_cpus_once() -> None:
    text = "n1|gpu|mixed-|1/3/0/4|gpu:a100:2(S:0),gpu:4,shard:8|gpu:a100:1(IDX:0),gpu:2(IDX:1,3),shard:0|\n"
    nodes, cpus, gpus = METRICS.node_metrics(text + text.replace("|gpu|", "|all|"))
    assert [labels for labels, _ in nodes.samples] == [{"partition": name, "state": "mixed"} for name in ("all", "gpu")]
    assert sum(value for _, value in cpus.samples) == 4
    assert {(labels["type"], labels["state"]): value for labels, value in gpus.samples} == {
        ("", "allocated"): 2, ("", "idle"): 2, ("", "other"): 0, ("a100", "allocated"): 1, ("a100", "idle"): 1, ("a100", "other"): 0,
    }  # fmt: skip


def test_what_no_cycle_has_said_yet_is_left_out() -> None:
    found = {
        metric.name: metric.samples
        for metric in METRICS.diagnostics(captured("24.11", "diagnostics").replace("Mean cycle", "Gone"))
    }
    assert found["slurm_scheduler_cycle_mean_seconds"] == []
    assert len(found["slurm_scheduler_cycle_last_seconds"]) == 2


def broken(error: Exception) -> Any:
    def said(argv: tuple[str, ...], may_fail: bool = False) -> str:
        if argv == METRICS.JOBS:
            raise error
        return captured("24.11", FILES[argv])

    return said


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("squeue"), subprocess.TimeoutExpired("squeue", 20), subprocess.CalledProcessError(1, "squeue")],
)
def test_nothing_is_shown_of_a_slurmctld_that_falls_silent(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "said", broken(error))
    samples = [line for line in written().splitlines() if not line.startswith("#")]
    assert samples == ["slurm_up 0", *(line for line in samples if line.startswith("slurm_controller_up"))]


def test_controllers_that_are_down_are_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    down = "Slurmctld(primary) at ctl is DOWN\nSlurmctld(backup) at ctl2 is DOWN\n"
    monkeypatch.setattr(METRICS, "said", lambda argv, may_fail=False: {METRICS.PING: down}[argv])
    text = written()
    assert "slurm_up 0\n" in text
    assert text.count('"} 0') == 2


def test_the_file_is_replaced_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "slurm.prom"
    for text in ("one\n", "two\n"):
        METRICS.write(path, text)
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o644)
    assert list(tmp_path.iterdir()) == [path]


def expressions(node: Any) -> Iterator[str]:
    """All that a dashboard asks Prometheus for."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("expr", "query") if isinstance(node.get(key), str))
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from expressions(inner)


def test_the_dashboard_asks_only_for_what_there_is(release: str) -> None:
    dashboard = json.loads((ANSIBLE / "roles/slurm_monitoring/files/slurm_dashboard.json").read_text())
    asked = {name for text in expressions(dashboard) for name in re.findall(r"\b(?:slurm|node)_\w+", text)}
    there = set(re.findall(r"^# TYPE (\w+)", written(), re.MULTILINE))
    # that one is node exporter's own
    assert asked - there == {"node_textfile_mtime_seconds"}
    assert there - asked == set(), "what nothing shows need not be asked for"
