"""What a project has spent by its jobs, and keeping it within its caps: read and checked in one transaction with the jobs that are added.

A job that goes on counts as if it used its whole time limit; one that has ended with what it used of it, in every attempt that its cluster's accounting
tells of; one that never started with nothing. Where it is not known how long it ran (a lost job tells nothing) it counts in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from westward.errors import InputError, OverBudget
from westward.model.budget import KINDS, Amounts, Project, Use, beyond, together
from westward.model.effort import Planned
from westward.store.database import Connection
from westward.store.rows import OPEN, Phase

Uses = Mapping[str | None, Use]

_OPEN = f"phase IN ({', '.join(repr(str(phase)) for phase in OPEN)})"
_NEVER = f"phase = '{Phase.REFUSED}' OR (NOT ({_OPEN}) AND started_at IS NULL AND restarts = 0 AND state = 'CANCELLED')"
_ATTEMPTS = "(restarts = 0 AND started_at IS NOT NULL) OR ran_before_s IS NOT NULL"
_KNOWN = f"({_ATTEMPTS}) AND ended_at IS NOT NULL AND limit_s > 0 AND state <> 'LOST'"
_LAST = "(ended_at - coalesce(started_at, ended_at)) / limit_s"
_RAN = (
    f"CASE WHEN {_LAST} < 0 THEN 0.0 WHEN {_LAST} > 1 THEN 1.0 ELSE {_LAST} END + coalesce(ran_before_s, 0.0) / limit_s"
)
_PART = f"CASE WHEN {_NEVER} THEN 0.0 WHEN {_OPEN} THEN 1.0 WHEN {_KNOWN} THEN {_RAN} ELSE 1.0 END"
_SUMS = ", ".join(
    f"coalesce(sum(CASE WHEN {which} THEN {kind} * {_PART} END), 0.0)"
    for which in (f"NOT ({_OPEN})", _OPEN)
    for kind in KINDS
)
_UNKNOWN = f"({' OR '.join(f'{kind} IS NULL' for kind in KINDS)}) AND NOT ({_NEVER})"
_QUERY = (
    f"SELECT currency, {_SUMS}, count(*), coalesce(sum(CASE WHEN {_UNKNOWN} THEN 1 ELSE 0 END), 0) "
    "FROM jobs WHERE project = :project AND created_at >= :since GROUP BY currency"
)


def used(db: Connection, project: Project) -> dict[str | None, Use]:
    """What the jobs of a project use, by the currency of their money; an amount that is unknown counts as nothing, and its job as unknown."""
    found: dict[str | None, Use] = {}
    for currency, *sums, jobs, unknown in db.rows(_QUERY, project=project.name, since=project.since.timestamp()):
        numbers = [float(each) for each in sums]
        spent, reserved = Amounts(*numbers[: len(KINDS)]), Amounts(*numbers[len(KINDS) :])
        found[currency] = Use(spent, reserved, int(jobs), int(unknown))
    return found


def keep(db: Connection, plans: Sequence[Planned]) -> None:
    """
    Raises:
        OverBudget: these jobs would spend more than one of their projects has left.
        InputError: its money is in another currency than theirs.
    """
    for project, own in by_project(plans).items():
        if project.caps.any:
            check(project, own, used(db, project))


def by_project(plans: Sequence[Planned]) -> dict[Project, list[Planned]]:
    """The jobs that each project pays for."""
    found: dict[Project, list[Planned]] = {}
    for plan in plans:
        if plan.project is not None:
            found.setdefault(plan.project, []).append(plan)
    return found


def check(project: Project, plans: Sequence[Planned], uses: Uses) -> None:
    """As `keep`, with what is in use already."""
    caps = project.caps
    same_currency(f"project '{project.name}'", caps.currency if caps.money is not None else None, plans)
    foreign = sorted({currency for currency, use in uses.items() if currency and use.total.money} - {caps.currency})
    if caps.money is not None and foreign:
        raise InputError(
            f"project '{project.name}' is capped in {caps.currency} and has spent in {', '.join(foreign)}: nothing here converts money",
            "give that currency a project of its own, or begin a new period: since:",
        )
    before = together(use.total for use in uses.values())
    said = beyond(caps, together(plan.counted for plan in plans), before, caps.currency)
    if said:
        raise OverBudget(
            f"project '{project.name}' has not enough left: {'; '.join(said)}",
            "'westward budgets' shows what is spent; ask for less, wait for jobs to end below their limits, or raise the cap",
        )


def same_currency(whose: str, currency: str | None, plans: Sequence[Planned]) -> None:
    """
    Raises:
        InputError: a cap in that currency is to be compared with costs in another one: nothing here converts money.
    """
    others = sorted({plan.currency for plan in plans if plan.currency and plan.amounts.money is not None} - {currency})
    if currency is not None and others:
        raise InputError(
            f"{whose} is capped in {currency}, and the sites charge in {', '.join(others)}: nothing here converts money",
            f"write the cap in {others[0]}",
        )
