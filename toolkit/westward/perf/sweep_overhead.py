"""How long a sweep keeps its user waiting: python -m westward.perf.sweep_overhead [--points N] [--rounds N] prints JSON.

On one cluster, in the same rounds: `westward submit -m`, anybody's Hydra application with `hydra/launcher=westward`, the same application with
`hydra/launcher=submitit_slurm`, and beside them what Slurm itself needs: one `sbatch --array`, and `sbatch` in a loop. All are started as a user
types them, interpreter and all. submitit and `sbatch` run on the controller itself, where they have the shortest way; Westward runs on this
host and goes through the site's doors. No job starts: each begins hours later.

The figures, for each way:

queued_s: from the command to the moment at which the cluster's queue holds the last point.
free_s: from the command to the user's next prompt. None where the command was still there when the queue was full, and stayed for
    STAYS_S more: it waits for the jobs' ends.

composing_s: what Hydra itself takes to compose so many points one by one, by the interpreter of this host and by that of the controller,
    which may differ. submitit's launcher pays it; ours composes once what the points have in common.

A ratio is the middle one of the rounds' own ratios; every second round goes backwards.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

from westward import process
from westward.errors import Unreachable
from westward.lab import engine
from westward.perf.meter import (
    PARTITION,
    TEMPLATE,
    Meter,
    against,
    copy_module,
    machine,
    median,
    meter,
    print_report,
    tell,
)

POINTS = 200
LATER_MIN = 600
STAYS_S = 5.0
LIMIT_S = 120.0
HERE = "perf-sweep"  # under the shared directory: the application, and what it imports
PACKAGES = ("antlr4", "cloudpickle", "hydra", "omegaconf", "packaging", "submitit", "typing_extensions", "yaml")
PLUGIN = "hydra_plugins.hydra_submitit_launcher"
# an application that knows neither of Westward nor of submitit
APPLICATION = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def main(config):
    return 0.0

if __name__ == "__main__":
    main()
"""
COMPOSING = """
import platform, time
from hydra import compose, initialize

with initialize(version_base="1.3", config_path=None):
    began = time.perf_counter()
    for point in range({points}):
        compose(overrides=[f"+x={{point}}"], return_hydra_config=True)
    print(platform.python_version(), time.perf_counter() - began)
"""
FILLED = 'until [ "$(squeue -h -r -o %i | wc -l)" -ge {points} ]; do sleep 0.02; done; date +%s.%N'
LOOP = "for point in $(seq {points}); do sbatch --quiet --begin=now+{later}minutes --wrap=true || exit; done"


@dataclass(frozen=True, slots=True)
class Waited:
    """What one command cost its user: seconds until the last point was queued, and until the prompt came back (None: it stays)."""

    queued_s: float
    free_s: float | None


class SweepOverhead:
    """The ways to submit one sweep on one cluster."""

    def __init__(self, lab: Meter, points: int) -> None:
        self.lab = lab
        self.points = points
        self._shared = lab.site.files["/shared"] / HERE
        self._said = ""
        self._bring_application()

    def westward_submit(self) -> Waited:
        """A template and `-m`."""
        return self._waited(
            partial(
                _here, "-m", "westward.cli.main", "submit", TEMPLATE, "-m", self._points("size"), f"begin={LATER_MIN}"
            )
        )

    def westward_hydra(self) -> Waited:
        """The application, launched by our plugin and left to itself."""
        words = ["hydra/launcher=westward", "hydra.launcher.detach=true", f"hydra.launcher.begin={LATER_MIN}"]
        folder = f"hydra.sweep.dir={self._shared / 'ours'}"
        return self._waited(partial(_here, str(self._shared / "app.py"), "-m", *words, self._points("+x"), folder))

    def submitit_hydra(self) -> Waited:
        """The application, launched by submitit's plugin, which always waits."""
        words = [
            "hydra/launcher=submitit_slurm",
            f"hydra.launcher.partition={PARTITION}",
            "hydra.launcher.timeout_min=5",
            f"+hydra.launcher.additional_parameters={{begin:now+{LATER_MIN}minutes}}",
            self._points("+x"),
            "hydra.sweep.dir=/shared/researcher/theirs",
        ]
        packages = f"PYTHONPATH=/shared/{HERE}"
        return self._waited(partial(self._there, "env", packages, "python3", f"/shared/{HERE}/app.py", "-m", *words))

    def sbatch_array(self) -> Waited:
        """The least there is: one request for all points, which are all alike."""
        later = f"--begin=now+{LATER_MIN}minutes"
        return self._waited(
            partial(
                self._there, "sbatch", "--quiet", later, f"--array=1-{self.points}", "--wrap=true", "-o", "/dev/null"
            )
        )

    def sbatch_loop(self) -> Waited:
        """One request for each point, one after another."""
        return self._waited(partial(self._there, "sh", "-c", LOOP.format(points=self.points, later=LATER_MIN)))

    def composing(self) -> dict[str, Any]:
        """What Hydra takes to compose the points, here and at the controller."""
        program = COMPOSING.format(points=self.points)
        here = process.run([sys.executable, "-c", program], timeout_s=LIMIT_S).stdout
        packages = f"PYTHONPATH=/shared/{HERE}"
        there = engine.execute(self.lab.engine, self.lab.container, ("env", packages, "python3", "-c", program)).stdout
        told = {}
        for place, said in (("westward", here), ("submitit", there)):
            version, seconds = said.split()
            told[place] = {"python": version, "seconds": round(float(seconds), 2)}
        return told

    def _points(self, key: str) -> str:
        return f"{key}=range(1,{self.points + 1})"

    def _there(self, *argv: str) -> None:
        """Run a command at the cluster to its end; how that was does not matter when its jobs have been cancelled."""
        done = engine.execute(self.lab.engine, self.lab.container, argv, user="researcher")
        self._said = done.stdout + done.stderr

    def _waited(self, command: Callable[[], None]) -> Waited:
        """Run a command until the queue is full and it has ended, or has shown that it stays."""
        look = ["timeout", str(LIMIT_S), "sh", "-c", FILLED.format(points=self.points)]
        with self.lab.partition_up(), ThreadPoolExecutor(2) as pool:
            watching = pool.submit(self.lab.run, *look)
            time.sleep(1.0)  # until it looks
            began = time.time()
            running = pool.submit(_timed, command)
            both: list[Future[Any]] = [watching, running]
            wait(both, return_when=FIRST_COMPLETED)
            if running.done():
                running.result()
            try:
                queued_at = float(watching.result())
            except Unreachable as error:
                raise Unreachable(
                    f"the queue did not hold {self.points} points within {LIMIT_S:g} s: {self._said}"
                ) from error
            stays = not wait([running], timeout=STAYS_S).done
            self.lab.clear()  # so that whoever waits for the jobs has waited enough
            ended_at = running.result()
        return Waited(queued_at - began, None if stays else ended_at - began)

    def _bring_application(self) -> None:
        """What it needs is Python alone, so a node's interpreter takes it from here."""
        self._shared.mkdir(mode=0o755)
        for name in PACKAGES:
            copy_module(name, self._shared)
        (self._shared / "hydra_plugins").mkdir(mode=0o755)
        copy_module(PLUGIN, self._shared / "hydra_plugins")
        (self._shared / "app.py").write_text(APPLICATION)


def _here(*words: str) -> None:
    """Run this interpreter as a user would."""
    process.run([sys.executable, *words], timeout_s=LIMIT_S, environment={"PYTHONDONTWRITEBYTECODE": ""})


def _timed(command: Callable[[], None]) -> float:
    """Run it; when it ended."""
    command()
    return time.time()


def _measured(ways: SweepOverhead, rounds: int) -> dict[str, list[Waited]]:
    named: dict[str, Callable[[], Waited]] = {
        "westward_submit": ways.westward_submit,
        "westward_hydra": ways.westward_hydra,
        "submitit_hydra": ways.submitit_hydra,
        "sbatch_array": ways.sbatch_array,
        "sbatch_loop": ways.sbatch_loop,
    }
    found: dict[str, list[Waited]] = {name: [] for name in named}
    for number in range(rounds):
        for name in named if number % 2 == 0 else reversed(named):
            tell(f"round {number + 1} of {rounds}: {name}")
            found[name].append(named[name]())
    return found


def _told(runs: Sequence[Waited]) -> dict[str, Any]:
    free = [run.free_s for run in runs if run.free_s is not None]
    return {
        "queued_s": {
            "median": median([run.queued_s for run in runs], 2),
            "runs": [round(run.queued_s, 2) for run in runs],
        },
        "free_s": median(free, 2) if len(free) == len(runs) else None,
    }


def _ratio(ours: Sequence[Waited], theirs: Sequence[Waited]) -> float:
    return median([one.queued_s / other.queued_s for one, other in zip(ours, theirs, strict=True)], 2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m westward.perf.sweep_overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    before = machine()
    with meter("sweep-overhead") as lab:
        ways = SweepOverhead(lab, wanted.points)
        found = _measured(ways, wanted.rounds)
        composing = ways.composing()
    compared = {
        f"{ours} / {theirs}": _ratio(found[ours], found[theirs])
        for ours in ("westward_submit", "westward_hydra")
        for theirs in ("submitit_hydra", "sbatch_array", "sbatch_loop")
    }
    aims = {what: against(compared[what], 1.0, "lower") for what in compared if what.endswith("submitit_hydra")}
    print_report(
        "sweep_overhead",
        f"a sweep of {wanted.points} points: from the command to the last point in the queue, and to the next prompt",
        "s",
        "lower",
        before,
        points=wanted.points,
        ways={name: _told(runs) for name, runs in found.items()},
        composing_s=composing,
        ratios=aims,
        compared={what: value for what, value in compared.items() if what not in aims},
    )


if __name__ == "__main__":
    main()
