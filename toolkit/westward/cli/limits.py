"""What people and machines see of limits beside the jobs that meet them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from westward.cli import show
from westward.federation.checking import Checked
from westward.model.job import Array
from westward.model.limits import Finding, Verdict

_STYLES = {Verdict.REFUSED: "red", Verdict.NEVER: "red", Verdict.WAITS: "yellow", Verdict.UNKNOWN: "magenta"}
_WORDS = {
    Verdict.REFUSED: "refused",
    Verdict.NEVER: "accepted, but never started",
    Verdict.WAITS: "accepted, and waits",
}
_COLUMNS = ("verdict", "limit", "is", "in use", "asked", "what to do")


def limits_line(checked: Checked) -> str:
    """What becomes of a job by a site's limits, in one line."""
    if not checked.findings:
        return "; ".join(checked.notes) or "none could be read"
    kinds = [finding.verdict for finding in checked.findings]
    unknown = kinds.count(Verdict.UNKNOWN)
    bad = next((finding for finding in checked.findings if finding.verdict is checked.verdict), None)
    if checked.verdict is Verdict.OK or bad is None:
        return (
            f"within all {len(kinds)} that are set"
            if not unknown
            else f"within {len(kinds) - unknown} of {len(kinds)} that are set, {unknown} cannot be told"
        )
    return f"{_WORDS[checked.verdict]}: {bad}"


def limits_table(checked: Checked) -> Table:
    """The limits that a job meets, and those of which nothing is known."""
    made = show.table(f"limits met at {checked.site}", *_COLUMNS)
    for finding in checked.met:
        made.add_row(*_cells(finding))
    return made


def jobs_limits_line(checks: Sequence[Checked]) -> str:
    """How many jobs of a sweep are within the limits of their sites, and what becomes of the others."""
    if not checks:
        return ""
    counts = Counter(checked.verdict for checked in checks)
    total = f"{len(checks):,} job{'s' if len(checks) > 1 else ''}"
    untold = sum(checked.verdict is Verdict.OK and bool(checked.met) for checked in checks)
    if counts[Verdict.OK] == len(checks) and not untold:
        return f"limits: all {total} within" if len(checks) > 1 else "limits: the job is within all that are set"
    said = [f"{counts[verdict]:,} {words}" for verdict, words in _WORDS.items() if counts[verdict]]
    said += [f"{counts[Verdict.OK] - untold:,} within"] if counts[Verdict.OK] - untold else []
    said += [f"{untold:,} within those that can be told"] if untold else []
    said += [f"{counts[Verdict.UNKNOWN]:,} unknown"] if counts[Verdict.UNKNOWN] else []
    return f"limits, of {total}: {'; '.join(said)}"


def jobs_limits_table(checks: Sequence[Checked]) -> Table | None:
    """The limits that jobs of a sweep meet, each with the jobs that meet it in the same way, by their numbers; the first SHOWN of them."""
    jobs: dict[tuple[str, Finding], list[int]] = {}
    for number, checked in enumerate(checks, start=1):
        for finding in checked.met:
            jobs.setdefault((checked.site, finding), []).append(number)
    if not jobs:
        return None
    rows = sorted(jobs.items(), key=lambda row: (list(Verdict).index(row[0][1].verdict), row[1]))
    left_out = f", the first {show.SHOWN} of {len(rows):,}" if len(rows) > show.SHOWN else ""
    made = show.table(f"limits met{left_out}", "job", "site", *_COLUMNS)
    for (site, finding), numbers in rows[: show.SHOWN]:
        made.add_row(Array.of(numbers).indices.replace(",", ", "), Text(show.printable(site)), *_cells(finding))
    return made


def _cells(finding: Finding) -> list[Text]:
    cells = (finding.limit, finding.value, finding.used or "-", finding.asked, finding.remedy or "-")
    verdict = Text(finding.verdict, style=_STYLES.get(finding.verdict, ""))
    return [verdict, *(Text(show.printable(cell)) for cell in cells)]


def jobs_limits_notes(checks: Sequence[Checked]) -> list[str]:
    """What could not be read at the sites of a sweep's jobs."""
    return list(dict.fromkeys(f"'{checked.site}': {note}" for checked in checks for note in checked.notes))


def limits_facts(checked: Checked) -> dict[str, Any]:
    """What --json says of them."""
    return asdict(checked) | {"verdict": checked.verdict}


def met_facts(checked: Checked) -> dict[str, Any]:
    """The same of one job of many, without the limits that it is within: `within` is how many these are."""
    findings = [asdict(finding) for finding in checked.met]
    within = len(checked.findings) - len(findings)
    return {"verdict": checked.verdict, "within": within, "findings": findings, "notes": checked.notes}
