"""What may be spent: money, accelerator-hours and kgCO2e."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Amounts:
    """Money, accelerator-hours and kgCO2e. None is unknown, which is not zero."""

    money: float | None = 0.0
    accelerator_hours: float | None = 0.0
    carbon_kg: float | None = 0.0

    def __add__(self, other: Amounts) -> Amounts:
        """Both together; what is unknown of one is unknown of both."""
        return Amounts(*(_sum(getattr(self, name), getattr(other, name)) for name in KINDS))


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


KINDS = tuple(kind.name for kind in fields(Amounts))
UNITS = {"money": "", "accelerator_hours": "accelerator-hours", "carbon_kg": "kgCO2e"}


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be spent; None is no cap.

    Attributes:
        currency: of the money; None for whatever the sites charge in.
        allow_unknown: an amount that is unknown counts as nothing; otherwise a job of which a capped amount is unknown is refused.
    """

    money: float | None = None
    accelerator_hours: float | None = None
    carbon_kg: float | None = None
    currency: str | None = None
    allow_unknown: bool = False

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return any(getattr(self, kind) is not None for kind in KINDS)


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Project:
    """A budget that many submissions share. What was submitted before `since` does not count."""

    name: str
    caps: Caps
    since: datetime


@dataclass(frozen=True, slots=True)
class Use:
    """What a project has used: `spent` by jobs that have ended, `reserved` by those that go on, in full. `unknown`: jobs with an amount that is not known."""

    spent: Amounts
    reserved: Amounts
    jobs: int = 0
    unknown: int = 0

    @property
    def total(self) -> Amounts:
        """Both together."""
        return self.spent + self.reserved


def beyond(caps: Caps, asked: Amounts, used: Amounts, currency: str | None) -> list[str]:
    """Each cap that `asked` would pass with `used` before it, in words; empty where all hold.

    An amount of `used` that is unknown counts as nothing: whoever let it in has allowed that.
    """
    said = []
    for kind in KINDS:
        cap, wanted, before = (getattr(each, kind) for each in (caps, asked, used))
        if cap is None:
            continue
        if wanted is None:
            said.append(f"{_name(kind)} are capped at {told(kind, cap, currency)}, and what this takes is unknown")
        elif wanted + (before or 0.0) > cap * (1 + 1e-9):
            spent = f", {told(kind, before, currency)} of it spent or reserved" if before else ""
            said.append(f"the cap is {told(kind, cap, currency)}{spent}, and this takes {told(kind, wanted, currency)}")
    return said


def told(kind: str, amount: float | None, currency: str | None) -> str:
    """An amount with its unit, for people."""
    unit = (currency or "of money") if kind == "money" else UNITS[kind]
    return f"{amount:.4g} {unit}" if amount is not None else f"unknown {unit}"


def _name(kind: str) -> str:
    return {"money": "costs", "accelerator_hours": "accelerator-hours", "carbon_kg": "emissions"}[kind]


def together(amounts: Iterable[Amounts]) -> Amounts:
    """Their sum."""
    total = Amounts()
    for each in amounts:
        total = total + each
    return total
