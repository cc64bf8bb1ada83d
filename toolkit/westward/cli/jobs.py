"""`westward jobs`, `watch`, `logs`, `results` and `cancel`."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import typer

from westward.catalogue.load import known_sites
from westward.cli import show
from westward.cli.watch import finish, watch_to_end
from westward.errors import InputError, NotFound
from westward.jobs.collect import open_log
from westward.jobs.lifecycle import Jobs
from westward.model.site import Site
from westward.store.ledger import OPEN, Job, Ledger, Phase

JobName = Annotated[
    str, typer.Argument(help="A job's key, the beginning of it, or its name at the cluster.", metavar="JOB")
]


def jobs(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also jobs that ended before the last 20.")] = False,
    as_json: show.AsJson = False,
) -> None:
    """List the jobs, newest first, as their sites see them now."""
    ledger = Ledger()
    with Jobs(ledger, known_sites()) as running:
        show.tell_undecided(running.settle())
        running.refresh(ledger.jobs(phases=OPEN))
    recent = ledger.jobs(limit=None if everything else 20)
    older = [job for job in ledger.jobs(phases=OPEN) if job.key not in {job.key for job in recent}]
    listed = recent + older
    if as_json:
        show.print_json([show.job_facts(job) for job in listed])
    elif listed:
        show.out.print(show.jobs_table(listed))
    else:
        show.out.print("No jobs yet. Try: westward plan allreduce nodes=2")


def watch(name: JobName, as_json: show.AsJson = False) -> None:
    """Follow a job to its end, then show its results."""
    ledger = Ledger()
    sites = known_sites()
    with Jobs(ledger, sites) as running:
        show.tell_undecided(running.settle())
        job = watch_to_end(running, ledger.find(name), live=not as_json)
    finish(job, sites, as_json)


def results(name: JobName, as_json: show.AsJson = False) -> None:
    """Show the results of a job that has ended."""
    ledger = Ledger()
    sites = known_sites()
    with Jobs(ledger, sites) as running:
        show.tell_undecided(running.settle())
        job = running.refresh([ledger.find(name)])[0]
    if job.phase in OPEN:
        raise InputError(
            f"job {job.key} has not ended: it is {show.state_text(job).plain}",
            f"follow it with 'westward watch {job.key}'",
        )
    finish(job, sites, as_json)


def logs(name: JobName) -> None:
    """Print what a job has written so far: stdout and stderr of its batch script."""
    job = Ledger().find(name)
    try:
        with open_log(job, _site_of(job)) as log:
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.flush()
    except FileNotFoundError:
        show.err.print(f"job {job.key} has written nothing yet (state when last seen: {show.state_text(job).plain})")


def cancel(name: JobName) -> None:
    """End a job, wherever it is on its way. Harmless for one that has ended."""
    ledger = Ledger()
    job = ledger.find(name)
    if job.phase in (Phase.ENDED, Phase.REFUSED):
        show.out.print(f"job {job.key} has already ended: {show.state_text(job).plain}")
        return
    with Jobs(ledger, known_sites()) as running:
        job = running.cancel(job)
    show.out.print(f"job {job.key}: {show.state_text(job).plain if job.phase not in OPEN else 'cancellation sent'}")


def _site_of(job: Job) -> Site:
    sites = known_sites()
    if job.site not in sites:
        raise NotFound(
            f"site '{job.site}' of job {job.key} is no longer described here",
            "put its description back, or bring its lab up again",
        )
    return sites[job.site]
