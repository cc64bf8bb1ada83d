"""Where a job goes, and why: the offers, their cost term by term, and the reason why every other site is out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from westward.model.accelerators import Granted


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job costs at one site, in one currency, term by term; weights are already in it: a term without weight is 0.0, known or not.

    compute: rent of accelerators and CPUs; energy: electricity, PUE included; carbon: emissions at the policy's price;
    transfer: moving inputs; waiting: the policy's price of time until the start; lateness: beyond the deadline.
    None is unknown, which is not zero: a figure that it rests on is unknown, and the policy gives it weight.
    """

    compute: float | None = 0.0
    energy: float | None = 0.0
    carbon: float | None = 0.0
    transfer: float | None = 0.0
    waiting: float | None = 0.0
    lateness: float | None = 0.0

    @property
    def total(self) -> float | None:
        """The sum of all terms; None where one of them is unknown."""
        known = [term for term in (getattr(self, name) for name in TERMS) if term is not None]
        return float(sum(known)) if len(known) == len(TERMS) else None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The terms that are unknown."""
        return tuple(term for term in TERMS if getattr(self, term) is None)


TERMS = tuple(term.name for term in fields(Cost))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants to save: a weight per cost term, and the prices of what has none of its own.

    Attributes:
        carbon_price_per_kg: per kgCO2e.
        waiting_price_per_h: per hour until the start.
        currency: of these two prices; None for whatever the sites charge in.
    """

    name: str
    weights: Mapping[str, float]
    carbon_price_per_kg: float
    waiting_price_per_h: float
    currency: str | None = None


CHARGED = ("compute", "energy")  # the terms that the site charges
# the terms that the policy prices itself; what the others cost, the sites say
PRICED_BY_POLICY = {"carbon": "carbon_price_per_kg", "waiting": "waiting_price_per_h"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One site that can run the job; one with several chips that meet the request makes an offer for each.

    Attributes:
        chip: which chip it runs on, as the cluster spells it; None where none is asked for.
        start_in_s: seconds until the job can start: 0 where resources are free, otherwise the earliest end of running jobs; None
            where the cluster does not tell when they end.
        energy_kwh: at the meter (PUE included) if the job uses its whole time limit at full board power; None is unknown.
        carbon_kg: location-based kgCO2e of that energy; None is unknown.
        granted: what the accelerator request becomes there, in numbers; None where none is asked for.
        money: what the site charges for all of the time limit: rent and electricity, whatever the policy weighs; None is unknown.
        slurm_version: what its cluster runs; None where it was not asked.
        rtt_ms: round trip from the user's region; None where the catalogue does not know it.
    """

    site: str
    partition: str
    chip: str | None
    start_in_s: float | None
    energy_kwh: float | None
    carbon_kg: float | None
    rtt_ms: float | None
    cost: Cost
    granted: Granted | None = None
    money: float | None = None
    slurm_version: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """One site that cannot run the job, and why. `reachable` is False where it did not say anything about itself."""

    site: str
    reason: str
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The offers, best first, and the rejections. `overridden` is True where the user named the site.

    Attributes:
        weights: of the policy, by term; they are in the costs already.
        currency: of every cost; None where neither sites nor policy name one.
        snapshot_age_s: age of the oldest live state that the decision rests on, in seconds.
        catalogue_digest: SHA-256 (12 hex digits) of the site descriptions it rests on.
        notes: what its user should know of the costs, and can do about it.
    """

    chosen: Offer | None
    offers: tuple[Offer, ...]
    rejections: tuple[Rejection, ...]
    policy: str
    weights: Mapping[str, float]
    currency: str | None
    region: str
    overridden: bool
    snapshot_age_s: float
    catalogue_digest: str
    decided_at: datetime
    notes: tuple[str, ...] = ()
