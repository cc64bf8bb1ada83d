"""The tables: made once, brought up to date from an older version, and left alone where they are of another one."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unit.store.databases import Fresh, noted
from unit.store.test_ledger import add
from unit.store.test_sweeps import a_sweep
from westward.errors import StorageError
from westward.model.budget import Caps, Project
from westward.model.job import JobState
from westward.store.ledger import Ledger, Phase

OLDER = Path(__file__).parents[2] / "data" / "ledger"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["version-1", "version-2", "version-3"])
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A ledger that an older version wrote."""
    file = tmp_path / "old.sqlite"
    with sqlite3.connect(file) as db:
        db.executescript((OLDER / f"{request.param}.sql").read_text(encoding="utf-8"))
    db.close()
    return file


class TestFromOlder:
    def test_every_job_is_as_it_was(self, old: Path) -> None:
        ledger = Ledger(f"sqlite:///{old}")
        found = {job.key[0]: job for job in ledger.jobs()}
        assert {key: job.phase for key, job in found.items()} == {
            "a": Phase.INTENT, "b": Phase.SUBMITTING, "c": Phase.HELD, "d": Phase.RELEASED, "e": Phase.ENDED, "f": Phase.REFUSED,
        }  # fmt: skip
        assert {job.name for job in found.values()} == {'it\'s "mine"\n训练'}
        assert [job.key[0] for job in ledger.jobs()] == list("fedcba")
        assert (found["d"].state, found["d"].job_id, found["d"].attempts) == (JobState.RUNNING, 4, 2)
        assert (found["d"].started_at, found["d"].template, found["d"].outputs) == (NOON, "gemm", ("result.json",))
        assert (found["e"].state, found["e"].exit_code, found["e"].ended_at) == (JobState.FAILED, 3, NOON)
        assert found["f"].reason == "site 'west' refuses: Invalid account"
        assert [found[key].cancelled for key in "ab"] == [False, True]
        assert found["a"].submission.environment["A"] == 'it\'s\n"b" größe'
        assert found["a"].decision["chosen"] == {"site": "west", "partition": "gpu"}
        assert (found["a"].submission.hold, found["a"].submission.array, found["a"].tasks, found["a"].waits_for) == (
            True, None, {}, (),
        )  # fmt: skip
        ledger.close()

    def test_its_jobs_go_on(self, old: Path) -> None:
        ledger = Ledger(f"sqlite:///{old}")
        (watched,) = ledger.watched()["west"]
        assert (watched.slurm_name, watched.job_id) == ("gemm~dddddddddddd", 4)
        with ledger.claim(["a" * 12, "b" * 12]) as mine:
            assert mine == ["a" * 12, "b" * 12], "a claim of that version does not say since when it is held"
            assert ledger.attempt(mine) == set(mine)
        add(ledger)
        ledger.close()

    def test_it_can_hold_a_sweep(self, old: Path) -> None:
        ledger = Ledger(f"sqlite:///{old}")
        sweep, points = a_sweep(ledger)
        assert ledger.sweeps.find(sweep.key[:5]) == sweep
        assert ledger.sweeps.points(sweep.key) == points
        assert [ledger.get(key).sweep for key in ledger.sweeps.jobs(sweep.key)] == [sweep.key]
        ledger.close()

    def test_it_happens_once(self, old: Path) -> None:
        Ledger(f"sqlite:///{old}").close()
        again = Ledger(f"sqlite:///{old}")
        assert len(again.jobs()) == 6
        again.close()

    def test_it_has_the_tables_and_indexes_of_a_new_one(self, old: Path, tmp_path: Path) -> None:
        new = tmp_path / "new.sqlite"
        for file in (old, new):
            Ledger(f"sqlite:///{file}").close()
        assert tables(old) == tables(new)

    def test_when_it_fails_half_way_nothing_has_changed(self, old: Path) -> None:
        with sqlite3.connect(old) as db:
            db.execute("UPDATE jobs SET submission = '{}' WHERE phase = 'ended'")
        db.close()
        before = tables(old)
        with pytest.raises(KeyError):
            Ledger(f"sqlite:///{old}")
        assert tables(old) == before


def tables(file: Path) -> list[str]:
    with sqlite3.connect(file) as db:
        found = [row[0] for row in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")]
    db.close()
    return found


@pytest.mark.parametrize("version", [0, 99])
def test_one_of_another_version_is_not_touched(database: Fresh, version: int) -> None:
    ledger = database.ledger()
    with ledger._database.transaction() as db:
        db.write("UPDATE schema SET version = :version", version=version)
    with pytest.raises(StorageError, match=rf"another version of Westward \(schema {version}, not 4\)") as caught:
        database.ledger()
    assert ("move the file away" if database.embedded else "another database") in caught.value.next_step


def test_a_table_of_somebody_else_is_not_touched(database: Fresh) -> None:
    ledger = database.ledger()
    with ledger._database.transaction() as db:
        db.write("DROP TABLE schema")
    with pytest.raises(StorageError, match="schema None"):
        database.ledger()


def test_what_is_asked_again_and_again_reads_no_whole_table(tmp_path: Path) -> None:
    """The rows are long: with 100,000 jobs a scan is hundreds of megabytes."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    add(ledger)
    with noted(ledger) as said:
        ledger.jobs(limit=20)
        ledger.jobs(phases=[Phase.INTENT, Phase.RELEASED], limit=20)
        ledger.unsettled()
        ledger.watched()
        ledger.counts()
        ledger.pulse()
        for thorough in (True, False):
            ledger.perhaps_twins(timedelta(minutes=30), thorough)
        ledger.find(ledger.jobs(limit=1)[0].key[:4])
        sweep, _ = a_sweep(ledger)
        ledger.sweeps.find(sweep.key[:4])
        ledger.sweeps.points(sweep.key)
        ledger.sweeps.jobs(sweep.key)
        ledger.lease("agent")
        ledger.starts("west")
        ledger.used(Project("llm", Caps(money=1.0), NOON))
    assert len(said) >= 10
    for statement, values in said:
        with ledger._database.reading() as db:
            steps = [str(row[3]) for row in db.rows(f"EXPLAIN QUERY PLAN {statement}", **values)]
        assert not [step for step in steps if step in ("SCAN jobs", "SCAN points", "SCAN sweeps")], (statement, steps)
    ledger.close()
