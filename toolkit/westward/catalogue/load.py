"""YAML -> model, validated: a figure without a source, a misspelt key or a wrong type is an error that names the file and the key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from westward.catalogue.sitefile import read_site
from westward.directories import config_dir, state_dir
from westward.errors import InputError, NotFound
from westward.model.site import Accelerator, Catalogue, Site
from westward.yamlfile import Reader, open_yaml

_HERE = Path(__file__).parent


def load_catalogue() -> Catalogue:
    """All that is known here of sites and chips.

    Raises:
        InputError: a description is wrong.
        NotFound: there is no site at all.
    """
    files = site_files()
    sites = load_sites(files)
    return Catalogue(sites, load_accelerators(), _currency(sites), _digest(files))


def known_sites() -> dict[str, Site]:
    """Every site by name; none where none is described. For what has to go on without its site, such as a list of jobs."""
    return {site.name: site for site in map(load_site, site_files())}


def load_accelerators() -> dict[str, Accelerator]:
    """The chips by name, in lower case: where a peak figure comes from. The user's `accelerators.yaml` adds to ours, or overrides it."""
    own = config_dir() / "accelerators.yaml"
    files = [_HERE / "accelerators.yaml", *([own] if own.is_file() else [])]
    return {name.lower(): _accelerator(name, chip) for file in files for name, chip in open_yaml(file).sections()}


def _accelerator(name: str, chip: Reader) -> Accelerator:
    peaks = chip.section("peak_flops")
    value = Accelerator(
        name=name,
        vendor=chip.take("vendor", str),
        peak_flops={precision: peaks.take(precision, float) for precision in peaks.names()},
        mem_bytes=chip.take("mem_bytes", float),
        power_w=chip.take("power_w", float),
        source=chip.take("source", str),
        as_of=chip.take("as_of", str),
    )
    chip.done()
    for key in ("mem_bytes", "power_w"):
        if getattr(value, key) <= 0:
            raise chip.error(key, "must be above zero")
    return value


def site_files() -> list[Path]:
    """The site descriptions of this user: those written by hand, and those of the labs that are up."""
    return sorted([*(config_dir() / "sites").glob("*.yaml"), *(state_dir() / "labs").glob("*/sites/*.yaml")])


def load_sites(files: Iterable[Path]) -> dict[str, Site]:
    """Every site by name.

    Raises:
        InputError: a file is wrong, or two files describe a site of the same name.
        NotFound: there is no site at all.
    """
    sites: dict[str, Site] = {}
    for file in files:
        site = load_site(file)
        if site.name in sites:
            raise InputError(f"{file}: a site named '{site.name}' is already described in another file")
        sites[site.name] = site
    if not sites:
        raise NotFound(
            "no site is known",
            "add yours with 'westward site add NAME ssh://USER@LOGIN-NODE', or bring up two of your own with 'westward lab up east-west'",
        )
    return sites


def load_site(file: Path) -> Site:
    """One site from one file."""
    return read_site(open_yaml(file))


def default_region() -> str:
    """The region that a user sits in who names none."""
    return open_yaml(_HERE.parent / "conf" / "westward.yaml").take("region", str)


def _currency(sites: Mapping[str, Site]) -> str | None:
    """The one currency of all sites that name one; None where none does.

    Raises:
        InputError: they charge in different ones, which nothing here converts.
    """
    named = {name: site.prices.currency for name, site in sorted(sites.items()) if site.prices.currency}
    if len(set(named.values())) > 1:
        charge = ", ".join(f"{name} in {currency}" for name, currency in named.items())
        raise InputError(f"the sites charge in different currencies ({charge}); give all prices in one")
    return next(iter(named.values()), None)


def _digest(files: Iterable[Path]) -> str:
    """12 hex digits of the SHA-256 over the site descriptions."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()[:12]
