"""How long `westward lab up` takes: python -m westward.perf.lab_boot [--repeats N] prints JSON.

The real command line, from the start of its interpreter to a job COMPLETED in the accounting of both clusters, with image and packages
present. Each repeat brings up a lab of its own and takes it down.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

from westward import process
from westward.lab import engine
from westward.lab.images import ensure_node_image
from westward.lab.nodetree import ensure_tree
from westward.lab.progress import quiet
from westward.lab.teardown import down

TOPOLOGY = "east-west"
LIMIT_S = 300.0


def boot(name: str) -> dict[str, Any]:
    """Bring a lab of that name up and take it down: seconds in all, and at the end of each phase as the command reports them."""
    began = time.perf_counter()
    try:
        done = process.run(
            [sys.executable, "-m", "westward.cli.main", "lab", "up", TOPOLOGY, "--name", name, "--json"],
            timeout_s=LIMIT_S,
        )
        seconds = time.perf_counter() - began
    finally:
        down(name, quiet)
    return {"seconds": round(seconds, 3), "phases_end_s": json.loads(done.stdout)["seconds"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m westward.perf.lab_boot", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = max(1, parser.parse_args().repeats)

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    ensure_node_image(engine.connect(), tell)
    ensure_tree(tell)
    runs = [boot(f"boot-{os.getpid()}-{number}") for number in range(repeats)]
    seconds = [run["seconds"] for run in runs]
    report = {
        "benchmark": "lab_boot",
        "what": f"'westward lab up {TOPOLOGY}' to a job COMPLETED on every cluster, image present",
        "unit": "s",
        "direction": "lower",
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "median_s": round(statistics.median(seconds), 3),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "runs": runs,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
