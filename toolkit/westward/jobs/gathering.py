"""What many jobs and tasks left behind, at once: one connection to each site, and nothing that is here is fetched again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

from westward.directories import private_dir, state_dir
from westward.errors import StorageError, Unreachable
from westward.jobs.side_by_side import side_by_side
from westward.model.site import Site
from westward.slurm.files import SiteFiles, open_files
from westward.store.ledger import Job

RECORD = "result.json"
# a shared file system may show a file of another host this much later (NFS caches attributes for 3 s and more)
VISIBLE_WITHIN_S = 5.0


class Wanted(NamedTuple):
    """A job, or one task of an array, and whether it ended well: then all that it promised has to be there."""

    job: Job
    task: int | None
    completed: bool


class Gathered(NamedTuple):
    """What one of them left: its outputs by name, where they lie here; its record, where it has one; what is wrong with that; and why its
    site could not be asked, if so."""

    files: Mapping[str, Path] = MappingProxyType({})
    record: Mapping[str, Any] | None = None
    problem: str = ""
    away: Unreachable | None = None


def results_dir(key: str) -> Path:
    """Where a job's outputs are kept on this host."""
    return state_dir() / "results" / key


def at_task(task: int | None, name: str) -> str:
    """A file of a task, relative to the job's directory: each task of an array has a directory of its own."""
    return name if task is None else f"{task}/{name}"


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
    files: dict[str, Path] = {}
    problem, away = "", None
    for output in wanted.job.outputs:
        try:
            files[output] = _file(way, wanted, output)
        except FileNotFoundError:
            problem = problem or (f"it ended COMPLETED but left no {output}" if wanted.completed else "")
        except Unreachable as error:
            way.away = away = way.away or error
        except StorageError as error:
            problem = problem or f"{output} could not be fetched: {error}"
    record, wrong = _read_record(files.get(RECORD))
    return Gathered(files, record, problem or wrong, away)


def _file(way: _Way, wanted: Wanted, output: str) -> Path:
    name = at_task(wanted.task, output)
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise StorageError(f"'{name}' is not a file under the job's directory")
    target = results_dir(wanted.job.key).joinpath(*parts)
    private_dir(target.parent)
    while not target.exists():
        try:
            way.there().fetch(f"{wanted.job.submission.directory}/{name}", target)
        except FileNotFoundError:
            if not wanted.completed or time.monotonic() >= way.deadline:
                raise
            time.sleep(0.2)
    return target


def _read_record(file: Path | None) -> tuple[Mapping[str, Any] | None, str]:
    """The parsed record and what is wrong with it, if anything: not JSON, or a benchmark that says it failed."""
    if file is None:
        return None, ""
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{file.name} cannot be read: {error}"
    if not isinstance(record, dict):
        return None, f"{file.name} holds no record"
    failed = record.get("status") != "ok"
    return record, str(record.get("message") or "the benchmark says that it failed") if failed else ""
