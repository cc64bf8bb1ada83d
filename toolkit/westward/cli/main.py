"""`westward`: puts the command groups together, and turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import westward
from westward.cli import bench, jobs, lab, submit
from westward.cli.show import say_error
from westward.errors import WestwardError

app = typer.Typer(
    name="westward",
    help="HPC batch clusters on Slurm: say what to compute; where it runs is decided by cost, energy, carbon and the state of the sites.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan")(submit.plan)
app.command("submit")(submit.submit)
app.command("templates")(submit.templates)
app.command("jobs")(jobs.jobs)
app.command("watch")(jobs.watch)
app.command("logs")(jobs.logs)
app.command("cancel")(jobs.cancel)
app.command("results")(jobs.results)
app.add_typer(bench.app, name="bench")
app.add_typer(lab.app, name="lab")

INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        print(f"westward {westward.__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 the job failed, 2 bad input, 3 no site fits, 4 unreachable, 5 refused as unsafe."""
    try:
        app()
    except WestwardError as error:
        say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
