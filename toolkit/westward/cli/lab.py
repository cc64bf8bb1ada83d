"""`westward lab`: Slurm clusters of one's own in containers."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from westward.cli import show
from westward.errors import NotFound
from westward.lab import access, cluster, hosts, teardown
from westward.lab import status as lab_status
from westward.lab.state import LabFolder
from westward.store.ledger import Ledger, ledger_file

app = typer.Typer(help="Slurm clusters of one's own in containers.", no_args_is_help=True)

LabOption = Annotated[str | None, typer.Option("--lab", help="Which lab, where several are up.")]
Root = Annotated[bool, typer.Option("--root", help="As root of the container, not as the user researcher.")]
Where = Annotated[str, typer.Argument(metavar="CLUSTER|NODE", help="A cluster (its controller), or a node of one.")]


@app.command()
def up(
    topology: Annotated[str, typer.Argument(help="What to bring up.")] = "east-west",
    name: Annotated[str | None, typer.Option("--name", help="The lab's name; the topology's if not given.")] = None,
    as_json: show.AsJson = False,
) -> None:
    """Bring a lab up; harmless where it is up already."""
    if topology in hosts.BARE:
        _up_hosts(topology, name, as_json)
        return
    with _progress() as progress:
        lab = cluster.up(topology, name, progress)
    if as_json:
        print(
            json.dumps(
                {**dataclasses.asdict(lab), "sites": {key: str(path) for key, path in lab.sites.items()}}, indent=1
            )
        )
        return
    console = show.out
    console.print(f"lab [bold]{lab.name}[/] is ready ({lab.outcome} in {max(lab.seconds.values()):.1f} s)")
    for cluster_name, url in lab.urls.items():
        console.print(
            f"  {cluster_name:8} {url}   westward lab shell {cluster_name}{_which(lab.name, lab.topology)}",
            highlight=False,
        )
    if lab.outdated:
        console.print(
            f"[yellow]it was made by another version: to renew it, 'westward lab down {lab.name}' and bring it up again[/]"
        )


def _up_hosts(topology: str, name: str | None, as_json: bool) -> None:
    with _progress() as progress:
        lab = hosts.up(topology, name, progress)
    if as_json:
        print(json.dumps({**dataclasses.asdict(lab), "inventory": str(lab.inventory)}, indent=1))
        return
    show.out.print(f"lab [bold]{lab.name}[/] is ready ({lab.outcome} in {max(lab.seconds.values()):.1f} s)")
    print(f"  hosts: {', '.join(hosts.HOSTS)}\n  inventory: {lab.inventory}")


@app.command()
def down(
    name: Annotated[str, typer.Argument(help="The lab to remove.")] = "east-west", as_json: show.AsJson = False
) -> None:
    """Remove a lab: its containers, network and files, and nothing else. Jobs that were going on there are LOST."""
    sites = [file.stem for file in LabFolder(name).sites.glob("*.yaml")]
    with _progress() as progress:
        removed = teardown.down(name, progress)
    if sites and ledger_file().exists():
        Ledger().abandon(sites, f"the lab '{name}' was taken down")
    if as_json:
        print(json.dumps(dataclasses.asdict(removed), indent=1))
    elif removed.anything:
        print(
            f"lab {name} is gone: {len(removed.containers)} containers, {len(removed.networks)} networks and its files removed"
        )
    else:
        print(f"there is no lab '{name}': nothing to remove")


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="One lab; all of them if not given.")] = None,
    as_json: show.AsJson = False,
) -> None:
    """Show labs, clusters and nodes, and how they are."""
    found = lab_status.status(name)
    if name is not None and not found:
        raise NotFound(f"there is no lab '{name}'", f"bring it up with 'westward lab up east-west --name {name}'")
    if as_json:
        print(json.dumps([dataclasses.asdict(node) for node in found], indent=1))
        return
    if not found:
        print("no lab is up; 'westward lab up east-west' brings one up")
        return
    table = Table("lab", "cluster", "node", "container", "slurm", "door", box=None, header_style="bold")
    for node in found:
        good = node.container == "running" and node.slurm is not None
        table.add_row(
            node.lab,
            node.cluster,
            node.node,
            node.container,
            "?" if node.slurm is None else node.slurm,
            node.url or "",
            style="" if good else "red",
        )
    show.out.print(table)


@app.command()
def shell(where: Where, lab: LabOption = None, root: Root = False) -> None:
    """Open a login shell on a cluster: sinfo, squeue, sbatch work there."""
    raise typer.Exit(access.shell(where, lab=lab, root=root))


@app.command("exec")
def execute(
    where: Where,
    command: Annotated[list[str], typer.Argument(help="What to run, after '--'.")],
    lab: LabOption = None,
    root: Root = False,
) -> None:
    """Run one command on a cluster, and end with its exit status: westward lab exec west -- sinfo"""
    raise typer.Exit(access.execute(where, command, lab=lab, root=root))


def _which(lab: str, topology: str) -> str:
    return "" if lab == topology else f" --lab {lab}"


@contextmanager
def _progress() -> Iterator[Callable[[str, str], None]]:
    """A callback that shows what each part is at: one live line a part on a terminal, plain lines elsewhere. On standard error."""
    console = Console(stderr=True)
    began = time.monotonic()
    if not console.is_terminal:

        def line(subject: str, text: str) -> None:
            print(f"[{time.monotonic() - began:5.1f} s] {subject}: {text}", file=sys.stderr, flush=True)

        yield line
        return
    rows: dict[str, Spinner] = {}
    lock = threading.Lock()

    def table() -> Table:
        grid = Table.grid(padding=(0, 1))
        for spinner in list(rows.values()):
            grid.add_row(spinner)
        return grid

    with Live(console=console, refresh_per_second=10, transient=True, get_renderable=table):

        def row(subject: str, text: str) -> None:
            with lock:
                rows.setdefault(subject, Spinner("dots")).update(text=f"{subject}: {text}")

        yield row
