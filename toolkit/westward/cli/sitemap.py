"""`westward map`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.errors import InputError, NotFound, Unreachable, WestwardError
from westward.federation.names import SINGULAR, Checked, Found, Name, called, check, names_of
from westward.model.site import Site

MARKS = {Found.YES: ("✓", "green"), Found.NO: ("✗", "red"), Found.UNKNOWN: ("?", "yellow")}
Answers = Mapping[str, dict[Name, Checked] | WestwardError]


def show_map(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which sites; all if not given.", metavar="[SITE]...")
    ] = None,
    checked: Annotated[
        bool,
        typer.Option("--check", help="Ask each site whether it has what its map names, and whether you may use it."),
    ] = False,
    as_json: show.AsJson = False,
) -> None:
    """Show what accounts, QOS, partitions, modules and directories are called at each site.

    With --check each site is asked. Exit code 2 where one of them has not what its map names, 4 where one does not answer.
    """
    sites = _chosen(names or [])
    rows = names_of(sites)
    answers: Answers = {}
    if checked:
        with show.err.status("asking the sites"):
            answers = check(rows, sites)
    if as_json:
        show.print_json([_facts(site, rows, answers.get(site.name)) for site in sites])
    else:
        _print(sites, rows, answers)
    _judge(sites, answers)


def _chosen(wanted: Sequence[str]) -> list[Site]:
    sites = load_catalogue().sites
    for name in wanted:
        if name not in sites:
            raise NotFound(f"there is no site '{name}'", f"known: {', '.join(sorted(sites))}")
    return [sites[name] for name in dict.fromkeys(wanted or sorted(sites))]


def _print(sites: Sequence[Site], rows: Sequence[Name], answers: Answers) -> None:
    table = show.table("", "kind", "name", *(site.name for site in sites))
    for name in rows:
        cells = [_cell(name, site, answers.get(site.name)) for site in sites]
        table.add_row(SINGULAR.get(name.kind, name.kind), Text(show.printable(name.word)), *cells)
    show.out.print(table)
    if all(not name.word for name in rows):
        show.out.print("No site's description has a map yet: see 'map:' in docs/jobs.md.")
    for site, problems in _problems(answers).items():
        for problem in problems:
            show.out.print(Text.assemble((f"{site}: ", "yellow"), show.printable(problem)), soft_wrap=True)


def _cell(name: Name, site: Site, answer: dict[Name, Checked] | WestwardError | None) -> Text:
    """What the site calls it: in grey where its map says nothing, so that it goes by its own name."""
    word = called(name, site)
    said = Text(show.printable(word)) if word else Text(show.printable(name.word) or "-", style="dim")
    if isinstance(answer, dict) and name in answer:
        mark, colour = MARKS[answer[name].found]
        return Text.assemble(said, " ", (mark, colour))
    return said


def _problems(answers: Answers) -> dict[str, list[str]]:
    """What to say below the table; the same is said once."""
    return {
        site: list(dict.fromkeys(each.why for each in answer.values() if each.why))
        for site, answer in answers.items()
        if isinstance(answer, dict)
    }


def _judge(sites: Sequence[Site], answers: Answers) -> None:
    """Raises what a check found wrong. What a site's own description does not name is no fault of it.

    Raises:
        Unreachable: a site does not answer.
        InputError: a site has not what its map names.
    """
    silent = [(site, answer) for site, answer in answers.items() if isinstance(answer, WestwardError)]
    if silent:
        said = "".join(f"\n  {site}: {show.one_line(error)}" for site, error in silent)
        raise Unreachable(f"no answer from {', '.join(site for site, _ in silent)}:{said}", "westward site check")
    wrong = {
        site.name: sum(each.found is Found.NO and called(name, site) is not None for name, each in answer.items())
        for site in sites
        if isinstance(answer := answers.get(site.name), dict)
    }
    told = [f"{count} at {site}" for site, count in wrong.items() if count]
    if told:
        raise InputError(f"not there, or not yours: {', '.join(told)}", "correct 'map:', or account, qos and root, in the site's description")  # fmt: skip


def _facts(site: Site, rows: Sequence[Name], answer: dict[Name, Checked] | WestwardError | None) -> dict[str, Any]:
    error = str(answer) if isinstance(answer, WestwardError) else None
    return {"site": site.name, "error": error, "names": [_name_facts(site, name, answer) for name in rows]}


def _name_facts(site: Site, name: Name, answer: dict[Name, Checked] | WestwardError | None) -> dict[str, Any]:
    seen = answer.get(name) if isinstance(answer, dict) else None
    told = {"found": str(seen.found), "why": seen.why or None} if seen else {}
    return {"kind": name.kind, "name": name.word or None, "called": called(name, site), **told}
