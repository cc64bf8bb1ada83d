"""What the controller of a managed cluster says of itself, its nodes, their jobs and its partitions, and what it is told to change.

`scontrol` and `squeue` run on a controller as root: the first one of the inventory that answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from westward.errors import InputError, SiteRefused, Unreachable, WestwardError
from westward.process import CommandFailed
from westward.provision.hosts import CONTROLLER, Hands, Host, Managed
from westward.provision.reading import Reading, read_cluster
from westward.slurm.client import InDoubt
from westward.slurm.clustertext import config, host_names, node_lines, node_reason, node_states
from westward.slurm.hostlist import expand, fold

# a node with one of these has a job, or is clearing up behind one
_BUSY = {"ALLOCATED", "MIXED", "COMPLETING"}
_OUT = ("DRAIN", "DOWN", "FAIL", "ERROR")
# jobs that hold what they were given: squeue's own choice has pending ones too
_HOLDING = "RUNNING,SUSPENDED,STOPPED,COMPLETING,CONFIGURING,SIGNALING,STAGE_OUT,RESIZING"
# sudo leaves no variable of ours to a program
_PLAINLY = ("env", "LC_ALL=C", "TZ=UTC", "SLURM_TIME_FORMAT=%s")


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node as slurmctld sees it.

    Attributes:
        states: Slurm's words, such as IDLE and DRAIN.
        reason: why it is out of service; empty where nothing is said.
        slurmd_started: when its slurmd began, in seconds since 1970; None where it has never registered.
    """

    name: str
    states: frozenset[str]
    reason: str
    slurmd_started: int | None

    @property
    def drained(self) -> bool:
        """No new job comes to it, though some may still run there."""
        return any(word.startswith("DRAIN") for word in self.states)

    @property
    def out(self) -> bool:
        """It is drained, down or failed."""
        return any(word.startswith(_OUT) for word in self.states)

    @property
    def down(self) -> bool:
        return "DOWN" in self.states

    @property
    def answers(self) -> bool:
        return not self.states & {"NOT_RESPONDING", "NO_RESPOND"}

    @property
    def busy(self) -> bool:
        return bool(self.states & _BUSY)

    def __str__(self) -> str:
        return "+".join(sorted(self.states)).lower()


@dataclass(frozen=True, slots=True)
class JobHere:
    """A job that holds a part of a node. `ends_at` is when its limit ends it, in seconds since 1970; None without limit."""

    job_id: str
    user: str
    ends_at: int | None


class Slurmctld:
    """The controllers of a cluster, through hands on their hosts."""

    def __init__(self, site: Managed, hands: Hands) -> None:
        self._site = site
        self._hands = hands
        self._hosts = site.of(CONTROLLER)

    @property
    def host(self) -> Host:
        """The controller that answered last; before that the first one."""
        return self._hosts[0]

    def ask(self, *argv: str) -> str:
        """What a command of Slurm prints, which changes nothing.

        Raises:
            Unreachable: no controller answers, or slurmctld does not.
            SiteRefused: slurmctld refuses it.
        """
        return self._run(argv, repeat=True)

    def reading(self) -> Reading:
        """Its files and what it runs with, from the first controller that answers.

        Raises:
            Unreachable: none answers, or slurmctld does not.
            InputError: a file cannot be read as Slurm would read it.
        """
        why: WestwardError = Unreachable(f"{self._site.cluster} has no controller")
        for host in self._hosts:
            try:
                found = read_cluster(self._hands.commands(host), {}, sudo=not host.root)
            except Unreachable as error:
                why = error
            else:
                self._answered(host)
                return found
        raise why

    def nodes(self) -> dict[str, NodeState]:
        """Every node, by name."""
        return read_nodes(self.ask("scontrol", "-o", "show", "node"))

    def named(self, text: str) -> list[str]:
        """The nodes that a user names: nodes, hosts of the inventory and groups, in Slurm's notation.

        Raises:
            InputError: one of them is not known.
        """
        known = self.nodes()
        found: dict[str, None] = {}
        for name in expand(text):
            here = [name] if name in known else []
            here = here or [
                host.node for host in self._site.nodes().values() if name == host.name or name in host.groups
            ]
            if not here or any(node not in known for node in here):
                raise InputError(
                    f"'{name}' is no node of {self._site.cluster}, and no host or group that is one",
                    f"nodes: {fold(known)}",
                )
            found |= dict.fromkeys(here)
        if not found:
            raise InputError("no node is named")
        return list(found)

    def jobs(self, nodes: Sequence[str]) -> dict[str, list[JobHere]]:
        """The jobs that hold a part of each of these nodes."""
        if not nodes:
            return {}
        text = self.ask("squeue", "-h", "-r", "-w", fold(nodes), "-t", _HOLDING, "-o", "%i|%u|%e|%N")
        found: dict[str, list[JobHere]] = {node: [] for node in nodes}
        for line in text.splitlines():
            job_id, user, end, hosts = line.split("|", 3)
            job = JobHere(job_id, user, int(end) if end.isdecimal() else None)
            for node in host_names(hosts):
                if node in found:
                    found[node].append(job)
        return found

    def update_nodes(self, nodes: Iterable[str], *settings: str) -> None:
        """`scontrol update NodeName=...`, all at once."""
        self._tell("scontrol", "update", f"NodeName={fold(nodes)}", *settings)

    def partitions(self) -> dict[str, str]:
        """The state of each partition: UP, DOWN, DRAIN or INACTIVE."""
        text = self.ask("scontrol", "-o", "show", "partition")
        return dict(re.findall(r"^PartitionName=(\S+)\s.*?\sState=(\S+)", text, re.MULTILINE))

    def update_partition(self, partition: str, state: str) -> None:
        self._tell("scontrol", "update", f"PartitionName={partition}", f"State={state}")

    def settings(self) -> dict[str, str]:
        """`scontrol show config`."""
        return config(self.ask("scontrol", "show", "config"))

    def _tell(self, *argv: str) -> None:
        self._run(argv, repeat=False)

    def _run(self, argv: Sequence[str], *, repeat: bool) -> str:
        """
        Raises:
            Unreachable: no controller answers, or slurmctld does not.
            SiteRefused: slurmctld refuses it.
        """
        answer: WestwardError = Unreachable(f"{self._site.cluster} has no controller")
        for host in self._hosts:
            done = self._hands.run(host, (*_PLAINLY, *argv), repeat=repeat)
            if not isinstance(done, WestwardError):
                if done.status == 0:
                    self._answered(host)
                    return done.stdout
                said = done.stderr.strip() or done.stdout.strip()
                if "Unable to contact slurm controller" not in said:
                    raise SiteRefused(f"{host.name}: {CommandFailed(done)}")
                done = Unreachable(f"slurmctld of {self._site.cluster} does not answer: {said.splitlines()[-1]}")
            answer = done
            if isinstance(done, InDoubt) and not repeat:
                break  # it may have been done: not a second time elsewhere
        raise answer

    def _answered(self, host: Host) -> None:
        self._hosts = [host, *(other for other in self._hosts if other is not host)]


def read_nodes(text: str) -> dict[str, NodeState]:
    """`scontrol -o show node`, with SLURM_TIME_FORMAT=%s."""
    found = {}
    for line, told in node_lines(text):
        name, started = told["NodeName"], told.get("SlurmdStartTime", "")
        found[name] = NodeState(
            name, frozenset(node_states(told)), node_reason(line), int(started) if started.isdecimal() else None
        )
    return found
