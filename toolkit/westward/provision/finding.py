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
        next_step: a command or a sentence; empty where there is nothing to do. In both, `{where}` stands for
            the hosts or nodes, and `{hosts}` for them as Ansible's --limit has them.
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
    return [_at(alike, where) for alike, where in hosts.items()]


def _at(alike: Finding, hosts: list[str]) -> Finding:
    where = fold(hosts) if len(hosts) > 1 else hosts[0]
    found, next_step = (
        text.replace("{where}", where).replace("{hosts}", ",".join(hosts)) for text in (alike.found, alike.next_step)
    )
    return Finding(alike.check, where, alike.verdict, found, next_step)


def with_the_rest(check: str, bad: Sequence[Finding], looked_at: Iterable[str], well: str) -> list[Finding]:
    """The bad ones, and one row for all hosts that were looked at and of which none of them speaks."""
    named = {one.where for one in bad}
    rest = [host for host in looked_at if host not in named]
    good = [Finding(check, fold(rest), Verdict.OK, well)] if rest else []
    return good + together(bad)
