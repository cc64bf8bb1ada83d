"""`westward site`: the clusters that jobs can go to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from westward.catalogue import survey
from westward.catalogue.address import DoorOptions, door_at
from westward.catalogue.gaps import tilde, unknown_figures
from westward.catalogue.load import (
    default_region,
    known_chips,
    known_sites,
    readable_sites,
    unambiguous,
    warn,
)
from westward.catalogue.sitefile import read_site, site_text
from westward.catalogue.survey import Answer, Refusal, Wishes
from westward.cli import (
    complete,
    managed,
    show,
    sitecollect,
    sitedoctor,
    sitehands,
    siteimport,
    sitenodes,
    siteplan,
    siteplays,
    sitetables,
    sitewrite,
)
from westward.directories import config_dir
from westward.errors import InputError, NotFound, Unreachable
from westward.model.site import Site
from westward.yamlfile import read_yaml

app = typer.Typer(help="The clusters that jobs can go to, and those that you manage.", no_args_is_help=True)
# those for a cluster that you manage; the others are below
_MANAGED: dict[str, Callable[..., None]] = {
    "plan": siteplan.plan,
    "apply": siteplan.apply,
    "doctor": sitedoctor.doctor,
    "gres": sitedoctor.gres,
    "collect": sitecollect.collect,
    "exec": sitehands.execute,
    "drain": sitenodes.drain,
    "resume": sitenodes.resume,
    "reboot": sitenodes.reboot,
    "freeze": sitenodes.freeze,
    "thaw": sitenodes.thaw,
    "backup": siteplays.backup,
    "restore": siteplays.restore,
    "keys": siteplays.keys,
    "upgrade": siteplays.upgrade,
    "accounts": siteplays.accounts,
}
for name, command in _MANAGED.items():
    app.command(name, rich_help_panel=managed.PANEL)(command)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
Name = Annotated[str, typer.Argument(help="What you call the cluster.", autocompletion=complete.sites)]
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
    renew_command: Annotated[
        str | None,
        typer.Option(
            "--renew-command", metavar="'PROGRAM ...'", help="Renews your ssh key or certificate when refused."
        ),
    ] = None,
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
    before = sitewrite.described_in(target)
    options = DoorOptions(
        user,
        _file(token_file, "--token-file", to_be_made=bool(token_command)),
        _words(token_command or "", "--token-command"),
        _file(identity_file, "--identity-file", to_be_made=bool(renew_command)),
        _file(known_hosts, "--known-hosts"),
        commands,
        _words(renew_command or "", "--renew-command"),
    )
    doors = [door_at(each, options) for each in (url, *(door or ()))]
    with _waiting(f"asking {name}"):
        said = survey.ask(survey.provisional(name, doors, root))
    answers = _answers(name, said)
    site = survey.describe(name, answers, Wishes(region or default_region(), root, account, qos, mpi))
    site, kept = survey.keep(before, site) if isinstance(before, Site) else (site, [])
    text = _header(site) + site_text(site)
    read_site(read_yaml(text, target))  # what cannot be read again is not written
    if dry_run:
        print(text, end="")
    else:
        sitewrite.refuse_to_move_jobs(site, before, target, force)
        backup = sitewrite.write(target, text, force)
        unknown = unknown_figures(site, known_chips(), survey.chips(answers))
        more = {"written to": tilde(target)}
        if backup is not None:
            more["before"] = f"{tilde(backup)}; kept of it: {', '.join(kept) or 'nothing'}"
        sitetables.tell_added(site, answers, unknown, more)
    sitetables.tell_refusals(said, f"left out of '{name}'")
    for concern in survey.concerns(site, answers):
        show.err.print(Text.assemble(("warning: ", "yellow"), show.printable(concern)), soft_wrap=True)


@app.command("list")
def list_sites(as_json: show.AsJson = False) -> None:
    """List the sites that are described here. Asks none of them."""
    found = readable_sites()
    used, chips = unambiguous(found), known_chips()
    if as_json:
        show.print_json(
            [
                {
                    **sitetables.facts(site, unknown_figures(site, chips)),
                    "file": str(file),
                    "used": site.name in used,
                }
                for site, file in found
            ]
        )
        return
    listed = show.table("", "site", "cluster", "doors", "root", "account", "unknown", "description")
    for site, file in found:
        unknown = len(unknown_figures(site, chips))
        cells = [site.name, site.cluster, "\n".join(map(str, site.doors)), site.root, site.account or "-"]
        cells += [f"{unknown} figures" if unknown else "-", tilde(file)]
        listed.add_row(*map(sitetables.cell, cells), style="" if site.name in used else "red")
    if found:
        show.out.print(listed)
    else:
        show.out.print("No sites yet. Try: westward site add NAME ssh://USER@LOGIN-NODE")


@app.command("show")
def show_site(name: Name, as_json: show.AsJson = False) -> None:
    """Show what is known of a site, and what it says of itself now."""
    (site,) = _known([name])
    with _waiting(f"asking {name}"):
        said = survey.ask(site)
    answers = [answer for answer in said if isinstance(answer, Answer)]
    unknown = unknown_figures(site, known_chips(), survey.chips(answers))
    if as_json:
        show.print_json(
            {
                **sitetables.facts(site, unknown),
                "doors": [sitetables.door_facts(each) for each in said],
                **sitetables.live_facts(answers),
            }
        )
    else:
        sitetables.show_description(site, unknown)
        show.out.print(sitetables.doors_table("ways in", [(site, said)]))
        if answers:
            state, seen = answers[0].state, survey.observe(answers)
            show.out.print(sitetables.partitions_table(state, seen))
            show.out.print(sitetables.accounts_table(answers[0]))
    if not answers:
        raise _no_door(site.name, said)


@app.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Which sites; all if not given.", metavar="[NAME]...", autocompletion=complete.sites),
    ] = None,
    as_json: show.AsJson = False,
) -> None:
    """Try each way into each site, and compare what it says with its description. Exit code 4 where a site has no way in."""
    sites = _known(names or [])
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
                {"name": site.name, "doors": list(map(sitetables.door_facts, said)), "warnings": concerns[site.name]}
                for site, said in checked
            ]
        )
    else:
        show.out.print(sitetables.doors_table("", checked))
        for site, said in checked:
            if len(closed) != 1 or closed[0][0] != site.name:  # that one's are told by the error
                sitetables.tell_refusals(said, site.name)
            for concern in concerns[site.name]:
                show.out.print(Text.assemble((f"{site.name}: ", "yellow"), show.printable(concern)), soft_wrap=True)
    if closed:
        raise (
            _no_door(*closed[0])
            if len(closed) == 1
            else Unreachable(f"no way into {', '.join(name for name, _ in closed)}")
        )


@app.command("import")
def import_site(
    host: Annotated[
        str, typer.Argument(help="[USER@]HOST[:PORT] for ssh, or local: the controller, where all its files are.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The inventory; ./CLUSTER if not given.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="DIR", help="Write nothing; compare with this inventory.")
    ] = None,
    sudo: Annotated[bool, typer.Option("--sudo", help="Read files there with 'sudo -n'.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the files of an inventory that is there.")] = False,
    user: Annotated[str | None, typer.Option("--user", help="Your user name there, and Ansible's.")] = None,
    identity_file: Annotated[Path | None, typer.Option("--identity-file", help="Your private ssh key.")] = None,
    known_hosts: Annotated[
        Path | None, typer.Option("--known-hosts", help="Host keys to trust beside your own.")
    ] = None,
    as_json: show.AsJson = False,
) -> None:
    """Read a cluster that runs, and write an inventory from which the roles make the same. Nothing is changed there.

    What they would write is compared with what it has, by meaning: every difference is told, and the exit code is then 1.
    """
    if out is not None and against is not None:
        raise InputError("--against writes nothing, and --out names where to write", "give one of them")
    options = DoorOptions(
        user, identity_file=_file(identity_file, "--identity-file"), known_hosts=_file(known_hosts, "--known-hosts")
    )
    with _waiting(f"reading {host}"):
        imported = siteimport.read(host, options, out=out, against=against, sudo=sudo, force=force)
    if as_json:
        show.print_json(siteimport.facts(imported))
    else:
        siteimport.tell(imported)
    if not imported.same:
        raise siteimport.differs(imported)


def _target(name: str, overwrite: bool) -> Path:
    """The file of a new site.

    Raises:
        InputError: that is no name, or another description has it.
        Unsafe: it is there, and is not to be overwritten.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"'{name}' cannot be the name of a site", "use letters, digits, '.', '_' and '-'")
    target = _file_of(name)
    for site, file in readable_sites():
        if file != target and site.name == name:
            raise InputError(f"there is a site '{name}' already, described in {file}", "choose another name")
    if target.exists() and not overwrite:
        raise sitewrite.is_there(target)
    return target


def _file(path: Path | None, option: str, to_be_made: bool = False) -> Path | None:
    """The absolute path of a file that is there; of one `to_be_made` its directory suffices."""
    if path is None:
        return None
    absolute = path.expanduser().absolute()
    if to_be_made and not absolute.exists():
        if not absolute.parent.is_dir():
            raise InputError(f"{option}: there is no directory '{absolute.parent}' to keep it in", "make it first")
    elif not absolute.is_file():
        raise InputError(f"{option}: there is no file '{absolute}'")
    return absolute


def _words(command: str, option: str) -> tuple[str, ...]:
    """A program and its arguments, as a shell would split them."""
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        # what was typed may hold a secret: it is not repeated
        raise InputError(
            f"{option}: {error}", f"quote it as for a shell: {option} 'PROGRAM \"ONE ARGUMENT\"'"
        ) from error


def _known(names: Sequence[str]) -> list[Site]:
    """The sites of those names; all where none is named. What is left out beside them is told.

    Raises:
        InputError: one of them is described so that it cannot be used, or not at all.
    """
    left_out: dict[str, InputError] = {}
    sites = known_sites(left_out.__setitem__)
    missing = next((name for name in names if name not in sites), None)
    error = left_out.get(missing) or left_out.get(str(_file_of(missing))) if missing is not None else None
    for about, problem in left_out.items():
        if problem is not error:
            warn(about, problem)
    if missing is not None:
        raise error or NotFound(
            f"there is no site '{missing}'",
            f"known: {', '.join(sites)}"
            if sites
            else f"add it with 'westward site add {missing} ssh://USER@LOGIN-NODE'",
        )
    return [sites[name] for name in names] if names else list(sites.values())


def _file_of(name: str) -> Path:
    """The file that `add` writes."""
    return config_dir() / "sites" / f"{name}.yaml"


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


@contextmanager
def _waiting(text: str) -> Iterator[None]:
    """A line that moves while a cluster is asked, on a terminal."""
    if not show.err.is_terminal:
        yield
        return
    with show.err.status(text):
        yield
