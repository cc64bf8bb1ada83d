"""Is a cluster of a lab fit for use, and if not, which daemon on which node says what?"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import docker

from westward.errors import Unreachable, WestwardError
from westward.lab import engine
from westward.lab.engine import Seen
from westward.lab.nodes import CONTROLLER, NodePlan
from westward.lab.progress import Say

PROBE = ("/usr/bin/python3", "-I", "-S", "/usr/lib/westward/probe.py")
TURN_S = 3.0  # how long one probe may wait before the containers are looked at again
STOPPING_TURNS = 30
DOWN = ("down", "unknown", "fail", "error", "inval")


@dataclass(frozen=True, slots=True)
class Report:
    """What containers/node/probe.py printed.

    Attributes:
        silent: daemons of the controller that do not listen.
        missing: directories that the nodes should see and do not.
        nodes: Slurm's state of every compute node.
        token: a new JWT of the lab's user; empty where slurmctld gave none, None where the cluster takes none.
        state: of the job that shows the cluster fit; BUSY where other people's jobs left no node for one.
        said: what that job's srun printed.
    """

    silent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    nodes: dict[str, str] = field(default_factory=dict)
    token: str | None = field(default="", repr=False)
    state: str = ""
    said: str = ""

    @property
    def down(self) -> tuple[str, ...]:
        """Compute nodes that Slurm cannot reach. One that somebody drained is as they want it."""
        return tuple(node for node, state in self.nodes.items() if state.startswith(DOWN) or state.endswith("*"))

    @property
    def healthy(self) -> bool:
        return self.token != "" and not (self.silent or self.missing or self.down)


def check(client: docker.DockerClient, controller: str, directories: Sequence[str]) -> Report:
    """The cluster as it is now; a new token and nothing else is made."""
    return _probe(client, controller, "check", *directories)


def wait_until_ready(
    client: docker.DockerClient,
    nodes: Sequence[NodePlan],
    directories: Sequence[str],
    deadline: float,
    given_up: threading.Event,
    say: Say,
) -> Report:
    """Wait until a job of the lab's user is COMPLETED on the cluster of these nodes.

    Args:
        deadline: a time of `time.monotonic()`.
        given_up: set by whoever waits no longer, since another cluster failed.

    Raises:
        WestwardError: a daemon did not start.
        Unreachable: time ran out. Both name node, daemon and the end of its log.
    """
    controller = next(node for node in nodes if node.role == CONTROLLER)
    report = Report()
    say("starting")
    while not given_up.is_set():
        try:
            report = _probe(client, controller.container, "job", str(TURN_S), *directories)
        except WestwardError:
            for _ in range(STOPPING_TURNS):  # a probe that breaks off is most often the first sign of a node that stops
                _raise_for_exited(client, nodes)
                time.sleep(0.1)
            raise
        if report.state in ("COMPLETED", "BUSY") and report.healthy:
            return report
        _raise_for_exited(client, nodes)
        if time.monotonic() > deadline:
            raise _out_of_time(client, nodes, report)
        say(_describe(report))
    raise Unreachable("given up")


def _probe(client: docker.DockerClient, controller: str, *words: str) -> Report:
    answer = engine.execute(client, controller, (*PROBE, *words))
    try:
        loaded = json.loads(answer.stdout)
    except ValueError as error:
        raise Unreachable(f"'{controller}': the probe printed no report: {answer.stderr.strip()[-500:]}") from error
    return Report(silent=tuple(loaded.pop("silent")), missing=tuple(loaded.pop("missing")), **loaded)


def _describe(report: Report) -> str:
    if report.silent:
        return f"waiting for {', '.join(report.silent)}"
    if report.down or not report.nodes:
        return f"waiting for the nodes {', '.join(report.down)}".rstrip()
    return f"waiting for a job to complete ({report.state or report.said or 'none was started'})"


def _raise_for_exited(client: docker.DockerClient, nodes: Sequence[NodePlan]) -> None:
    names = {node.container for node in nodes}
    for seen in engine.survey(client):
        if seen.name in names and not seen.running:
            daemon, what = _failure(_log(client, seen))
            raise WestwardError(
                f"node '{seen.node}': {daemon} {what}\n{engine.last_lines(client, seen.id, f'/var/log/slurm/{daemon}.log')}".rstrip(),
                f"'docker logs {seen.name}' has all of it; 'westward lab down {seen.lab}' removes the lab",
            )


def _out_of_time(client: docker.DockerClient, nodes: Sequence[NodePlan], report: Report) -> Unreachable:
    """Which daemon was waited for in vain: one that did not start, else the controller's own word on the job."""
    names = {node.container for node in nodes}
    for seen in engine.survey(client):
        if seen.name in names:
            daemon = unfinished(_log(client, seen))
            if daemon:
                log = engine.last_lines(client, seen.id, f"/var/log/slurm/{daemon}.log")
                return Unreachable(f"node '{seen.node}': {daemon} was not ready in time\n{log}".rstrip())
    controller = next(node for node in nodes if node.role == CONTROLLER)
    log = engine.last_lines(client, controller.container, "/var/log/slurm/slurmctld.log")
    return Unreachable(f"node '{controller.name}': slurmctld: {_describe(report)} in vain\n{log}".rstrip())


def unfinished(log: str) -> str:
    """The daemon that start.py started and never called ready; empty where all is well."""
    started = re.findall(r"^\S+ (\S+) starting$", log, re.MULTILINE)
    ready = re.findall(r"^\S+ (\S+) ready$", log, re.MULTILINE)
    waiting = [daemon for daemon in started if started.count(daemon) > ready.count(daemon)]
    return waiting[-1] if waiting else ""


def _failure(log: str) -> tuple[str, str]:
    found = re.findall(r"^\S+ (\S+) FAILED: (.*)$", log, re.MULTILINE)
    return found[-1] if found else ("the node", "stopped:\n" + "\n".join(log.splitlines()[-15:]))


def _log(client: docker.DockerClient, seen: Seen) -> str:
    with engine.engine_errors(f"reading the log of '{seen.name}'"):
        return str(client.api.logs(seen.id, tail=100).decode(errors="replace"))
