"""`westward`: puts the command groups together, and turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import westward
from westward.cli import complete
from westward.cli.show import say_error
from westward.directories import state_path
from westward.errors import WestwardError

# name -> module and function, or module and group. Loaded when called: a command that reads the ledger needs neither Hydra nor Docker.
COMMANDS = {
    "plan": ("plan", "plan"),
    "submit": ("submit", "submit"),
    "route": ("route", "route"),
    "templates": ("templates", "templates"),
    "map": ("sitemap", "show_map"),
    "jobs": ("jobs", "jobs"),
    "watch": ("board", "watch"),
    "logs": ("logs", "logs"),
    "cancel": ("jobs", "cancel"),
    "results": ("jobs", "results"),
    "retry": ("sweeps", "retry"),
    "explain": ("explain", "explain"),
    "attempts": ("jobs", "attempts"),
    "budgets": ("budgets", "budgets"),
    "provenance": ("provenance", "provenance"),
    "agent": ("agent", "app"),
    "site": ("site", "app"),
    "bench": ("bench", "app"),
    "lab": ("lab", "app"),
}
# after these nothing is said of jobs that wait for an agent: they say it themselves, or have nothing to do with jobs
_APART = ("agent", "lab", "map", "templates")
_HELP = ("-h", "--help")


class _Commands(TyperGroup):
    """The commands of COMMANDS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        imported = importlib.import_module(f"westward.cli.{module}")
        found = getattr(imported, name)
        if isinstance(found, typer.Typer):
            group = found
        else:
            group = typer.Typer(pretty_exceptions_enable=False, context_settings=_SETTINGS, add_completion=False)
            group.command(cmd_name, context_settings=getattr(imported, "SETTINGS", None))(found)
        command = typer.main.get_command(group)
        command.name = cmd_name
        return command


_SETTINGS = {"help_option_names": list(_HELP)}
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
    if complete.asked():
        _complete()
    code = _run()
    if code != INTERRUPTED and _concerns_jobs(sys.argv[1:]):
        _tell_waiting()
    sys.exit(code)


def _complete() -> None:
    """Answer a shell that completes a command line, with nothing where that cannot be done."""
    try:
        app()
    except SystemExit:
        raise
    except BaseException:  # the rim: whatever is said here ends up in the middle of what the user types
        sys.exit(0)


def _run() -> int | str | None:
    """What the process exits with."""
    try:
        app()
    except WestwardError as error:
        say_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # so every command ends that raised no error
        return end.code
    return 0


def _concerns_jobs(words: Sequence[str]) -> bool:
    """Whether a command was called whose user may wonder who acts for the jobs."""
    name = next((word for word in words if not word.startswith("-")), "")
    return name in COMMANDS and name not in _APART and not set(_HELP) & set(words)


def _tell_waiting() -> None:
    """When no agent is alive, say what waits for one; where there is a ledger, and nothing where it cannot be read."""
    try:
        if not os.environ.get("WESTWARD_LEDGER") and not state_path().is_dir():
            return
        from westward.store.ledger import Ledger, ledger_file

        if os.environ.get("WESTWARD_LEDGER") or ledger_file().is_file():
            from westward.cli.agent import tell_waiting

            tell_waiting(Ledger())
    except (
        Exception
    ):  # the rim: the command has ended and said what it had to; a ledger that is broken is the next one's to tell
        pass


if __name__ == "__main__":
    main()
