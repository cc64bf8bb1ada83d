"""How fast jobs are submitted: python -m westward.perf.submit_rate [--jobs N] [--rounds N] prints JSON.

Beside Westward's whole road (compose, render, ledger with synchronous=FULL, submit held, record, release) stand, on the same cluster and in
the same rounds, raw `sbatch` in a loop and 8 at a time, raw slurmrestd with one request a job and with two (submit held, release), and
submitit. `sbatch` and submitit run on the controller itself, where they have the shortest way; submitit is used as its documentation
shows, its own pause of 0.2 s between submissions included. The raw requests are encoded before the clock starts, and go over kept
connections. No job starts.

The figures:

rates: jobs/s of each way (tasks/s of the array), the median and every round. Our roads are timed in this process, all jobs submitted at once as those of a
    sweep are, the connection open and the template known. What the command costs its user, `westward.perf.sweep_overhead` measures.
ratios: our rate to the other's, each beside its aim. Like stands against like: the same requests in flight on both sides, 8 or 1. Only
    sbatch in a loop has one at a time whatever we have: it is what a user would do instead.
compared: ratios without an aim, also of unlike things.
ms_per_job: where our time goes, phase by phase. `render` is timed by itself, so they are more than the whole.

A ratio is the middle one of the rounds' own ratios. What is compared stands side by side in a round, and every second round goes backwards,
so that neither always has what the other left behind.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from typing import Any, cast
from urllib.parse import urlsplit

from westward.errors import WestwardError
from westward.jobs.lifecycle import Jobs
from westward.jobs.template import compose_job
from westward.lab import engine
from westward.lab.engine import FileInNode
from westward.model.job import JobSpec, Submission, new_key
from westward.model.site import RestDoor, ShellDoor, Site
from westward.perf.meter import (
    PARTITION,
    TEMPLATE,
    Meter,
    accepted,
    against,
    copy_module,
    machine,
    median,
    meter,
    print_report,
    tell,
)
from westward.perf.phases import Phases, Timed
from westward.slurm.client import SlurmClient, open_client
from westward.slurm.restcall import IN_FLIGHT, Caller
from westward.slurm.restdata import job_fields
from westward.slurm.resttoken import Token
from westward.slurm.script import render
from westward.store.ledger import Ledger

SUBMITIT_JOBS = 10
ARRAY_TASKS = 1000
NOT_INSTALLED = "not installed"
COMMAND_TIMEOUT_S = 300.0
LATER_MIN = 600
SCRIPT = "/tmp/westward-raw.sbatch"
# ours, theirs, and what our rate should be to theirs at least
JUDGED = {
    "westward / two raw requests, 8 in flight each": ("westward", "raw_rest_two_8_in_flight", 0.8),
    "westward / two raw requests, 1 in flight each": ("westward_one_in_flight", "raw_rest_two", 0.8),
    "idempotent / raw slurmrestd, 8 in flight each": ("westward_idempotent", "raw_rest_8_in_flight", 0.85),
    "idempotent / raw slurmrestd, 1 in flight each": ("westward_idempotent_one_in_flight", "raw_rest", 0.85),
    "westward / sbatch loop": ("westward", "sbatch_loop", 1.0),
    "westward by ssh / sbatch loop": ("westward_ssh", "sbatch_loop", 1.0),
}
COMPARED = {
    "westward, 8 in flight / two raw requests, 1 in flight": ("westward", "raw_rest_two"),
    "idempotent, 8 in flight / raw slurmrestd, 1 in flight": ("westward_idempotent", "raw_rest"),
    "westward by ssh / sbatch 8 at a time": ("westward_ssh", "sbatch_8_at_a_time"),
    "westward / submitit": ("westward", "submitit"),
}
SUBMITIT = """
import sys, time
sys.path.insert(0, "/shared/perf-packages")
import submitit
executor = submitit.AutoExecutor(folder="/shared/researcher/submitit", cluster="slurm")
executor.update_parameters(slurm_partition={partition!r}, timeout_min=5)
began = time.perf_counter()
for number in range({jobs}):
    executor.submit(abs, number)
print(time.perf_counter() - began)
"""


def _open_narrow(site: Site) -> SlurmClient:
    return cast("SlurmClient", _OneAtATime(open_client(site)))


class _OneAtATime:
    """A client that has one request in flight."""

    def __init__(self, inner: SlurmClient) -> None:
        self._inner = inner
        self._one = threading.Lock()

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        return [self._alone(self._inner.submit, submission)[0] for submission in submissions]

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return {job_id: error for one in job_ids for job_id, error in self._alone(self._inner.release, one).items()}

    def _alone(self, call: Callable[[Sequence[Any]], Any], one: Any) -> Any:
        with self._one:
            return call([one])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SubmitRate:
    """The measurements on one cluster; each submits `jobs` jobs and gives the seconds that took."""

    def __init__(self, lab: Meter, jobs: int) -> None:
        self.lab = lab
        self.jobs = jobs
        self.ledger = Ledger()
        self.phases: dict[str, list[dict[str, float]]] = {}
        self._size = itertools.count(1000)
        offer = lab.decision.chosen
        assert offer is not None
        self.offer = offer

    # --- beside which we stand -------------------------------------------------------------------------------------------

    def sbatch_loop(self) -> float:
        return self._sbatch(
            f"for i in $(seq {self.jobs}); do sbatch --parsable -J raw$i {SCRIPT} >/dev/null || exit 1; done"
        )

    def sbatch_8(self) -> float:
        return self._sbatch(
            f"seq {self.jobs} | xargs -P {IN_FLIGHT} -I{{}} sbatch --parsable -J raw{{}} {SCRIPT} >/dev/null"
        )

    def _sbatch(self, loop: str) -> float:
        script = FileInNode(SCRIPT, self._submissions(1)[0].script.encode(), 0o644)
        engine.put_files(self.lab.engine, self.lab.container, [script])
        text = f"cd {shlex.quote(self.lab.site.root)}; began=$EPOCHREALTIME; {loop}; echo $began $EPOCHREALTIME"
        began, ended = self.lab.run("bash", "-c", text).split()
        return float(ended) - float(began)

    def submitit(self) -> float | None:
        """None where it is not installed here."""
        if importlib.util.find_spec("submitit") is None:
            return None
        packages = self.lab.site.files["/shared"] / "perf-packages"
        if not packages.exists():
            packages.mkdir(mode=0o755)
            for name in ("submitit", "cloudpickle", "typing_extensions"):
                copy_module(name, packages)
        return float(self.lab.run("python3", "-c", SUBMITIT.format(partition=PARTITION, jobs=SUBMITIT_JOBS)))

    def raw_rest(self, in_flight: int = 1) -> float:
        submissions = [replace(one, hold=False) for one in self._submissions(self.jobs)]
        return self._raw(submissions, release=False, in_flight=in_flight)

    def raw_rest_two(self, in_flight: int = 1) -> float:
        return self._raw(self._submissions(self.jobs), release=True, in_flight=in_flight)

    def _raw(self, submissions: Sequence[Submission], *, release: bool, in_flight: int) -> float:
        (door,) = self.lab.by(RestDoor).doors
        assert isinstance(door, RestDoor)
        caller = Caller(self.lab.site.name, door)
        caller.speaks("v0.0.41")
        base, url = f"/slurm/{caller.version}/job/", urlsplit(door.url)
        caller.close()
        headers = {
            "X-SLURM-USER-NAME": door.user,
            "X-SLURM-USER-TOKEN": Token(self.lab.site.name, door).current(),
            "Content-Type": "application/json",
        }
        bodies = [json.dumps({"job": job_fields(submission)}).encode() for submission in submissions]

        def lane(part: Sequence[bytes]) -> None:
            connection = HTTPConnection(url.hostname or "", url.port)

            def post(path: str, body: bytes) -> Any:
                connection.request("POST", base + path, body, headers)
                content = json.loads(connection.getresponse().read())
                assert not content["errors"], content["errors"]
                return content

            for body in part:
                job_id = post("submit", body)["job_id"]
                if release:
                    post(str(job_id), b'{"hold":false}')
            connection.close()

        began = time.perf_counter()
        if in_flight == 1:
            lane(bodies)
        else:
            with ThreadPoolExecutor(in_flight) as pool:
                list(pool.map(lane, [bodies[start::in_flight] for start in range(in_flight)]))
        return time.perf_counter() - began

    # --- Westward --------------------------------------------------------------------------------------------------------

    def westward(self) -> float:
        return self._road("westward", self.lab.by(RestDoor))

    def westward_one_in_flight(self) -> float:
        return self._road("westward_one_in_flight", self.lab.by(RestDoor), connect=_open_narrow)

    def westward_idempotent(self) -> float:
        return self._road("westward_idempotent", self.lab.by(RestDoor), "idempotent=true")

    def westward_idempotent_one_in_flight(self) -> float:
        road = "westward_idempotent_one_in_flight"
        return self._road(road, self.lab.by(RestDoor), "idempotent=true", connect=_open_narrow)

    def westward_ssh(self) -> float:
        return self._road("westward_ssh", self.lab.by(ShellDoor))

    def westward_single(self) -> float:
        """One after another, each with its commits and requests to itself."""
        site = self.lab.by(RestDoor)
        with Jobs(self.ledger, {site.name: site}) as jobs:
            jobs.submit(self._compose(), self.lab.decision)
            began = time.perf_counter()
            for _ in range(self.jobs):
                jobs.submit(self._compose(), self.lab.decision)
            return time.perf_counter() - began

    def westward_array(self) -> float:
        """One array job of ARRAY_TASKS tasks."""
        site = self.lab.by(RestDoor)
        with Jobs(self.ledger, {site.name: site}) as jobs:
            jobs.submit(self._compose(), self.lab.decision)
            began = time.perf_counter()
            jobs.submit(self._compose(f"array=0-{ARRAY_TASKS - 1}"), self.lab.decision)
            return time.perf_counter() - began

    def _road(
        self, name: str, site: Site, *overrides: str, connect: Callable[[Site], SlurmClient] = open_client
    ) -> float:
        """From the overrides to jobs that may start. The connection is open and the template known, as for whoever submits a second time."""
        phases = Phases()
        ledger = cast("Ledger", Timed(phases, self.ledger, "ledger"))
        with Jobs(ledger, {site.name: site}, lambda site: cast("SlurmClient", Timed(phases, connect(site)))) as jobs:
            jobs.submit(self._compose(*overrides), self.lab.decision)
            phases.seconds.clear()
            began = time.perf_counter()
            compose = phases.timed("compose", self._compose)
            answers = jobs.submit_many([(compose(*overrides), self.lab.decision) for _ in range(self.jobs)])
            seconds = time.perf_counter() - began
        phases.seconds["render"] = self._rendering(len(accepted(answers)), overrides)
        for phase in ("__enter__", "close"):
            phases.seconds.pop(phase, None)
        self.phases.setdefault(name, []).append({phase: 1000 * s / self.jobs for phase, s in phases.seconds.items()})
        return seconds

    def _rendering(self, count: int, overrides: Sequence[str]) -> float:
        """Seconds that rendering so many jobs takes by itself."""
        spec = self._compose(*overrides)
        began = time.perf_counter()
        for _ in range(count):
            render(spec, self.offer, self.lab.site, new_key())
        return time.perf_counter() - began

    def _compose(self, *overrides: str) -> JobSpec:
        """A job like no other: with a value of its own."""
        return compose_job(TEMPLATE, [f"size={next(self._size)}", *overrides]).spec

    def _submissions(self, count: int) -> list[Submission]:
        return [render(self._compose(), self.offer, self.lab.site, new_key()) for _ in range(count)]


Way = Callable[[], float | None]


def _ways(rate: SubmitRate) -> dict[str, tuple[Way, int]]:
    """Every way with its number of jobs. What is compared stands side by side, so that the machine's other work weighs on both alike."""
    jobs = rate.jobs
    return {
        "sbatch_8_at_a_time": (rate.sbatch_8, jobs),
        "westward_ssh": (rate.westward_ssh, jobs),
        "sbatch_loop": (rate.sbatch_loop, jobs),
        "westward": (rate.westward, jobs),
        "raw_rest_two_8_in_flight": (partial(rate.raw_rest_two, IN_FLIGHT), jobs),
        "raw_rest_8_in_flight": (partial(rate.raw_rest, IN_FLIGHT), jobs),
        "westward_idempotent": (rate.westward_idempotent, jobs),
        "westward_idempotent_one_in_flight": (rate.westward_idempotent_one_in_flight, jobs),
        "raw_rest": (rate.raw_rest, jobs),
        "raw_rest_two": (rate.raw_rest_two, jobs),
        "westward_one_in_flight": (rate.westward_one_in_flight, jobs),
        "westward_one_by_one": (rate.westward_single, jobs),
        "westward_array_tasks": (rate.westward_array, ARRAY_TASKS),
        "submitit": (rate.submitit, SUBMITIT_JOBS),
    }


def measure(lab: Meter, jobs: int, rounds: int) -> dict[str, Any]:
    """Everything, `rounds` times, to and fro."""
    rate = SubmitRate(lab, jobs)
    ways = _ways(rate)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else reversed(ways):
            way, count = ways[name]
            seconds = way()
            if seconds is not None:
                rates[name].append(count / seconds)
                tell(f"round {number + 1}: {name} {count / seconds:.1f}/s")
            lab.clear()
    return {
        "rates": {
            name: {"median": median(runs, 1), "runs": [round(one, 1) for one in runs]} if runs else NOT_INSTALLED
            for name, runs in rates.items()
        },
        "ratios": {
            what: against(_ratio(rates[ours], rates[theirs]), aim, "higher")
            for what, (ours, theirs, aim) in JUDGED.items()
        },
        "compared": {
            what: _ratio(rates[ours], rates[theirs]) if rates[theirs] else NOT_INSTALLED
            for what, (ours, theirs) in COMPARED.items()
        },
        "ms_per_job": {
            name: {phase: median([run[phase] for run in runs], 3) for phase in runs[0]}
            for name, runs in rate.phases.items()
        },
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The middle one of the rounds' ratios."""
    return median([one / other for one, other in zip(ours, theirs, strict=True)], 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m westward.perf.submit_rate", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="jobs of each way and round")
    parser.add_argument("--rounds", type=int, default=6, help="an even number goes to and fro equally often")
    given = parser.parse_args()
    jobs, rounds = max(1, given.jobs), max(1, given.rounds)
    before = machine()
    with meter("submit-rate") as lab:
        found = measure(lab, jobs, rounds)
    print_report(
        "submit_rate",
        "jobs submitted, recorded and let go, beside what others allow on the same cluster",
        "jobs/s (array: tasks/s)",
        "higher",
        before,
        jobs=jobs,
        rounds=rounds,
        requests_in_flight=IN_FLIGHT,
        **found,
    )


if __name__ == "__main__":
    main()
