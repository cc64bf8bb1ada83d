"""How fast many jobs are watched and listed: python -m westward.perf.watch_rate [--live N] [--known N] prints JSON.

First a tick over jobs that all wait at one site, by each door: the whole of it, from the ledger's rows to the ledger's commit. Each door has a
process of its own, in which no row was read before, so that its memory is its own: the growth is from a connected client to the peak of all
its ticks. Then the ledger is filled up, and `westward jobs` is timed as a process, from its start to its end: while an agent watches, and
without one, when it asks the site itself about many live jobs and about a few.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from westward import process
from westward.catalogue.load import known_sites
from westward.federation.presence import LEASE
from westward.jobs import watching
from westward.jobs.lifecycle import Jobs
from westward.jobs.template import compose_job
from westward.model.job import JobState, JobStatus, new_key
from westward.model.site import RestDoor, ShellDoor
from westward.perf.meter import (
    TEMPLATE,
    Meter,
    accepted,
    against,
    by,
    machine,
    median,
    meter,
    print_report,
    resident_bytes,
    run_westward,
    tell,
)
from westward.slurm.client import open_client
from westward.slurm.script import render
from westward.store.ledger import Intent, Ledger

DOORS = {"shell": ShellDoor, "rest": RestDoor}
AIM_S = {"shell": 0.3, "rest": 1.0}
AIM_BYTES = 50e6
AIM_LIST_S = 0.5
TICKS = 5
LISTS = 7
ENDING = 100
FEW = 20
TOGETHER = 1000
CHILD_TIMEOUT_S = 300.0

T = TypeVar("T")


def watch_by(door: str, name: str, ending: Sequence[int]) -> dict[str, Any]:
    """Ticks by that door over the jobs of a site, in this process: the first one, which finds every job otherwise than it was known to be,
    some that find nothing new, and one that finds the jobs `ending` ended.

    Memory is counted from a connected client that has not read a row yet, to the most there was by the end of the last tick.
    """
    ledger = Ledger()
    with open_client(by(known_sites()[name], DOORS[door])) as client:
        client.accounting_backlog()

        def tick() -> float:
            began = time.perf_counter()
            watching.tick(ledger, lambda _: client)
            return time.perf_counter() - began

        start, _ = resident_bytes()
        first = tick()
        cpu = time.process_time()
        same = [tick() for _ in range(TICKS)]
        cpu = (time.process_time() - cpu) / TICKS
        client.cancel(ending)
        some = tick()
        _, peak = resident_bytes()
    return {
        "first_s": round(first, 4),
        "same_s": [round(seconds, 4) for seconds in same],
        "same_cpu_s": round(cpu, 4),
        f"{ENDING}_ended_s": round(some, 4),
        "resident_before_mb": round(start / 1e6, 1),
        "growth_mb": round((peak - start) / 1e6, 1),
    }


def watch(lab: Meter, ledger: Ledger, door: str) -> dict[str, Any]:
    """`watch_by` in a process of its own, which has to read every job anew and whose memory nothing has used before."""
    (watched,) = ledger.watched().values()
    for part in _parts(watched):
        before = {job.key: JobStatus(job.job_id, job.slurm_name, JobState.PENDING) for job in part}
        ledger.seen(before, ended=())
    ending = [str(job.job_id) for job in watched[:ENDING]]
    argv = [
        sys.executable,
        "-m",
        "westward.perf.watch_rate",
        "--door",
        door,
        "--site",
        lab.site.name,
        "--ending",
        *ending,
    ]
    found: dict[str, Any] = json.loads(process.run(argv, timeout_s=CHILD_TIMEOUT_S).stdout)
    return found


def live_jobs(lab: Meter, ledger: Ledger, count: int) -> None:
    """Submit jobs that wait at the site, and are watched."""
    spec = compose_job(TEMPLATE, ["idempotent=true"]).spec
    site = lab.by(RestDoor)
    with Jobs(ledger, {site.name: site}) as jobs:
        accepted(jobs.submit_many([(spec, lab.decision)] * count))


def ended_jobs(lab: Meter, ledger: Ledger, count: int) -> None:
    """Put jobs into the ledger that have ended, each step of theirs through its own methods. They are older than the live ones."""
    spec = compose_job(TEMPLATE, []).spec
    offer = lab.decision.chosen
    assert offer is not None
    told = {**asdict(lab.decision), "decided_at": lab.decision.decided_at.isoformat()}
    moment = datetime.now(UTC) - timedelta(hours=1)
    job_id = 1_000_000
    for part in _parts(range(count)):
        intents = []
        for _ in part:
            key = new_key()
            submission = render(spec, offer, lab.site, key)
            intents.append(Intent(key, spec.name, spec.template, lab.site.name, submission, spec.outputs, told))
        names = {job.key: job.submission.name for job in ledger.add(intents)}
        with ledger.keep(list(names)):
            ledger.attempt(list(names))
            ids = {key: job_id + place for place, key in enumerate(names)}
            job_id += len(names)
            ledger.handles(ids)
            ledger.released(list(names))
        done = {
            key: JobStatus(ids[key], name, JobState.COMPLETED, exit_code=0, started_at=moment, ended_at=moment)
            for key, name in names.items()
        }
        ledger.seen(done, ended=done)


def list_jobs() -> dict[str, Any]:
    """`westward jobs` as a process; not the first one, which may have to compile its modules."""
    run_westward("jobs", timeout_s=60)
    seconds, cpu = [], []
    for _ in range(LISTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(run_westward("jobs", timeout_s=60)[0])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {
        "median_s": median(seconds, 3),
        "cpu_s": median(cpu, 3),
        "runs": [round(one, 3) for one in seconds],
    }


def measure(lab: Meter, live: int, known: int) -> dict[str, Any]:
    """Everything."""
    ledger = Ledger()
    tell(f"submitting {live:,} jobs")
    live_jobs(lab, ledger, live)
    doors = {}
    for door in DOORS:
        tell(f"watching them by {door}")
        doors[door] = watch(lab, ledger, door)
        live_jobs(lab, ledger, ENDING)  # in the place of those that have ended
    tell(f"filling the ledger up to {known:,} jobs")
    ended_jobs(lab, ledger, known - sum(ledger.counts().values()))
    lists = {}
    tell("listing")
    ledger.take_lease(LEASE, timedelta(hours=1))
    lists["agent_alive"] = list_jobs()
    ledger.drop_lease(LEASE)
    lists[f"site_asked_of_{live}_live"] = list_jobs()
    lab.clear()
    live_jobs(lab, ledger, FEW)
    _settle(lab, ledger)
    lists[f"site_asked_of_{FEW}_live"] = list_jobs()
    return {"live": live, "known": known, "doors": doors, "lists": lists}


def _settle(lab: Meter, ledger: Ledger) -> None:
    """Let the ledger know what has ended."""
    with Jobs(ledger, {lab.site.name: lab.site}) as jobs:
        while jobs.watch():
            time.sleep(0.5)


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """The figures beside their aims."""
    aims: dict[str, Any] = {}
    for door, one in found["doors"].items():
        ticks = {
            "tick": median(one["same_s"]),
            "first tick": one["first_s"],
            f"tick with {ENDING} ends": one[f"{ENDING}_ended_s"],
        }
        aims |= {f"{what} by {door}": against(seconds, AIM_S[door], "lower") for what, seconds in ticks.items()}
        aims[f"memory by {door}, MB"] = against(one["growth_mb"], AIM_BYTES / 1e6, "lower")
    for what, one in found["lists"].items():
        aims[f"westward jobs, {what.replace('_', ' ')}"] = against(one["median_s"], AIM_LIST_S, "lower")
    return aims


def _parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + TOGETHER] for start in range(0, len(things), TOGETHER))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m westward.perf.watch_rate", description=__doc__)
    parser.add_argument("--live", type=int, default=10_000, help="jobs that wait at the site")
    parser.add_argument("--known", type=int, default=100_000, help="jobs in the ledger")
    parser.add_argument("--door", choices=sorted(DOORS), help=argparse.SUPPRESS)
    parser.add_argument("--site", help=argparse.SUPPRESS)
    parser.add_argument("--ending", type=int, nargs="*", default=[], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.door:
        print(json.dumps(watch_by(given.door, given.site, given.ending)))
        return
    before = machine()
    with meter("watch-rate") as lab:
        found = measure(lab, given.live, max(given.live, given.known))
    print_report(
        "watch_rate",
        "a tick over many waiting jobs by each door, and 'westward jobs' with many jobs in the ledger",
        "s",
        "lower",
        before,
        aims=judged(found),
        **found,
    )


if __name__ == "__main__":
    main()
