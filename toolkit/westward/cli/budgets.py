"""`westward budgets`: what projects have spent, and have left."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.text import Text

from westward.catalogue.budgets import budgets_file, load_projects
from westward.cli import show
from westward.jobs.budgeting import Left
from westward.model.budget import KINDS, UNITS, Amounts, told
from westward.store.ledger import Ledger


def budgets(as_json: show.AsJson = False) -> None:
    """List the projects with their caps: what ended jobs have spent, what open ones reserve, and what is left.

    An open job counts with its whole time limit, an ended one with what it used of it.
    """
    projects = load_projects()
    ledger = Ledger()
    found = [Left(project, ledger.used(project), Amounts()) for project in projects.values()]
    if as_json:
        show.print_json([left_facts(left) for left in found])
        return
    if not found:
        show.out.print(
            f"No project has a budget. They are written down in {budgets_file()}, for example:", soft_wrap=True
        )
        show.out.print(
            "  projects: {thesis: {since: 2026-01-01, currency: CNY, money: 1000, accelerator_hours: 500}}",
            markup=False,
        )
        return
    made = show.table(
        "", "project", "since", "of", "cap", "spent", "reserved", "left", numbers=("cap", "spent", "reserved", "left")
    )
    for left in found:
        for kind in KINDS:
            cap = getattr(left.project.caps, kind)
            if cap is not None:
                spent, reserved = getattr(left.use.spent, kind), getattr(left.use.reserved, kind)
                what = left.project.caps.currency if kind == "money" else UNITS[kind]
                rest = cap - spent - reserved
                numbers = (f"{each:.4g}" for each in (cap, spent, reserved, rest))
                made.add_row(
                    Text(show.printable(left.project.name)),
                    f"{left.project.since.astimezone():%Y-%m-%d}",
                    Text(show.printable(what or "")),
                    *numbers,
                    style="red" if rest <= 0 else "",
                )
    show.out.print(made)
    for left in found:
        for note in notes(left):
            show.out.print(Text(show.printable(note)), soft_wrap=True)


def notes(left: Left) -> list[str]:
    """What the numbers of a project leave out."""
    said = []
    if left.use.unknown:
        said.append(
            f"{left.project.name}: of {left.use.unknown} of its {left.use.jobs} jobs an amount is unknown, and counts as nothing"
        )
    caps = left.project.caps
    others = [each for each in left.uses if caps.money is not None and each not in (None, caps.currency)]
    for currency in others:
        money = left.uses[currency].total.money
        said.append(
            f"{left.project.name}: {told('money', money, currency)} besides, in another currency than its cap's"
        )
    return said


def left_facts(left: Left) -> dict[str, Any]:
    """What --json says of a project."""
    caps = left.project.caps
    total = left.use.total
    return {
        "project": left.project.name,
        "since": left.project.since.isoformat(),
        "currency": caps.currency,
        "caps": {kind: getattr(caps, kind) for kind in KINDS},
        "spent": asdict(left.use.spent),
        "reserved": asdict(left.use.reserved),
        "left": {kind: _left(getattr(caps, kind), getattr(total, kind)) for kind in KINDS},
        "asked": asdict(left.asked),
        "jobs": left.use.jobs,
        "jobs_of_unknown_cost": left.use.unknown,
    }


def _left(cap: float | None, used: float | None) -> float | None:
    return None if cap is None or used is None else cap - used


def left_lines(left: Left) -> list[str]:
    """A project beside what a submission asks, for people."""
    lines = []
    caps, use = left.project.caps, left.use
    for kind in KINDS:
        cap, asked = getattr(caps, kind), getattr(left.asked, kind)
        if cap is not None:
            used = getattr(use.total, kind)
            after = (
                f"{told(kind, cap - used - asked, caps.currency)} after it"
                if asked is not None
                else "what is left after it is unknown"
            )
            lines.append(
                f"project {left.project.name}: {told(kind, cap - used, caps.currency)} left of {cap:.4g} "
                f"({getattr(use.spent, kind):.4g} spent, {getattr(use.reserved, kind):.4g} reserved), {after}"
            )
    return [*lines, *notes(left)]
