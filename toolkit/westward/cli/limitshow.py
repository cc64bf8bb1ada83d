"""What people and machines see of the limits that a job meets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from westward.cli import show
from westward.federation.checking import Checked
from westward.model.limits import Verdict

_STYLES = {Verdict.REFUSED: "red", Verdict.NEVER: "red", Verdict.WAITS: "yellow", Verdict.UNKNOWN: "magenta"}


def limits_line(checked: Checked) -> str:
    """What becomes of the job by a site's limits, in one line."""
    if not checked.findings:
        return "; ".join(checked.notes) or "none could be read"
    kinds = [finding.verdict for finding in checked.findings]
    unknown = kinds.count(Verdict.UNKNOWN)
    more = f", {unknown} cannot be told" if unknown else ""
    bad = next((finding for finding in checked.findings if finding.verdict is checked.verdict), None)
    if checked.verdict is Verdict.OK or bad is None:
        return (
            f"within all {len(kinds)} that are set{more}"
            if not unknown
            else f"within {len(kinds) - unknown} of {len(kinds)} that are set{more}"
        )
    words = {
        Verdict.REFUSED: "refused",
        Verdict.NEVER: "accepted, but never started",
        Verdict.WAITS: "accepted, and waits",
    }
    return f"{words[checked.verdict]}: {bad}"


def show_limits(checked: Checked) -> None:
    """Print the table, where there is anything in it."""
    if any(finding.verdict is not Verdict.OK for finding in checked.findings):
        show.out.print(limits_table(checked))


def limits_table(checked: Checked) -> Table:
    """The limits that the job meets, and those of which nothing is known."""
    made = show.table(f"limits met at {checked.site}", "verdict", "limit", "is", "in use", "asked", "what to do")
    for finding in checked.findings:
        if finding.verdict is not Verdict.OK:
            cells = (finding.limit, finding.value, finding.used or "-", finding.asked, finding.remedy or "-")
            made.add_row(
                Text(finding.verdict, style=_STYLES.get(finding.verdict, "")),
                *(Text(show.printable(cell)) for cell in cells),
            )
    return made


def limits_facts(checked: Checked) -> dict[str, Any]:
    """What --json says of them."""
    return asdict(checked) | {"verdict": checked.verdict}
