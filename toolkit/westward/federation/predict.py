"""Where does a job fit in a cluster, and when could it start there at the earliest?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from westward.federation.granting import Chips, granted, no_chip, suitable, too_much, ways
from westward.model.accelerators import ComputeDemand, Granted
from westward.model.resources import Resources
from westward.model.site import ClusterState, Node, Partition
from westward.model.units import format_bytes, format_walltime

_NO_CHIPS: Chips = {}


@dataclass(frozen=True, slots=True)
class Fit:
    """A partition that can run the job, with what its request for accelerators becomes there and the seconds until the earliest start.

    `start_in_s` is None where its nodes are taken and the cluster does not tell until when (other users' jobs may be hidden).
    """

    partition: str
    granted: Granted | None
    start_in_s: float | None

    @property
    def chip(self) -> str | None:
        """The chip that meets the request."""
        return self.granted.chip if self.granted else None


def fits(resources: Resources, cluster: ClusterState, chips: Chips = _NO_CHIPS) -> tuple[list[Fit], list[str]]:
    """Every partition that can run the job, once for each chip that meets it; for each other one why it cannot.

    The cluster's default partition comes first, the others in the cluster's own order. `chips` are those whose figures are known.
    """
    good: list[Fit] = []
    reasons: list[str] = []
    for partition in sorted(cluster.partitions, key=lambda each: each.default is not True):
        answer = _fit(resources, partition, cluster, chips)
        if isinstance(answer, str):
            reasons.append(f"{partition.name}: {answer}")
        else:
            good.extend(answer)
    return good, reasons


def _fit(resources: Resources, partition: Partition, cluster: ClusterState, chips: Chips) -> list[Fit] | str:
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
    found = [
        Fit(
            partition.name,
            granted(resources, became, chips),
            _start_in_s(became, chip, suited, cluster.running_ends, cluster.taken_at),
        )
        for chip, became, suited in _met(resources, usable, partition.max_nodes, chips)
    ]
    return found or _too_small(resources, usable, partition.max_nodes, chips)


def _met(
    resources: Resources, usable: Sequence[Node], most_nodes: int | None, chips: Chips
) -> Iterator[tuple[str | None, Resources, list[Node]]]:
    """The request as each chip meets it on the fewest nodes that will do, with the nodes that are large enough for it."""
    for chip in _tried(resources, usable, chips):
        for became in ways(resources, chip, usable, chips):
            suited = [node for node in usable if _large_enough(became, chip, node)]
            if became.nodes <= len(suited) and (most_nodes is None or became.nodes <= most_nodes):
                yield chip, became, suited
                break


def _tried(resources: Resources, usable: Sequence[Node], chips: Chips) -> Sequence[str | None]:
    return [None] if resources.asked is None else suitable(resources, usable, chips)


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


def _too_small(resources: Resources, usable: Sequence[Node], most_nodes: int | None, chips: Chips) -> str:
    """Which of the demands no (or not enough) nodes meet, by what the best node has."""
    return _lacking_chips(resources, usable, most_nodes, chips) or _lacking_others(resources, usable, chips)


def _lacking_chips(resources: Resources, usable: Sequence[Node], most_nodes: int | None, chips: Chips) -> str:
    """Why the request for accelerators cannot be met; empty where it can, or none is made."""
    asked = resources.asked
    if asked is None:
        return ""
    have = sorted({f"{chip}:{count}" for node in usable for chip, count in node.accelerators.items()})
    there = f"has {', '.join(have) if have else 'no accelerators'} a node"
    if isinstance(asked, ComputeDemand):
        missing = no_chip(resources, usable, chips) or too_much(resources, usable, most_nodes, chips)
        return missing or ("" if have else f"{there}, {asked} was asked for")
    kinds = suitable(resources, usable, chips)
    suited = [node for node in usable if any(node.accelerators.get(chip, 0) >= asked.count for chip in kinds)]
    if len(suited) >= resources.nodes:
        return ""
    told = asked.any_chip or resources.accelerator_mem_bytes is not None
    return (no_chip(resources, usable, chips) if told else "") or f"{there}, {resources.nodes} x {asked} were asked for"


def _lacking_others(resources: Resources, usable: Sequence[Node], chips: Chips) -> str:
    """Why its nodes are too small, where there are enough accelerators."""
    tried = [(chip, each) for chip in _tried(resources, usable, chips) for each in ways(resources, chip, usable, chips)]
    least_cpus, wanted = min(each.cpus_per_node for _, each in tried), resources.mem_bytes or 0
    most, largest = max(node.cpus for node in usable), max(node.mem_bytes for node in usable)
    if most < least_cpus:
        return f"has at most {most} CPUs a node, {least_cpus} were asked for"
    if largest < wanted:
        return f"has at most {format_bytes(largest)} a node, {format_bytes(wanted)} were asked for"
    enough, nodes = max((sum(_large_enough(each, chip, node) for node in usable), each.nodes) for chip, each in tried)
    return f"{enough} of {len(usable)} usable nodes have all that was asked for of one, {nodes} were asked for"
