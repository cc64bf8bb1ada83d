"""What a job takes at a site, and what that spends."""

from __future__ import annotations

from dataclasses import dataclass

from westward.model.budget import KINDS, Amounts, Project
from westward.model.decision import Offer
from westward.model.job import JobSpec
from westward.model.units import whole_minutes_s


@dataclass(frozen=True, slots=True)
class Effort:
    """What a job takes if it uses its whole time limit; of an array, all of its tasks together."""

    nodes: int
    tasks: int
    node_hours: float
    accelerator_hours: float
    cpu_hours: float


def effort(spec: JobSpec, offer: Offer) -> Effort:
    """What a job takes at the site of an offer."""
    resources = spec.resources.at(offer.granted)
    tasks = spec.array.tasks if spec.array else 1
    hours = tasks * whole_minutes_s(resources.walltime_s) / 3600
    return Effort(
        nodes=resources.nodes,
        tasks=tasks,
        node_hours=resources.nodes * hours,
        accelerator_hours=resources.accelerator_count * hours,
        cpu_hours=resources.nodes * resources.cpus_per_node * hours,
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """What a job would spend at its site, for its whole time limit and every start that it may ask for itself, and of which project.

    Attributes:
        currency: of the money; None where no site charges any.
        limit_s: the time limits of all these starts together, to see later which part of it was used.
        allow_unknown: its user lets an amount that is unknown count as nothing.
    """

    amounts: Amounts
    currency: str | None = None
    limit_s: int = 0
    project: Project | None = None
    allow_unknown: bool = False

    @property
    def counted(self) -> Amounts:
        """The amounts as they count against a cap."""
        if not self.allow_unknown:
            return self.amounts
        return Amounts(*(getattr(self.amounts, kind) or 0.0 for kind in KINDS))


def planned(spec: JobSpec, offer: Offer, currency: str | None, project: Project | None = None) -> Planned:
    """What a job would spend at the site of an offer: what the site charges for it, whatever its policy weighs; all tasks of an array."""
    takes = effort(spec, offer)
    timeless = (
        spec.script is not None and spec.script.value("time") is None
    )  # its partition's limit counts, which is not known here
    starts = 1 + spec.checkpoint.restarts if spec.checkpoint else 1
    money, carbon = (
        None if each is None or timeless else each * takes.tasks * starts for each in (offer.money, offer.carbon_kg)
    )
    limit_s = whole_minutes_s(spec.resources.walltime_s) * starts
    hours = None if timeless else takes.accelerator_hours * starts
    return Planned(Amounts(money, hours, carbon), currency, limit_s, project, spec.budget.allow_unknown)
