"""Runs every benchmark of Westward itself and writes one JSON file: `python -m westward.perf.full FILE`.

`./run test --full` calls it; the file is committed, with the commit it was measured at.
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from westward import process

BENCHMARKS = ("lab_boot", "submit_rate", "watch_rate", "provision")
TIMEOUT_S = 1800


def measure() -> dict[str, Any]:
    """The results by benchmark, with commit and date; each says on how many cores it ran."""
    commit = process.run(["git", "rev-parse", "HEAD"], timeout_s=10).stdout.strip()
    changed = bool(process.run(["git", "status", "--porcelain", "--untracked-files=no"], timeout_s=10).stdout.strip())
    results = {}
    for name in BENCHMARKS:
        print(f"westward.perf.{name}", file=sys.stderr)
        results[name] = json.loads(
            process.run([sys.executable, "-m", f"westward.perf.{name}"], timeout_s=TIMEOUT_S).stdout
        )
    return {
        "commit": commit,
        "uncommitted_changes": changed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "results": results,
    }


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(measure(), indent=2) + "\n")
    print(file)
