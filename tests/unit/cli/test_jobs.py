"""`westward jobs` and its like, read as a user reads them. No site is described here, so none answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

from unit.store.test_ledger import NOON, add, intent, let_go
from westward.directories import config_dir
from westward.federation.presence import LEASE
from westward.model.job import After, Dependency, JobState, JobStatus, new_key
from westward.store.ledger import Ledger

WAITS = "no agent is running, and it has something to do"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    return Ledger()


def westward(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "westward.cli.main", *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def an_agent_is_alive(ledger: Ledger) -> None:
    """This process holds its lease."""
    assert ledger.take_lease(LEASE, timedelta(minutes=5))


@pytest.mark.parametrize(
    ("agent", "besides"),
    [
        (True, {"westward.jobs", "westward.slurm", "westward.catalogue", "yaml", "http"}),
        (False, {"fabric", "paramiko"}),
    ],
    ids=["beside an agent", "without one"],
)
def test_a_list_loads_no_more_than_it_needs(ledger: Ledger, agent: bool, besides: set[str]) -> None:
    """SQLAlchemy alone takes as long to load as the whole list does without it."""
    let_go(ledger)
    if agent:
        an_agent_is_alive(ledger)
    code = "import sys; sys.argv[1:] = ['jobs']; from westward.cli import main; main._run(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    never = {"sqlalchemy", "psycopg", "hydra", "omegaconf", "numpy", "matplotlib", "docker", "jinja2", "cryptography"}
    assert not (never | besides) & set(done.stdout.split())


def test_without_jobs_it_says_how_to_begin(ledger: Ledger) -> None:
    done = westward("jobs")
    assert (done.returncode, done.stderr) == (0, "")
    assert "No jobs yet. Try: westward plan" in done.stdout


def test_one_that_goes_on_at_a_site_that_is_not_described_is_unknown_with_the_reason(ledger: Ledger) -> None:
    made = let_go(ledger)
    done = westward("jobs")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if made.key in line]
    assert "UNKNOWN" in line
    assert "last seen" in line
    assert "no longer described" in line
    assert WAITS not in done.stderr


def describe(file: str, **more: str) -> None:
    """A site named west, with nobody there."""
    target = config_dir() / "sites" / file
    target.parent.mkdir(parents=True, exist_ok=True)
    doors = [{"door": "shell", "host": f"{file}.invalid"}]
    target.write_text(
        yaml.safe_dump({"name": "west", "cluster": "c", "root": "/r", "access": {"doors": doors}, **more})
    )


def test_a_job_goes_to_neither_of_two_clusters_whose_sites_have_one_name(ledger: Ledger) -> None:
    on_its_way, running = add(ledger), let_go(ledger)
    ledger.attempt([on_its_way.key])
    describe("west.yaml")
    describe("other.yaml", cluster="another")
    done = westward("jobs", "--json")
    assert done.returncode == 0
    facts = {job["key"]: job for job in json.loads(done.stdout)}
    assert (facts[running.key]["state"], facts[on_its_way.key]["phase"]) == ("UNKNOWN", "submitting")
    for word in ("west.yaml", "other.yaml", "rename or remove one"):
        assert word in done.stderr
    assert ledger.get(on_its_way.key).attempts == 1


def test_a_broken_description_of_another_site_stops_no_command(ledger: Ledger) -> None:
    made = let_go(ledger, site="elsewhere")
    describe("west.yaml")
    (config_dir() / "sites" / "west.yaml").write_text("place: 2026-02-30")
    for words, said in (
        (("jobs",), "no longer described"),
        (("cancel", made.key[:6]), "site 'elsewhere' is no longer described"),
        (("results", made.key[:6]), "has not ended: it is UNKNOWN"),
    ):
        done = westward(*words)
        assert "west.yaml" in done.stderr
        assert "day is out of range" in done.stderr
        assert said in done.stdout + done.stderr


def test_while_an_agent_runs_no_site_is_asked(ledger: Ledger) -> None:
    made = let_go(ledger)
    an_agent_is_alive(ledger)
    (facts,) = json.loads(westward("jobs", "--json").stdout)
    assert (facts["key"], facts["state"]) == (made.key, "PENDING")


def test_what_the_list_leaves_out_is_summed_up(ledger: Ledger) -> None:
    keys = [job.key for job in ledger.add([intent() for _ in range(60)])]
    ledger.handles({key: i for i, key in enumerate(keys[:50])})
    ledger.released(keys[:50])
    ledger.seen({key: JobStatus(1, "x", JobState.COMPLETED, ended_at=NOON) for key in keys[:30]}, ended=set(keys[:30]))
    ledger.refused(dict.fromkeys(keys[50:55], "no account"))
    with ledger.keep(keys):
        pass
    an_agent_is_alive(ledger)
    done = westward("jobs")
    assert (
        "30 of 60 jobs: 30 COMPLETED, 20 PENDING, 5 in doubt, 5 not submitted. All of them: westward jobs --all"
        in done.stdout
    )
    everything = westward("jobs", "--all").stdout
    assert all(key in everything for key in keys)
    assert " of 60 jobs" not in everything


def test_who_is_missing_is_said_where_something_waits(ledger: Ledger) -> None:
    doubtful = add(ledger)
    (held,) = ledger.add([intent(waits_for=(Dependency(After.OK, let_go(ledger, site="east").key),))])
    ledger.handles({held.key: 1})
    ledger.attempt([doubtful.key])
    done = westward("jobs")
    assert (
        f"{WAITS}: 1 in doubt, 1 held until what they wait for has come. Start one: westward agent start" in done.stderr
    )


def test_twenty_thousand_jobs_are_listed_in_time(ledger: Ledger) -> None:
    """The time limit is wide, since this host does other things too; a look at every row would take many times as long."""
    base = intent()
    for _ in range(2):
        some = [replace(base, key=new_key()) for _ in range(10_000)]
        keys = [job.key for job in ledger.add(some)]
        ledger.handles(dict.fromkeys(keys, 1))
        ledger.released(keys)
        ledger.seen({key: JobStatus(1, "x", JobState.COMPLETED, ended_at=NOON) for key in keys}, ended=set(keys))
    started = time.monotonic()
    assert "20 of 20,000 jobs: 20,000 COMPLETED" in westward("jobs").stdout
    assert time.monotonic() - started < 5


def test_a_name_is_shown_and_not_obeyed(ledger: Ledger) -> None:
    add(ledger, name="[bold]x[/] \x1b[31m\n")
    said = westward("jobs").stdout
    assert r"[bold]x[/] \x1b[31m\n" in said


class TestCancel:
    def test_what_was_never_sent(self, ledger: Ledger) -> None:
        made = add(ledger)
        with ledger.keep([made.key]):
            pass
        done = westward("cancel", made.key[:6])
        assert (done.returncode, done.stdout.strip()) == (0, f"job {made.key}: not submitted")
        assert "has already ended" in westward("cancel", made.key).stdout

    def test_at_a_site_that_is_not_described_it_is_told_and_the_wish_is_kept(self, ledger: Ledger) -> None:
        made = let_go(ledger)
        done = westward("cancel", made.key)
        assert done.returncode == 2
        assert "no longer described" in done.stderr
        assert ledger.get(made.key).cancelled

    def test_a_job_that_is_not_there(self, ledger: Ledger) -> None:
        done = westward("cancel", "nothing")
        assert done.returncode == 2
        assert "westward jobs" in done.stderr
