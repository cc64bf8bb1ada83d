"""Where does a job fit in a cluster, and when could it start there at the earliest?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from westward.model.job import AcceleratorRequest, Resources
from westward.model.site import ClusterState, Node, Partition
from westward.model.units import format_bytes, format_walltime


@dataclass(frozen=True, slots=True)
class Fit:
    """A partition that can run the job, with the chip that meets its request there and the seconds until the earliest start.

    `start_in_s` is None where its nodes are taken and the cluster does not tell until when (other users' jobs may be hidden).
    """

    partition: str
    chip: str | None
    start_in_s: float | None


def fits(resources: Resources, cluster: ClusterState) -> tuple[list[Fit], list[str]]:
    """Every partition that can run the job, once for each chip that meets it; for each other one why it cannot.

    The cluster's default partition comes first, the others in the cluster's own order.
    """
    good: list[Fit] = []
    reasons: list[str] = []
    for partition in sorted(cluster.partitions, key=lambda each: each.default is not True):
        answer = _fit(resources, partition, cluster)
        if isinstance(answer, str):
            reasons.append(f"{partition.name}: {answer}")
        else:
            good.extend(answer)
    return good, reasons


def _fit(resources: Resources, partition: Partition, cluster: ClusterState) -> list[Fit] | str:
    if not partition.up:
        return "is not up"
    if partition.max_walltime_s is not None and resources.walltime_s > partition.max_walltime_s:
        return f"time limit {format_walltime(partition.max_walltime_s)} is below the {format_walltime(resources.walltime_s)} asked for"
    if partition.max_nodes is not None and resources.nodes > partition.max_nodes:
        return f"allows {partition.max_nodes} nodes, {resources.nodes} were asked for"
    members = [node for node in cluster.nodes if partition.name in node.partitions]
    usable = [node for node in members if node.usable]
    if len(usable) < resources.nodes:
        return _too_few(resources.nodes, members)
    chips = sorted({chip for node in usable for chip in node.accelerators}) if resources.accelerators else [None]
    found = []
    for chip in chips:
        suited = [node for node in usable if _large_enough(resources, chip, node)]
        if _meets(resources.accelerators, chip) and len(suited) >= resources.nodes:
            start = _start_in_s(resources, chip, suited, cluster.running_ends, cluster.taken_at)
            found.append(Fit(partition.name, chip, start))
    return found or _too_small(resources, usable)


def _meets(request: AcceleratorRequest | None, chip: str | None) -> bool:
    return request is None or request.any_chip or (chip or "").lower() == request.chip


def _large_enough(resources: Resources, chip: str | None, node: Node) -> bool:
    return (
        node.cpus >= resources.cpus_per_node
        and node.mem_bytes >= (resources.mem_bytes or 0)
        and (
            resources.accelerators is None
            or chip is None
            or node.accelerators.get(chip, 0) >= resources.accelerators.count
        )
    )


def _free(resources: Resources, chip: str | None, node: Node) -> bool:
    """Whether the node has room beside what runs on it. A job that names no memory is judged as if it needed none."""
    count = resources.accelerators.count if resources.accelerators else 0
    return (
        node.cpus - node.cpus_used >= resources.cpus_per_node
        and node.mem_bytes - node.mem_used_bytes >= (resources.mem_bytes or 0)
        and (chip is None or node.accelerators.get(chip, 0) - node.accelerators_used.get(chip, 0) >= count)
    )


def _start_in_s(
    resources: Resources, chip: str | None, nodes: Sequence[Node], ends: Mapping[str, datetime], now: datetime
) -> float | None:
    """0 where enough nodes are free; else seconds until enough of the others are emptied by their jobs' time limits, as far as known.

    Ignores pending jobs, so it may be too early, and jobs that end before their limit, so it may be too late.
    """
    free = sum(_free(resources, chip, node) for node in nodes)
    if free >= resources.nodes:
        return 0.0
    waits = sorted(
        max(0.0, (ends[node.name] - now).total_seconds())
        for node in nodes
        if node.name in ends and not _free(resources, chip, node)
    )
    missing = resources.nodes - free
    return waits[missing - 1] if missing <= len(waits) else None


def _too_few(wanted: int, members: Sequence[Node]) -> str:
    out = [node for node in members if not node.usable]
    said = f"{len(members) - len(out)} of {len(members)} nodes usable, {wanted} were asked for"
    if not out:
        return said
    first = out[0]
    return f"{said} ({first.name} is {'+'.join(first.states)}{': ' + first.reason if first.reason else ''})"


def _too_small(resources: Resources, usable: Sequence[Node]) -> str:
    """Which of the demands no (or not enough) nodes meet, by what the best node has."""
    request = resources.accelerators
    if request is not None:
        have = sorted({f"{chip}:{count}" for node in usable for chip, count in node.accelerators.items()})
        suited = [
            node
            for node in usable
            if any(_meets(request, chip) and count >= request.count for chip, count in node.accelerators.items())
        ]
        if len(suited) < resources.nodes:
            return f"has {', '.join(have) if have else 'no accelerators'} a node, {resources.nodes} x {request} were asked for"
    most, largest, wanted = (
        max(node.cpus for node in usable),
        max(node.mem_bytes for node in usable),
        resources.mem_bytes or 0,
    )
    if most < resources.cpus_per_node:
        return f"has at most {most} CPUs a node, {resources.cpus_per_node} were asked for"
    if largest < wanted:
        return f"has at most {format_bytes(largest)} a node, {format_bytes(wanted)} were asked for"
    chips = {chip for node in usable for chip in node.accelerators} if request else {None}
    enough = max(
        (sum(_large_enough(resources, chip, node) for node in usable) for chip in chips if _meets(request, chip)),
        default=0,
    )
    return (
        f"{enough} of {len(usable)} usable nodes have all that was asked for of one, {resources.nodes} were asked for"
    )
