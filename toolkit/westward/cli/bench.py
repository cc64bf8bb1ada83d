"""`westward bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from westward.cli import show
from westward.errors import NotFound, StorageError
from westward.jobs.gathering import RECORD, results_dir
from westward.store.ledger import Job, Ledger

app = typer.Typer(help="Benchmark results.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Jobs by key; without: the latest result of each name.", metavar="[JOB]..."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the page.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page with tables and plots."""
    from westward.bench.report import (
        build,
        read_record,
        section,
    )  # Matplotlib: 0.8 s that no other command should wait for

    ledger = Ledger()
    jobs = [ledger.find(name) for name in names] if names else _latest(ledger)
    page = build([section(job, read_record(results_dir(job.key) / RECORD)) for job in jobs])
    try:
        output.write_text(page)
    except OSError as error:
        raise StorageError(
            f"cannot write '{output}': {error.strerror}", "choose another place with --output"
        ) from error
    show.out.print(f"report: {output.resolve()}", soft_wrap=True)


def _latest(ledger: Ledger) -> list[Job]:
    """The newest job of each name that left a record, oldest first."""
    newest: dict[str, Job] = {}
    for job in ledger.jobs():
        if (results_dir(job.key) / RECORD).is_file():
            newest.setdefault(job.name, job)
    if not newest:
        raise NotFound("no job here has left a benchmark record yet", "run one: westward submit gemm")
    return sorted(newest.values(), key=lambda job: job.created_at)
