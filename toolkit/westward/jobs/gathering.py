"""The records of many jobs and tasks at once: one connection to each site, and nothing that is here is fetched again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from westward.errors import StorageError, Unreachable
from westward.jobs.collect import RECORD, VISIBLE_WITHIN_S, fetched, read_record
from westward.jobs.side_by_side import side_by_side
from westward.model.site import Site
from westward.slurm.files import SiteFiles, open_files
from westward.store.ledger import Job


class Wanted(NamedTuple):
    """A job, or one task of an array, and whether it ended well: then all that it promised has to be there."""

    job: Job
    task: int | None
    completed: bool


class Gathered(NamedTuple):
    """What one of them left: its record, where it has one; what is wrong with that; and why its site could not be asked, if so."""

    record: Mapping[str, Any] | None = None
    problem: str = ""
    away: Unreachable | None = None


def gather(wanted: Sequence[Wanted], sites: Mapping[str, Site]) -> list[Gathered]:
    """Fetch the promised files of each, and read its record; in their order.

    Raises:
        StorageError: nothing can be written here.
    """
    by_site: dict[str, list[int]] = {}
    for place, one in enumerate(wanted):
        by_site.setdefault(one.job.site, []).append(place)

    def of_site(item: tuple[str, list[int]]) -> list[Gathered]:
        name, places = item
        return _of_site(name, sites.get(name), [wanted[place] for place in places])

    found: dict[int, Gathered] = {}
    for (_, places), answers in zip(by_site.items(), side_by_side(of_site, by_site.items()), strict=True):
        found |= dict(zip(places, answers, strict=True))
    return [found[place] for place in range(len(wanted))]


class _Way:
    """The files of one site, opened when the first is needed; a site that did not answer once is not asked again."""

    def __init__(self, name: str, site: Site | None) -> None:
        self._name, self._site = name, site
        self._files: SiteFiles | None = None
        self.away: Unreachable | None = None
        # all of them together wait so long for what a shared file system does not show yet
        self.deadline = time.monotonic() + VISIBLE_WITHIN_S

    def there(self) -> SiteFiles:
        if self.away is not None:
            raise self.away
        if self._site is None:
            raise Unreachable(
                f"site '{self._name}' is no longer described here",
                "put its description back, or bring its lab up again",
            )
        if self._files is None:
            self._files = open_files(self._site)
        return self._files

    def close(self) -> None:
        if self._files is not None:
            self._files.close()


def _of_site(name: str, site: Site | None, wanted: Sequence[Wanted]) -> list[Gathered]:
    way = _Way(name, site)
    try:
        return [_one(way, each) for each in wanted]
    finally:
        way.close()


def _one(way: _Way, wanted: Wanted) -> Gathered:
    problem, record_file, away = "", None, None
    for output in wanted.job.outputs:
        try:
            file = _file(way, wanted, output)
            record_file = file if output == RECORD else record_file
        except FileNotFoundError:
            problem = problem or (f"it left no {output}" if wanted.completed else "")
        except Unreachable as error:
            way.away = away = way.away or error
        except StorageError as error:
            problem = problem or f"{output} could not be fetched: {error}"
    record, wrong = read_record(record_file)
    return Gathered(record, problem or wrong, away)


def _file(way: _Way, wanted: Wanted, output: str) -> Path:
    name = output if wanted.task is None else f"{wanted.task}/{output}"
    return fetched(wanted.job, way.there, name, way.deadline if wanted.completed else 0.0)
