"""The limits of sites beside jobs that have been decided on: each site is asked once, all of them at the same time, whatever the number of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from westward.errors import SiteRefused, WestwardError
from westward.jobs.allowance import asked, findings, worst
from westward.jobs.side_by_side import side_by_side
from westward.model.decision import Offer
from westward.model.job import JobSpec
from westward.model.limits import Finding, Limits, Verdict
from westward.model.site import Catalogue, Site
from westward.slurm.client import SlurmClient, open_client


@dataclass(frozen=True, slots=True)
class Checked:
    """The limits of one site beside the job. `notes` says what could not be read, or why nothing could."""

    site: str
    partition: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What becomes of the job there; UNKNOWN where no limit could be read."""
        return worst(self.findings) if self.findings else Verdict.UNKNOWN

    def refusal(self) -> SiteRefused | None:
        """What submit would end with there by these limits; None where the job would be taken."""
        refused = [finding for finding in self.findings if finding.verdict is Verdict.REFUSED]
        if not refused:
            return None
        said = "; ".join(map(str, refused))
        return SiteRefused(f"site '{self.site}' would refuse this job: {said}", refused[0].remedy)


def check_all(
    jobs: Sequence[tuple[JobSpec, Offer]], catalogue: Catalogue, connect: Callable[[Site], SlurmClient] = open_client
) -> list[Checked]:
    """Each job beside the limits of the site that it goes to."""

    def ask(name: str) -> Limits | WestwardError:
        try:
            client = connect(catalogue.sites[name])
        except WestwardError as error:
            return error
        with client:
            return read_limits(client)

    names = sorted({offer.site for _, offer in jobs})
    limits = dict(zip(names, side_by_side(ask, names), strict=True))
    return [checked(spec, offer, catalogue.sites[offer.site], limits[offer.site]) for spec, offer in jobs]


def read_limits(client: SlurmClient) -> Limits | WestwardError:
    """What a site says, or why it says nothing."""
    try:
        return client.limits()
    except WestwardError as error:
        return error


def checked(spec: JobSpec, offer: Offer, site: Site, limits: Limits | WestwardError) -> Checked:
    """One job beside what a site says of its limits."""
    if isinstance(limits, WestwardError):
        return Checked(site.name, offer.partition, (), (f"its limits cannot be read: {limits}",))
    job = asked(spec, offer, site, limits)
    return Checked(site.name, job.partition, tuple(findings(job, limits)), limits.notes)
