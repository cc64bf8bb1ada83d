"""How fast jobs are submitted: python -m westward.perf.submit_rate [--jobs N] [--rounds N] prints JSON.

Beside Westward's whole road (compose, render, ledger with synchronous=FULL, submit held, record, release) stand, on the same cluster and in
the same rounds, raw `sbatch` in a loop, raw slurmrestd with one request a job and with two (submit held, release) over one kept connection,
and submitit. `sbatch` and submitit run on the controller itself, where they have the shortest way; submitit is used as its documentation
shows, its own pause of 0.2 s between submissions included. The raw requests are encoded before the clock starts. No job starts.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from westward.errors import WestwardError
from westward.jobs.lifecycle import Jobs
from westward.jobs.template import compose_job
from westward.lab import engine
from westward.lab.engine import FileInNode
from westward.model.job import JobSpec, Submission, new_key
from westward.model.site import RestDoor, ShellDoor, Site
from westward.perf.meter import PARTITION, TEMPLATE, Meter, against, machine, median, meter, tell
from westward.slurm.client import SlurmClient, open_client
from westward.slurm.restcall import Caller
from westward.slurm.restdata import job_fields
from westward.slurm.resttoken import Token
from westward.slurm.script import render
from westward.store.ledger import Job, Ledger, Phase

IN_FLIGHT = 8
SUBMITIT_JOBS = 10
ARRAY_TASKS = 1000
SCRIPT = "/tmp/westward-raw.sbatch"
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


@dataclass
class Phases:
    """Where the time went, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def go(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                result = call(*args, **kwargs)
            finally:
                self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - began
            return _TimedContext(self, phase, result) if hasattr(result, "__exit__") else result

        return go


@dataclass
class _TimedContext:
    phases: Phases
    phase: str
    context: Any

    def __enter__(self) -> Any:
        return self.phases.timed(self.phase, self.context.__enter__)()

    def __exit__(self, *error: object) -> Any:
        return self.phases.timed(self.phase, self.context.__exit__)(*error)


class _Timed:
    """Something whose calls are timed: all of them under one name, or each under its own."""

    def __init__(self, phases: Phases, inner: Any, phase: str | None = None) -> None:
        self._phases, self._inner, self._phase = phases, inner, phase

    def __getattr__(self, name: str) -> Any:
        return self._phases.timed(self._phase or name, getattr(self._inner, name))


class _OneAtATime:
    """A client that has one request in flight."""

    def __init__(self, inner: SlurmClient) -> None:
        self._inner = inner

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        return [answer for submission in submissions for answer in self._inner.submit([submission])]

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return {job_id: error for one in job_ids for job_id, error in self._inner.release([one]).items()}

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
                _copy_module(name, packages)
        return float(self.lab.run("python3", "-c", SUBMITIT.format(partition=PARTITION, jobs=SUBMITIT_JOBS)))

    def raw_rest(self) -> float:
        return self._raw([replace(one, hold=False) for one in self._submissions(self.jobs)], release=False)

    def raw_rest_two(self) -> float:
        return self._raw(self._submissions(self.jobs), release=True)

    def raw_rest_two_8(self) -> float:
        return self._raw(self._submissions(self.jobs), release=True, in_flight=IN_FLIGHT)

    def raw_rest_8(self) -> float:
        submissions = [replace(one, hold=False) for one in self._submissions(self.jobs)]
        return self._raw(submissions, release=False, in_flight=IN_FLIGHT)

    def _raw(self, submissions: Sequence[Submission], *, release: bool, in_flight: int = 1) -> float:
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
        return self._road(
            "westward_one_in_flight",
            self.lab.by(RestDoor),
            connect=lambda site: cast("SlurmClient", _OneAtATime(open_client(site))),
        )

    def westward_idempotent(self) -> float:
        return self._road("westward_idempotent", self.lab.by(RestDoor), "idempotent=true")

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
        ledger = cast("Ledger", _Timed(phases, self.ledger, "ledger"))
        with Jobs(ledger, {site.name: site}, lambda site: cast("SlurmClient", _Timed(phases, connect(site)))) as jobs:
            jobs.submit(self._compose(*overrides), self.lab.decision)
            phases.seconds.clear()
            began = time.perf_counter()
            compose = phases.timed("compose", self._compose)
            wanted = ((compose(*overrides), self.lab.decision) for _ in range(self.jobs))
            answers = list(jobs.submit_stream(wanted))
            seconds = time.perf_counter() - began
        for answer in answers:
            if isinstance(answer, WestwardError):
                raise answer
            assert answer.phase is Phase.RELEASED, answer
        phases.seconds["render"] = self._rendering(answers, overrides)
        for phase in ("__enter__", "close"):
            phases.seconds.pop(phase, None)
        self.phases.setdefault(name, []).append({phase: 1000 * s / self.jobs for phase, s in phases.seconds.items()})
        return seconds

    def _rendering(self, answers: Sequence[Job | WestwardError], overrides: Sequence[str]) -> float:
        """Seconds that rendering as many jobs takes by itself."""
        spec = self._compose(*overrides)
        began = time.perf_counter()
        for _ in answers:
            render(spec, self.offer, self.lab.site, new_key())
        return time.perf_counter() - began

    def _compose(self, *overrides: str) -> JobSpec:
        """A job like no other: with a value of its own."""
        return compose_job(TEMPLATE, [f"size={next(self._size)}", *overrides]).spec

    def _submissions(self, count: int) -> list[Submission]:
        return [render(self._compose(), self.offer, self.lab.site, new_key()) for _ in range(count)]


def _copy_module(name: str, folder: Path) -> None:
    """A pure Python package, as it is installed here."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    origin = Path(spec.origin)
    if origin.name == "__init__.py":
        shutil.copytree(origin.parent, folder / name, ignore=shutil.ignore_patterns("__pycache__", "test*"))
    else:
        shutil.copy(origin, folder)


def measure(lab: Meter, jobs: int, rounds: int) -> dict[str, Any]:
    """Everything, `rounds` times in turn."""
    rate = SubmitRate(lab, jobs)
    # what is compared stands side by side, so that the machine's other work weighs on both alike
    ways: dict[str, tuple[Callable[[], float | None], int]] = {
        "westward_ssh": (rate.westward_ssh, jobs),
        "sbatch_loop": (rate.sbatch_loop, jobs),
        "westward": (rate.westward, jobs),
        "raw_rest_two": (rate.raw_rest_two, jobs),
        "raw_rest": (rate.raw_rest, jobs),
        "westward_idempotent": (rate.westward_idempotent, jobs),
        "raw_rest_8_in_flight": (rate.raw_rest_8, jobs),
        "raw_rest_two_8_in_flight": (rate.raw_rest_two_8, jobs),
        "westward_one_in_flight": (rate.westward_one_in_flight, jobs),
        "sbatch_8_at_a_time": (rate.sbatch_8, jobs),
        "westward_one_by_one": (rate.westward_single, jobs),
        "westward_array_tasks": (rate.westward_array, ARRAY_TASKS),
        "submitit": (rate.submitit, SUBMITIT_JOBS),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, (way, count) in ways.items():
            seconds = way()
            if seconds is not None:
                rates[name].append(count / seconds)
                tell(f"round {number + 1}: {name} {count / seconds:.1f}/s")
            lab.clear()
    middle = {name: median(values, 1) for name, values in rates.items() if values}

    def ratio(ours: str, theirs: str) -> float:
        """The middle one of the rounds' ratios."""
        return median([one / other for one, other in zip(rates[ours], rates[theirs], strict=True)], 3)

    return {
        "rates": {name: {"median": middle[name], "runs": [round(one, 1) for one in rates[name]]} for name in middle},
        "ratios": {
            "westward / two raw requests": against(ratio("westward", "raw_rest_two"), 0.8, "higher"),
            "idempotent / raw slurmrestd": against(ratio("westward_idempotent", "raw_rest"), 0.85, "higher"),
            "westward / sbatch loop": against(ratio("westward", "sbatch_loop"), 1.0, "higher"),
            "westward by ssh / sbatch loop": against(ratio("westward_ssh", "sbatch_loop"), 1.0, "higher"),
        },
        "compared": {
            "westward / two raw requests, 8 in flight each": ratio("westward", "raw_rest_two_8_in_flight"),
            "idempotent / raw slurmrestd, 8 in flight each": ratio("westward_idempotent", "raw_rest_8_in_flight"),
            "westward / two raw requests, one in flight each": ratio("westward_one_in_flight", "raw_rest_two"),
            **({"westward / submitit": ratio("westward", "submitit")} if "submitit" in middle else {}),
        },
        "ms_per_job": {
            name: {phase: median([run[phase] for run in runs], 3) for phase in runs[0]}
            for name, runs in rate.phases.items()
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m westward.perf.submit_rate", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="jobs of each way and round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    before = machine()
    with meter("submit-rate") as lab:
        found = measure(lab, max(1, given.jobs), max(1, given.rounds))
    report = {
        "benchmark": "submit_rate",
        "what": "jobs submitted, recorded and let go, beside what others allow on the same cluster",
        "unit": "jobs/s (array: tasks/s)",
        "direction": "higher",
        **before,
        "jobs": given.jobs,
        "rounds": given.rounds,
        "requests_in_flight": IN_FLIGHT,
        **found,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
