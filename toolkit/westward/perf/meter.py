"""What the benchmarks share: on a live cluster a lab of their own in which no job starts, and for all of them how figures are told.

The cluster's only partition is set DOWN once the cluster is ready: it goes on taking jobs and keeps them PENDING. So what is measured is
submitting and asking, the same for all, and not how many jobs happen to start meanwhile.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import docker

from westward import process
from westward.catalogue.chips import load_accelerators
from westward.catalogue.load import load_site
from westward.directories import private_dir, state_dir
from westward.errors import Unreachable, WestwardError
from westward.federation.router import chosen_offer, route
from westward.federation.snapshot import take_snapshot
from westward.jobs.template import compose_job
from westward.lab import cluster, engine
from westward.lab.progress import quiet
from westward.lab.teardown import down
from westward.model.decision import Decision
from westward.model.site import Catalogue, RestDoor, ShellDoor, Site
from westward.store.ledger import Job, Phase

TOPOLOGY = "perf"
CLUSTER = "meter"
PARTITION = "batch"
# a template with nothing of its own to do on the node, and the least that a script needs
TEMPLATE = "gemm"
EMPTY_WITHIN_S = 120.0
# where a user's sites and ledger are: these are the benchmark's own meanwhile
OURS = ("WESTWARD_STATE_DIR", "WESTWARD_LEDGER", "XDG_CONFIG_HOME")


@dataclass(frozen=True, slots=True)
class Meter:
    """The cluster under test.

    Attributes:
        decision: where jobs of TEMPLATE go; made once, before the partition went down.
    """

    site: Site
    decision: Decision
    container: str
    engine: docker.DockerClient

    def by(self, door: type[RestDoor | ShellDoor]) -> Site:
        """The site with that door only."""
        return by(self.site, door)

    def run(self, *argv: str, user: str = "researcher") -> str:
        """What a command on the controller prints.

        Raises:
            Unreachable: it failed.
        """
        answer = engine.execute(self.engine, self.container, argv, user=user)
        if answer.status != 0:
            raise Unreachable(
                f"'{argv[0]}' in '{self.container}' ended with status {answer.status}: {answer.stderr or answer.stdout}"
            )
        return answer.stdout

    def clear(self) -> None:
        """Cancel every job and wait until the queue is empty."""
        self.run("scancel", "--user=researcher")
        until = time.monotonic() + EMPTY_WITHIN_S
        while self.run("squeue", "-h", "-o", "%i"):
            if time.monotonic() > until:
                raise Unreachable(f"the queue of '{self.container}' does not become empty")
            time.sleep(0.2)

    @contextmanager
    def partition_up(self) -> Iterator[None]:
        """Meanwhile jobs fit and may start: for what routes by itself."""
        self._partition("up")
        try:
            yield
        finally:
            self._partition("down")

    def _partition(self, state: str) -> None:
        self.run("scontrol", "update", f"partitionname={PARTITION}", f"state={state}", user="root")


def by(site: Site, door: type[RestDoor | ShellDoor]) -> Site:
    """The site with that door only."""
    return replace(site, doors=tuple(one for one in site.doors if isinstance(one, door)))


@contextmanager
def meter(benchmark: str) -> Iterator[Meter]:
    """Bring the lab up, with sites and a ledger of its own beside the user's; take all of it away at the end, also when ended by SIGTERM or
    Ctrl-C."""
    name = f"{benchmark}-{os.getpid()}"
    folder = private_dir(state_dir() / "perf" / name)
    before = {variable: os.environ.pop(variable, None) for variable in OURS}
    handler = signal.signal(signal.SIGTERM, _interrupt)
    os.environ |= {"WESTWARD_STATE_DIR": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    try:
        tell(f"bringing up the lab '{name}'")
        yield _ready(cluster.up(TOPOLOGY, name))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # asked twice, it still takes away all of it
        tell(f"taking down the lab '{name}'")
        down(name, quiet)
        shutil.rmtree(folder)
        with suppress(OSError):  # another benchmark is at work beside this one
            folder.parent.rmdir()
        signal.signal(signal.SIGTERM, handler)
        for variable, value in before.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value


def _ready(lab: cluster.Lab) -> Meter:
    site = load_site(lab.sites[CLUSTER])
    composed = compose_job(TEMPLATE, [])
    snapshot = take_snapshot({site.name: site})
    catalogue = Catalogue({site.name: site}, load_accelerators(), site.prices.currency, "")
    decision = route(composed.spec, composed.policy, composed.region, catalogue, snapshot, datetime.now(UTC))
    chosen_offer(decision, None)
    made = Meter(site, decision, f"{lab.name}.{CLUSTER}-ctl", engine.connect())
    made._partition("down")
    return made


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def run_westward(*words: str, timeout_s: float) -> tuple[float, str]:
    """The command line as a user starts it, interpreter and all: seconds it took, and what it printed.

    Its modules are compiled once and kept, as an installation has them, even where this process keeps none.

    Raises:
        CommandFailed: it ended with another status than 0.
    """
    began = time.perf_counter()
    argv = [sys.executable, "-m", "westward.cli.main", *words]
    done = process.run(argv, timeout_s=timeout_s, environment={"PYTHONDONTWRITEBYTECODE": ""})
    return time.perf_counter() - began, done.stdout


def accepted(answers: Iterable[Job | WestwardError]) -> list[Job]:
    """The jobs, all of which may start now.

    Raises:
        WestwardError: one of them was not submitted; its own.
    """
    jobs = []
    for answer in answers:
        if isinstance(answer, WestwardError):
            raise answer
        assert answer.phase is Phase.RELEASED, answer
        jobs.append(answer)
    return jobs


def copy_module(name: str, folder: Path) -> None:
    """A pure Python package or module, as it is installed here, into `folder`: a node's interpreter takes it from there."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    origin = Path(spec.origin)
    if origin.name == "__init__.py":
        shutil.copytree(
            origin.parent, folder / name.rpartition(".")[2], ignore=shutil.ignore_patterns("__pycache__", "test*")
        )
    else:
        shutil.copy(origin, folder)


def tell(text: str) -> None:
    """Say on stderr how far it is; stdout is for the figures."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """On what it was measured, and how busy that was before."""
    return {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}


def median(values: Sequence[float], digits: int = 4) -> float:
    return round(statistics.median(values), digits)


def print_report(benchmark: str, what: str, unit: str, direction: str, before: Mapping[str, Any], **found: Any) -> None:
    """A benchmark's figures as JSON on stdout. `direction` is the better one; `before` is what `machine` said before it began."""
    head = {"benchmark": benchmark, "what": what, "unit": unit, "direction": direction, **before}
    print(json.dumps(head | found, indent=1))


def against(value: float, aim: float, direction: str) -> dict[str, Any]:
    """A figure beside what it should be; `direction` is the better one: "higher" or "lower"."""
    return {
        "value": value,
        "direction": direction,
        "aim": aim,
        "met": value >= aim if direction == "higher" else value <= aim,
    }


def resident_bytes(pid: str = "self") -> tuple[int, int]:
    """Memory of a process now and at its peak, as /proc/PID/status has it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024, int(fields["VmHWM"].split()[0]) * 1024
