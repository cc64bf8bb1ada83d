"""The cost kernel against a case worked out by hand, and its laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from westward.kernels.cost import Demand, Rates, energy_kwh, price, weighted
from westward.model.decision import TERMS

reals = some.floats(min_value=0, max_value=1e4)
JOBS, SITES = 3, 2


def demand(jobs: int = 1, sites: int = 1, hours: float = 2.0) -> Demand:
    one = np.ones((jobs, sites))
    return Demand(
        accelerator_hours=one * 8 * hours, accelerator_w=one * 700, cpu_hours=one * 16 * hours, wait_hours=one * 0.5
    )


def rates(jobs: int = 1, sites: int = 1, pue: float = 1.2) -> Rates:
    one = np.ones(sites)
    return Rates(
        accelerator_hour=np.ones((jobs, sites)) * 9.0,
        cpu_hour=one * 0.05,
        cpu_w=one * 10,
        pue=one * pue,
        price_per_kwh=one * 0.5,
        carbon_kg_per_kwh=one * 0.6,
        carbon_price=0.1,
        waiting_price=20.0,
    )


def test_eight_accelerators_for_two_hours_by_hand() -> None:
    """16 accelerator-hours of 700 W and 32 CPU-hours of 10 W are 11.52 kWh of IT, 13.824 kWh at the meter."""
    terms = dict(zip(TERMS, price(demand(), rates())[0, 0], strict=True))
    assert energy_kwh(demand(), rates())[0, 0] == pytest.approx(13.824)
    assert terms["compute"] == pytest.approx(16 * 9.0 + 32 * 0.05)
    assert terms["energy"] == pytest.approx(13.824 * 0.5)
    assert terms["carbon"] == pytest.approx(13.824 * 0.6 * 0.1)
    assert terms["waiting"] == pytest.approx(0.5 * 20.0)
    assert terms["transfer"] == terms["lateness"] == 0


def test_every_job_at_every_site_with_every_term() -> None:
    assert price(demand(JOBS, SITES), rates(JOBS, SITES)).shape == (JOBS, SITES, len(TERMS))
    assert energy_kwh(demand(JOBS, SITES), rates(JOBS, SITES)).shape == (JOBS, SITES)


def test_each_site_is_priced_with_its_own_rates() -> None:
    two = rates(JOBS, SITES)
    other = Rates(
        two.accelerator_hour, two.cpu_hour, two.cpu_w, two.pue, np.array([0.5, 1.0]), two.carbon_kg_per_kwh, 0.1, 20.0
    )
    costs = price(demand(JOBS, SITES), other)
    energy = TERMS.index("energy")
    np.testing.assert_allclose(costs[:, 1, energy], 2 * costs[:, 0, energy])
    np.testing.assert_allclose(costs[:, 1, TERMS.index("compute")], costs[:, 0, TERMS.index("compute")])


@settings(deadline=None)
@given(hours=reals, more=reals)
def test_longer_is_never_cheaper(hours: float, more: float) -> None:
    short, long = (price(demand(hours=h), rates()).sum() for h in (hours, hours + more))
    assert long >= short


@settings(deadline=None)
@given(pue=some.floats(min_value=1, max_value=3), factor=some.floats(min_value=1, max_value=3))
def test_energy_scales_with_pue(pue: float, factor: float) -> None:
    np.testing.assert_allclose(
        energy_kwh(demand(), rates(pue=pue * factor)), factor * energy_kwh(demand(), rates(pue=pue))
    )


def test_waiting_costs_time_and_no_energy() -> None:
    patient = demand()
    idle = Demand(patient.accelerator_hours, patient.accelerator_w, patient.cpu_hours, patient.wait_hours * 10)
    assert energy_kwh(idle, rates())[0, 0] == energy_kwh(patient, rates())[0, 0]
    more = price(idle, rates()) - price(patient, rates())
    assert {TERMS[i] for i in np.nonzero(more[0, 0])[0]} == {"waiting"}


UNKNOWN = np.array([np.nan])
FIGURES = ["cpu_hour", "cpu_w", "pue", "price_per_kwh", "carbon_kg_per_kwh"]


@pytest.mark.parametrize("figure", FIGURES)
def test_what_rests_on_an_unknown_figure_is_unknown_and_the_rest_is_not(figure: str) -> None:
    costs = price(demand(), replace(rates(), **{figure: UNKNOWN}))[0, 0]
    unknown = {TERMS[i] for i in np.nonzero(np.isnan(costs))[0]}
    assert (
        unknown
        == {
            "cpu_hour": {"compute"},
            "cpu_w": {"energy", "carbon"},
            "pue": {"energy", "carbon"},
            "price_per_kwh": {"energy"},
            "carbon_kg_per_kwh": {"carbon"},
        }[figure]
    )


def test_none_of_an_unknown_thing_is_nothing() -> None:
    """No accelerators, no price of carbon, no price of waiting: then nobody needs to know what they would be."""
    none = np.zeros((1, 1))
    lean = Demand(none, none * np.nan, demand().cpu_hours, none * np.nan)
    bare = replace(
        rates(),
        accelerator_hour=none * np.nan,
        carbon_kg_per_kwh=UNKNOWN,
        carbon_price=0.0,
        waiting_price=0.0,
    )
    assert not np.isnan(price(lean, bare)).any()


@given(weights=some.lists(some.sampled_from([0.0, 0.5, 1.0]), min_size=len(TERMS), max_size=len(TERMS)))
def test_a_term_without_weight_is_nothing_known_or_not(weights: list[float]) -> None:
    costs = weighted(np.full((1, 1, len(TERMS)), np.nan), np.array(weights))[0, 0]
    assert [bool(np.isnan(cost)) for cost in costs] == [weight > 0 for weight in weights]
    assert all(cost == 0 for cost, weight in zip(costs, weights, strict=True) if weight == 0)
