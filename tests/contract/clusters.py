"""What the contract tests share: the command line as a user runs it, and the clusters' own accounting as the judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

# a job of our template without its benchmark: says what it does, and promises no file
PLAIN = ["gemm", "outputs=[]", "launcher=none"]


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def westward(*args: str, timeout_s: float = 120) -> Said:
    """Run `westward ARGS` in a process of its own, as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "westward.cli.main", *args],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Lab:
    """The lab under test: its sites and what its clusters themselves say."""

    name: str

    def site(self, cluster: str) -> str:
        return f"{self.name}-{cluster}"

    def exec(self, node: str, *argv: str) -> str:
        said = westward("lab", "exec", node, "--root", "--lab", self.name, "--", *argv)
        assert said.status == 0, said
        return said.out

    def accounted(self, cluster: str, name: str) -> list[tuple[str, str]]:
        """(job id, state) of every record that the cluster's accounting has under that job name, duplicates included."""
        out = self.exec(
            f"{cluster}-ctl",
            "sacct",
            "-aXDnP",
            "-S",
            "now-1hour",
            "-E",
            "now+1hour",
            "--name",
            name,
            "-o",
            "jobid,state",
        )
        return [(line.split("|")[0], line.split("|")[1]) for line in out.splitlines()]

    def queued(self, cluster: str, name: str) -> list[str]:
        return self.exec(f"{cluster}-ctl", "squeue", "-ah", "-t", "all", "-n", name, "-o", "%i").split()
