"""What is not known of a site's costs: what a user has to fill in before its offers can be compared by cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from westward.catalogue.chips import own_chips_file
from westward.model.site import Site
from westward.model.tres import chip_type


def unknown_figures(site: Site, catalogue: Collection[str], live: Iterable[str] = ()) -> list[str]:
    """What is not known of a site's costs, in words for its user.

    Args:
        catalogue: the chips whose power is known, in lower case.
        live: the chips that it says it has now; those of its description are counted without.
    """
    prices, power = site.prices, site.power
    chips = sorted({chip_type(chip) for chip in (*_described(site), *live)})
    file = tilde(own_chips_file())
    named: Iterable[tuple[str, object]] = (
        *((f"the price of {chip}", chip in prices.accelerator_hour or None) for chip in chips),
        *((f"the power of {chip} (in {file})", chip in catalogue or None) for chip in chips),
        ("the price of a CPU-hour", prices.cpu_hour),
        ("the PUE", power.pue),
        ("the price of electricity", power.price_per_kwh),
        ("its carbon", power.carbon_kg_per_kwh),
        ("the power of a CPU", power.cpu_w),
    )
    return [name for name, figure in named if figure is None]


def _described(site: Site) -> Iterable[str]:
    partitions = site.observed.partitions if site.observed else ()
    return (*site.prices.accelerator_hour, *(chip for partition in partitions for chip in partition.accelerators))


def tilde(file: Path) -> str:
    """A file of the user's with ~ for the home directory."""
    return f"~/{file.relative_to(Path.home())}" if file.is_relative_to(Path.home()) else str(file)
