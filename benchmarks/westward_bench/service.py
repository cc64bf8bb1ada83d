"""``python3 -m westward_bench.service``: a service in a job, from the first answer to the end of its time; standard library only.

It starts a program that serves on a port, looks until it answers, writes HOST:PORT to a file, and goes on looking. Some time before the job's
limit it stops the program and ends well: a service that was up until its time was over has done what it was asked for.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from westward_bench import provenance
from westward_bench.arguments import OneLineParser, add_output_options, positive_int
from westward_bench.output import deliver, remove_earlier
from westward_bench.record import Column, Metric, Record
from westward_bench.timing import percentile

LOOK_S = 2.0  # how long a look may take
COLUMNS = (
    Column("endpoint"),
    Column("looks"),
    Column("failed"),
    Column("up", "s"),
    Column("p50", "ms"),
    Column("p99", "ms"),
)

EPILOG = """
The shell line sees HOST (this node) and PORT (one that was free a moment ago), and is to serve there. Without --health it is well when it takes a
connection, with it when GET on that path answers 2xx.

exit codes: 0 it was up, and was stopped because its time was over or the job was cancelled; 1 it never answered, ended by itself, or did not
answer --failures times running; 2 bad usage
"""


def limit_s(text: str) -> int:
    """Seconds of a time limit as sbatch takes it: "MM", "MM:SS", "HH:MM:SS", "D-HH", "D-HH:MM", "D-HH:MM:SS"."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isascii() and part.isdigit() for part in ([days] if dash else []) + parts) or len(parts) > 3:
        raise argparse.ArgumentTypeError(f"expected a time limit such as 30, 01:00:00 or 1-12:00:00, got {text!r}")
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
    if len(numbers) == 3:
        return numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    return numbers[0] * 60 + (numbers[1] if len(numbers) == 2 else 0)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="westward_bench.service", allow_abbrev=False, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Runs a service until shortly before the job's time limit, and says where it answers:\n"
        "  python3 -m westward_bench.service --walltime 01:00:00 --health /health 'exec my-server --port $PORT'",
    )  # fmt: skip
    parser.add_argument("--walltime", type=limit_s, required=True, metavar="LIMIT", help="the job's time limit")
    parser.add_argument("--margin", type=positive_int, default=30, metavar="S", help="seconds to stop before it (30)")
    parser.add_argument("--health", default="", metavar="PATH", help="look by GET on this path, e.g. /health")
    parser.add_argument("--ready-within", type=positive_int, default=300, metavar="S", help="first answer within (300)")
    parser.add_argument("--every", type=positive_int, default=10, metavar="S", help="seconds between looks (10)")
    parser.add_argument("--failures", type=positive_int, default=3, metavar="N", help="failed looks running (3)")
    parser.add_argument("--endpoint", type=Path, default=Path("endpoint"), metavar="FILE", help="gets HOST:PORT")
    add_output_options(parser)
    parser.add_argument("line", help="the shell line, for bash")
    return parser


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process with code 2 and one line if they are not right."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.margin >= options.walltime:
        parser.error(
            f"argument --margin: expected less than the {options.walltime} s of --walltime, got {options.margin}"
        )
    if options.health and not options.health.startswith("/"):
        parser.error(f"argument --health: expected a path from / on, got {options.health!r}")
    return options


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Health:
    """What the looks at a service found."""

    port: int
    path: str
    seconds: list[float] = field(default_factory=list)
    looks: int = 0
    failed: int = 0
    running: int = 0  # failed ones in a row

    def look(self) -> bool:
        """Whether it answers now."""
        started = time.perf_counter()
        self.looks += 1
        well = self._answers()
        if well:
            self.seconds.append(time.perf_counter() - started)
        self.failed += not well
        self.running = 0 if well else self.running + 1
        return well

    def _answers(self) -> bool:
        try:
            if not self.path:
                socket.create_connection(("127.0.0.1", self.port), LOOK_S).close()
                return True
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{self.port}{self.path}", timeout=LOOK_S) as answer:
                return bool(200 <= answer.status < 300)
        except (OSError, ValueError, urllib.error.URLError):
            return False


class Service:
    """One run of a service."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.host, self.port = socket.gethostname(), free_port()
        self.health = Health(self.port, options.health)
        self.stopped = threading.Event()
        self.up_at: float | None = None
        self.clock = time.monotonic()

    @property
    def ends_at(self) -> float:
        """When it is to be stopped, on the monotonic clock."""
        return self.clock + float(self.options.walltime - self.options.margin)

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """A signal that ends it, as when the job is cancelled."""
        self.stopped.set()

    def run(self) -> str | None:
        """Serves to the end; returns what went wrong, None where nothing did."""
        program = subprocess.Popen(
            ["bash", "-c", self.options.line],
            start_new_session=True, env={**os.environ, "HOST": self.host, "PORT": str(self.port)},
        )  # fmt: skip
        try:
            return self._first_answer(program) or self._watch(program)
        finally:
            self.options.endpoint.unlink(missing_ok=True)
            end(program)

    def _first_answer(self, program: subprocess.Popen[bytes]) -> str | None:
        until = min(self.clock + self.options.ready_within, self.ends_at)
        while not self.health.look():
            if program.poll() is not None:
                return f"the service ended with {program.returncode} before it answered"
            if self.stopped.wait(0.2):
                return "it was stopped before the service answered"
            if time.monotonic() > until:
                return f"the service did not answer within {self.options.ready_within} s"
        self.health.looks, self.health.failed, self.health.running = 1, 0, 0  # until then it was not expected to answer
        self.up_at = time.monotonic()
        write_whole(self.options.endpoint, f"{self.host}:{self.port}\n")
        print(f"serving at {self.host}:{self.port}", flush=True)
        return None

    def _watch(self, program: subprocess.Popen[bytes]) -> str | None:
        while time.monotonic() < self.ends_at:
            if self.stopped.wait(min(self.options.every, max(0.0, self.ends_at - time.monotonic()))):
                return None
            if program.poll() is not None:
                return f"the service ended by itself with {program.returncode}"
            if not self.health.look() and self.health.running >= self.options.failures:
                return f"the service did not answer {self.health.running} times running"
        return None

    def row(self) -> dict[str, str | int | float | bool | None]:
        """The table's one row."""
        seconds = self.health.seconds
        return {
            "endpoint": f"{self.host}:{self.port}", "looks": self.health.looks, "failed": self.health.failed,
            "up": time.monotonic() - self.up_at if self.up_at is not None else 0.0,
            "p50": percentile(seconds, 50) * 1e3 if seconds else None,
            "p99": percentile(seconds, 99) * 1e3 if seconds else None,
        }  # fmt: skip


def end(program: subprocess.Popen[bytes], grace_s: float = 10.0) -> None:
    """Ends a program and all that it started: asked first, killed after some time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(program.pid, number)
        except ProcessLookupError:
            pass
        try:
            program.wait(grace_s)
            if number is signal.SIGKILL:
                return
        except subprocess.TimeoutExpired:
            continue


def write_whole(path: Path, text: str) -> None:
    """Writes a file in one step, so that nobody reads half of it."""
    draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    draft.write_text(text)
    os.replace(draft, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the service; returns the exit code."""
    options = parse(arguments)
    remove_earlier(options.output)
    options.endpoint.unlink(missing_ok=True)
    started, service = provenance.utc_now(), Service(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, service.stop)
    problem = service.run()
    row = service.row()
    record = Record(
        benchmark="service", status="failed" if problem else "ok", message=problem,
        parameters={"line": options.line, "health": options.health, "walltime_s": options.walltime, "margin_s": options.margin},
        metrics=(Metric("failed_looks", float(service.health.failed), "looks", "lower"),),
        columns=COLUMNS, rows=(row,), samples=(tuple(service.health.seconds),), provenance=provenance.collect(started, {}),
    )  # fmt: skip
    return deliver(record, options.output, options.json)


if __name__ == "__main__":
    sys.exit(main())
