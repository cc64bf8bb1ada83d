"""`westward submit`."""

from __future__ import annotations

from rich.markup import escape

from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.arguments import Multirun, Overrides, SiteOption, TemplateName, Wait
from westward.cli.multirun import submit_points
from westward.cli.watch import finish, watch_to_end
from westward.federation.deciding import decide
from westward.federation.router import chosen_offer
from westward.jobs.lifecycle import Jobs
from westward.model.decision import Decision
from westward.store.ledger import Job, Ledger


def submit(
    template: TemplateName,
    overrides: Overrides = None,
    site: SiteOption = None,
    multirun: Multirun = False,
    wait: Wait = False,
    as_json: show.AsJson = False,
) -> None:
    """Submit a job at the site that the policy chooses, and return as soon as it may start.

    With --wait it is watched, and its results are fetched; the exit code is then 1 if it failed. Ctrl-C ends the watching, never the job.
    """
    if multirun:
        submit_points(template, overrides or [], site, as_json, wait)
        return
    catalogue = load_catalogue()
    composed, decision = decide(template, overrides or [], site, catalogue)
    chosen_offer(decision, site)
    show.tell_notes(decision)
    ledger = Ledger()
    with Jobs(ledger, catalogue.sites) as running:
        show.tell_undecided(running.settle())
        try:
            job = running.submit(composed.spec, decision)
        except KeyboardInterrupt:
            show.tell_interrupted()
            raise
        if not as_json:
            _tell_submitted(job, decision)
        if wait:
            job = watch_to_end(running, ledger, job, live=not as_json)
    if wait:
        finish(job, catalogue.sites, as_json)
    elif as_json:
        show.print_json(show.job_facts(job))
    else:
        show.tell_how_to_follow(job)


def _tell_submitted(job: Job, decision: Decision) -> None:
    name = escape(show.printable(job.name))
    place = f"{job.site}/{job.submission.partition}"
    show.out.print(
        f"[bold]{name}[/] is job [bold]{job.key}[/] at [bold]{place}[/], Slurm id {job.job_id} ({escape(show.reason(decision))})"
    )
    if decision.chosen and decision.chosen.granted:
        show.out.print(escape(show.printable(str(decision.chosen.granted))), soft_wrap=True)
