"""YAML -> model, validated: a figure without a source, a misspelt key or a wrong type is an error that names the file and the key."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from westward.catalogue.chips import load_accelerators, own_chips_file, shipped_chips, with_power
from westward.catalogue.sitefile import read_site
from westward.directories import config_dir, state_dir
from westward.errors import InputError, NotFound
from westward.model.site import Catalogue, Site
from westward.yamlfile import open_yaml

_HERE = Path(__file__).parent
_log = logging.getLogger("westward")

# is told what a problem is about (a file, or the name of a site), and the problem
Tell = Callable[[str, InputError], None]


def warn(about: str, error: InputError) -> None:
    """Say on standard error that a description is left out."""
    _log.warning("%s", left_out(error))


def left_out(error: InputError) -> str:
    """A warning's words for a description that is not used."""
    return f"left out: {error}" + (f"; {error.next_step}" if error.next_step else "")


def load_catalogue() -> Catalogue:
    """All that is known here of sites and chips.

    Raises:
        InputError: a description is wrong.
        NotFound: there is no site at all.
    """
    files = site_files()
    sites = load_sites(files)
    return Catalogue(sites, load_accelerators(), _currency(sites), _digest(files))


def known_sites(tell: Tell = warn) -> dict[str, Site]:
    """Every site by name; none where none is described. For what has to go on without its site, such as a list of jobs.

    A file that cannot be read is left out, and so is a name that two files describe: which of the two clusters a job of that name is at
    cannot be told from here, and at the wrong one it would be lost or started twice. `tell` hears of both.
    """
    return unambiguous(readable_sites(tell), tell)


def unambiguous(described: Iterable[tuple[Site, Path]], tell: Tell = warn) -> dict[str, Site]:
    """The sites whose name only one file has, by name. `tell` hears of the others."""
    by_name: dict[str, list[tuple[Site, Path]]] = {}
    for site, file in described:
        by_name.setdefault(site.name, []).append((site, file))
    for name, several in by_name.items():
        if len(several) > 1:
            tell(name, _twice(name, [file for _, file in several]))
    return {name: several[0][0] for name, several in by_name.items() if len(several) == 1}


def readable_sites(tell: Tell = warn) -> list[tuple[Site, Path]]:
    """Every description that can be read, with its file; two may be of one name. `tell` hears of the others."""
    found = []
    for file in site_files():
        try:
            found.append((load_site(file), file))
        except InputError as error:
            tell(str(file), error)
    return found


def _twice(name: str, files: Sequence[Path]) -> InputError:
    return InputError(
        f"site '{name}' is described twice, in {' and '.join(map(str, files))}",
        "rename or remove one of them ('name:' within it): the newer one, for what was submitted under that name is at the other",
    )


def known_chips(tell: Tell = warn) -> Collection[str]:
    """The names of the chips whose power is known, in lower case; without the user's own where that file cannot be read, which `tell` hears."""
    try:
        return with_power(load_accelerators())
    except InputError as error:
        tell(str(own_chips_file()), error)
        return with_power(shipped_chips())


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
    described_in: dict[str, Path] = {}
    for file in files:
        site = load_site(file)
        if site.name in sites:
            raise _twice(site.name, [described_in[site.name], file])
        sites[site.name], described_in[site.name] = site, file
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
    return open_yaml(_HERE.parent / "conf" / "root" / "westward.yaml").take("region", str)


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
