"""What a request for accelerators becomes in one partition: so many of a chip on so many nodes. Pure arithmetic.

A demand for compute takes the dense peaks of the catalogue: the least number of chips that add up to it, on as few nodes as can hold them,
the same number on each. Parts of a chip (MIG slices) are taken where their type is named, and for nothing else: what one of them does
is published nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from westward.model.accelerators import AcceleratorRequest, ComputeDemand, Granted, format_chip_memory, format_flops
from westward.model.resources import Resources
from westward.model.site import Accelerator, Node
from westward.model.tres import KINDS, chip_kind, chip_type, is_slice

Chips = Mapping[str, Accelerator]


def suitable(resources: Resources, nodes: Sequence[Node], chips: Chips) -> list[str]:
    """The chips of these nodes that can meet the request, as far as their kind goes."""
    return [chip for chip in _chips_of(nodes) if not unsuited(resources, chip, chips)]


def _chips_of(nodes: Sequence[Node]) -> list[str]:
    return sorted({chip for node in nodes for chip in node.accelerators})


def unsuited(resources: Resources, chip: str, chips: Chips) -> str:
    """Why a chip cannot meet the request, in a few words; empty where it can."""
    asked, known = resources.asked, chips.get(chip_type(chip))
    if isinstance(asked, AcceleratorRequest) and not _meant(asked, chip, chips):
        return "a part of a chip" if is_slice(chip) and asked.any_chip else "another chip"
    if isinstance(asked, ComputeDemand):
        if is_slice(chip):
            return "a part of a chip"
        if known is None or asked.precision not in known.peak_flops:
            return "unknown"
    least = resources.accelerator_mem_bytes
    if least is not None and (known is None or known.mem_bytes is None):
        return "memory unknown"
    if least is not None and known is not None and known.mem_bytes is not None and known.mem_bytes < least:
        return format_chip_memory(known.mem_bytes)
    return ""


def _meant(request: AcceleratorRequest, chip: str, chips: Chips) -> bool:
    if request.any_chip:
        return not is_slice(chip)
    if request.chip in KINDS:  # as for sbatch: any type of that GRES
        return chip_kind(chip) == request.chip and not is_slice(chip)
    if request.chip in (chip.lower(), chip_type(chip)):
        return True
    known = chips.get(chip_type(request.chip))
    return known is not None and chips.get(chip_type(chip)) is known


def ways(resources: Resources, chip: str | None, nodes: Sequence[Node], chips: Chips) -> Iterator[Resources]:
    """The request as numbers of that chip and of nodes, the fewest nodes first; as it is where it asks for no chip."""
    asked = resources.asked
    if asked is None or chip is None:
        yield resources
    elif isinstance(asked, AcceleratorRequest):
        yield resources.granted(chip, asked.count, resources.nodes)
    else:
        needed = asked.chips(chips[chip_type(chip)].peak_flops[asked.precision])
        if resources.nodes_given:
            yield resources.granted(chip, -(-needed // resources.nodes), resources.nodes)
            return
        largest = max((node.accelerators.get(chip, 0) for node in nodes), default=0)
        for count in sorted({-(-needed // per_node) for per_node in range(1, largest + 1)}):
            yield resources.granted(chip, -(-needed // count), count)


def granted(resources: Resources, became: Resources, chips: Chips) -> Granted | None:
    """What the request became, to be shown and kept."""
    asked, now = resources.asked, became.accelerators
    if asked is None or now is None:
        return None
    if isinstance(asked, AcceleratorRequest):
        maker = chips.get(chip_type(now.chip))
        return Granted(str(asked), now.chip, now.count, became.nodes, vendor=maker.vendor if maker else None)
    known = chips[chip_type(now.chip)]
    return Granted(
        asked=str(asked),
        chip=now.chip,
        per_node=now.count,
        nodes=became.nodes,
        precision=asked.precision,
        peak_flops=known.peak_flops[asked.precision],
        estimated=known.estimated(asked.precision),
        vendor=known.vendor,
    )


def no_chip(resources: Resources, nodes: Sequence[Node], chips: Chips) -> str:
    """Why no chip of these nodes meets the request; empty where one does, or there is none at all."""
    there = _chips_of(nodes)
    if not there or suitable(resources, nodes, chips):
        return ""
    asked, least = resources.asked, resources.accelerator_mem_bytes
    listed = ", ".join(f"{chip} ({unsuited(resources, chip, chips)})" for chip in there)
    wanted = [f"a known {asked.precision} peak"] if isinstance(asked, ComputeDemand) else []
    if isinstance(asked, AcceleratorRequest) and not asked.any_chip and asked.chip not in KINDS:
        wanted = [f"the name {asked.chip}"]
    if least is not None:
        wanted.append(f"{format_chip_memory(least)} or more")
    return (
        f"no chip here has {' and '.join(wanted)}; it has {listed}"
        if wanted
        else f"no whole chip here; it has {listed}"
    )


def too_much(resources: Resources, nodes: Sequence[Node], most_nodes: int | None, chips: Chips) -> str:
    """How far the nodes are from a demand for compute, by the chip that comes nearest; empty where they have the chips."""
    demand = resources.compute
    if demand is None:
        return ""
    limit = resources.nodes if resources.nodes_given else most_nodes
    nearest: tuple[float, str] | None = None
    for chip in suitable(resources, nodes, chips):
        peak = chips[chip_type(chip)].peak_flops[demand.precision]
        counts = sorted((node.accelerators.get(chip, 0) for node in nodes), reverse=True)[:limit]
        share = max((counts[n - 1] * n for n in range(1, len(counts) + 1)), default=0) / demand.chips(peak)
        if share < 1 and (nearest is None or share > nearest[0]):
            nearest = (
                share,
                (
                    f"{demand} takes {demand.chips(peak)} x {chip} ({format_flops(peak, demand.precision)} each), "
                    f"{sum(counts)} are on {_nodes(len(counts))}{' asked for' if resources.nodes_given else ''}"
                ),
            )
    return nearest[1] if nearest else ""


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"the {count} largest nodes"
