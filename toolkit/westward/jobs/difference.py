"""A job that is planned beside one that was submitted before: what has changed in its site, its resources, its costs and its script. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from westward.model.decision import Offer
from westward.model.job import Submission
from westward.model.units import format_walltime
from westward.store.ledger import Job

# what the script itself shows, and what is different in every job
_LEFT_OUT = ("script", "name", "directory", "stdout", "root", "hold", "environment", "options")
_FIGURES = {"cost": "", "energy_kwh": "kWh", "carbon_kg": "kgCO2e", "start_in_s": "s"}


@dataclass(frozen=True, slots=True)
class Difference:
    """Against which job, what was and is now otherwise (by name, in words), and the unified diff of the scripts; both may be empty."""

    against: Job
    changes: Mapping[str, tuple[str, str]]
    script: tuple[str, ...]


def difference(before: Job, now: Submission, offer: Offer, key: str) -> Difference:
    """
    Args:
        key: what stands for the key in the new script; it takes the place of the old one's too.
    """
    changes = {"site": (before.site, offer.site)} if before.site != offer.site else {}
    changes |= _changed(_parts(before.submission), _parts(now))
    changes |= _changed(_figures(before.decision.get("chosen") or {}), _figures(_told(offer)))
    old = before.submission.script.replace(before.key, key)
    script = difflib.unified_diff(
        old.splitlines(), now.script.splitlines(), f"job {before.key}", "this plan", lineterm="", n=2
    )
    return Difference(before, changes, tuple(script))


def _parts(submission: Submission) -> dict[str, str]:
    """Everything that a submission says by itself, in words; its options and variables one by one."""
    named = {item.name: getattr(submission, item.name) for item in fields(Submission) if item.name not in _LEFT_OUT}
    if submission.walltime_s is not None:
        named["walltime_s"] = format_walltime(submission.walltime_s)
    more = {f"--{name}": value or "given" for name, value in submission.options.items()}
    variables = {f"${name}": value for name, value in submission.environment.items()}
    return {
        name.removesuffix("_s"): str(value) for name, value in (named | more | variables).items() if value is not None
    }


def _told(offer: Offer) -> dict[str, Any]:
    return {
        "cost": {
            name: getattr(offer.cost, name)
            for name in ("compute", "energy", "carbon", "transfer", "waiting", "lateness")
        },
        "energy_kwh": offer.energy_kwh,
        "carbon_kg": offer.carbon_kg,
        "start_in_s": offer.start_in_s,
    }


def _figures(chosen: Mapping[str, Any]) -> dict[str, str]:
    terms = (chosen.get("cost") or {}).values()
    total = None if not terms or any(term is None for term in terms) else sum(terms)
    found = {name: total if name == "cost" else chosen.get(name) for name in _FIGURES}
    return {
        name.partition("_")[0]: f"{value:.4g} {_FIGURES[name]}".rstrip() if value is not None else "unknown"
        for name, value in found.items()
    }


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {
        name: (before.get(name, "-"), now.get(name, "-"))
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    }
