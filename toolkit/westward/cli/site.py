"""`westward site`: the clusters that jobs can go to."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from westward.catalogue import survey
from westward.catalogue.address import DoorOptions, door_at
from westward.catalogue.load import default_region, known_sites, load_site, site_files
from westward.catalogue.sitefile import site_text, unknown_figures
from westward.catalogue.survey import Answer, Refusal, Wishes
from westward.cli import show
from westward.directories import config_dir, private_dir, write_private
from westward.errors import InputError, NotFound, Unreachable, Unsafe
from westward.model.site import ClusterState, Observed, Site
from westward.model.units import format_duration, format_walltime

app = typer.Typer(help="The clusters that jobs can go to.", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SEEN_S = 2.0  # clocks are compared to about a second
Name = Annotated[str, typer.Argument(help="What you call the cluster.")]
Url = Annotated[
    str,
    typer.Argument(help="ssh://[USER@]HOST[:PORT], https://HOST:PORT (slurmrestd), unix:///PATH, or local: this host."),
]


@app.command()
def add(
    name: Name,
    url: Url,
    door: Annotated[
        list[str] | None, typer.Option("--door", metavar="URL", help="One more way in; repeatable.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Your user name there.")] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="Holds the slurmrestd token, mode 600.")
    ] = None,
    token_command: Annotated[
        str | None, typer.Option("--token-command", metavar="'PROGRAM ...'", help="Prints a slurmrestd token.")
    ] = None,
    identity_file: Annotated[Path | None, typer.Option("--identity-file", help="Your private ssh key.")] = None,
    known_hosts: Annotated[
        Path | None, typer.Option("--known-hosts", help="Host keys to trust beside your own.")
    ] = None,
    commands: Annotated[
        str | None, typer.Option("--commands", metavar="DIR", help="Where sbatch is there, if PATH does not find it.")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="DIR", help="Where jobs write there; your home if not given.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Charge this account; your default if not given.")
    ] = None,
    qos: Annotated[str | None, typer.Option("--qos", help="Use this QOS.")] = None,
    mpi: Annotated[str | None, typer.Option("--mpi", help="What 'srun --mpi=' is called there.")] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="Where you sit: the measured round trip is from there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the description of that name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the description, and write nothing.")] = False,
) -> None:
    """Ask a cluster what it is, and write that down, so that jobs can go there. Nothing is installed there."""
    target = _target(name, overwrite=force or dry_run)
    options = DoorOptions(
        user,
        _file(token_file, "--token-file"),
        tuple(shlex.split(token_command)) if token_command else (),
        _file(identity_file, "--identity-file"),
        _file(known_hosts, "--known-hosts"),
        commands,
    )
    doors = [door_at(each, options) for each in (url, *(door or ()))]
    with _waiting(f"asking {name}"):
        said = survey.ask(survey.provisional(name, doors, root))
    answers = _answers(name, said)
    site = survey.describe(name, answers, Wishes(region or default_region(), root, account, qos, mpi))
    text = _header(site) + site_text(site)
    if dry_run:
        print(text, end="")
    else:
        private_dir(target.parent)
        write_private(target, text)
        _tell_added(site, answers, target)
    _tell_refusals(said, f"left out of '{name}'")
    for concern in survey.concerns(site, answers):
        show.err.print(Text.assemble(("warning: ", "yellow"), show.printable(concern)), soft_wrap=True)


@app.command("list")
def list_sites(as_json: show.AsJson = False) -> None:
    """List the sites that are described here. Asks none of them."""
    found = [(load_site(file), file) for file in site_files()]
    if as_json:
        show.print_json([{**_facts(site), "file": str(file)} for site, file in found])
        return
    listed = show.table("", "site", "cluster", "doors", "root", "account", "unknown", "description")
    for site, file in found:
        unknown = len(unknown_figures(site))
        cells = [site.name, site.cluster, "\n".join(map(str, site.doors)), site.root, site.account or "-"]
        listed.add_row(*map(_cell, cells), f"{unknown} figures" if unknown else "-", _cell(_short(file)))
    if found:
        show.out.print(listed)
    else:
        show.out.print("No sites yet. Try: westward site add NAME ssh://USER@LOGIN-NODE")


@app.command("show")
def show_site(name: Name, as_json: show.AsJson = False) -> None:
    """Show what is known of a site, and what it says of itself now."""
    site = _known(name)
    with _waiting(f"asking {name}"):
        said = survey.ask(site)
    answers = [answer for answer in said if isinstance(answer, Answer)]
    if as_json:
        show.print_json({**_facts(site), "doors": [_door_facts(each) for each in said], **_live_facts(answers)})
    else:
        _show_description(site)
        show.out.print(_doors_table("ways in", [(site, said)]))
        if answers:
            state, seen = answers[0].state, survey.observe(answers)
            show.out.print(_partitions_table(state, seen))
            show.out.print(_accounts_table(answers[0]))
    if not answers:
        raise _no_door(site.name, said)


@app.command()
def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which sites; all if not given.", metavar="[NAME]...")
    ] = None,
    as_json: show.AsJson = False,
) -> None:
    """Try each way into each site, and compare what it says with its description. Exit code 4 where a site has no way in."""
    sites = [_known(name) for name in names] if names else list(known_sites().values())
    if not sites:
        raise NotFound("no site is described here", "add one with 'westward site add NAME ssh://USER@LOGIN-NODE'")
    checked: list[tuple[Site, list[Answer | Refusal]]] = []
    for site in sites:
        with _waiting(f"asking {site.name}"):
            checked.append((site, survey.ask(site)))
    closed = [(site.name, said) for site, said in checked if not any(isinstance(each, Answer) for each in said)]
    concerns = {site.name: survey.concerns(site, [a for a in said if isinstance(a, Answer)]) for site, said in checked}
    if as_json:
        show.print_json(
            [
                {"name": site.name, "doors": list(map(_door_facts, said)), "warnings": concerns[site.name]}
                for site, said in checked
            ]
        )
    else:
        show.out.print(_doors_table("", checked))
        for site, said in checked:
            if len(closed) != 1 or closed[0][0] != site.name:  # that one's are told by the error
                _tell_refusals(said, site.name)
            for concern in concerns[site.name]:
                show.out.print(Text.assemble((f"{site.name}: ", "yellow"), show.printable(concern)), soft_wrap=True)
    if closed:
        raise (
            _no_door(*closed[0])
            if len(closed) == 1
            else Unreachable(f"no way into {', '.join(name for name, _ in closed)}")
        )


def _target(name: str, overwrite: bool) -> Path:
    """The file of a new site.

    Raises:
        InputError: that is no name, or another description has it.
        Unsafe: it is there, and is not to be overwritten.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"'{name}' cannot be the name of a site", "use letters, digits, '.', '_' and '-'")
    target = config_dir() / "sites" / f"{name}.yaml"
    for file in site_files():
        if file != target and load_site(file).name == name:
            raise InputError(f"there is a site '{name}' already, described in {file}", "choose another name")
    if target.exists() and not overwrite:
        raise Unsafe(
            f"there is a site '{name}' already, described in {target}; what you wrote into it would be lost",
            "add --force to overwrite it, or look first at what it would become: --dry-run",
        )
    return target


def _file(path: Path | None, option: str) -> Path | None:
    """The absolute path of a file that is there."""
    if path is None:
        return None
    absolute = path.expanduser().absolute()
    if not absolute.is_file():
        raise InputError(f"{option}: there is no file '{absolute}'")
    return absolute


def _known(name: str) -> Site:
    sites = known_sites()
    if name not in sites:
        raise NotFound(
            f"there is no site '{name}'",
            f"known: {', '.join(sites)}" if sites else f"add it with 'westward site add {name} ssh://USER@LOGIN-NODE'",
        )
    return sites[name]


def _answers(name: str, said: Sequence[Answer | Refusal]) -> list[Answer]:
    """Those doors that answered.

    Raises:
        WestwardError: none did; the error of the one that there is, or all of them.
    """
    answers = [each for each in said if isinstance(each, Answer)]
    if not answers and len(said) == 1 and isinstance(said[0], Refusal):
        raise said[0].error
    if not answers:
        raise _no_door(name, said)
    return answers


def _no_door(name: str, said: Sequence[Answer | Refusal]) -> Unreachable:
    refusals = [each for each in said if isinstance(each, Refusal)]
    why = "".join(f"\n  {each.door}: {each.error}" for each in refusals)
    steps = dict.fromkeys(each.error.next_step for each in refusals if each.error.next_step)
    return Unreachable(f"no way into site '{name}':{why}", "; ".join(steps))


def _header(site: Site) -> str:
    seen = site.observed
    when = f", {seen.at:%Y-%m-%d %H:%M} UTC" if seen else ""
    return f"# Written by westward site add{when}. It is yours to change; 'westward site check {site.name}' reads it.\n"


def _tell_added(site: Site, answers: Sequence[Answer], target: Path) -> None:
    seen = site.observed
    doors = ", ".join(f"{answer.door} ({_milliseconds(answer)} away)" for answer in answers)
    show.out.print(
        f"[bold]{escape(site.name)}[/]: cluster {_cell(site.cluster)}, Slurm {_cell(answers[0].state.version)}, by {_cell(doors)}",
        soft_wrap=True,
    )
    show.out.print(_partitions_table(answers[0].state, survey.observe(answers)))
    accounts = ", ".join(dict.fromkeys(each.account for each in seen.accounts)) if seen else ""
    facts = {
        "you are": answers[0].account.user,
        "jobs write to": site.root,
        "account": f"{site.account or 'none named'}{f' (of {accounts})' if accounts else ''}",
        "MPI": site.mpi or _no_mpi(answers),
        "clock": _skew(answers),
        "unknown": ", ".join(unknown_figures(site)) or "nothing",
        "written to": str(target),
    }
    for label, fact in facts.items():
        show.out.print(f"  {label:14} {_cell(fact)}", soft_wrap=True)
    show.out.print(f"next:  westward plan gemm --site {escape(site.name)}")


def _skew(answers: Sequence[Answer]) -> str:
    skews = [answer.clock_skew_s for answer in answers if answer.clock_skew_s is not None]
    if not skews:
        return "cannot be seen by these doors"
    if abs(skews[0]) < SEEN_S:
        return "agrees"
    return f"{format_duration(abs(skews[0]))} {'ahead of' if skews[0] > 0 else 'behind'} this host's"


def _no_mpi(answers: Sequence[Answer]) -> str:
    known = next((answer.account.mpi for answer in answers if answer.account.mpi), ())
    has = f"it has no PMIx, only {', '.join(known)}" if known else "these doors cannot tell"
    return f"unknown: {has}; MPI jobs need 'mpi:' in the description, as its MPI library was built"


def _milliseconds(answer: Answer) -> str:
    return f"{answer.rtt_s * 1000:.1f} ms" if answer.rtt_s is not None else "?"


def _tell_refusals(said: Sequence[Answer | Refusal], where: str) -> None:
    for each in said:
        if isinstance(each, Refusal):
            show.err.print(
                Text.assemble((f"{where}: ", "yellow"), f"{each.door}: {show.printable(str(each.error))}"),
                soft_wrap=True,
            )
            if each.error.next_step:
                show.err.print(f"  next:  {escape(show.printable(each.error.next_step))}", soft_wrap=True)


def _show_description(site: Site) -> None:
    unknown = unknown_figures(site)
    facts = {
        "cluster": site.cluster,
        "region, place": f"{site.region}, {site.place}",
        "jobs write to": site.root,
        "account, QOS": f"{site.account or 'your default'}, {site.qos or 'your default'}",
        "MPI": site.mpi or "unknown",
        "round trip": ", ".join(f"{link.rtt_ms.value:g} ms from {region}" for region, link in site.links.items())
        or "unknown",
        "unknown": ", ".join(unknown) or "nothing: price, power and carbon are all described",
    }
    show.out.print(Text(site.name, style="bold"))
    for label, fact in facts.items():
        show.out.print(f"  {label:14} {_cell(fact)}", soft_wrap=True)
    show.out.print()


def _doors_table(title: str, checked: Sequence[tuple[Site, Sequence[Answer | Refusal]]]) -> Table:
    made = show.table(
        title, "site", "door", "answers", "round trip", "Slurm", "user", "clock", numbers=("answers", "round trip")
    )
    for site, said in checked:
        for each in said:
            if isinstance(each, Refusal):
                cells = ["no", "-", "-", "-", "-"]
            else:
                skew = each.clock_skew_s
                cells = [
                    f"in {format_duration(each.seconds)}",
                    _milliseconds(each),
                    each.state.version,
                    each.account.user,
                    _skew([each]) if skew is not None else "?",
                ]
            made.add_row(
                *map(_cell, [site.name, str(each.door), *cells]), style="red" if isinstance(each, Refusal) else ""
            )
    return made


def _partitions_table(state: ClusterState, seen: Observed) -> Table:
    made = show.table(
        "",
        "partition",
        "nodes",
        "now",
        "CPUs used",
        "accelerators used",
        "time limit",
        "nodes of a job",
        numbers=("nodes", "CPUs used"),
    )
    defaults = {partition.name for partition in seen.partitions if partition.default}
    for partition in state.partitions:
        nodes = [node for node in state.nodes if partition.name in node.partitions]
        limit = partition.max_walltime_s
        cells = [
            partition.name + ("*" if partition.name in defaults else ""),
            str(len(nodes)),
            _nodes_now(state, partition.name) if partition.up else "partition is not up",
            f"{sum(node.cpus_used for node in nodes)}/{sum(node.cpus for node in nodes)}",
            ", ".join(f"{chip} {used}/{total}" for chip, (used, total) in _chips(state, partition.name).items()) or "-",
            format_walltime(limit) if limit is not None else "none",
            str(partition.max_nodes) if partition.max_nodes is not None else "no limit",
        ]
        made.add_row(*map(_cell, cells))
    return made


def _nodes_now(state: ClusterState, partition: str) -> str:
    """How many nodes are idle, in use, and out, with the reason of the first that is out."""
    nodes = [node for node in state.nodes if partition in node.partitions]
    out = [node for node in nodes if not node.usable]
    kinds = Counter("out" if not node.usable else "idle" if not node.cpus_used else "in use" for node in nodes)
    said = ", ".join(f"{kinds[kind]} {kind}" for kind in ("idle", "in use", "out") if kinds[kind]) or "none"
    why = f" ({out[0].name}: {out[0].reason})" if out and out[0].reason else ""
    return said + why


def _chips(state: ClusterState, partition: str) -> dict[str, tuple[int, int]]:
    """Accelerators of a partition by chip: in use, and all."""
    nodes = [node for node in state.nodes if partition in node.partitions]
    names = sorted({chip for node in nodes for chip in node.accelerators})
    return {
        chip: (
            sum(node.accelerators_used.get(chip, 0) for node in nodes),
            sum(node.accelerators.get(chip, 0) for node in nodes),
        )
        for chip in names
    }


def _accounts_table(answer: Answer) -> Table:
    account = answer.account
    made = show.table(f"accounts of '{show.printable(account.user)}'", "account", "partition", "QOS", "default QOS")
    for each in account.associations:
        star = "*" if each.account == account.default_account else ""
        made.add_row(
            *map(
                _cell,
                [each.account + star, each.partition or "all", ", ".join(each.qos) or "-", each.default_qos or "-"],
            )
        )
    if not account.associations:
        made.add_row("none: this cluster keeps no accounts, or does not tell them", "", "", "")
    return made


def _facts(site: Site) -> dict[str, Any]:
    """A description for --json."""
    return {**asdict(site), "doors": [str(door) for door in site.doors], "unknown": unknown_figures(site)}


def _door_facts(each: Answer | Refusal) -> dict[str, Any]:
    if isinstance(each, Refusal):
        return {"door": str(each.door), "answers": False, "problem": str(each.error), "next_step": each.error.next_step}
    return {
        "door": str(each.door),
        "answers": True,
        "seconds": round(each.seconds, 3),
        "rtt_ms": round(each.rtt_s * 1000, 2) if each.rtt_s is not None else None,
        "slurm": each.state.version,
        "user": each.account.user,
        "clock_skew_s": round(each.clock_skew_s, 2) if each.clock_skew_s is not None else None,
    }


def _live_facts(answers: Sequence[Answer]) -> dict[str, Any]:
    if not answers:
        return {"live": None}
    return {"live": {"state": asdict(answers[0].state), "account": asdict(answers[0].account)}}


def _cell(text: str) -> str:
    """Whatever a cluster or a file says, on one line, as it is."""
    return "\n".join(escape(show.printable(line)) for line in text.split("\n"))


def _short(file: Path) -> str:
    """A file of the user's with ~ for the home directory."""
    return f"~/{file.relative_to(Path.home())}" if file.is_relative_to(Path.home()) else str(file)


@contextmanager
def _waiting(text: str) -> Iterator[None]:
    """A line that moves while a cluster is asked, on a terminal."""
    if not show.err.is_terminal:
        yield
        return
    with show.err.status(text):
        yield
