"""Nodes taken out of service and put back: only those that Westward took out, and only when they are fit."""

from __future__ import annotations

import getpass
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from westward.errors import InputError, WestwardError
from westward.process import Completed
from westward.provision.hosts import Hands, Host
from westward.provision.slurmctld import JobHere, NodeState, Slurmctld

HEALTH = "/usr/local/libexec/westward/health"
HEALTH_TIMEOUT_S = 120.0
POLL_S = 3.0
# slurmdbd keeps a reason in 255 bytes
_REASON_BYTES = 250
_MARK = re.compile(r"westward: .* \([^()]* \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\)$")


def mark(text: str) -> str:
    """The reason that says a drain is ours, with who and when: "westward: new disk (ann@adm1 2026-11-26T17:10:05Z)".

    Raises:
        InputError: it says nothing, or more than slurmdbd keeps.
    """
    try:
        line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        size = len(line.encode())
    except UnicodeEncodeError as error:
        raise InputError("the reason is no text in UTF-8") from error
    who = f"({getpass.getuser()}@{socket.gethostname().partition('.')[0]} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ})"
    if not line:
        raise InputError("the reason says nothing", "tell others why: --reason 'new memory in n7'")
    room = _REASON_BYTES - len(f"westward:  {who}".encode())
    if size > room:
        raise InputError(f"the reason has {size} bytes, and slurmdbd keeps {room}", "say it shorter")
    return f"westward: {line} {who}"


def ours(node: NodeState) -> bool:
    """Whether Westward drained it, and nobody has done it anew since."""
    return node.drained and _MARK.fullmatch(node.reason) is not None


class Outcome(StrEnum):
    """What became of a node."""

    DRAINED = "drained"
    BEFORE = "drained before"
    OTHERS = "somebody else's"
    RESUMED = "resumed"
    SERVING = "in service"
    UNFIT = "not fit"
    SILENT = "does not answer"
    REFUSED = "not taken back"


# what is still to be done by somebody
LEFT = (Outcome.OTHERS, Outcome.UNFIT, Outcome.SILENT, Outcome.REFUSED)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a node, and its reason or what is wrong with it."""

    node: str
    outcome: Outcome
    detail: str = ""


def drain(slurmctld: Slurmctld, names: Sequence[str], reason: str) -> list[Result]:
    """Let no new job come to nodes. One that is out of service already keeps its reason, whoever gave it.

    Args:
        reason: what `mark` made.
    """
    before = slurmctld.nodes()
    mine = [name for name in names if not _taken(before[name])]
    if mine:
        slurmctld.update_nodes(mine, "State=DRAIN", f"Reason={reason}")
    after = slurmctld.nodes()
    return [_drained(name, name in mine, before[name], after.get(name), reason) for name in names]


def _taken(node: NodeState) -> bool:
    """Whether it is out of service by somebody's will. One that is only down by itself is not: slurmd would bring it back."""
    return node.drained or (node.out and bool(node.reason) and not node.reason.startswith("Not responding"))


def _drained(name: str, mine: bool, before: NodeState, after: NodeState | None, reason: str) -> Result:
    if after is None:
        return Result(name, Outcome.REFUSED, "slurmctld does not know it any more")
    if not mine:
        return Result(name, Outcome.BEFORE if ours(before) else Outcome.OTHERS, before.reason or str(before))
    if after.reason != reason:
        return Result(name, Outcome.OTHERS, after.reason or str(after))
    return Result(name, Outcome.DRAINED, reason)


def drained_with(slurmctld: Slurmctld, names: Sequence[str], reason: str) -> list[str]:
    """Those nodes that are out of service with this reason now."""
    states = slurmctld.nodes()
    return [name for name in names if name in states and states[name].out and states[name].reason == reason]


Waiting = Callable[[Mapping[str, list[JobHere]]], None]


def wait(
    slurmctld: Slurmctld, names: Sequence[str], told: Waiting, timeout_s: float | None
) -> dict[str, list[JobHere]]:
    """Until no job is on nodes any more; which jobs are still there after `timeout_s`, None being for ever."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = still_busy(slurmctld, names)
        told(left)
        if not left or (end is not None and time.monotonic() >= end):
            return left
        time.sleep(POLL_S)


def still_busy(slurmctld: Slurmctld, names: Sequence[str]) -> dict[str, list[JobHere]]:
    """The nodes that have jobs, or clear up behind one, with those jobs."""
    jobs, states = slurmctld.jobs(names), slurmctld.nodes()
    return {name: jobs[name] for name in names if jobs[name] or (name in states and states[name].busy)}


def resume(slurmctld: Slurmctld, hands: Hands, hosts: Mapping[str, Host], names: Sequence[str]) -> list[Result]:
    """Put back what Westward drained, where the health check finds nothing wrong.

    Args:
        hosts: the inventory's, by node; a node that is none of them is put back unchecked.
    """
    before = slurmctld.nodes()
    mine = [name for name in names if ours(before[name])]
    found = {name: _not_ours(before[name]) for name in names if name not in mine}
    faults = unfit(hands, {name: hosts[name] for name in mine if name in hosts})
    found |= faults
    # it took a while: what has changed hands meanwhile is respected
    now = slurmctld.nodes()
    fit = [name for name in mine if name not in faults]
    still = [name for name in fit if name in now and now[name].reason == before[name].reason and now[name].drained]
    if still:
        slurmctld.update_nodes(still, "State=RESUME")
    after = slurmctld.nodes() if still else now
    for name in fit:
        found[name] = _resumed(name, name in still, before[name].reason, after.get(name))
    return [found[name] for name in names]


def _not_ours(node: NodeState) -> Result:
    if node.out:
        return Result(node.name, Outcome.OTHERS, node.reason or str(node))
    return Result(node.name, Outcome.SERVING, str(node))


def _resumed(name: str, done: bool, reason: str, after: NodeState | None) -> Result:
    if after is not None and not after.out:
        return Result(name, Outcome.RESUMED, reason)
    if after is None or done:
        return Result(name, Outcome.REFUSED, f"{after or 'unknown'}: {after.reason if after else ''}".rstrip(": "))
    return Result(name, Outcome.OTHERS, after.reason or str(after))


def unfit(hands: Hands, hosts: Mapping[str, Host]) -> dict[str, Result]:
    """The nodes with which the health check finds something wrong, or that do not answer. A node without one is fit."""
    asked = ("sh", "-c", f"test ! -x {HEALTH} || exec {HEALTH} tell")
    answers = hands.each(hosts.values(), asked, timeout_s=HEALTH_TIMEOUT_S, repeat=True)
    found = {}
    for node, host in hosts.items():
        answer = answers[host.name]
        if isinstance(answer, WestwardError):
            found[node] = Result(node, Outcome.SILENT, str(answer))
        elif answer.status:
            found[node] = Result(node, Outcome.UNFIT, _fault(answer))
    return found


def _fault(answer: Completed) -> str:
    return (
        answer.stdout.strip() or answer.stderr.strip() or f"the health check ended with {answer.status}"
    ).splitlines()[0]
