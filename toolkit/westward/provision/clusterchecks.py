"""Checks of a cluster as a whole: each a pure function from what was found out to findings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from westward.provision import gres
from westward.provision.clusterfacts import Facts
from westward.provision.finding import Finding, Verdict, together
from westward.provision.hosts import CONTROLLER, DBD
from westward.provision.jobtrial import Trial
from westward.slurm import clustertext
from westward.slurm.hostlist import fold

LAG = 100  # records that wait for slurmdbd: from here on it is slow, or away
_UP = re.compile(r"Slurmctld\((\w+)\) at (\S+) is (UP|DOWN)", re.IGNORECASE)
_BROKEN = ("DOWN", "FAIL", "NOT_RESPONDING", "INVALID_REG", "INVAL", "ERROR")
_SHUT = ("DRAIN", "MAINT", "RESERVED")


def controllers(facts: Facts) -> list[Finding]:
    """Whether the controllers answer."""
    found = []
    for part, host, state in _UP.findall(facts.said.get("ping", "")):
        well = state.upper() == "UP"
        step = "" if well else f"systemctl start slurmctld on {host}; 'journalctl -u slurmctld' says why it ended"
        found.append(Finding("slurmctld", host, Verdict.OK if well else Verdict.FAILED, f"the {part} is {state}", step))
    if "config" in facts.refused:
        why = facts.refused["config"] or "no controller can be reached"
        step = "look at 'journalctl -u slurmctld' there; what only slurmctld knows is not checked"
        found.append(
            Finding(
                "slurmctld",
                fold([host.name for host in facts.site.of(CONTROLLER)]),
                Verdict.FAILED,
                f"no answer: {why}",
                step,
            )
        )
    if not found:
        found.append(Finding("slurmctld", "cluster", Verdict.UNKNOWN, "'scontrol ping' says nothing", "scontrol ping"))
    return together(found)


def database(facts: Facts) -> list[Finding]:
    """Whether slurmdbd answers, knows this cluster, and keeps up."""
    config = facts.config
    if config and not config.get("AccountingStorageType", "").endswith("slurmdbd"):
        return []
    where = config.get("AccountingStorageHost") or next((host.name for host in facts.site.of(DBD)), "cluster")
    if "dbd" in facts.refused:
        step = f"systemctl status slurmdbd mariadb on {where}; slurmctld keeps what it has to tell meanwhile"
        return [
            Finding(
                "slurmdbd",
                where,
                Verdict.FAILED,
                f"it does not answer: {facts.refused['dbd'] or 'sacctmgr said nothing'}",
                step,
            )
        ]
    found = []
    rows = [line.split("|") for line in facts.said.get("dbd", "").splitlines()]
    own = next((row for row in rows if row[0] == config.get("ClusterName")), None)
    if own is None:
        found.append(
            Finding(
                "slurmdbd",
                where,
                Verdict.FAILED,
                f"it knows no cluster {config.get('ClusterName')}",
                f"sacctmgr add cluster {config.get('ClusterName')}",
            )
        )
    elif len(own) > 1 and not own[1]:
        found.append(
            Finding(
                "slurmdbd",
                where,
                Verdict.WARNING,
                "slurmctld is not registered with it",
                "systemctl restart slurmctld, when slurmdbd runs",
            )
        )
    waiting = clustertext.backlog(facts.said.get("sdiag", ""))
    if waiting is None:
        found.append(Finding("slurmdbd", where, Verdict.UNKNOWN, "sdiag tells no queue", "sdiag"))
    elif waiting >= LAG:
        most = int(config.get("MaxDBDMsgs") or 0)
        failed = most and waiting > most / 2
        told = f"{waiting} records wait for it" + (f", of {most} that slurmctld keeps" if most else "")
        found.append(
            Finding(
                "slurmdbd",
                where,
                Verdict.FAILED if failed else Verdict.WARNING,
                told,
                "is its database slow, or its disk full?",
            )
        )
    return found or [Finding("slurmdbd", where, Verdict.OK, f"it answers; {waiting} records wait for it")]


def nodes(facts: Facts) -> list[Finding]:
    """Nodes that take no jobs, with the reason, who gave it, and since when."""
    if "nodes" in facts.refused:
        return [
            Finding(
                "nodes",
                "cluster",
                Verdict.UNKNOWN,
                f"scontrol does not tell: {facts.refused['nodes']}",
                "scontrol show node",
            )
        ]
    bad = [finding for node, told in facts.nodes.items() for finding in _node(node, told)]
    named = {one.where for one in bad}
    rest = [node for node in facts.nodes if node not in named]
    good = [Finding("nodes", fold(rest), Verdict.OK, "take jobs")] if rest else []
    return good + together(bad)


def _node(node: str, told: dict[str, str]) -> Iterator[Finding]:
    state = told.get("State", "UNKNOWN")
    words = set(clustertext.node_states(told))
    reason, who, since = _reason(told.get("Reason", ""))
    told_by = f": {reason}" if reason else ""
    told_by += f" ({who}, since {since:%Y-%m-%d %H:%M} UTC)" if who and since else f" ({who})" if who else ""
    resume = "when it is mended: scontrol update NodeName={where} State=RESUME"
    if words & {"POWERED_DOWN", "POWERING_DOWN", "POWERING_UP", "CLOUD", "FUTURE"} and not words & {
        "FAIL",
        "INVALID_REG",
    }:
        return
    if words & set(_BROKEN):
        yield Finding("nodes", node, Verdict.FAILED, f"{state}{told_by}", resume)
    elif words & set(_SHUT):
        yield Finding("nodes", node, Verdict.WARNING, f"{state}{told_by}", resume)
    elif "UNKNOWN" in words:
        yield Finding("nodes", node, Verdict.UNKNOWN, state, "wait until it has registered, and look again")


def _reason(text: str) -> tuple[str, str, datetime | None]:
    match = re.fullmatch(r"(.*?)\s*\[([^@\[\]]+)@(\S+)\]", text)
    if match is None:
        return text, "", None
    since = datetime.fromtimestamp(int(match[3]), UTC) if match[3].isdigit() else None
    return match[1], match[2], since


def accelerators(facts: Facts) -> list[Finding]:
    """Whether inventory, files, slurmd and slurmctld agree on each node's accelerators."""
    rows = [row for row in gres.compare(facts) if not row.silent]
    bad = [
        Finding("gres", row.node, Verdict.FAILED, _of_any(row.node, one.found), _of_any(row.node, one.fix))
        for row in rows
        for one in row.mismatches
    ]
    if facts.configuration is None:
        bad.append(Finding("gres", "cluster", Verdict.UNKNOWN, f"the configuration could not be read: {facts.unread}"))
    rest = [row.node for row in rows if not row.mismatches and row.configured is not None]
    good = (
        [Finding("gres", fold(rest), Verdict.OK, "inventory, slurm.conf, slurmd and slurmctld have the same")]
        if rest
        else []
    )
    return good + together(bad)


def _of_any(node: str, text: str) -> str:
    """A sentence about a node as one about any, so that those of many nodes become one."""
    return re.sub(rf"(?<![\w.-]){re.escape(node)}(?![\w.-])", "{where}", text)


def jobs(facts: Facts) -> list[Finding]:
    """Whether an actual job runs, on one node and on two."""
    if facts.trials is None:
        return [Finding("jobs", "cluster", Verdict.LEFT_OUT, "no job was run, as you said")]
    if not facts.trials:
        return [Finding("jobs", "cluster", Verdict.UNKNOWN, "no job could be tried: slurmctld does not answer")]
    return [_job(trial) for trial in facts.trials]


def _job(trial: Trial) -> Finding:
    what = f"a job on {'one node' if trial.nodes == 1 else f'{trial.nodes} nodes'}"
    if not trial.complaint:
        return Finding("jobs", fold(trial.hosts), Verdict.OK, f"{what} ran")
    if trial.busy:
        return Finding(
            "jobs",
            "cluster",
            Verdict.WARNING,
            f"{what} could not run, no place was free in time: {trial.complaint}",
            "run doctor again when nodes are idle",
        )
    return Finding(
        "jobs",
        "cluster",
        Verdict.FAILED,
        f"{what} did not run: {trial.complaint}",
        "mend what stands above; then 'srun -N1 hostname' at a controller",
    )
