"""What a job occupies at a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace

from westward.errors import InputError
from westward.model.accelerators import AcceleratorRequest, ComputeDemand, Granted


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job occupies. Memory and accelerators are per node, as Slurm's --mem and --gres are.

    Attributes:
        compute: instead of accelerators: each site meets it with what it has, on as many nodes as that takes.
        nodes_given: `nodes` holds; False where the demand for compute decides how many.
        accelerator_mem_bytes: the least memory of one chip.
        ntasks_per_accelerator: decides `ntasks_per_node` as soon as the accelerators are known.

    Raises:
        InputError: a count is below one, or two of them contradict each other.
    """

    nodes: int = 1
    ntasks_per_node: int = 1
    cpus_per_task: int = 1
    mem_bytes: int | None = None
    accelerators: AcceleratorRequest | None = None
    walltime_s: int = 600
    compute: ComputeDemand | None = None
    nodes_given: bool = True
    accelerator_mem_bytes: int | None = None
    ntasks_per_accelerator: int | None = None

    def __post_init__(self) -> None:
        for name in ("nodes", "ntasks_per_node", "cpus_per_task", "walltime_s"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("mem_bytes", "accelerator_mem_bytes", "ntasks_per_accelerator"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        if self.compute is not None and self.accelerators is not None:
            raise InputError(f"compute={self.compute} and accelerators={self.accelerators} ask for accelerators twice")

    @property
    def asked(self) -> AcceleratorRequest | ComputeDemand | None:
        """What is asked of accelerators, in whatever way."""
        return self.accelerators or self.compute

    def granted(self, chip: str, per_node: int, nodes: int) -> Resources:
        """The same with the accelerators that a site gives for what is asked."""
        tasks = self.ntasks_per_accelerator
        return replace(
            self,
            nodes=nodes,
            ntasks_per_node=tasks * per_node if tasks else self.ntasks_per_node,
            accelerators=AcceleratorRequest(chip, per_node),
            compute=None,
            nodes_given=True,
        )

    def at(self, granted: Granted | None) -> Resources:
        """What is occupied where the request became that."""
        return self.granted(granted.chip, granted.per_node, granted.nodes) if granted else self

    @property
    def ntasks(self) -> int:
        return self.nodes * self.ntasks_per_node

    @property
    def cpus_per_node(self) -> int:
        return self.ntasks_per_node * self.cpus_per_task

    @property
    def accelerator_count(self) -> int:
        """Accelerators on all nodes together."""
        return self.nodes * self.accelerators.count if self.accelerators else 0
