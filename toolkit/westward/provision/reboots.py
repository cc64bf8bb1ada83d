"""Nodes rebooted in batches, each when its jobs have ended, and put back only when it has come back fit."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from westward.errors import InputError
from westward.process import Completed
from westward.provision import drains
from westward.provision.drains import POLL_S, Outcome
from westward.provision.hosts import Hands, Host
from westward.provision.slurmctld import JobHere, NodeState, Slurmctld

# what is another after a reboot: the kernel's boot id, and of a container, which has that of its host, when its first process began
_BOOT = ("sh", "-c", "cat /proc/sys/kernel/random/boot_id; sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20")
_BOOT_TIMEOUT_S = 20.0
BACK_WITHIN_S = 900.0
# Slurm's own word for a node that was drained, and rebooted without slurmctld
_UNEXPECTED = "Node unexpectedly rebooted"


class Phase(StrEnum):
    """How far a node is."""

    WAITING = "waiting for jobs"
    GOING_DOWN = "rebooting"
    BOOTED = "waiting for slurmd"
    CHECKING = "checking"
    BACK = "back in service"
    STAYS = "rebooted, stays drained"
    LEFT_ALONE = "left alone"
    LATE = "not back"
    BUSY = "still has jobs"


OPEN = (Phase.WAITING, Phase.GOING_DOWN, Phase.BOOTED, Phase.CHECKING)
WELL = (Phase.BACK, Phase.STAYS)


@dataclass(frozen=True, slots=True)
class Reboot:
    """One node on its way.

    Attributes:
        reason: the one that it is drained with, by which we know that it is still ours.
        keep: it was drained by Westward before, and stays so.
        boot: what tells this boot from the next; empty before it is known.
        slurmd_started: of the slurmd that ran before.
        since: when its phase began, in seconds of the monotonic clock.
    """

    node: str
    phase: Phase
    reason: str
    keep: bool = False
    boot: str = ""
    slurmd_started: int | None = None
    since: float = field(default_factory=time.monotonic)
    detail: str = ""


Told = Callable[[Mapping[str, Reboot]], None]


def batches(names: Sequence[str], text: str) -> list[list[str]]:
    """Nodes in batches of N, or of P% of them, one at least.

    Raises:
        InputError: the text is neither.
    """
    number = text.removesuffix("%")
    if not number.isdecimal() or not int(number) or (number != text and int(number) > 100):
        raise InputError(f"'{text}' is no size of a batch", "a number of nodes (4), or a part of them (10%)")
    size = max(1, len(names) * int(number) // 100) if number != text else int(number)
    return [list(names[first : first + size]) for first in range(0, len(names), size)]


class Rebooter:
    """Reboots nodes of one cluster.

    Args:
        jobs_within_s: how long the jobs of a batch may take to end; None for ever.
        back_within_s: how long a node may take from its reboot until it is back in service.
        told: called whenever something has changed, and at each look.
    """

    def __init__(
        self,
        slurmctld: Slurmctld,
        hands: Hands,
        hosts: Mapping[str, Host],
        *,
        jobs_within_s: float | None,
        back_within_s: float,
        told: Told,
    ) -> None:
        self._slurmctld = slurmctld
        self._hands = hands
        self._hosts = hosts
        self._jobs_within_s = jobs_within_s
        self._back_within_s = back_within_s
        self._told = told
        self.nodes: dict[str, Reboot] = {}
        program = slurmctld.settings().get("RebootProgram", "")
        self._program = ("systemctl", "reboot") if program in ("", "(null)") else tuple(shlex.split(program))

    def batch(self, names: Sequence[str], reason: str) -> bool:
        """Drain, reboot and put back; whether all nodes that are not somebody else's came back."""
        self._drain(names, reason)
        began = time.monotonic()
        while any(self.nodes[name].phase in OPEN for name in names):
            self._step([self.nodes[name] for name in names])
            if self._jobs_within_s is not None and time.monotonic() > began + self._jobs_within_s:
                self._give_up([self.nodes[name] for name in names if self.nodes[name].phase is Phase.WAITING])
            self._told(self.nodes)
            if any(self.nodes[name].phase in OPEN for name in names):
                time.sleep(POLL_S)
        return all(self.nodes[name].phase in (*WELL, Phase.LEFT_ALONE) for name in names)

    def drained_now(self) -> list[str]:
        """The nodes that this run has drained and that are so still."""
        states = self._slurmctld.nodes()
        return [
            node.node
            for node in self.nodes.values()
            if not node.keep and node.node in states and self._is_ours(node, states)
        ]

    def _drain(self, names: Sequence[str], reason: str) -> None:
        # noted first: who interrupts this hears of every node that may be drained
        self.nodes |= {name: Reboot(name, Phase.WAITING, reason) for name in names}
        for result in drains.drain(self._slurmctld, names, reason):
            node = self.nodes[result.node]
            if result.outcome is Outcome.BEFORE:
                node = replace(node, reason=result.detail, keep=True)
            elif result.outcome is not Outcome.DRAINED:
                node = replace(node, phase=Phase.LEFT_ALONE, detail=result.detail, reason="")
            self.nodes[result.node] = node
        self._told(self.nodes)

    def _step(self, nodes: Sequence[Reboot]) -> None:
        """Look once, and do what can be done now."""
        states = self._slurmctld.nodes()
        of = {phase: [node for node in nodes if node.phase is phase] for phase in OPEN}
        for node in nodes:
            if node.phase in OPEN and not self._is_ours(node, states):
                found = states.get(node.node)
                self._set(
                    node, Phase.LEFT_ALONE, (found.reason or str(found)) if found else "slurmctld knows it no more"
                )
        self._go_down([node for node in of[Phase.WAITING] if self._open(node)], states)
        self._look_for_boot([node for node in of[Phase.GOING_DOWN] if self._open(node)])
        for node in of[Phase.BOOTED]:
            if self._open(node) and _registered(node, states[node.node]):
                self._set(node, Phase.CHECKING)
        self._check([node for node in of[Phase.CHECKING] if self._open(node)])
        for node in [self.nodes[node.node] for node in nodes]:
            late = node.since + self._back_within_s < time.monotonic()
            if late and node.phase in OPEN and node.phase is not Phase.WAITING:
                self._set(node, Phase.LATE, node.detail or f"{node.phase} for {self._back_within_s:g} s")

    def _open(self, node: Reboot) -> bool:
        return self.nodes[node.node].phase in OPEN

    def _is_ours(self, node: Reboot, states: Mapping[str, NodeState]) -> bool:
        state = states.get(node.node)
        if state is None or not state.out:
            return False
        rebooted = node.phase is not Phase.WAITING and state.reason.endswith(_UNEXPECTED)
        return state.reason == node.reason or rebooted

    def _set(self, node: Reboot, phase: Phase, detail: str = "", **changes: object) -> None:
        # the time that a node may take counts from its reboot on
        since = time.monotonic() if phase is Phase.GOING_DOWN else node.since
        self.nodes[node.node] = replace(node, phase=phase, detail=detail, since=since, **changes)  # type: ignore[arg-type]

    def _go_down(self, nodes: Sequence[Reboot], states: Mapping[str, NodeState]) -> None:
        """Reboot those whose jobs have ended."""
        busy = drains.still_busy(self._slurmctld, [node.node for node in nodes])
        for node in nodes:
            if node.node in busy:
                self._set(node, Phase.WAITING, _jobs(busy[node.node]))
        free = [node for node in nodes if node.node not in busy]
        boots = self._boots(free)
        for node in [node for node in free if node.node not in boots]:
            self._set(node, Phase.LATE, "does not answer, and was not rebooted")
        going = [node for node in free if node.node in boots]
        for node in going:
            started = states[node.node].slurmd_started
            self._set(node, Phase.GOING_DOWN, boot=boots[node.node], slurmd_started=started)
        # the connection may end with it: whether it went down is seen by its next boot
        self._hands.each([self._hosts[node.node] for node in going], self._program, timeout_s=_BOOT_TIMEOUT_S)

    def _look_for_boot(self, nodes: Sequence[Reboot]) -> None:
        boots = self._boots(nodes)
        for node in nodes:
            if boots.get(node.node, node.boot) != node.boot:
                self._set(node, Phase.BOOTED)

    def _check(self, nodes: Sequence[Reboot]) -> None:
        """Put back those that are fit; the others have time to become so."""
        faults = drains.unfit(self._hands, {node.node: self._hosts[node.node] for node in nodes})
        for node in nodes:
            if node.node in faults:
                self._set(node, Phase.CHECKING, faults[node.node].detail)
        fit = [node for node in nodes if node.node not in faults]
        states = self._slurmctld.nodes() if fit else {}
        back = [node for node in fit if not node.keep and self._is_ours(node, states)]
        if back:
            self._slurmctld.update_nodes([node.node for node in back], "State=RESUME")
        states = self._slurmctld.nodes() if back else states
        for node in fit:
            state = states.get(node.node)
            if node.keep:
                self._set(node, Phase.STAYS, node.reason)
            elif state is not None and not state.out:
                self._set(node, Phase.BACK)
            elif node not in back:
                self._set(node, Phase.LEFT_ALONE, state.reason if state else "")
            else:
                self._set(node, Phase.CHECKING, f"slurmctld has it {state}")

    def _boots(self, nodes: Sequence[Reboot]) -> dict[str, str]:
        """What tells the boot of each apart, of those that answer."""
        answers = self._hands.each(
            [self._hosts[node.node] for node in nodes], _BOOT, as_root=False, timeout_s=_BOOT_TIMEOUT_S, repeat=True
        )
        found = {}
        for node in nodes:
            answer = answers[self._hosts[node.node].name]
            if isinstance(answer, Completed) and answer.status == 0 and len(answer.stdout.split()) == 2:
                found[node.node] = answer.stdout
        return found

    def _give_up(self, nodes: Sequence[Reboot]) -> None:
        for node in nodes:
            self._set(node, Phase.BUSY, node.detail)


def _registered(node: Reboot, state: NodeState) -> bool:
    """Whether its slurmd is another than before the reboot, and answers."""
    return state.answers and state.slurmd_started is not None and state.slurmd_started != node.slurmd_started


def _jobs(jobs: Sequence[JobHere]) -> str:
    return f"jobs {', '.join(job.job_id for job in jobs)}" if jobs else "clearing up behind a job"


def reachable(names: Sequence[str], hosts: Mapping[str, Host]) -> None:
    """
    Raises:
        InputError: a node is no host of the inventory, so that nobody can reboot it from here.
    """
    if unknown := [name for name in names if name not in hosts]:
        raise InputError(f"{', '.join(unknown)}: no host of the inventory, so it cannot be rebooted by ssh")
