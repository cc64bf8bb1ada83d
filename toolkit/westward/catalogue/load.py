"""YAML -> model, validated: a figure without a source, a misspelt key or a wrong type is an error that names the file and the key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from westward.directories import config_dir, state_dir
from westward.errors import InputError, NotFound
from westward.model.job import VARIABLE
from westward.model.site import Accelerator, Catalogue, Figure, Link, Power, Prices, RestDoor, Site
from westward.yamlfile import Reader, open_yaml

_HERE = Path(__file__).parent
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
            "bring up the lab with 'westward lab up east-west', or write one to " + str(config_dir() / "sites"),
        )
    return sites


def load_site(file: Path) -> Site:
    """One site from one file."""
    top = open_yaml(file)
    access = top.section("access")
    site = Site(
        name=top.take("name", str),
        cluster=top.take("cluster", str),
        region=top.take("region", str),
        place=top.take("place", str),
        doors=tuple(_door(door) for door in access.list_of("doors")),
        files=_files(access.section("files", {})),
        root=top.take("root", str),
        prices=_prices(top.section("prices")),
        power=_power(top.section("power")),
        links={region: _link(link) for region, link in top.section("links", {}).sections()},
        account=top.take("account", str, None),
        qos=top.take("qos", str, None),
        mpi=top.take("mpi", str, None),
        environment=_environment(top.section("environment", {})),
    )
    access.done()
    top.done()
    return site


def _files(files: Reader) -> dict[str, Path]:
    return {there: Path(files.take(there, str)) for there in files.names()}


def _environment(variables: Reader) -> dict[str, str]:
    for name in variables.names():
        if not VARIABLE.fullmatch(name):
            raise variables.error(name, "is not the name of a variable")
    return {name: str(variables.take(name, object)) for name in variables.names()}


def _door(door: Reader) -> RestDoor:
    kind = door.take("door", str)
    if kind != "rest":
        raise door.error("door", f"'{kind}' is not a way to a cluster; known: rest")
    url = door.take("url", str)
    if url.startswith("http://") and urlsplit(url).hostname not in _LOOPBACK:
        raise door.error(
            "url", "a token would go over the network in the clear; use https:// (http:// is for this host alone)"
        )
    value = RestDoor(url, door.take("user", str), Path(door.take("token_file", str)))
    door.done()
    return value


def _prices(prices: Reader) -> Prices:
    value = Prices(
        currency=prices.take("currency", str),
        accelerator_hour={
            chip.lower(): _figure(figure) for chip, figure in prices.section("accelerator_hour", {}).sections()
        },
        cpu_hour=_figure(prices.section("cpu_hour")),
    )
    prices.done()
    return value


def _power(power: Reader) -> Power:
    value = Power(
        **{name: _figure(power.section(name)) for name in ("pue", "price_per_kwh", "carbon_kg_per_kwh", "cpu_w")}
    )
    power.done()
    if value.pue.value < 1:
        raise power.error("pue", f"{value.pue.value:g} is below 1, which no facility can reach")
    return value


def _link(link: Reader) -> Link:
    value = Link(rtt_ms=_figure(link.section("rtt_ms")))
    link.done()
    return value


def _figure(figure: Reader) -> Figure:
    value = Figure(
        value=figure.take("value", float),
        source=figure.take("source", str),
        as_of=figure.take("as_of", str),
        estimated=figure.take("estimated", bool),
    )
    figure.done()
    if value.value < 0:
        raise figure.error("value", "is negative")
    return value


def _currency(sites: Mapping[str, Site]) -> str:
    """The one currency of all sites. Raises InputError where they charge in different ones, which nothing here converts."""
    currencies = {site.prices.currency for site in sites.values()}
    if len(currencies) != 1:
        charge = ", ".join(f"{name} in {site.prices.currency}" for name, site in sorted(sites.items()))
        raise InputError(f"the sites charge in different currencies ({charge}); give all prices in one")
    return currencies.pop()


def _digest(files: Iterable[Path]) -> str:
    """12 hex digits of the SHA-256 over the site descriptions."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()[:12]
