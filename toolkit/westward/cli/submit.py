"""`westward submit`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.multirun import submit_points
from westward.cli.watch import finish, watch_to_end
from westward.federation.deciding import decide
from westward.federation.router import chosen_offer
from westward.jobs.lifecycle import Jobs
from westward.model.decision import Decision
from westward.store.ledger import Job, Ledger

TemplateName = Annotated[str, typer.Argument(help="A job template; 'westward templates' lists them.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, in Hydra's grammar.", metavar="[KEY=VALUE]...")]
Multirun = Annotated[
    bool,
    typer.Option(
        "--multirun", "-m", help="A key may take several values (a,b,c or range(1,9)): a job for each combination."
    ),
]
SiteOption = Annotated[str | None, typer.Option("--site", help="Run here, whatever the policy prefers.")]


def submit(
    template: TemplateName,
    overrides: Overrides = None,
    site: SiteOption = None,
    multirun: Multirun = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return as soon as the job may start; 'westward jobs' sees it.")
    ] = False,
    as_json: show.AsJson = False,
) -> None:
    """Submit a job at the site that the policy chooses, watch it, and fetch its results.

    Ctrl-C ends the watching, never the job. Several jobs (-m) are not watched: it returns as soon as they may start.
    """
    if multirun:
        submit_points(template, overrides or [], site, as_json)
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
        if not detach:
            job = watch_to_end(running, ledger, job, live=not as_json)
    if not detach:
        finish(job, catalogue.sites, as_json)
        return
    if as_json:
        show.print_json(show.job_facts(job))


def _tell_submitted(job: Job, decision: Decision) -> None:
    name = escape(show.printable(job.name))
    place = f"{job.site}/{job.submission.partition}"
    show.out.print(
        f"[bold]{name}[/] is job [bold]{job.key}[/] at [bold]{place}[/], Slurm id {job.job_id} ({escape(show.reason(decision))})"
    )
    if decision.chosen and decision.chosen.granted:
        show.out.print(escape(show.printable(str(decision.chosen.granted))), soft_wrap=True)
