"""The budgets of projects: `budgets.yaml` in the user's configuration directory -> model."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

from westward.directories import config_dir
from westward.errors import NotFound
from westward.model.budget import KINDS, Caps, Project
from westward.yamlfile import Reader, open_yaml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def budgets_file() -> Path:
    """Where projects and their caps are written down."""
    return config_dir() / "budgets.yaml"


def load_projects() -> dict[str, Project]:
    """The projects by name; none where there is no such file.

    Raises:
        InputError: the file is wrong.
    """
    file = budgets_file()
    if not file.is_file():
        return {}
    top = open_yaml(file)
    projects = top.section("projects")
    top.done()
    return {name: _project(name, described) for name, described in projects.sections()}


def project_named(name: str) -> Project:
    """
    Raises:
        NotFound: there is none of that name: a name that is misspelt must not spend without a cap.
        InputError: the file is wrong.
    """
    known = load_projects()
    if name not in known:
        raise NotFound(
            f"there is no project '{name}'; known: {', '.join(sorted(known)) or 'none'}",
            f"give it a budget in {budgets_file()}: 'projects: {{{name}: {{since: {date.today()}, currency: CNY, money: 100}}}}'",
        )
    return known[name]


def _project(name: str, described: Reader) -> Project:
    if not _NAME.fullmatch(name):
        raise described.error("", f"'{name}' is no name of a project: letters, digits, '.', '_' and '-'")
    since = described.take("since", object)
    if not isinstance(since, date):
        raise described.error("since", f"a date was expected, as 2026-01-31, not {since!r}")
    caps = {kind: described.take(kind, float, None) for kind in KINDS}
    currency = described.take("currency", str, None)
    described.done()
    for kind, cap in caps.items():
        if cap is not None and cap < 0:
            raise described.error(kind, f"a number from zero up was expected, not {cap:g}")
    if caps["money"] is not None and currency is None:
        raise described.error("currency", "is missing: in which currency is the money?")
    own = Caps(caps["money"], caps["accelerator_hours"], caps["carbon_kg"], currency)
    return Project(name, own, _moment(since))


def _moment(since: date) -> datetime:
    """The beginning of a day, in this host's own time zone, or the point in time that is named."""
    if isinstance(since, datetime):
        return since.astimezone(UTC) if since.tzinfo else since.replace(tzinfo=UTC)
    return datetime(since.year, since.month, since.day).astimezone().astimezone(UTC)
