"""`westward site exec`: hands on the hosts of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from westward.cli import managed, show
from westward.errors import WestwardError
from westward.process import Completed

On = Annotated[
    str | None,
    typer.Option("--on", metavar="HOSTS", help="Hosts, nodes or groups, as n[1-8],slurm_login; all if not given."),
]


def execute(
    site: managed.SiteOrInventory,
    command: Annotated[list[str], typer.Argument(metavar="-- PROGRAM [ARGUMENT]...", help="What to run there.")],
    on: On = None,
    sudo: Annotated[bool, typer.Option("--sudo", help="As root, by 'sudo -n'.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="That a host may take.")] = 60.0,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Run a program on the hosts of a cluster, many at once. A host that fails stops no other; a summary says which did.

    Exit code 1 where it failed on one, 4 where one gave no answer.
    """
    from westward.provision.hosts import Hands

    cluster = managed.managed(site, inventory)
    hosts = managed.chosen(cluster, on)
    with managed.progress(command[0], len(hosts)) as told, Hands(told) as hands:
        answers = hands.each(hosts, command, as_root=sudo, timeout_s=timeout)
    if as_json:
        show.print_json(
            {
                host: {"status": answer.status, "stdout": answer.stdout, "stderr": answer.stderr}
                if isinstance(answer, Completed)
                else {"error": str(answer)}
                for host, answer in answers.items()
            }
        )
    else:
        for host, answer in answers.items():
            _tell(host, answer)
    managed.summary(answers)


def _tell(host: str, answer: Completed | WestwardError) -> None:
    """Each line with the host that said it."""
    if isinstance(answer, WestwardError):
        lines = [(f"no answer: {answer}", "red")]
    else:
        lines = [(line, "") for line in answer.stdout.splitlines()]
        lines += [(line, "yellow") for line in answer.stderr.splitlines()]
        lines += [(f"exit status {answer.status}", "red")] if answer.status else []
    for line, style in lines:
        show.out.print(
            Text.assemble((f"{show.printable(host)}: ", "bold"), (show.printable(line), style)), soft_wrap=True
        )
