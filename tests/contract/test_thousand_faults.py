"""1,000 jobs (150 where the machine is to be fast) through a road that breaks: a gateway that drops, delays and truncates, clients and agents killed at every step.

The judge is the cluster's own accounting, read when our ledger is gone: nothing may be lost, nothing started twice. What was asked for
is a list of names, written down from the ledger before it is deleted. Each kind of fault is first shown to have happened.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from contract.clusters import Lab, westward
from contract.proxy import FAULTS, Proxy
from westward.model.job import JobState
from westward.store.ledger import OPEN, Ledger, Phase

pytestmark = pytest.mark.lab

# among so many jobs everything that can go wrong has gone wrong at least once; with fewer that is left to chance
MANY = 1000
RATES = {"submit": 0.12, "change": 0.08, "look": 0.04}
LATE_S = 12.0
WITHIN_S = 600.0
STEPS = ("intent", "attempt", "sent", "held", "released")
# a job that the agent takes up has its intent
AGENT_STEPS = STEPS[1:]

# what both programs share: impatient time-outs, and a hard death after a step, now and then
COMMON = """
import logging, os, random, signal, sys
from westward.jobs import lifecycle, steps
from westward.slurm import restcall
restcall.ANSWER_TIMEOUT_S = restcall.SUBMIT_TIMEOUT_S = 3
steps.FIRST_RETRY_S = 0.5
chance = random.Random(int(sys.argv[1]))
deaths, program = sys.argv[2:4]
died = set(open(deaths).read().splitlines())

def perhaps_die(step, job):
    if chance.random() < (0.004 if f"{program} {step}" in died else 0.2):
        with open(deaths, "a") as file:
            file.write(f"{program} {step}\\n")
        os.kill(os.getpid(), signal.SIGKILL)
"""
SUBMITTER = (
    COMMON
    + """
from datetime import UTC, datetime
from westward.catalogue.load import load_catalogue
from westward.federation.router import route
from westward.federation.snapshot import take_snapshot
from westward.jobs.template import compose_job
from westward.store.ledger import Ledger

catalogue = load_catalogue()
composed = compose_job("gemm", ["outputs=[]", "launcher=none", "command=[/bin/true]", "mem=100M"])
snapshot = take_snapshot(catalogue.sites)
decision = route(composed.spec, composed.policy, composed.region, catalogue, snapshot, datetime.now(UTC))
if decision.chosen is None:
    sys.exit(0)  # the look at the site was broken: the next one comes
left = int(sys.argv[4])
with lifecycle.Jobs(Ledger(), catalogue.sites, on_step=perhaps_die) as jobs:
    while left > 0:
        count = min(left, chance.randint(1, 40))
        jobs.submit_many([(composed.spec, decision)] * count)
        left -= count
"""
)
AGENT = (
    COMMON
    + """
from westward.catalogue.load import known_sites
from westward.federation import broker
from westward.store.ledger import Ledger
broker.LAST_TICK_S = 2.0
logging.basicConfig(level=logging.INFO)
sys.exit(0 if broker.Broker(Ledger(), known_sites, on_step=perhaps_die).run() else 5)
"""
)


class Programs:
    """The submitter and the agent, started again whenever they are gone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.deaths, self.seed = folder, folder / "deaths", 0
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.deaths.touch()

    def keep(self, name: str, code: str, *words: str) -> None:
        running = self.running.get(name)
        if running is not None and running.poll() is None:
            return
        assert running is None or running.returncode in (0, -9), (self.folder / f"{name}.log").read_text()[-3000:]
        self.seed += 1
        with (self.folder / f"{name}.log").open("ab") as log:
            argv = [sys.executable, "-c", code, str(self.seed), str(self.deaths), name, *words]
            self.running[name] = subprocess.Popen(argv, stdout=log, stderr=log)

    def idle(self, name: str) -> bool:
        return self.running[name].poll() is not None

    def end(self) -> None:
        for program in self.running.values():
            program.kill()
            program.wait()


@pytest.fixture
def broken_road(clusters: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A user of their own whose one site is reached through the proxy alone."""
    described = (
        Path(os.environ["WESTWARD_STATE_DIR"]) / "labs" / clusters.name / "sites" / f"{clusters.site('east')}.yaml"
    )
    site = yaml.safe_load(described.read_text())
    (door,) = [door for door in site["access"]["doors"] if door["door"] == "rest"]
    host, _, port = door["url"].removeprefix("http://").partition(":")
    with Proxy((host, int(port)), RATES, seed=3, late_s=LATE_S) as proxy:
        site["access"]["doors"] = [{**door, "url": f"http://127.0.0.1:{proxy.port}"}]
        (tmp_path / "config" / "westward" / "sites").mkdir(parents=True)
        (tmp_path / "config" / "westward" / "sites" / "broken.yaml").write_text(yaml.safe_dump(site))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
        yield proxy


@pytest.mark.parametrize("jobs", [150, pytest.param(MANY, marks=pytest.mark.full)])
def test_none_is_lost_and_none_starts_twice(clusters: Lab, broken_road: Proxy, tmp_path: Path, jobs: int):
    ledger, programs = Ledger(), Programs(tmp_path)
    before, _, _ = judge(clusters)
    until = time.monotonic() + WITHIN_S
    try:
        accepted = 0
        while accepted < jobs or not programs.idle("submitter"):
            accepted = sum(count for (phase, _), count in ledger.counts().items() if phase is not Phase.REFUSED)
            if accepted < jobs:
                programs.keep("submitter", SUBMITTER, str(jobs - accepted))
            programs.keep("agent", AGENT)
            assert time.monotonic() < until, ledger.counts()
            time.sleep(0.2)
        while broken_road.on_the_way or any(phase in OPEN for phase, _ in ledger.counts()):
            programs.keep("agent", AGENT)
            assert time.monotonic() < until, ledger.counts()
            time.sleep(0.2)
    finally:
        programs.end()
    broken_road.mend()
    assert westward("jobs").status == 0  # late twins that nobody has met yet

    deaths = Counter(programs.deaths.read_text().splitlines())
    broken = Counter(fault for _, fault in broken_road.broken.elements())
    print(
        f"\nbroken requests: {dict(broken_road.broken)}; passed: {dict(broken_road.passed)}; "
        f"delivered too late: {dict(broken_road.too_late)}; deaths: {dict(deaths)}"
    )
    assert set(broken) == set(FAULTS), broken
    assert all(broken_road.broken["submit", fault] for fault in FAULTS), broken_road.broken
    assert deaths, "nobody died"
    if jobs >= MANY:
        assert broken_road.too_late["submit"] > 0, "no client had given up when its request was delivered"
        assert set(deaths) >= {f"submitter {step}" for step in STEPS} | {f"agent {step}" for step in AGENT_STEPS}, (
            deaths
        )

    asked = {job.submission.name: job for job in ledger.jobs()}
    twice = sum(job.attempts > 1 for job in asked.values())
    assert twice > 0 or jobs < MANY, "no submission was ever repeated"
    ledger.close()
    for file in (tmp_path / "state").glob("ledger.sqlite*"):
        file.unlink()

    starts, ids, still_there = judge(clusters)
    wanted = {name for name, job in asked.items() if job.phase is Phase.ENDED}
    assert len(wanted) >= jobs
    assert all(asked[name].state is JobState.COMPLETED for name in wanted)
    assert all(asked[name].phase in (Phase.ENDED, Phase.REFUSED) for name in asked)
    lost = [name for name in wanted if starts[name] == 0]
    doubled = [name for name in asked if starts[name] > 1]
    # of all that is new in the accounting: what the ledger does not have as accepted has not started
    unasked = [name for name in starts if starts[name] and name not in before and name not in wanted]
    twins = sum(len(ids[name]) > 1 for name in asked)
    print(
        f"{len(wanted)} accepted, {len(asked) - len(wanted)} told as not submitted, {twice} sent more than once, "
        f"{twins} with a twin that never started"
    )
    assert twins > 0 or jobs < MANY, "no twin ever came"
    assert (lost, doubled, unasked) == ([], [], [])
    assert not still_there & set(asked), "a twin is left in the queue"


def judge(clusters: Lab) -> tuple[Counter[str], dict[str, set[str]], set[str]]:
    """How often each job name started, by the cluster's accounting with duplicates; the ids that it had; and the names still in its queue."""
    window = ["-aXDnP", "-S", "now-2hours", "-E", "now+1hour", "-o", "jobid,submit,start,jobname"]
    # a twin that was cancelled while it was held is told of only where its state is asked for
    said = clusters.exec("east-ctl", "sacct", *window) + clusters.exec("east-ctl", "sacct", *window, "-s", "CANCELLED")
    started: Counter[str] = Counter()
    ids: dict[str, set[str]] = defaultdict(set)
    for job_id, _, start, name in {tuple(line.split("|", 3)) for line in said.splitlines()}:
        ids[name].add(job_id)
        started[name] += start not in ("Unknown", "None", "")
    queue = clusters.exec("east-ctl", "squeue", "-ah", "-o", "%j")
    return started, ids, set(queue.split())
