#!/usr/bin/python3
"""Slurm's state as metrics in Prometheus' text format, for the textfile collector of node exporter.

    slurm-metrics /var/lib/prometheus/node-exporter/slurm.prom

Asks by commands that Slurm 22.05 has as well as 26.05, with formats that are given. When one of them fails, slurm_up is 0 and what was known
before is gone from the file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT_S = 20
PING = ("scontrol", "ping")
NODES = ("sinfo", "-h", "-a", "-N", "-O", "NodeHost:|,PartitionName:|,StateLong:|,CPUsState:|,Gres:|,GresUsed:|")
JOBS = ("squeue", "-h", "-a", "-r", "-O", "State:|,Partition:|,Reason:|")
DIAGNOSTICS = ("sdiag",)

CONTROLLER = re.compile(r"^Slurmctld\((\w+)\) at (\S+) is (UP|DOWN)$", re.MULTILINE)
GPUS = re.compile(r"\bgpu(?::([^:,()]+))?:(\d+)")
EVENTS = ("submitted", "started", "completed", "canceled", "failed")


@dataclass(slots=True)
class Metric:
    """One metric: its name, what it says, and its samples: labels and value."""

    name: str
    says: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)
    kind: str = "gauge"

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.says}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{self.name}{{{inside}}} {value:.10g}" if inside else f"{self.name} {value:.10g}"


def controllers(text: str) -> Metric:
    """What `scontrol ping` says."""
    metric = Metric("slurm_controller_up", "Whether this slurmctld answers.")
    for role, host, state in CONTROLLER.findall(text):
        metric.samples.append(({"role": role, "host": host}, float(state == "UP")))
    return metric


def node_metrics(text: str) -> list[Metric]:
    """What `sinfo` says: a line for each node and partition. CPUs and GPUs of a node count once, however many partitions it is in."""
    nodes: Counter[tuple[str, str]] = Counter()
    cpus: Counter[str] = Counter({"allocated": 0, "idle": 0, "other": 0})
    gpus: Counter[tuple[str, str]] = Counter()
    seen = set()
    for line in text.splitlines():
        host, partition, state, counts, gres, used = line.split("|")[:6]
        nodes[partition, re.sub(r"[^a-z_]+$", "", state)] += 1
        if host in seen:
            continue
        seen.add(host)
        allocated, idle, other = map(int, counts.split("/")[:3])
        cpus.update(allocated=allocated, idle=idle, other=other)
        _count_gpus(gpus, gres, used, usable=other == 0)
    return [
        Metric("slurm_nodes", "Nodes of a partition in a state.", _labelled(("partition", "state"), nodes)),
        Metric(
            "slurm_cpus",
            "CPUs; other: of nodes out of service.",
            _labelled(("state",), {(state,): n for state, n in cpus.items()}),
        ),
        Metric("slurm_gpus", "GPUs; other: free ones of nodes out of service.", _labelled(("type", "state"), gpus)),
    ]


def _count_gpus(gpus: Counter[tuple[str, str]], gres: str, used: str, usable: bool) -> None:
    there, taken = ({name: int(number) for name, number in GPUS.findall(text)} for text in (gres, used))
    for name, number in there.items():
        allocated = taken.get(name, 0)
        gpus[name, "allocated"] += allocated
        gpus[name, "idle"] += number - allocated if usable else 0
        gpus[name, "other"] += 0 if usable else number - allocated


def job_metrics(text: str) -> list[Metric]:
    """What `squeue` says: a line for each job, and for each task of an array."""
    jobs: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str]] = Counter()
    for line in text.splitlines():
        state, partitions, reason = line.split("|")[:3]
        for partition in partitions.split(","):
            jobs[partition, state.lower()] += 1
        if state == "PENDING":
            # some name nodes or licenses behind the word
            word = re.match(r"\w+", reason)
            reasons[(word[0] if word else "None",)] += 1
    return [
        Metric(
            "slurm_jobs",
            "Jobs of a state; one that waits for several partitions counts in each.",
            _labelled(("partition", "state"), jobs),
        ),
        Metric("slurm_jobs_pending", "Jobs that wait, by Slurm's reason.", _labelled(("reason",), reasons)),
    ]


def diagnostics(text: str) -> list[Metric]:
    """What `sdiag` says of slurmctld itself. A mean that it leaves out (there was no cycle yet) is left out here."""
    main, _, rest = text.partition("Backfilling stats")
    backfill = rest.partition("Backfill exit")[0]
    parts = {"main": main.partition("Main schedule statistics")[2], "backfill": backfill}

    def by_part(key: str, factor: float = 1.0) -> list[tuple[Mapping[str, str], float]]:
        return [
            ({"scheduler": part}, value * factor) for part, lines in parts.items() for value in _numbers(lines, key)
        ]

    def alone(key: str) -> list[tuple[Mapping[str, str], float]]:
        return [({}, value) for value in _numbers(main, key)]

    events = [({"event": event}, value) for event in EVENTS for value in _numbers(main, f"Jobs {event}")]
    return [
        Metric("slurm_scheduler_cycle_last_seconds", "How long the last cycle took.", by_part("Last cycle", 1e-6)),
        Metric(
            "slurm_scheduler_cycle_mean_seconds", "How long a cycle takes in the mean.", by_part("Mean cycle", 1e-6)
        ),
        Metric("slurm_scheduler_queue_length", "Jobs that the last cycle looked at.", by_part("Last queue length")),
        Metric("slurm_server_threads", "Threads of slurmctld that serve a request.", alone("Server thread count")),
        Metric("slurm_agent_queue", "Messages to nodes that wait in slurmctld.", alone("Agent queue size")),
        Metric("slurm_dbd_queue", "Records that wait in slurmctld for slurmdbd.", alone("DBD Agent queue size")),
        Metric(
            "slurm_job_events_total",
            "What happened to jobs since slurmctld began to count anew, which it does each day.",
            events,
            "counter",
        ),
    ]


def _numbers(text: str, key: str) -> list[float]:
    """The number behind a key, in a list of one; none where it is not there."""
    found = re.search(rf"^\s*{re.escape(key)}:\s*(\d+)\s*$", text, re.MULTILINE)
    return [float(found[1])] if found else []


def _labelled(names: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> list[tuple[Mapping[str, str], float]]:
    return [(dict(zip(names, labels, strict=True)), float(count)) for labels, count in sorted(counts.items())]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def text_of(metrics: Iterable[Metric]) -> str:
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


def said(argv: tuple[str, ...], may_fail: bool = False) -> str:
    """What a command prints.

    Raises:
        OSError, subprocess.SubprocessError: it is not there, failed, or took too long.
    """
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    ran = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if ran.returncode and not may_fail:
        raise subprocess.CalledProcessError(ran.returncode, argv, ran.stdout, ran.stderr)
    return ran.stdout


def collected() -> list[Metric]:
    """All metrics; without those of the cluster where slurmctld does not answer."""
    up = Metric("slurm_up", "Whether a slurmctld answered all that was asked.", [({}, 0.0)])
    known = [up]
    try:
        # its status is 1 when a single one is down
        known.append(controllers(said(PING, may_fail=True)))
        if any(value for _, value in known[1].samples):
            found = [*node_metrics(said(NODES)), *job_metrics(said(JOBS)), *diagnostics(said(DIAGNOSTICS))]
            up.samples = [({}, 1.0)]
            known += found
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(f"slurm-metrics: {error}: {getattr(error, 'stderr', None) or ''}", file=sys.stderr)
    return known


def write(path: Path, text: str) -> None:
    """In one piece: who reads meanwhile reads the old or the new."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(text)
    beside.chmod(0o644)
    os.replace(beside, path)


if __name__ == "__main__":
    write(Path(sys.argv[1]), text_of(collected()))
