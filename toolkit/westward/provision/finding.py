"""What a check of a cluster found, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from westward.slurm.hostlist import fold


class Verdict(StrEnum):
    """How a check ended. UNKNOWN is never well: what could not be looked at may be broken."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    LEFT_OUT = "left out"


BAD = (Verdict.FAILED, Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's table.

    Attributes:
        where: hosts or nodes, as a host list; or what else it is about.
        found: a sentence.
        next_step: a command or a sentence; empty where there is nothing to do.
    """

    check: str
    where: str
    verdict: Verdict
    found: str
    next_step: str = ""


def together(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that differ only in their host as one, in the order of the first of each."""
    hosts: dict[Finding, list[str]] = {}
    for one in findings:
        alike = Finding(one.check, "", one.verdict, one.found, one.next_step)
        hosts.setdefault(alike, []).append(one.where)
    return [
        Finding(alike.check, fold(where) if len(where) > 1 else where[0], alike.verdict, alike.found, alike.next_step)
        for alike, where in hosts.items()
    ]


def with_the_rest(check: str, bad: Sequence[Finding], looked_at: Iterable[str], well: str) -> list[Finding]:
    """The bad ones, and one row for all hosts that were looked at and of which none of them speaks."""
    named = {one.where for one in bad}
    rest = [host for host in looked_at if host not in named]
    good = [Finding(check, fold(rest), Verdict.OK, well)] if rest else []
    return good + together(bad)
