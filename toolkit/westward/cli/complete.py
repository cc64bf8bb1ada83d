"""What a shell completes: jobs, templates, their keys and values, sites. Quick, and silent whatever is wrong.

Nothing is made, asked or composed here: a ledger that is not there is not set up, and templates are read as the files they are.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from westward.store.ledger import Ledger

Candidates = list[tuple[str, str]]
Function = TypeVar("Function", bound=Callable[..., Candidates])
SHOWN = 50
_SCHEMA = Path(__file__).parents[1] / "jobs" / "jobconfig.py"
_AUTHOR_S = ("description", "choices")  # what only the author of a template writes
# what click takes the words of a command line from when a shell asks it to complete them
ASKED = "_WESTWARD_COMPLETE"


def asked() -> bool:
    """Whether this process was started by a shell that wants something completed."""
    return ASKED in os.environ


def _quiet(function: Function) -> Function:
    @wraps(function)
    def answer(*args: Any, **named: Any) -> Candidates:
        try:
            return function(*args, **named)
        except (
            Exception
        ):  # the rim: a user who presses TAB gets nothing rather than a complaint in the middle of the line
            return []

    return answer  # type: ignore[return-value]


@_quiet
def jobs(incomplete: str) -> Candidates:
    """The keys of the newest jobs that begin so."""
    ledger = _ledger()
    found = ledger.keys(incomplete, SHOWN) if ledger else []
    return [(key, f"{name} at {site}, {state}") for key, name, site, state in found]


@_quiet
def sweeps(incomplete: str) -> Candidates:
    """The keys of the newest sweeps, as far as they begin so."""
    ledger = _ledger()
    found = ledger.sweeps.newest(SHOWN) if ledger else []
    return [(sweep.key, f"sweep {sweep.name}") for sweep in found if sweep.key.startswith(incomplete)]


def jobs_and_sweeps(incomplete: str) -> Candidates:
    """The keys of the newest jobs and sweeps that begin so."""
    return [*jobs(incomplete), *sweeps(incomplete)]


def _ledger() -> Ledger | None:
    """The ledger; None where there is none, which stays so."""
    from westward.directories import state_path
    from westward.store.ledger import Ledger, ledger_file

    if not os.environ.get("WESTWARD_LEDGER") and not (state_path().is_dir() and ledger_file().is_file()):
        return None
    return Ledger()


@_quiet
def templates(incomplete: str) -> Candidates:
    """The job templates that begin so."""
    from westward.jobs.templatefiles import names, written

    return [(name, str(written(name).get("description") or "")) for name in names("job") if name.startswith(incomplete)]


@_quiet
def sites(incomplete: str) -> Candidates:
    """The sites that begin so."""
    from westward.catalogue.load import site_files

    return [(file.stem, "") for file in site_files() if file.stem.startswith(incomplete)]


@_quiet
def overrides(ctx: typer.Context, incomplete: str) -> Candidates:
    """The keys of the template that begin so, each with a `=`; after that, the values that one may take.

    bash breaks words at `=`, so the value comes to us as a word of its own there; other shells give the whole.
    """
    values = dict(_values(ctx.params.get("template") or ""))
    before = list(ctx.params.get("overrides") or ())
    if before and before[-1] in values:  # a bare key, and the `=` that click takes away from what is incomplete
        return [(value, "") for value in values[before[-1]]]
    if len(before) >= 2 and before[-1] == "=":
        return [(value, "") for value in values.get(before[-2], ()) if value.startswith(incomplete)]
    key, assigned, begun = incomplete.partition("=")
    if assigned:
        return [(f"{key}={value}", "") for value in values.get(key, ()) if value.startswith(begun)]
    found = [(f"{name}=", ", ".join(values[name])) for name in values if name.startswith(key)]
    if len(found) == 1:  # a second candidate that begins alike keeps a shell from taking the first for a whole word
        name = found[0][0]
        found += [(f"{name}{value}", "") for value in values[name[:-1]] or ["VALUE"]]
    return found


def _values(template: str) -> Iterator[tuple[str, list[str]]]:
    """The keys of a template, its own first, each with values that it may take."""
    from westward.jobs import templatefiles

    if template not in templatefiles.names("job"):
        return
    written = templatefiles.written(template)
    choices = written.get("choices") or {}
    yield "policy", list(templatefiles.names("policy"))
    for key, value in written.items():
        if key not in _AUTHOR_S:
            allowed = choices.get(key) or ([value] if isinstance(value, int | float | str) else [])
            yield key, [_text(each) for each in allowed if "${" not in str(each)]
    for key, kind in _common_keys().items():
        if key not in written and key != "policy":
            yield key, ["true", "false"] if kind == "bool" else []


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _common_keys() -> dict[str, str]:
    """The keys of `JobConfig` with their types, read from its text: to import it takes Hydra, which takes long."""
    tree = ast.parse(_SCHEMA.read_text())
    (schema,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "JobConfig"]
    fields = [node for node in schema.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    keys = {node.target.id: ast.unparse(node.annotation) for node in fields if isinstance(node.target, ast.Name)}
    return {key: kind for key, kind in keys.items() if key not in _AUTHOR_S}
