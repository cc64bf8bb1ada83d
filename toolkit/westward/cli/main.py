"""`westward`: puts the command groups together, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import westward
from westward.cli.show import say_error
from westward.errors import WestwardError

# name -> module and function, or module and group. Loaded when called: a command that reads the ledger needs neither Hydra nor Docker.
COMMANDS = {
    "plan": ("submit", "plan"),
    "submit": ("submit", "submit"),
    "templates": ("submit", "templates"),
    "jobs": ("jobs", "jobs"),
    "watch": ("jobs", "watch"),
    "logs": ("jobs", "logs"),
    "cancel": ("jobs", "cancel"),
    "results": ("jobs", "results"),
    "agent": ("agent", "app"),
    "site": ("site", "app"),
    "bench": ("bench", "app"),
    "lab": ("lab", "app"),
}


class _Commands(TyperGroup):
    """The commands of COMMANDS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found = getattr(importlib.import_module(f"westward.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            group = found
        else:
            group = typer.Typer(pretty_exceptions_enable=False, context_settings=_SETTINGS, add_completion=False)
            group.command(cmd_name)(found)
        command = typer.main.get_command(group)
        command.name = cmd_name
        return command


_SETTINGS = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="westward",
    cls=_Commands,
    help="HPC batch clusters on Slurm: say what to compute; where it runs is decided by cost, energy, carbon and the state of the sites.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)

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
