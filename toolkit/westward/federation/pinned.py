"""Where a batch script of the user's own goes: home, unless it is portable. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from westward.errors import InputError, NotFound
from westward.model.batchscript import BatchScript
from westward.model.decision import TERMS, Cost, Decision, Offer
from westward.model.site import Catalogue, Site


def home_site(sites: Mapping[str, Site], named: str | None = None) -> Site:
    """The site that the user's scripts are made for: the one that is named, the only one, the one described as home, or this host's own.

    Raises:
        NotFound: there is no site of that name, or none at all.
        InputError: it could be any of several.
    """
    if named is not None and named not in sites:
        raise NotFound(f"there is no site '{named}'", f"known: {', '.join(sorted(sites)) or 'none'}")
    if not sites:
        raise NotFound("no site is described here", "describe one: westward site add NAME ssh://USER@HOST")
    if named is not None:
        return sites[named]
    described = [site for site in sites.values() if site.home]
    local = [site for site in sites.values() if site.on_this_host]
    for found in (described, local, list(sites.values())):
        if len(found) == 1:
            return found[0]
        if found:
            break
    names = ", ".join(sorted(sites))
    raise InputError(
        f"which site is this script made for? It could be any of {names}",
        "name it with --site, or write 'home: true' into the description of the one where your scripts run",
    )


def pinned(script: BatchScript, site: Site, catalogue: Catalogue, now: datetime) -> Decision:
    """The decision for a script that can run at its home only: nothing is compared, so nothing is asked and nothing priced."""
    unknown = Cost(**dict.fromkeys(TERMS))
    offer = Offer(
        site=site.name,
        partition=script.value("partition") or "",
        chip=None,
        start_in_s=None,
        energy_kwh=None,
        carbon_kg=None,
        rtt_ms=None,
        cost=unknown,
    )
    return Decision(
        chosen=offer,
        offers=(offer,),
        rejections=(),
        policy="home",
        weights={},
        currency=catalogue.currency,
        region=site.region,
        overridden=True,
        snapshot_age_s=0.0,
        catalogue_digest=catalogue.digest,
        decided_at=now,
    )
