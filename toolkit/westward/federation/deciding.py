"""What a user asks for -> the job and where it goes: composed, the sites looked at, one chosen.

The command line and the Python API begin here, so that both choose alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from westward.errors import InputError
from westward.federation.pinned import home_site, pinned
from westward.federation.router import route
from westward.federation.snapshot import take_snapshot
from westward.jobs.template import Composed, compose_job
from westward.model.batchscript import BatchScript
from westward.model.decision import Decision
from westward.model.job import JobSpec
from westward.model.site import Catalogue, Site
from westward.slurm.obstacles import Obstacle, obstacles
from westward.slurm.routed import spec_of


@dataclass(frozen=True, slots=True)
class Routed:
    """A script of the user's own, and the site it goes to.

    Attributes:
        home: the site that it is made for.
        found: what ties it there.
        portable: nothing does, or its user says so.
    """

    spec: JobSpec
    home: Site
    decision: Decision
    found: Sequence[Obstacle]
    portable: bool


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
    home = any_site if free else home_site(sites, site)
    if home is not any_site:
        found = obstacles(script, home)
    if site is not None or not free:
        return Routed(spec, home, pinned(script, home, catalogue, now), found, free)
    if script.value("time") is None:
        raise InputError(
            f"{script.file}: a site is chosen for a job with a time limit", "add #SBATCH --time=..., or name the --site"
        )
    asked = compose_job("command", ["command=[true]", *([f"policy={policy}"] if policy else [])])
    snapshot = take_snapshot(sites)
    return Routed(spec, home, route(spec, asked.policy, asked.region, catalogue, snapshot, now), found, free)
