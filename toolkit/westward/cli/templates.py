"""`westward templates`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from westward.cli import show
from westward.jobs.template import Template, common_keys
from westward.jobs.template import templates as all_templates


def templates(as_json: show.AsJson = False) -> None:
    """List the job templates with their parameters, and where each comes from.

    Templates of your own: the *.yaml files in `job` of the directory `conf` here, and of those that WESTWARD_CONF names.
    """
    found = all_templates()
    if as_json:
        show.print_json([asdict(template) for template in found])
        return
    good = [template for template in found if not template.problem]
    mine = any(template.origin != "Westward" for template in good)
    listed = show.table("", "template", "what it does", "its own parameters", *(["from"] if mine else []))
    for template in good:
        listed.add_row(
            template.name,
            Text(show.printable(template.description)),
            Text(show.printable(" ".join(f"{key}={value}" for key, value in template.parameters.items()))),
            *([_origin(template)] if mine else []),
        )
    show.out.print(listed)
    _print_unused([template for template in found if template.problem])
    show.out.print(f"All take: {' '.join(common_keys())}")
    show.out.print("Example:  westward plan allreduce nodes=2 accelerators=h100:4 policy=greenest")


def _origin(template: Template) -> Text:
    over = f", in place of {' and '.join(template.replaces)}'s" if template.replaces else ""
    return Text(show.printable(f"{template.origin}{over}"))


def _print_unused(broken: Sequence[Template]) -> None:
    """Those that cannot be used, each with its file and what is wrong."""
    if not broken:
        return
    show.out.print("Not to be used:")
    for template in broken:
        file = Path(template.file)
        short = str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else template.file
        problem = template.problem.removeprefix(f"template '{template.name}' ({template.file}): ")
        problem = problem.removeprefix(f"'{template.file}' ")
        show.out.print(Text(show.printable(f"  {short}: {problem}")), soft_wrap=True)
    show.out.print()
