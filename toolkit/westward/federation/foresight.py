"""What would become of a job that has been decided on: what it takes, which limits it meets at each site, and when it would start.

Sites are only asked, all at the same time. One that does not answer is a note, and never stops a plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from westward.errors import SiteRefused, WestwardError
from westward.federation.checking import Checked, Connect, Told, check, refused
from westward.model.decision import Decision, Offer
from westward.model.effort import Effort, effort
from westward.model.job import KEY_LENGTH, JobSpec
from westward.model.limits import Trial
from westward.model.site import Catalogue, Figure, Site
from westward.model.tres import chip_type
from westward.model.units import format_duration
from westward.slurm.client import NotOffered, SlurmClient, open_client
from westward.slurm.script import render

# fewer earlier starts than this say nothing of the next one
LEAST_STARTS = 5
# the part of the earlier jobs that the band leaves out at each end
TAIL = 0.1


@dataclass(frozen=True, slots=True)
class Start:
    """When a job would start, in seconds from now.

    Attributes:
        free: by the free nodes, and the limits of the jobs on the others; None where the cluster does not tell.
        tested: by the cluster's own scheduler (`sbatch --test-only`); None where it was not asked or does not say.
        band: between these, by how far earlier starts at that site were from what had been foreseen; None where there were too few.
        starts: how many earlier ones that rests on.
    """

    free: float | None
    tested: float | None = None
    band: tuple[float, float] | None = None
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Foresight:
    """All of it, for the offer that was chosen.

    Attributes:
        others: the best partition of each other site that offers one.
        estimated: the figures behind its costs that nobody has published for that site.
    """

    offer: Offer
    effort: Effort
    limits: Checked
    trial: Trial | None
    start: Start
    others: tuple[Checked, ...] = ()
    notes: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()


def foresee(
    spec: JobSpec,
    decision: Decision,
    offer: Offer,
    catalogue: Catalogue,
    earlier: Sequence[tuple[float, float]] = (),
    connect: Connect = open_client,
) -> Foresight:
    """Ask the sites that have an offer about their limits, and the chosen one to try the job.

    Args:
        earlier: of jobs that started at the chosen site, the seconds that were foreseen and those that it took.
    """
    best: dict[str, Offer] = {}
    for each in (offer, *decision.offers):
        best.setdefault(each.site, each)

    def ask(each: Offer) -> tuple[Checked, Trial | None, tuple[str, ...]]:
        return _ask(spec, each, catalogue.sites[each.site], connect, try_it=each is offer)

    with ThreadPoolExecutor(max(1, len(best))) as pool:
        (limits, trial, notes), *others = pool.map(ask, best.values())
    tested = max(0.0, trial.start - datetime.now(UTC).timestamp()) if trial and trial.start is not None else None
    band = foreseen_between(offer.start_in_s, earlier) if offer.start_in_s is not None else None
    start = Start(offer.start_in_s, tested, band, len(earlier))
    return Foresight(
        offer,
        effort(spec, offer),
        limits,
        trial,
        start,
        tuple(other for other, _, _ in others),
        notes,
        estimated(offer, catalogue),
    )


def estimated(offer: Offer, catalogue: Catalogue) -> tuple[str, ...]:
    """The figures behind an offer's costs that are estimates."""
    site = catalogue.sites[offer.site]
    chip = chip_type(offer.chip) if offer.chip else ""
    figures: dict[str, Figure | None] = {
        "accelerator rent": site.prices.accelerator_hour.get(chip),
        "CPU rent": site.prices.cpu_hour,
        "electricity price": site.power.price_per_kwh,
        "PUE": site.power.pue,
        "CPU power": site.power.cpu_w,
        "CO2e per kWh": site.power.carbon_kg_per_kwh,
    }
    found = [name for name, figure in figures.items() if figure is not None and figure.estimated]
    known = catalogue.accelerators.get(chip)
    return (*found, *(["accelerator power"] if known and known.estimated("power_w") else []))


def _ask(
    spec: JobSpec, offer: Offer, site: Site, connect: Connect, *, try_it: bool
) -> tuple[Checked, Trial | None, tuple[str, ...]]:
    """What one site says; a note instead where it says nothing."""
    try:
        client = connect(site)
    except WestwardError as error:
        return check(spec, offer, site, error), None, ()
    with client:
        try:
            told: Told = client.limits()
        except WestwardError as error:
            told = error
        trial, notes = _try(spec, offer, site, client) if try_it else (None, ())
    return check(spec, offer, site, told), trial, notes


def ask_about(
    spec: JobSpec, offer: Offer, site: Site, connect: Connect = open_client
) -> tuple[Checked, Trial | None, tuple[str, ...]]:
    """A site's limits beside a job, and what its `sbatch --test-only` says of it; a note instead where it says nothing."""
    return _ask(spec, offer, site, connect, try_it=True)


def trial_words(trial: Trial) -> str:
    """What was said, for people."""
    if trial.refusal:
        return f"refused by sbatch --test-only: {trial.refusal}"
    seconds = (trial.start or 0.0) - datetime.now(UTC).timestamp()
    when = "now" if seconds < 1 else f"in {format_duration(seconds)}"
    return f"{when} by sbatch --test-only, on {trial.nodes}"


def _try(spec: JobSpec, offer: Offer, site: Site, client: SlurmClient) -> tuple[Trial | None, tuple[str, ...]]:
    try:
        return client.try_out(render(spec, offer, site, "k" * KEY_LENGTH)), ()
    except NotOffered:
        return None, ("sbatch --test-only is not to be had there: the site has no shell door",)
    except WestwardError as error:
        return None, (f"sbatch --test-only did not answer: {error}",)


def foreseen_between(foreseen_s: float, earlier: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Between which seconds a job starts that is foreseen to start in `foreseen_s`: as late or early as the middle four fifths of earlier ones.

    None where there were fewer than LEAST_STARTS.
    """
    if len(earlier) < LEAST_STARTS:
        return None
    errors = sorted(took - foreseen for foreseen, took in earlier)
    low, high = errors[math.floor(TAIL * (len(errors) - 1))], errors[math.ceil((1 - TAIL) * (len(errors) - 1))]
    return max(0.0, foreseen_s + low), max(0.0, foreseen_s + high)


def refusal(limits: Checked, trial: Trial | None) -> SiteRefused | None:
    """What submit would end with at a site, as far as its limits and its own trial say; None where it would be taken."""
    if trial is None or not trial.refusal:
        return refused(limits)
    return refused(limits) or SiteRefused(
        f"site '{limits.site}' would refuse this job: {trial.refusal}",
        f"ask for what is there: westward site show {limits.site}",
    )
