"""How long `westward lab up` takes: python -m westward.perf.lab_boot [--repeats N] prints JSON.

The real command line, from the start of its interpreter to a job COMPLETED in the accounting of both clusters, with image and packages
present. Each repeat brings up a lab of its own and takes it down.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from westward.lab import engine
from westward.lab.images import ensure_node_image
from westward.lab.nodetree import ensure_tree
from westward.lab.progress import quiet
from westward.lab.teardown import down
from westward.perf.meter import machine, median, print_report, run_westward, tell

TOPOLOGY = "east-west"
LIMIT_S = 300.0


def boot(name: str) -> dict[str, Any]:
    """Bring a lab of that name up and take it down: seconds in all, and at the end of each phase as the command reports them."""
    try:
        seconds, printed = run_westward("lab", "up", TOPOLOGY, "--name", name, "--json", timeout_s=LIMIT_S)
    finally:
        down(name, quiet)
    return {"seconds": round(seconds, 3), "phases_end_s": json.loads(printed)["seconds"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m westward.perf.lab_boot", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = max(1, parser.parse_args().repeats)
    before = machine()
    ensure_node_image(engine.connect(), tell)
    ensure_tree(tell)
    runs = [boot(f"boot-{os.getpid()}-{number}") for number in range(repeats)]
    seconds = [run["seconds"] for run in runs]
    print_report(
        "lab_boot",
        f"'westward lab up {TOPOLOGY}' to a job COMPLETED on every cluster, image present",
        "s",
        "lower",
        before,
        median_s=median(seconds, 3),
        min_s=min(seconds),
        max_s=max(seconds),
        runs=runs,
    )


if __name__ == "__main__":
    main()
