"""A sweep: one template or program with many values, each of them a point, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from westward.model.job import Task


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was asked for, whatever has become of it.

    Attributes:
        name: the user's own words.
        overrides: as they were typed.
        site: the one that was named, whatever the policy prefers.
        shapes: what points have in common, as plain values: `federation.sweeping` makes jobs of it again.
    """

    key: str
    name: str
    template: str | None
    overrides: tuple[str, ...]
    site: str | None
    shapes: tuple[Mapping[str, Any], ...]
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point of a sweep, and the job that it belongs to now.

    Attributes:
        number: its place in the sweep, from 0.
        overrides: its own, one value for each key.
        shape: which of the sweep's shapes it has.
        does: what it runs, where its shape says the rest.
        job: the key of the job that it was last given to.
        task: its index there; None where that job is this point alone.
    """

    number: int
    label: str
    overrides: tuple[str, ...]
    shape: int
    does: Task
    job: str
    task: int | None
