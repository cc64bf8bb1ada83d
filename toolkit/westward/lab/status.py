"""What labs are there, and how they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import docker

from westward.errors import WestwardError
from westward.lab import engine, hosts, readiness
from westward.lab.config import REST_PORT, SSH_PORT
from westward.lab.engine import CLUSTER, OWNER, ROLE, TOPOLOGY, Seen
from westward.lab.nodes import CONTROLLER, lab_user
from westward.lab.sites import HOST


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One container of a lab.

    Attributes:
        container: the engine's word for its state.
        slurm: Slurm's word for a compute node; empty for a bare host, which has none; for a controller `up`, or what does not answer there. None where it cannot be known.
        url: slurmrestd of a controller, or its sshd where no slurmrestd is started, as the host reaches it.
    """

    lab: str
    topology: str
    cluster: str
    node: str
    role: str
    owner: str
    container: str
    slurm: str | None
    url: str | None


def status(lab: str | None = None) -> list[NodeStatus]:
    """Every node of a lab, or of all labs on this engine. An empty list means that there is none."""
    client = engine.connect()
    found = [
        seen
        for seen in engine.survey(client)
        if seen.lab and CLUSTER in seen.labels and (lab is None or seen.lab == lab)
    ]
    controllers = [seen for seen in found if seen.labels[ROLE] == CONTROLLER and seen.running]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = pool.map(lambda seen: _report(client, seen), controllers)
        reports = {(seen.lab, seen.labels[CLUSTER]): report for seen, report in zip(controllers, answers, strict=True)}
    return [_node(seen, reports.get((seen.lab, seen.labels[CLUSTER]))) for seen in found]


def _report(client: docker.DockerClient, controller: Seen) -> readiness.Report | None:
    try:
        return readiness.check(client, controller.name, ())
    except WestwardError:  # stopped just now, or broken inside: its state is then not known, which is what is shown
        return None


def _node(seen: Seen, report: readiness.Report | None) -> NodeStatus:
    return NodeStatus(
        lab=seen.lab,
        topology=seen.labels.get(TOPOLOGY, ""),
        cluster=seen.labels[CLUSTER],
        node=seen.node,
        role=seen.labels[ROLE],
        owner=seen.labels.get(OWNER, ""),
        container=seen.state,
        slurm=_slurm_state(seen, report),
        url=_url(seen.published),
    )


def _url(ports: Mapping[int, int]) -> str | None:
    if REST_PORT in ports:
        return f"http://{HOST}:{ports[REST_PORT]}"
    if hosts.SSH_PORT in ports:
        return f"ssh://{hosts.ADMIN}@{HOST}:{ports[hosts.SSH_PORT]}"
    return f"ssh://{lab_user().name}@{HOST}:{ports[SSH_PORT]}" if SSH_PORT in ports else None


def _slurm_state(seen: Seen, report: readiness.Report | None) -> str | None:
    if seen.labels[ROLE] == hosts.ROLE_HOST:
        return ""
    if report is None or not seen.running:
        return None
    if seen.labels[ROLE] == CONTROLLER:
        return _silent(report.silent) if report.silent else "up"
    return report.nodes.get(seen.node)


def _silent(daemons: Sequence[str]) -> str:
    return f"no {', '.join(daemons)}"
