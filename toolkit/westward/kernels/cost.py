"""Price every (job, site) pair, term by term.

Arrays are indexed [job, site]; what belongs to a site alone is indexed [site] and broadcasts. The order of the terms along the
last axis is `westward.model.decision.TERMS`. NaN is unknown: what rests on it is unknown too, but none of an unknown thing is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Demand:
    """What the jobs use at each site, shape (jobs, sites): hours of accelerators and CPUs, their watts, and hours until the start."""

    accelerator_hours: Array
    accelerator_w: Array
    cpu_hours: Array
    wait_hours: Array


@dataclass(frozen=True, slots=True)
class Rates:
    """What the sites charge and emit. `accelerator_hour` is (jobs, sites), since the chip differs by job; the rest is (sites,).

    Money is in one currency; `carbon_price` is per kgCO2e and `waiting_price` per hour until the start, one number for all.
    """

    accelerator_hour: Array
    cpu_hour: Array
    cpu_w: Array
    pue: Array
    price_per_kwh: Array
    carbon_kg_per_kwh: Array
    carbon_price: float
    waiting_price: float


def energy_kwh(demand: Demand, rates: Rates) -> Array:
    """Energy at the meter in kWh, shape (jobs, sites): IT power x hours x PUE (PUE: ISO/IEC 30134-2)."""
    it_wh = _product(demand.accelerator_hours, demand.accelerator_w) + _product(demand.cpu_hours, rates.cpu_w)
    return it_wh / 1000 * rates.pue


def price(demand: Demand, rates: Rates) -> Array:
    """Cost of each job at each site before the policy's weights, shape (jobs, sites, 6)."""
    energy = energy_kwh(demand, rates)
    nothing = np.zeros_like(energy)
    return np.stack(
        [
            _product(demand.accelerator_hours, rates.accelerator_hour) + _product(demand.cpu_hours, rates.cpu_hour),
            _product(energy, rates.price_per_kwh),
            _product(_product(energy, rates.carbon_kg_per_kwh), rates.carbon_price),
            nothing,  # transfer: no datasets are declared yet
            _product(demand.wait_hours, rates.waiting_price),
            nothing,  # lateness: no deadlines are declared yet
        ],
        axis=-1,
    )


def weighted(costs: Array, weights: Array) -> Array:
    """Costs by term times the policy's weight of each term; a term without weight is nothing, known or not."""
    return _product(costs, weights)


def _product(amount: Array, rate: Array | float) -> Array:
    """amount x rate, where zero of anything is zero, also of what is unknown."""
    product: Array = np.where((amount == 0) | (np.asarray(rate) == 0), 0.0, amount * rate)
    return product
