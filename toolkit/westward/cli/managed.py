"""What the commands for a cluster that the playbooks manage share: which one is meant, and what is told of its hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from westward.catalogue.load import known_sites
from westward.cli import show
from westward.errors import InputError, Unreachable, WestwardError
from westward.process import Completed

if TYPE_CHECKING:
    from westward.provision.hosts import Host, Managed, Told
    from westward.slurm.commands import Answer

PANEL = "A cluster that you manage"
_NEEDED = ("ansible", "ClusterShell")

SiteOrInventory = Annotated[
    str, typer.Argument(metavar="SITE", help="A site whose description names its inventory, or an inventory's path.")
]
MoreInventories = Annotated[
    list[Path] | None,
    typer.Option("--inventory", "-i", metavar="PATH", help="One more inventory, as for ansible-playbook; repeatable."),
]


def managed(site: str, more: list[Path] | None) -> Managed:
    """The cluster that was named.

    Raises:
        InputError: there is none of that name with an inventory, or the inventory cannot be meant.
    """
    need_ansible()
    from westward.provision.hosts import read_inventory

    paths = [Path(site)]
    if not paths[0].exists() or ("/" not in site and site in (described := known_sites())):
        described = known_sites()
        if site not in described:
            raise InputError(
                f"'{site}' is neither a site nor an inventory", f"known sites: {', '.join(described) or 'none'}"
            )
        if not described[site].inventory:
            raise InputError(
                f"the description of site '{site}' names no inventory",
                "add 'inventory: [PATH]' to it (westward site list shows its file), or give the inventory's path",
            )
        paths = list(described[site].inventory)
    return read_inventory([*paths, *(more or ())])


def need_ansible() -> None:
    """
    Raises:
        InputError: what provisioning needs is not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} not installed, which provisioning needs", "pip install 'westward[provision]'"
        )


def chosen(site: Managed, names: str | None) -> list[Host]:
    """The hosts that a user names: hosts of the inventory, nodes, and groups, in Slurm's notation; all where he names none.

    Raises:
        InputError: one of them is not known.
    """
    if names is None:
        return list(site.hosts.values())
    from westward.slurm.hostlist import expand

    found: dict[str, Host] = {}
    for name in expand(names):
        named = [host for host in site.hosts.values() if name in (host.name, host.node) or name in host.groups]
        if not named:
            raise InputError(f"'{name}' is no host, node or group of {site.cluster}", f"hosts: {', '.join(site.hosts)}")
        found |= {host.name: host for host in named}
    return list(found.values())


@contextmanager
def progress(what: str, total: int) -> Iterator[Told]:
    """A bar, on a terminal, that a call for each host moves on."""
    if not show.err.is_terminal:
        yield lambda host, answer: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=show.err, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda host, answer: bar.advance(task)


def summary(answers: Mapping[str, Answer]) -> None:
    """The hosts on which it did not go well, and the exit code that follows.

    Raises:
        Unreachable: some did not answer; or WestwardError: on some it failed.
    """
    silent = [host for host, answer in answers.items() if isinstance(answer, WestwardError)]
    failed = [host for host, answer in answers.items() if isinstance(answer, Completed) and answer.status]
    if not silent and not failed:
        return
    parts = [f"{len(silent)} gave no answer: {', '.join(silent)}"] if silent else []
    parts += [f"it failed on {len(failed)}: {', '.join(failed)}"] if failed else []
    error = Unreachable if silent else WestwardError
    raise error(f"of {len(answers)} hosts {'; '.join(parts)}")
