"""`westward retry`, and `results` of a sweep."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from westward.cli import complete, show
from westward.cli.arguments import SiteOption
from westward.errors import InputError, JobFailed, NotFound, SweepFailed, Unreachable, WestwardError
from westward.federation.sweepresults import Results, sweep_results
from westward.jobs.lifecycle import Jobs
from westward.jobs.provenance import FILE, told_of_sweep
from westward.jobs.tablefile import TableFormat, as_csv, as_json, as_parquet, check_target, write_file
from westward.model.site import Site
from westward.model.sweep import Sweep, SweepPoint
from westward.store.ledger import OPEN, Job, Ledger

SweepName = Annotated[
    str,
    typer.Argument(help="A sweep's key, or the beginning of it.", metavar="SWEEP", autocompletion=complete.sweeps),
]


def retry(name: SweepName, site: SiteOption = None, as_json: show.AsJson = False) -> None:
    """Submit the points of a sweep again that are missing: failed, cancelled, lost, never submitted, or ended without what they promised.

    What runs, waits or has completed is left alone, so it does no harm to say it twice.
    """
    from westward.catalogue.load import load_catalogue
    from westward.cli.sweepshow import refuse, submitted_facts, tell_sweep
    from westward.federation.sweeping import plan_sweep, points_again, retry_sweep

    catalogue, ledger = load_catalogue(), Ledger()
    sweep = _sweep(ledger, name)
    with Jobs(ledger, catalogue.sites) as running:
        show.tell_undecided(running.settle())
        points, jobs = _now(running, ledger, sweep)
        with show.err.status("looking for what has left no result"):
            results = sweep_results(points, jobs, catalogue.sites)
        wanted = [point for point in points if point.number in results.missing]
        if results.away is not None:
            show.tell_note(f"what some points left cannot be looked at now, and they are left alone: {results.away}")
        if not wanted:
            if as_json:
                show.print_json({"sweep": sweep.key, "jobs": [], "notes": [], "points": []})
            else:
                _tell_nothing(sweep, points, jobs)
            return
        plan = plan_sweep(points_again(sweep, wanted), catalogue, site or sweep.site)
        problems = [(point.label, plan.problems.get(place)) for place, point in enumerate(plan.points)]
        refuse(problems, "cannot be submitted, so none was")
        for note in plan.notes:
            show.tell_note(note)
        try:
            with show.err.status(f"submitting {len(wanted):,} points"):
                done = retry_sweep(running, ledger, sweep, wanted, plan)
        except KeyboardInterrupt:
            show.tell_interrupted()
            raise
    if as_json:
        facts = submitted_facts(plan, done)
        facts["points"] = [{"point": point.number, **told} for point, told in zip(wanted, facts["points"], strict=True)]
        show.print_json(facts)
    else:
        tell_sweep(plan, done, again=True)
    found = {place: answer for job, answer in zip(plan.jobs, done.answers, strict=True) for place in job.points}
    outcomes = [(point.label, found[place]) for place, point in enumerate(plan.points)]
    refuse(outcomes, "failed", f"when that is mended: westward retry {sweep.key}")


def show_results(
    ledger: Ledger,
    sites: Mapping[str, Site],
    sweep: Sweep,
    form: str | None,
    output: Path | None,
    output_dir: Path | None,
    force: bool,
) -> None:
    """One table of all points, on the terminal or in a file.

    Raises:
        InputError: it cannot be written so.
        JobFailed: points are missing.
        Unreachable: a site does not give the outputs of some now.
    """
    if output_dir is not None:
        raise InputError(f"{sweep.key} is a sweep: its table is one file", "name it with --output FILE")
    wanted = _format(form, output)
    if output is not None:  # before anything is fetched
        for file in (output, _beside(output)):
            check_target(file, force)
    with Jobs(ledger, sites) as running:
        show.tell_undecided(running.settle())
        points, jobs = _now(running, ledger, sweep)
    with show.err.status("fetching what is not here yet"):
        results = sweep_results(points, jobs, sites)
    _put(sweep, results, wanted, output, force)
    if output is not None:
        facts = told_of_sweep(ledger, sweep)
        write_file(json.dumps(facts, indent=2, default=str) + "\n", _beside(output), force)
        show.err.print(f"where they come from: {show.printable(str(_beside(output)))}", soft_wrap=True)
    _judge(sweep, results)


def _beside(table: Path) -> Path:
    """Where the provenance of a table lies that is written to a file."""
    return table.with_name(f"{table.name}.{FILE}")


def cancel_sweep(ledger: Ledger, sites: Mapping[str, Site], sweep: Sweep) -> None:
    """End all jobs of a sweep that go on.

    Raises:
        SweepFailed: some could not be cancelled now; they are when that is over.
    """
    jobs = [job for job in ledger.get_many(ledger.sweeps.jobs(sweep.key)) if job.phase in OPEN]
    failed: list[tuple[Job, WestwardError]] = []
    with Jobs(ledger, sites) as running:
        for job in jobs:
            try:
                running.cancel(job)
            except WestwardError as error:
                failed.append((job, error))
    if failed:
        told = show.named(f"{job.key}: {show.one_line(error)}" for job, error in failed)
        raise SweepFailed(
            f"{len(failed):,} of {len(jobs):,} jobs of sweep {sweep.key} could not be cancelled now:{told}",
            failed[0][1],
        )
    ended = (
        "all its jobs had ended"
        if not jobs
        else f"cancellation sent to {len(jobs):,} job{'s' if len(jobs) != 1 else ''}"
    )
    show.out.print(f"sweep {sweep.key}: {ended}", soft_wrap=True)


def _format(form: str | None, output: Path | None) -> TableFormat:
    """The format that is asked for; else what the file's name says."""
    suffix = output.suffix[1:].lower() if output is not None else ""
    said = form or (suffix if suffix in list(TableFormat) else TableFormat.TABLE if output is None else TableFormat.CSV)
    if said not in list(TableFormat):
        raise InputError(f"--format {said}: one of {', '.join(TableFormat)} was expected")
    if output is None and said == TableFormat.PARQUET:
        raise InputError("a Parquet file is not for a terminal", "name a file: --output FILE.parquet")
    if output is not None and said == TableFormat.TABLE:
        raise InputError("--format table is for a terminal", "for a file: --format csv, json or parquet")
    return TableFormat(said)


def _put(sweep: Sweep, results: Results, form: TableFormat, output: Path | None, force: bool) -> None:
    table = results.table
    content: str | bytes
    match form:
        case TableFormat.TABLE:
            show.out.print(show.record_table(f"{show.printable(sweep.name)}, sweep {sweep.key}", _record(results)))
            if len(table.rows) > show.SHOWN:
                left = len(table.rows) - show.SHOWN
                show.out.print(
                    f"{left:,} more rows are not shown; all of them: --format csv, json or parquet", soft_wrap=True
                )
            return
        case TableFormat.CSV:
            content = as_csv(table)
        case TableFormat.JSON:
            content = (
                as_json(table, sweep=sweep.key, name=sweep.name, template=sweep.template, overrides=sweep.overrides)
                + "\n"
            )
        case TableFormat.PARQUET:
            content = as_parquet(table)
    if output is not None:
        write_file(content, output, force)
        show.err.print(f"{len(table.rows):,} rows: {show.printable(str(output))}", soft_wrap=True)
    else:
        assert isinstance(content, str)
        sys.stdout.write(content)


def _record(results: Results) -> dict[str, object]:
    """The table as a record shows one; without the columns that are empty, and those a person does not look for."""
    table = results.table
    full = [column for column in table.columns if any(row[column.name] not in (None, "") for row in table.rows)]
    columns = [{"name": column.name, "unit": column.unit} for column in full if column.name not in ("job", "task")]
    return {"columns": columns, "rows": table.rows[: show.SHOWN]}


def _judge(sweep: Sweep, results: Results) -> None:
    """Say how far the sweep is, and raise what is wrong."""
    total = sum(results.counts.values())
    words = ", ".join(f"{count:,} {state}" for state, count in results.counts.most_common())
    show.err.print(f"{total:,} points: {words}", soft_wrap=True)
    if results.bad:
        told = show.named(f"{one.label}: {' '.join(one.why.split())}" for one in results.bad)
        log = next((one for one in results.bad if one.job is not None), None)
        of_task = f" --task {log.task}" if log is not None and log.task is not None else ""
        steps = [f"what it wrote: westward logs {log.job}{of_task}"] if log is not None else []
        steps += [f"submit again what is missing: westward retry {sweep.key}"] if results.missing else []
        raise JobFailed(
            f"sweep {sweep.key}: {len(results.bad):,} of {total:,} points did not succeed:{told}",
            "; ".join(steps),
        )
    if results.away is not None:
        raise Unreachable(
            f"sweep {sweep.key}: some of its outputs could not be fetched: {results.away}",
            results.away.next_step or f"'westward results {sweep.key}' again later",
        )


def _now(running: Jobs, ledger: Ledger, sweep: Sweep) -> tuple[list[SweepPoint], dict[str, Job]]:
    """The points, and their jobs as they are now."""
    points = ledger.sweeps.points(sweep.key)
    keys = list(dict.fromkeys(point.job for point in points))
    return points, {job.key: job for job in running.refresh(ledger.get_many(keys))}


def _tell_nothing(sweep: Sweep, points: Sequence[SweepPoint], jobs: Mapping[str, Job]) -> None:
    from westward.jobs.sweepstate import whereabouts

    counts = Counter(str(whereabouts(point, jobs[point.job])[0]) for point in points)
    words = ", ".join(f"{count:,} {state}" for state, count in counts.most_common())
    show.out.print(f"nothing of sweep {sweep.key} is missing: {words}", soft_wrap=True)


def _sweep(ledger: Ledger, name: str) -> Sweep:
    """
    Raises:
        NotFound: there is no such sweep.
        InputError: it is the name of a job.
    """
    found = ledger.sweeps.find(name)
    if found is not None:
        return found
    try:
        job = ledger.find(name)
    except NotFound:
        raise NotFound(
            f"no sweep here has a key that begins with {name!r}", "'westward jobs' shows them by their jobs"
        ) from None
    if job.sweep:
        raise InputError(f"{job.key} is a job of sweep {job.sweep}", f"retry the sweep: westward retry {job.sweep}")
    raise InputError(f"job {job.key} belongs to no sweep", "submit it again with 'westward submit' as you did before")
