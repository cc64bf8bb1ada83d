"""Makes the pictures of README.md from what the commands really print: `./run pictures`, with the lab up and the demo run.

The table and the lines below it are what `westward plan allreduce nodes=2` prints before the script; the report is a screenshot of report.html by Chromium.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from westward import process
from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.bench import report
from westward.cli.plan import foresight_lines
from westward.errors import Unreachable
from westward.federation.deciding import decide
from westward.federation.foresight import foresee
from westward.federation.router import chosen_offer
from westward.store.ledger import Ledger

HERE = Path(__file__).parent / "pictures"


def decision_table(target: Path) -> None:
    """The plan as SVG, without fonts from the network."""
    catalogue = load_catalogue()
    composed, decision = decide("allreduce", ["nodes=2"], None, catalogue)
    offer = chosen_offer(decision)
    foreseen = foresee(composed.spec, decision, offer, catalogue, Ledger().starts(offer.site))
    out = Console(record=True, file=io.StringIO(), width=144, force_terminal=True, highlight=False)
    out.print(show.decision_table(decision, composed.spec.name))
    for line in foresight_lines(foreseen, decision):
        out.print(line, markup=False)
    svg = out.export_svg(title="westward plan allreduce nodes=2")
    target.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


def report_page(target: Path) -> None:
    """The upper part of the latest report as PNG.

    Raises:
        Unreachable: Chromium is not installed.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise Unreachable("chromium is not installed", "sudo apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        report(None, page)
        process.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
                "--hide-scrollbars", f"--user-data-dir={folder}/profile", "--window-size=1200,1500", f"--screenshot={target}", page.as_uri(),
            ],
            timeout_s=60,
        )  # fmt: skip


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    decision_table(HERE / "plan.svg")
    report_page(HERE / "report.png")
    print(*sorted(str(path.relative_to(HERE.parent.parent)) for path in HERE.iterdir()), sep="\n", file=sys.stderr)
