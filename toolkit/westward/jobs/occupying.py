"""The keys of a job that say what it occupies -> Resources. What a user names displaces what the template says of the same thing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from westward.errors import InputError
from westward.model.accelerators import AcceleratorRequest, ComputeDemand, parse_chip_memory
from westward.model.resources import Resources
from westward.model.units import parse_memory, parse_walltime

# pairs of keys that say one thing in two ways, and what to do where both are said
_EITHER = {
    ("compute", "accelerators"): "keep one of them: compute= leaves the chip and the number of them to each site, accelerators= does not",
    ("ntasks_per_accelerator", "ntasks_per_node"): "keep one of them: the accelerators of a node decide its tasks, or you do",
}  # fmt: skip


def to_resources(template: str, config: Mapping[str, Any], named: Collection[str]) -> Resources:
    """What a job occupies.

    Args:
        config: a template with its overrides, checked.
        named: the keys that the overrides name.

    Raises:
        InputError: a value cannot be meant, or two keys contradict each other.
    """
    said = {**config, **dict.fromkeys(_displaced(template, config, named))}
    compute = ComputeDemand.parse(said["compute"]) if said["compute"] else None
    accelerators = AcceleratorRequest.parse(said["accelerators"]) if said["accelerators"] else None
    for key in ("accelerator_mem", "ntasks_per_accelerator"):
        if said[key] is not None and not (compute or accelerators):
            if key in named:
                raise InputError(
                    f"template '{template}': {key}={said[key]} speaks of accelerators, and none are asked for",
                    "ask for some: accelerators=any:1, or compute=1PFLOPS@bf16",
                )
            said[key] = None
    return Resources(
        nodes=said["nodes"] if compute is None or "nodes" in named else 1,
        ntasks_per_node=said["ntasks_per_node"] or 1,
        cpus_per_task=said["cpus_per_task"],
        mem_bytes=parse_memory(said["mem"]) if said["mem"] else None,
        accelerators=accelerators,
        walltime_s=parse_walltime(said["walltime"]),
        compute=compute,
        nodes_given=compute is None or "nodes" in named,
        accelerator_mem_bytes=parse_chip_memory(said["accelerator_mem"]) if said["accelerator_mem"] else None,
        ntasks_per_accelerator=said["ntasks_per_accelerator"],
    )


def _displaced(template: str, config: Mapping[str, Any], named: Collection[str]) -> list[str]:
    """The keys of the template that a named one takes the place of.

    Raises:
        InputError: both of a pair are named, or the template itself says both.
    """
    displaced = []
    for pair, advice in _EITHER.items():
        first, second = pair
        said = [key for key in pair if config[key] is not None]
        mine = [key for key in said if key in named]
        if len(said) < 2 or (second == "ntasks_per_node" and second not in named):
            continue  # a template's ntasks_per_node is 1 where it says nothing
        if len(mine) != 1:
            both = f"{first}={config[first]} and {second}={config[second]}"
            raise InputError(f"template '{template}': {both} contradict each other", advice)
        displaced += [key for key in said if key not in mine]
    return displaced
