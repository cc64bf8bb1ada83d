"""What a user asks for -> the job and where it goes: composed, the sites looked at, one chosen.

The command line and the Python API begin here, so that both choose alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from westward.errors import InputError
from westward.federation.pinned import home_site, pinned
from westward.federation.router import route
from westward.federation.snapshot import take_snapshot
from westward.jobs.template import Composed, compose_job
from westward.model.batchscript import BatchScript
from westward.model.decision import Decision, Rejection
from westward.model.job import JobSpec
from westward.model.site import Catalogue, Site
from westward.slurm.obstacles import Obstacle, obstacles
from westward.slurm.routed import spec_of
from westward.slurm.translating import adapted, left_at


@dataclass(frozen=True, slots=True)
class Routed:
    """A script of the user's own, and the site it goes to.

    Attributes:
        home: the site that it is made for.
        found: what ties it there.
        portable: nothing does, or its user says so.
        left: by other site: what would still tie it to its home there, the maps of both sites considered.
    """

    spec: JobSpec
    home: Site
    decision: Decision
    found: Sequence[Obstacle]
    portable: bool
    left: Mapping[str, Sequence[Obstacle]] = field(default_factory=dict)


def decide(
    template: str, overrides: Sequence[str], site: str | None, catalogue: Catalogue
) -> tuple[Composed, Decision]:
    """The job of a template, and the decision over all sites as they are now; `site` is taken whatever the policy prefers.

    The decision may have chosen none: `chosen_offer` says why.

    Raises:
        NotFound: there is no such template, or no such site.
        InputError: an override cannot be meant.
    """
    composed = compose_job(template, overrides)
    snapshot = take_snapshot(catalogue.sites)
    now = datetime.now(UTC)
    return composed, route(composed.spec, composed.policy, composed.region, catalogue, snapshot, now, site)


def decide_script(
    script: BatchScript, catalogue: Catalogue, site: str | None, portable: bool = False, policy: str | None = None
) -> Routed:
    """Where a script goes: to `site`, else home, else, if nothing ties it there or it is declared `portable`, where the policy says.

    What the maps of its home and of another site know ties it to neither: there its options are given anew in that site's words.

    Raises:
        NotFound: there is no such site, or none at all.
        InputError: the script cannot be meant, its home cannot be told, or a site cannot be chosen for it.
    """
    now = datetime.now(UTC)
    spec = spec_of(script, now)
    script = spec.script or script
    sites = catalogue.sites
    # which site it is looked at from says where paths are, and not whether there are any
    any_site = home_site(sites, site or min(sites, default=None))
    found = obstacles(script, any_site)
    free = portable or not found
    home = any_site if free else _made_for(sites, site)
    if home is not any_site:
        found = obstacles(script, home)
    left = {} if free else {name: left_at(found, home, other) for name, other in sites.items() if other is not home}
    if site is not None:
        named = sites[site]
        return Routed(_at(spec, found, home, named), named, pinned(script, named, catalogue, now), found, free, left)
    fit = {name: other for name, other in sites.items() if free or other is home or not left[name]}
    if not free and len(fit) == 1:
        return Routed(spec, home, pinned(script, home, catalogue, now), found, free, left)
    if script.value("time") is None:
        raise InputError(
            f"{script.file}: a site is chosen for a job with a time limit", "add #SBATCH --time=..., or name the --site"
        )
    asked = compose_job("command", ["command=[true]", *([f"policy={policy}"] if policy else [])])
    decision = route(spec, asked.policy, asked.region, replace(catalogue, sites=fit), take_snapshot(fit), now)
    tied = [Rejection(name, _tied(each)) for name, each in sorted(left.items()) if each]
    decision = replace(decision, rejections=(*decision.rejections, *tied))
    if decision.chosen is not None:
        spec = _at(spec, found, home, sites[decision.chosen.site])
    return Routed(spec, home, decision, found, free, left)


def _made_for(sites: Mapping[str, Site], named: str | None) -> Site:
    """The site that a script is made for: the one described as home, else the one that is named, else as `home_site` finds it."""
    described = [each for each in sites.values() if each.home]
    return described[0] if named is not None and len(described) == 1 else home_site(sites, named)


def _at(spec: JobSpec, found: Sequence[Obstacle], home: Site, other: Site) -> JobSpec:
    """The job as it is submitted at a site: where that is not its home, with the options that the maps translate."""
    if spec.script is None or other is home:
        return spec
    script = adapted(spec.script, found, home, other)
    return replace(spec, script=script, account=script.value("account"), qos=script.value("qos"))


def _tied(left: Sequence[Obstacle]) -> str:
    count = f"{len(left)} things tie" if len(left) > 1 else "1 thing ties"
    first = left[0]
    return f"{count} the script to its home, first {first.what}" + (f" (line {first.line})" if first.line else "")
