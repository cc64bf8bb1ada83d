"""Where a job goes, and why: the offers, their cost term by term, and the reason why every other site is out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job costs at one site, in one currency, term by term; weights are already in it.

    compute: rent of accelerators and CPUs; energy: electricity, PUE included; carbon: emissions at the policy's price;
    transfer: moving inputs; waiting: the policy's price of time until the start; lateness: beyond the deadline.
    """

    compute: float = 0.0
    energy: float = 0.0
    carbon: float = 0.0
    transfer: float = 0.0
    waiting: float = 0.0
    lateness: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(getattr(self, term) for term in TERMS))


TERMS = tuple(term.name for term in fields(Cost))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants to save: a weight per cost term, and the prices of what has none of its own.

    Attributes:
        carbon_price_per_kg: in the catalogue's currency, per kgCO2e.
        waiting_price_per_h: in the catalogue's currency, per hour until the start.
    """

    name: str
    weights: Mapping[str, float]
    carbon_price_per_kg: float
    waiting_price_per_h: float


@dataclass(frozen=True, slots=True)
class Offer:
    """One site that can run the job.

    Attributes:
        chip: what the accelerator request becomes there; None where none is asked for.
        start_in_s: seconds until the job can start: 0 where resources are free, otherwise the earliest end of running jobs.
        energy_kwh: at the meter (PUE included) if the job uses its whole time limit at full board power.
        carbon_kg: location-based kgCO2e of that energy.
        rtt_ms: round trip from the user's region; None where the catalogue does not know it.
    """

    site: str
    partition: str
    chip: str | None
    start_in_s: float
    energy_kwh: float
    carbon_kg: float
    rtt_ms: float | None
    cost: Cost


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
        snapshot_age_s: age of the oldest live state that the decision rests on, in seconds.
        catalogue_digest: SHA-256 (12 hex digits) of the site descriptions it rests on.
    """

    chosen: Offer | None
    offers: tuple[Offer, ...]
    rejections: tuple[Rejection, ...]
    policy: str
    currency: str
    region: str
    overridden: bool
    snapshot_age_s: float
    catalogue_digest: str
    decided_at: datetime
