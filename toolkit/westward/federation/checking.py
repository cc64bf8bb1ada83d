"""The limits of sites beside the jobs that go there. Each site is read once, whatever the number of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from westward.errors import SiteRefused, WestwardError
from westward.jobs.allowance import findings_in_turn, worst
from westward.jobs.asking import asked
from westward.jobs.side_by_side import side_by_side
from westward.model.decision import Offer
from westward.model.job import JobSpec
from westward.model.limits import Finding, Limits, Verdict
from westward.model.site import Catalogue, Site
from westward.slurm.client import SlurmClient, open_client

Connect = Callable[[Site], SlurmClient]
Told = Limits | WestwardError


@dataclass(frozen=True, slots=True)
class Checked:
    """The limits of one site beside a job. `notes` says what could not be read, or why nothing could."""

    site: str
    partition: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What becomes of the job there; UNKNOWN where no limit could be read."""
        return worst(self.findings) if self.findings else Verdict.UNKNOWN

    @property
    def met(self) -> tuple[Finding, ...]:
        """Those that the job is not within, or of which nothing is known; the worst first."""
        return tuple(finding for finding in self.findings if finding.verdict is not Verdict.OK)


def read_limits(sites: Iterable[str], catalogue: Catalogue, connect: Connect = open_client) -> dict[str, Told]:
    """What each of these sites says of its limits, or why it says nothing; all are asked at the same time."""

    def ask(name: str) -> Told:
        try:
            with connect(catalogue.sites[name]) as client:
                return client.limits()
        except WestwardError as error:
            return error

    names = sorted(set(sites))
    return dict(zip(names, side_by_side(ask, names), strict=True))


def check(spec: JobSpec, offer: Offer, site: Site, told: Told) -> Checked:
    """One job."""
    return check_all([(spec, offer)], {site.name: site}, {site.name: told})[0]


def check_all(
    wanted: Sequence[tuple[JobSpec, Offer]], sites: Mapping[str, Site], told: Mapping[str, Told]
) -> list[Checked]:
    """Jobs that are submitted together: those before it at the same site count against a job's MaxSubmitJobs."""
    found: dict[int, Checked] = {}
    for name, limits in told.items():
        places = [place for place, (_, offer) in enumerate(wanted) if offer.site == name]
        if isinstance(limits, WestwardError):
            notes = (f"its limits cannot be read: {limits}",)
            found |= {place: Checked(name, wanted[place][1].partition, (), notes) for place in places}
            continue
        jobs = [asked(*wanted[place], sites[name], limits) for place in places]
        for place, job, of_job in zip(places, jobs, findings_in_turn(jobs, limits), strict=True):
            found[place] = Checked(name, job.partition, tuple(of_job), limits.notes)
    return [found[place] for place in range(len(wanted))]


def refused(checked: Checked) -> SiteRefused | None:
    """What submit would end with by a site's limits; None where they let the job in, as far as they are known."""
    found = [finding for finding in checked.findings if finding.verdict is Verdict.REFUSED]
    if not found:
        return None
    said = "; ".join(map(str, found))
    return SiteRefused(f"site '{checked.site}' would refuse this job: {said}", found[0].remedy)
