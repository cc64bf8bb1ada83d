"""`westward jobs`, `results`, `attempts` and `cancel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from westward.cli import show
from westward.cli.arguments import JobName
from westward.errors import InputError, NotFound
from westward.federation.presence import alive
from westward.store.ledger import OPEN, Job, Ledger, Phase

if TYPE_CHECKING:  # loaded by the commands that ask a site
    from westward.jobs.lifecycle import Jobs
    from westward.model.site import Site

RECENT = 20


def jobs(
    everything: Annotated[bool, typer.Option("--all", "-a", help="All jobs there ever were.")] = False,
    as_json: show.AsJson = False,
) -> None:
    """List the newest jobs, and those that are still going on, as their sites see them now.

    While an agent runs, what it saw last is shown, and no site is asked.
    """
    ledger = Ledger()
    if alive(ledger):
        listed = _newest(ledger, everything)
    else:
        with _running(ledger, _sites()) as running:
            show.tell_undecided(running.settle())
            listed = running.refresh(_newest(ledger, everything))
    if as_json:
        show.print_json([show.job_facts(job) for job in listed])
    elif listed:
        show.out.print(show.jobs_table(listed))
        _tell_rest(ledger, len(listed))
    else:
        show.out.print("No jobs yet. Try: westward plan allreduce nodes=2")


def _newest(ledger: Ledger, everything: bool) -> list[Job]:
    """The newest jobs, and then the newest of the others that go on; or all."""
    if everything:
        return ledger.jobs()
    newest = ledger.jobs(limit=RECENT)
    keys = {job.key for job in newest}
    return newest + [job for job in ledger.jobs(phases=OPEN, limit=2 * RECENT) if job.key not in keys][:RECENT]


def _tell_rest(ledger: Ledger, listed: int) -> None:
    """How many jobs there are that the list leaves out."""
    counts = ledger.counts()
    total = sum(counts.values())
    if total > listed:
        by_state: dict[str, int] = {}
        for (phase, state), count in counts.items():
            word = (
                "in doubt"
                if phase in (Phase.INTENT, Phase.SUBMITTING)
                else "not submitted"
                if phase is Phase.REFUSED
                else state
            )
            by_state[word] = by_state.get(word, 0) + count
        words = ", ".join(f"{count:,} {word}" for word, count in sorted(by_state.items(), key=lambda item: -item[1]))
        show.out.print(f"{listed} of {total:,} jobs: {words}. All of them: westward jobs --all", soft_wrap=True)


def results(
    name: JobName,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Copy the outputs there as well.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there of the same names.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="Of a sweep: table, csv, json or parquet.", metavar="FORMAT")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Of a sweep: write its table there.", metavar="FILE")
    ] = None,
    as_json: show.AsJson = False,
) -> None:
    """Fetch and show what a job left that has ended; of one that failed, what is there. Of a sweep, one table of all its points, whatever their state."""
    from westward.cli.watch import finish

    ledger = Ledger()
    sites = _sites()
    if (sweep := ledger.sweeps.find(name)) is not None:
        from westward.cli.sweeps import show_results

        show_results(ledger, sites, sweep, "json" if as_json and form is None else form, output, output_dir, force)
        return
    if form is not None or output is not None:
        job = ledger.find(name)
        raise InputError(
            f"job {job.key} is no sweep, so there is no table of it",
            f"its sweep: westward results {job.sweep}"
            if job.sweep
            else f"copy its files: westward results {job.key} --output-dir DIR",
        )
    with _running(ledger, sites) as running:
        show.tell_undecided(running.settle())
        job = running.refresh([ledger.find(name)])[0]
    if job.phase in OPEN:
        raise InputError(
            f"job {job.key} has not ended: it is {show.state_text(job).plain}",
            f"follow it with 'westward watch {job.key}'",
        )
    finish(job, sites, as_json, output_dir, force)


def cancel(name: JobName) -> None:
    """End a job, wherever it is on its way, or all jobs of a sweep. Harmless for one that has ended."""
    ledger = Ledger()
    if (sweep := ledger.sweeps.find(name)) is not None:
        from westward.cli.sweeps import cancel_sweep

        cancel_sweep(ledger, _sites(), sweep)
        return
    job = ledger.find(name)
    if job.phase in (Phase.ENDED, Phase.REFUSED):
        show.out.print(f"job {job.key} has already ended: {show.state_text(job).plain}")
        return
    with _running(ledger, _sites()) as running:
        job = running.cancel(job)
    show.out.print(f"job {job.key}: {show.state_text(job).plain if job.phase not in OPEN else 'cancellation sent'}")


def attempts(name: JobName, as_json: show.AsJson = False) -> None:
    """Show every attempt at a job that its site's accounting has: requeued ones and the tasks of arrays each on its own, and what they used."""
    from westward.jobs.watching import CLOCKS_DIFFER
    from westward.slurm.client import open_client

    job = Ledger().find(name)
    with open_client(_site_of(job)) as client:
        found = client.history(job.created_at - CLOCKS_DIFFER, [job.submission.name])
    if as_json:
        show.print_json([asdict(attempt) for attempt in found])
    elif found:
        show.out.print(show.attempts_table(job, found))
    else:
        show.out.print(f"the accounting of '{job.site}' has no attempt at job {job.key} yet", soft_wrap=True)


def _running(ledger: Ledger, sites: Mapping[str, Site]) -> Jobs:
    """Jobs at their sites. While an agent runs, a list of jobs needs none of what asks a site."""
    from westward.jobs.lifecycle import Jobs

    return Jobs(ledger, sites)


def _sites() -> dict[str, Site]:
    """Every site that is described here."""
    from westward.catalogue.load import known_sites

    return known_sites()


def _site_of(job: Job) -> Site:
    sites = _sites()
    if job.site not in sites:
        raise NotFound(
            f"site '{job.site}' of job {job.key} is no longer described here",
            "put its description back, or bring its lab up again",
        )
    return sites[job.site]
