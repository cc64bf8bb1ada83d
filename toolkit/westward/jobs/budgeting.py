"""Keeping a submission within its own caps and those of its project, before anything of it is written down or sent.

A sweep is one submission. Its project's caps are checked here for a plan and for a whole sweep, and once more by the ledger, in the transaction that
records the jobs: so of two submissions at once, only one gets what is left last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from westward.catalogue.budgets import project_named
from westward.errors import OverBudget
from westward.model.budget import Amounts, Caps, Project, Use, beyond, together
from westward.model.decision import Decision
from westward.model.effort import Planned, planned
from westward.model.job import JobSpec
from westward.store import spending
from westward.store.ledger import Ledger

Wanted = Sequence[tuple[JobSpec, Decision]]


@dataclass(frozen=True, slots=True)
class Left:
    """A project beside what a submission would spend.

    Attributes:
        uses: what its jobs use now, by currency.
        asked: what the submission would add.
    """

    project: Project
    uses: spending.Uses
    asked: Amounts

    @property
    def use(self) -> Use:
        """What is used in all; of money, what is in the project's own currency."""
        own = (None, self.project.caps.currency)
        totals = [use if currency in own else _without_money(use) for currency, use in self.uses.items()]
        spent, reserved = (together(getattr(use, name) for use in totals) for name in ("spent", "reserved"))
        return Use(spent, reserved, sum(use.jobs for use in totals), sum(use.unknown for use in totals))


def _without_money(use: Use) -> Use:
    return replace(use, spent=replace(use.spent, money=0.0), reserved=replace(use.reserved, money=0.0))


class Budgeting:
    """One submission: the jobs that are planned add up.

    Args:
        find: the project of a name.
    """

    def __init__(self, ledger: Ledger, find: Callable[[str], Project] = project_named) -> None:
        self._ledger = ledger
        self._find = find
        self._so_far: dict[Caps, Amounts] = {}
        self._projects: dict[str, Project] = {}

    def plan(self, spec: JobSpec, decision: Decision) -> Planned:
        """What a job would spend, added to what this submission spends.

        Raises:
            OverBudget: that is beyond its own caps.
            InputError: a cap is in another currency than the costs.
            NotFound: there is no such project.
        """
        plan = self._plan(spec, decision)
        if spec.budget.any:
            within(spec.budget, self._so_far[spec.budget], plan.currency)
        return plan

    def _plan(self, spec: JobSpec, decision: Decision) -> Planned:
        assert decision.chosen is not None
        if spec.project is not None and spec.project not in self._projects:
            self._projects[spec.project] = self._find(spec.project)
        project = self._projects[spec.project] if spec.project is not None else None
        plan = planned(spec, decision.chosen, decision.currency, project)
        if spec.budget.any:
            spending.same_currency("this submission", _currency(spec.budget), [plan])
            self._so_far[spec.budget] = self._so_far.get(spec.budget, Amounts()) + plan.counted
        return plan

    def check(self, wanted: Wanted) -> list[Left]:
        """All jobs of a submission, with what their projects have left now.

        Raises:
            OverBudget: they would spend more than they, or a project, may; also as `plan`.
        """
        plans = [self._plan(spec, decision) for spec, decision in wanted]
        for caps, total in self._so_far.items():
            within(caps, total, next((plan.currency for plan in plans if plan.currency), None))
        left = []
        for project, own in spending.by_project(plans).items():
            found = Left(project, self._ledger.used(project), together(plan.counted for plan in own))
            spending.check(project, own, found.uses)
            left.append(found)
        return left


def _currency(caps: Caps) -> str | None:
    """The currency that costs have to be in; None where it does not matter."""
    return caps.currency if caps.money is not None else None


def within(caps: Caps, total: Amounts, currency: str | None) -> None:
    """
    Raises:
        OverBudget: a submission that takes that much would spend more than its own caps.
    """
    said = beyond(caps, total, Amounts(), caps.currency or currency)
    if said:
        unknown = any("unknown" in each for each in said)
        raise OverBudget(
            f"this submission is over its budget: {'; '.join(said)}",
            "say what it costs: westward site show SITE; or let it count as nothing: budget.allow_unknown_cost=true"
            if unknown
            else "ask for less (a shorter walltime=, fewer nodes= or points), or raise budget.*",
        )
