"""The arguments and options that several commands take, and how a shell completes them."""

from __future__ import annotations

from typing import Annotated

import typer

from westward.cli import complete

KeyOfJob = typer.Argument(
    help="A job's key, the beginning of it, or its name at the cluster.", metavar="JOB", autocompletion=complete.jobs
)
JobName = Annotated[str, KeyOfJob]
JobNames = Annotated[
    list[str] | None, typer.Argument(help=KeyOfJob.help, metavar="[JOB]...", autocompletion=complete.jobs_and_sweeps)
]
TemplateName = Annotated[
    str,
    typer.Argument(help="A job template; 'westward templates' lists them.", autocompletion=complete.templates),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value, in Hydra's grammar.", metavar="[KEY=VALUE]...", autocompletion=complete.overrides),
]
Multirun = Annotated[
    bool,
    typer.Option(
        "--multirun",
        "-m",
        help="A key may take several values (a,b,c or range(1,9)): each combination is a point of a sweep.",
    ),
]
SiteOption = Annotated[
    str | None,
    typer.Option("--site", help="Run here, whatever the policy prefers.", autocompletion=complete.sites),
]
Wait = Annotated[bool, typer.Option("--wait", help="Watch it to its end, and fetch its results.")]
