"""Runs the benchmarks of Westward itself and writes one JSON file: `python -m westward.perf.full FILE [BENCHMARK...]`.

`./run test --full` runs all of them. Where some are named, the file keeps the others' results as they are. Each result has the commit and the
date at which it was measured, and on how many cores.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from westward import process

BENCHMARKS = ("lab_boot", "submit_rate", "watch_rate", "provision", "plan", "sweep_overhead")
TIMEOUT_S = 1800


def measure(name: str) -> dict[str, Any]:
    """The result of a benchmark, with commit and date."""
    print(f"westward.perf.{name}", file=sys.stderr)
    commit = process.run(["git", "rev-parse", "HEAD"], timeout_s=10).stdout.strip()
    changed = bool(process.run(["git", "status", "--porcelain", "--untracked-files=no"], timeout_s=10).stdout.strip())
    measured = process.run([sys.executable, "-m", f"westward.perf.{name}"], timeout_s=TIMEOUT_S).stdout
    return {
        "commit": commit,
        "uncommitted_changes": changed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        **json.loads(measured),
    }


def main(file: Path, names: list[str]) -> None:
    """Measure what is named, or everything, and write it down."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(
            f"error: no benchmark is called {', '.join(sorted(unknown))}\nnext:  name some of these: {', '.join(BENCHMARKS)}"
        )
    results = json.loads(file.read_text()) if names and file.exists() else {}
    results |= {name: measure(name) for name in names or BENCHMARKS}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
