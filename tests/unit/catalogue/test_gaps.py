"""What is not known of a site's costs, as its user reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from unit.federation.worlds import figure, site
from westward.catalogue.chips import load_accelerators, own_chips_file, with_power
from westward.catalogue.gaps import unknown_figures
from westward.model.site import Observed, ObservedPartition, Power, Prices

CHIPS = load_accelerators()
WHOLE = site("west")
OBSERVED = Observed(
    datetime(2026, 1, 1, tzinfo=UTC), "24.11.5", "me", (ObservedPartition("gpu", 1, accelerators={"A100": 4}),)
)


def test_nothing_is_unknown_of_a_site_that_is_described() -> None:
    assert unknown_figures(replace(WHOLE, observed=None), CHIPS, live=["H100"]) == []


def test_everything_is_unknown_of_one_that_has_no_accelerators() -> None:
    bare = replace(WHOLE, prices=Prices(), power=Power(), observed=None)
    assert unknown_figures(bare, CHIPS) == [
        "the price of a CPU-hour",
        "the PUE",
        "the price of electricity",
        "its carbon",
        "the power of a CPU",
    ]


def test_a_chip_is_known_from_the_day_of_the_survey_and_from_now() -> None:
    surveyed = replace(WHOLE, observed=OBSERVED)
    assert unknown_figures(surveyed, CHIPS) == ["the price of a100"]
    assert unknown_figures(replace(WHOLE, observed=None), CHIPS, live=["A100"]) == ["the price of a100"]


@pytest.mark.parametrize("priced", [True, False])
def test_a_chip_whose_power_nobody_told_is_named_with_the_file_to_tell_it_in(priced: bool) -> None:
    prices = replace(WHOLE.prices, accelerator_hour={"x9000": figure(9)} if priced else {})
    said = unknown_figures(replace(WHOLE, prices=prices, observed=None), CHIPS, () if priced else ["X9000"])
    power = f"the power of x9000 (in {own_chips_file()})"
    assert said == ([power] if priced else ["the price of x9000", power])


def test_a_chip_is_known_by_its_type_alone_and_without_power_it_is_named() -> None:
    prices = replace(WHOLE.prices, accelerator_hour={"h100": figure(9), "k100_ai": figure(5)})
    chips = with_power(CHIPS)
    said = unknown_figures(replace(WHOLE, prices=prices, observed=None), chips, ["dcu:K100_AI", "gpu:h100"])
    assert said == [f"the power of k100_ai (in {own_chips_file()})"]


def test_the_file_is_named_as_a_user_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME")
    (_, power) = unknown_figures(replace(WHOLE, observed=None), CHIPS, ["x"])
    assert power == "the power of x (in ~/.config/westward/accelerators.yaml)"
