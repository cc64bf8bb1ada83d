"""Where a site is chosen: JobSpec x sites -> Decision, with the cost of every offer term by term. Pure: asks nobody, and no clock.

The choice is deterministic: least weighted cost, then earliest start, then the site's name. What is unknown is never taken for zero:
an offer whose cost is unknown comes after all whose cost is known, and a start that is unknown after all that are known.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from westward.errors import NoSiteFits, NotFound, Unreachable
from westward.federation.predict import Fit, fits
from westward.federation.snapshot import Snapshot
from westward.kernels.cost import Array, Demand, Rates, energy_kwh, price, weighted
from westward.model.decision import CHARGED, PRICED_BY_POLICY, TERMS, Cost, Decision, Offer, Policy, Rejection
from westward.model.job import JobSpec
from westward.model.site import Catalogue, Figure, Site
from westward.model.tres import chip_type
from westward.model.units import whole_minutes_s


def route(
    spec: JobSpec,
    policy: Policy,
    region: str,
    catalogue: Catalogue,
    snapshot: Snapshot,
    now: datetime,
    only_site: str | None = None,
) -> Decision:
    """Rank every site that can run the job; `only_site` overrides the ranking, never the feasibility.

    Raises:
        NotFound: `only_site` is not in the catalogue.
    """
    if only_site is not None and only_site not in catalogue.sites:
        raise NotFound(f"there is no site '{only_site}'", f"known: {', '.join(sorted(catalogue.sites))}")
    found: list[tuple[Site, Fit]] = []
    rejections: list[Rejection] = []
    for name, site in sorted(catalogue.sites.items()):
        answer = too_far(spec, site, region) or _candidates(spec, name, catalogue, snapshot)
        if isinstance(answer, str):
            rejections.append(Rejection(name, answer, reachable=name not in snapshot.silent))
        else:
            found.extend((site, fit) for fit in answer)
    prices, currency = _in_one_currency(policy, catalogue.currency)
    priced = _price(spec, prices, region, catalogue, found)
    offers = [replace(offer, slurm_version=snapshot.clusters[offer.site].version) for offer in _best_partitions(priced)]
    chosen = next((offer for offer in offers if only_site in (None, offer.site)), None)
    return Decision(
        chosen=chosen,
        offers=tuple(offers),
        rejections=tuple(rejections),
        policy=policy.name,
        weights=policy.weights,
        currency=currency,
        region=region,
        overridden=only_site is not None,
        snapshot_age_s=snapshot.age_s(now),
        catalogue_digest=catalogue.digest,
        decided_at=now,
        notes=_unconverted(policy, prices, currency, offers),
    )


def route_all(
    jobs: Iterable[tuple[JobSpec, Policy, str]],
    catalogue: Catalogue,
    snapshot: Snapshot,
    now: datetime,
    only_site: str | None = None,
) -> list[Decision]:
    """As `route` for each job, its policy and region; those that are equal in all that `route` looks at share one decision."""
    known: dict[Hashable, Decision] = {}
    decisions = []
    for spec, policy, region in jobs:
        weights = tuple(policy.weights.items())
        prices = policy.carbon_price_per_kg, policy.waiting_price_per_h
        looked_at = spec.resources, spec.max_rtt_ms, policy.name, weights, prices, region
        if looked_at not in known:
            known[looked_at] = route(spec, policy, region, catalogue, snapshot, now, only_site)
        decisions.append(known[looked_at])
    return decisions


def chosen_offer(decision: Decision, only_site: str | None = None) -> Offer:
    """The offer that was chosen.

    Raises:
        NoSiteFits: none was; the message holds the reason for every site in question.
        Unreachable: none was, and all sites in question are silent.
    """
    if decision.chosen is None:
        asked = [rejection for rejection in decision.rejections if only_site in (None, rejection.site)]
        reasons = "".join(f"\n  {rejection.site}: {rejection.reason}" for rejection in asked)
        who = "no site" if only_site is None else f"site '{only_site}'"
        can = "can" if only_site is None else "cannot"
        if asked and not any(rejection.reachable for rejection in asked):
            doors = "westward site check" if only_site is None else f"westward site check {only_site}"
            raise Unreachable(f"{who} {can} be reached:{reasons}", f"see what is wrong with each way in: {doors}")
        place = next((rejection.site for rejection in asked if rejection.reachable), "SITE")
        raise NoSiteFits(
            f"{who} {can} run this job:{reasons}",
            f"ask for less, or for what is there: westward site show {place}"
            + ("" if only_site is None else "; or let another site have it: leave out --site"),
        )
    return decision.chosen


def too_far(spec: JobSpec, site: Site, region: str) -> str:
    """Why a site is too far from the user for a job with a bound on the round trip; empty where it is not. Unknown is too far."""
    if spec.max_rtt_ms is None:
        return ""
    link = site.links.get(region)
    if link is None:
        return f"its round trip from {region} is unknown, at most {spec.max_rtt_ms:g} ms was asked for"
    rtt = link.rtt_ms
    if rtt.value <= spec.max_rtt_ms:
        return ""
    estimate = " (estimated)" if rtt.estimated else ""
    return f"its round trip from {region} is {rtt.value:g} ms{estimate}, at most {spec.max_rtt_ms:g} ms was asked for"


def _candidates(spec: JobSpec, site: str, catalogue: Catalogue, snapshot: Snapshot) -> list[Fit] | str:
    """The fits at one site, or why there are none."""
    if site in snapshot.silent:
        return snapshot.silent[site]
    good, reasons = fits(spec.resources, snapshot.clusters[site], catalogue.accelerators)
    return good or "; ".join(reasons) or "it has no partition"


def _in_one_currency(policy: Policy, charged: str | None) -> tuple[Policy, str | None]:
    """The policy as its prices can be added to what the sites charge, and the currency of the sums.

    Nothing here converts money: prices in another currency than the sites' are unknown (NaN), unless nothing that a site charges has
    weight, so that they are compared with each other only.
    """
    if not any(weight for term, weight in policy.weights.items() if term not in PRICED_BY_POLICY):
        return policy, policy.currency or charged
    if policy.currency is None or charged in (None, policy.currency):
        return policy, charged
    carbon, waiting = (math.nan if price else 0.0 for price in (policy.carbon_price_per_kg, policy.waiting_price_per_h))
    return replace(policy, carbon_price_per_kg=carbon, waiting_price_per_h=waiting), charged


def _unconverted(policy: Policy, prices: Policy, charged: str | None, offers: Sequence[Offer]) -> tuple[str, ...]:
    """What to say where a price of the policy's is in another currency, and some offer would need it."""
    terms = [
        term
        for term, price in PRICED_BY_POLICY.items()
        if math.isnan(getattr(prices, price)) and any(term in offer.cost.unknown for offer in offers)
    ]
    if not terms:
        return ()
    own = [PRICED_BY_POLICY[term] for term in terms]
    have = ", ".join(f"{name}={getattr(policy, name):g}" for name in own)
    return (
        f"the cost of {' and '.join(terms)} is unknown: the policy prices it in {policy.currency} ({have}), the sites charge in {charged}. "
        f"Say what it is worth there: currency={charged} {' '.join(f'{name}=...' for name in own)}",
    )


def _price(
    spec: JobSpec, policy: Policy, region: str, catalogue: Catalogue, found: Sequence[tuple[Site, Fit]]
) -> list[Offer]:
    """Offers in the order of `found`; one job, so the job axis of the arrays has length one."""
    if not found:
        return []
    demand, rates = _arrays(spec, policy, catalogue, found)
    weights = np.array([policy.weights.get(term, 0.0) for term in TERMS])
    unweighted = price(demand, rates)
    costs = weighted(unweighted, weights)[0]
    charged = unweighted[0][:, [TERMS.index(term) for term in CHARGED]].sum(axis=-1)
    energy = energy_kwh(demand, rates)[0]
    carbon = energy * rates.carbon_kg_per_kwh
    return [
        Offer(
            site=site.name,
            partition=fit.partition,
            chip=fit.chip,
            start_in_s=fit.start_in_s,
            energy_kwh=_known(energy[i]),
            carbon_kg=_known(carbon[i]),
            rtt_ms=site.links[region].rtt_ms.value if region in site.links else None,
            cost=Cost(*map(_known, costs[i])),
            granted=fit.granted,
            money=_known(charged[i]),
        )
        for i, (site, fit) in enumerate(found)
    ]


def _known(value: float) -> float | None:
    """A number of an array; None where it is unknown there."""
    return None if np.isnan(value) else float(value)


def _arrays(
    spec: JobSpec, policy: Policy, catalogue: Catalogue, found: Sequence[tuple[Site, Fit]]
) -> tuple[Demand, Rates]:
    hours = whole_minutes_s(spec.resources.walltime_s) / 3600

    def column(values: Sequence[float | None]) -> Array:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def figures(values: list[Figure | None]) -> Array:
        return column([figure.value if figure else None for figure in values])

    def power_w(fit: Fit) -> float | None:
        chip = catalogue.accelerators.get(chip_type(fit.chip or ""))
        return chip.power_w if chip else None

    sites, occupied = [site for site, _ in found], [spec.resources.at(fit.granted) for _, fit in found]
    row = np.ones((1, len(found)))
    demand = Demand(
        accelerator_hours=row * column([each.accelerator_count for each in occupied]) * hours,
        accelerator_w=row * column([power_w(fit) for _, fit in found]),
        cpu_hours=row * column([each.nodes * each.cpus_per_node for each in occupied]) * hours,
        wait_hours=row * column([fit.start_in_s for _, fit in found]) / 3600,
    )
    rates = Rates(
        accelerator_hour=row
        * figures([site.prices.accelerator_hour.get(chip_type(fit.chip or "")) for site, fit in found]),
        cpu_hour=figures([site.prices.cpu_hour for site in sites]),
        cpu_w=figures([site.power.cpu_w for site in sites]),
        pue=figures([site.power.pue for site in sites]),
        price_per_kwh=figures([site.power.price_per_kwh for site in sites]),
        carbon_kg_per_kwh=figures([site.power.carbon_kg_per_kwh for site in sites]),
        carbon_price=policy.carbon_price_per_kg,
        waiting_price=policy.waiting_price_per_h,
    )
    return demand, rates


def _best_partitions(offers: Sequence[Offer]) -> list[Offer]:
    """The best partition of each site for each chip, best offer first; among equals the one that `fits` names first."""

    def unknown_last(value: float | None) -> tuple[bool, float]:
        return value is None, value or 0.0

    ranked = sorted(
        offers, key=lambda offer: (unknown_last(offer.cost.total), unknown_last(offer.start_in_s), offer.site)
    )
    first: dict[tuple[str, str | None], Offer] = {}
    for offer in ranked:
        first.setdefault((offer.site, offer.chip), offer)
    return list(first.values())
