"""``python3 -m westward_bench.packed``: many small tasks in one job, so many at a time on each node; standard library only.

One process a node shares out the tasks (process r of n takes those whose number leaves r when divided by n). Each task is a shell line that
sees its number and its item, writes to files of its own, and fails for itself alone. The first process waits for the others and writes
the record; the directory must be on a file system that all nodes share.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from westward_bench import provenance
from westward_bench.arguments import EXIT_OK, OneLineParser, add_output_options, non_negative_int, positive_int
from westward_bench.output import Progress, deliver, remove_earlier
from westward_bench.record import Column, Metric, Record

TASKS = Path("tasks")
NAMED = 20  # failed tasks that a message names
COLUMNS = (
    Column("task"), Column("item"), Column("exit_code"), Column("signal"), Column("seconds", "s"), Column("host"), Column("output"),
)  # fmt: skip

EPILOG = """
A task sees TASK (its number, from 0 on) and ITEM (its item; its number where no items are given). Its output is in tasks/NUMBER.out, and the
line runs in the job's own directory. It is one process tree: what it leaves running in the background is not waited for.

exit codes: 0 all tasks ended with 0; 1 some did not, and the record says which; 2 bad usage
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one task ended: `exit_code` is None where a `signal` ended it."""

    task: int
    item: str
    exit_code: int | None
    signal: int | None
    seconds: float
    host: str
    output: str


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes this is; `attempt` tells the files of one start of the job from those of another."""

    rank: int
    ranks: int
    attempt: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Place:
        """As Slurm's step says; one process alone without Slurm."""
        attempt = f"{environ.get('SLURM_JOB_ID', '0')}.{environ.get('SLURM_RESTART_COUNT', '0')}"
        return cls(int(environ.get("SLURM_PROCID", "0")), int(environ.get("SLURM_NTASKS", "1")), attempt)

    def part(self, rank: int) -> Path:
        """The file in which a process leaves what became of its tasks."""
        return TASKS / f".part-{self.attempt}-{rank}.json"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="westward_bench.packed", allow_abbrev=False, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs a shell line for each of many small tasks, so many at a time on each node:\n"
        "  srun -N2 --ntasks-per-node=1 python3 -m westward_bench.packed --tasks 1000 --at-once 8 --output r.json 'echo $TASK'",
    )  # fmt: skip
    parser.add_argument("--tasks", type=non_negative_int, default=0, metavar="N", help="tasks 0 to N-1")
    parser.add_argument(
        "--at-once", type=positive_int, default=1, metavar="N", help="tasks at a time on each node (default: 1)"
    )
    add_output_options(parser)
    parser.add_argument("line", metavar="LINE", help="the shell line, for bash")
    parser.add_argument("items", metavar="ITEM", nargs="*", help="a task for each (instead of --tasks)")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process with code 2 and one line if they are not right."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if bool(options.tasks) == bool(options.items):
        parser.error("argument --tasks: expected either a number above 0 or items after the line, and not both")
    return options


def run_task(task: int, item: str, line: str) -> Ended:
    """One task, to its end."""
    output = TASKS / f"{task}.out"
    started = time.monotonic()
    with output.open("wb") as out:
        done = subprocess.run(
            ["bash", "-c", line],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False,
            env={**os.environ, "TASK": str(task), "ITEM": item},
        )  # fmt: skip
    code = done.returncode
    return Ended(
        task, item, code if code >= 0 else None, -code if code < 0 else None,
        time.monotonic() - started, socket.gethostname(), str(output),
    )  # fmt: skip


def run_share(items: Sequence[str], line: str, at_once: int, place: Place) -> list[Ended]:
    """The tasks of this process, `at_once` at a time."""
    mine = range(place.rank, len(items), place.ranks)
    progress = Progress("packed", len(mine), enabled=place.rank == 0)
    ended = []
    with ThreadPoolExecutor(at_once) as pool:
        for one in pool.map(lambda task: run_task(task, items[task], line), mine):
            ended.append(one)
            progress.step(f"task {one.task}")
    return ended


def leave(place: Place, ended: Sequence[Ended]) -> None:
    """Writes what became of this process's tasks, whole or not at all."""
    draft = TASKS / f".{secrets.token_hex(8)}.tmp"
    draft.write_text(json.dumps([asdict(each) for each in ended]))
    os.replace(draft, place.part(place.rank))


def gather(place: Place, every_s: float = 0.5) -> list[Ended]:
    """What became of all tasks, in their order; waits until every process has ended. Their files are removed."""
    missing = set(range(place.ranks))
    ended: list[Ended] = []
    while missing:
        for rank in sorted(missing):
            file = place.part(rank)
            if file.exists():
                ended += [Ended(**each) for each in json.loads(file.read_text())]
                missing.discard(rank)
                file.unlink()
        if missing:
            time.sleep(every_s)
    return sorted(ended, key=lambda each: each.task)


def record_of(options: argparse.Namespace, ended: Sequence[Ended], started: str, elapsed_s: float) -> Record:
    """The record: a row for each task."""
    failed = [each.task for each in ended if each.exit_code != 0]
    named = ", ".join(map(str, failed[:NAMED])) + (f" and {len(failed) - NAMED} more" if len(failed) > NAMED else "")
    rows = tuple(asdict(each) for each in ended)
    return Record(
        benchmark="packed", status="failed" if failed else "ok",
        message=f"{len(failed)} of {len(ended)} tasks failed: {named}" if failed else None,
        parameters={"tasks": len(ended), "at_once": options.at_once, "line": options.line},
        metrics=(
            Metric("tasks_per_s", len(ended) / max(elapsed_s, 1e-9), "1/s", "higher"),
            Metric("failed", len(failed), "tasks", "lower"),
        ),
        columns=COLUMNS, rows=rows, samples=tuple((each.seconds,) for each in ended),
        provenance=provenance.collect(started, {}, sorted({each.host for each in ended})),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs this process's tasks; the first one returns the exit code of all."""
    options = parse(arguments)
    place, started, clock = Place.of(os.environ), provenance.utc_now(), time.monotonic()
    if place.rank == 0:
        remove_earlier(options.output)
    TASKS.mkdir(exist_ok=True)
    items = options.items or [str(task) for task in range(options.tasks)]
    leave(place, run_share(items, options.line, options.at_once, place))
    if place.rank != 0:
        return EXIT_OK
    record = record_of(options, gather(place), started, time.monotonic() - clock)
    return deliver(record, options.output, options.json)


if __name__ == "__main__":
    sys.exit(main())
