"""The records of many points: one connection to each site, once each, and what is not there is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unit.federation.worlds import site
from unit.store.test_ledger import let_go
from westward.errors import Unreachable
from westward.jobs import gathering
from westward.jobs.gathering import Gathered, Wanted, gather
from westward.model.site import Site
from westward.slurm.files import SiteFiles, open_files
from westward.store.ledger import Job, Ledger

RECORD: dict[str, Any] = {"status": "ok", "rows": [], "columns": []}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "VISIBLE_WITHIN_S", 0.3)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The sites whose files were opened."""
    names: list[str] = []

    def note(one: Site) -> SiteFiles:
        names.append(one.name)
        return open_files(one)

    monkeypatch.setattr(gathering, "open_files", note)
    yield names


@pytest.fixture
def here(tmp_path: Path) -> Site:
    """A site whose root this host mounts."""
    root = tmp_path / "root"
    root.mkdir()
    return replace(site("west"), root="/shared/me", files={"/shared/me": root}, doors=())


def an_array(here: Site, tasks: int, lacks: int = -1) -> Job:
    job = let_go(Ledger())
    folder = here.files["/shared/me"] / job.submission.name
    for task in range(tasks):
        (folder / str(task)).mkdir(parents=True)
        if task != lacks:
            (folder / str(task) / "result.json").write_text(json.dumps({**RECORD, "task": task}))
    return job


def test_many_come_by_one_connection_and_once(here: Site, opened: list[str]) -> None:
    one, two = an_array(here, 5), an_array(here, 3)
    wanted = [*(Wanted(one, task, True) for task in range(5)), *(Wanted(two, task, True) for task in (2, 0))]
    found = gather(wanted, {"west": here})
    assert [each.record and each.record["task"] for each in found] == [0, 1, 2, 3, 4, 2, 0]
    assert opened == ["west"]
    opened.clear()
    assert gather(wanted, {}) == found, "what is here is asked of nobody"
    assert opened == []


def test_one_that_left_nothing_stops_none_of_the_others(here: Site) -> None:
    job = an_array(here, 3, lacks=1)
    found = gather([Wanted(job, task, True) for task in range(3)], {"west": here})
    assert [(each.record is None, each.problem) for each in found] == [
        (False, ""),
        (True, "it ended COMPLETED but left no result.json"),
        (False, ""),
    ]


def test_of_one_that_failed_what_is_there_is_taken_and_nothing_is_missed(here: Site) -> None:
    job = an_array(here, 2, lacks=1)
    found = gather([Wanted(job, task, False) for task in range(2)], {"west": here})
    assert [(each.record is None, each.problem) for each in found] == [(False, ""), (True, "")]


def test_a_record_that_says_it_failed_is_a_problem(here: Site) -> None:
    job = an_array(here, 2)
    file = here.files["/shared/me"] / job.submission.name / "1" / "result.json"
    file.write_text('{"status": "failed", "message": "3 of 9 are wrong"}')
    assert [each.problem for each in gather([Wanted(job, task, True) for task in (0, 1)], {"west": here})] == [
        "",
        "3 of 9 are wrong",
    ]
    broken = an_array(here, 1)
    (here.files["/shared/me"] / broken.submission.name / "0" / "result.json").write_text("{")
    (found,) = gather([Wanted(broken, 0, True)], {"west": here})
    assert "cannot be read" in found.problem


def test_a_site_that_is_gone_is_asked_once_and_not_taken_for_a_failure(here: Site) -> None:
    job = an_array(here, 3)
    found = gather([Wanted(job, task, True) for task in range(3)], {})
    assert all(isinstance(each.away, Unreachable) and not each.problem for each in found)
    assert {str(each.away) for each in found} == {"site 'west' is no longer described here"}


def test_none_at_all() -> None:
    assert gather([], {}) == []
    assert Gathered() == ({}, None, "", None)
