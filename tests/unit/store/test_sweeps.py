"""Sweeps in the ledger: kept whole or not at all, and a point changes its job only from the one that was seen. On every kind of database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.store.databases import Fresh
from unit.store.test_ledger import NAMES, intent
from westward.errors import InputError
from westward.model.job import Task, new_key
from westward.model.sweep import Sweep, SweepPoint
from westward.store.database import Connection
from westward.store.ledger import Intent, Job, Ledger


def a_sweep(ledger: Ledger, key: str | None = None) -> tuple[Sweep, list[SweepPoint]]:
    """Three points, whose array is written with them."""
    sweep = Sweep(
        key or new_key(), NAMES[1], "gemm", ("size=1,2,3", 'name="a, b"'), None, ({"spec": {"name": NAMES[4]}},)
    )
    job = replace(intent(), sweep=sweep.key)
    points = [
        SweepPoint(
            number, f"size={number}", (f"size={number}",), 0, Task(("echo", *NAMES), {"A": "it's\n"}), job.key, number
        )
        for number in range(3)
    ]
    ledger.sweeps.add(sweep, points, lambda db: note(ledger.added(db, [job])))
    (found,) = [each for each in ledger.sweeps.newest(10) if each.key == sweep.key]
    return replace(sweep, created_at=found.created_at), points


def note(jobs: list[Job]) -> None:
    assert jobs


@pytest.fixture
def ledger(database: Fresh) -> Ledger:
    return database.ledger()


def moved(ledger: Ledger, sweep: Sweep, points: list[SweepPoint], to: Intent) -> bool:
    moves = {point.number: ((point.job, point.task), (to.key, place)) for place, point in enumerate(points)}
    return ledger.sweeps.move(sweep.key, moves, lambda db: note(ledger.added(db, [to])))


def test_a_sweep_comes_back_as_it_was(ledger: Ledger) -> None:
    sweep, points = a_sweep(ledger)
    assert (ledger.sweeps.find(sweep.key), ledger.sweeps.points(sweep.key)) == (sweep, points)
    assert ledger.sweeps.jobs(sweep.key) == [points[0].job]
    assert ledger.get(points[0].job).sweep == sweep.key


def test_it_is_found_by_the_beginning_of_its_key(ledger: Ledger) -> None:
    first, _ = a_sweep(ledger, "aaaabbbbcccc")
    a_sweep(ledger, "aaaabbbbdddd")
    assert ledger.sweeps.find("aaaabbbbc") == first
    assert [ledger.sweeps.find(text) for text in ("b", "", "aaaabbbbccccd", "it's", "%")] == [None] * 5
    with pytest.raises(InputError, match="beginning of several sweeps: aaaabbbbcccc, aaaabbbbdddd"):
        ledger.sweeps.find("aaaa")


def test_what_fails_half_way_leaves_nothing(ledger: Ledger) -> None:
    def fails(db: Connection) -> None:
        ledger.added(db, [intent()])
        raise ZeroDivisionError

    sweep, points = a_sweep(ledger)
    with pytest.raises(ZeroDivisionError):
        ledger.sweeps.add(replace(sweep, key=new_key()), points, fails)
    assert [each.key for each in ledger.sweeps.newest(10)] == [sweep.key]
    assert [job.key for job in ledger.jobs()] == [points[0].job]


def test_a_point_goes_to_another_job_once(database: Fresh) -> None:
    """Two who want the same points run again: the second one is told, and its job is not written."""
    mine, others = database.ledger(), database.ledger()
    sweep, points = a_sweep(mine)
    seen = others.sweeps.points(sweep.key)
    first, second = (replace(intent(), sweep=sweep.key) for _ in range(2))
    assert moved(mine, sweep, points[1:], first)
    assert not moved(others, sweep, seen[2:], second)
    now = mine.sweeps.points(sweep.key)
    assert [(point.job, point.task) for point in now] == [(points[0].job, 0), (first.key, 0), (first.key, 1)]
    assert sorted(mine.sweeps.jobs(sweep.key)) == sorted([points[0].job, first.key])
