"""What a job left behind: its outputs and its log, fetched from the site. A missing file is never a success."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from westward.directories import private_dir, state_dir
from westward.errors import StorageError, Unreachable, Unsafe
from westward.jobs.logs import stdout_path
from westward.model.job import Array, JobState
from westward.model.result import JobResult
from westward.model.site import Site
from westward.slurm.files import SiteFiles, open_files
from westward.store.ledger import Job

RECORD = "result.json"
# a shared file system may show a file of another host this much later (NFS caches attributes for 3 s and more)
VISIBLE_WITHIN_S = 5.0
_NAMED = 10  # of many tasks that failed, so many are named


def results_dir(key: str) -> Path:
    """Where a job's outputs are kept on this host."""
    return state_dir() / "results" / key


def collect(job: Job, site: Site | None) -> JobResult:
    """Fetch what the job promised, once: what is already here is not asked for again, so its site may be gone by then.

    Raises:
        StorageError: nothing can be written here.
    """
    files: dict[str, Path] = {}
    away: Unreachable | None = None
    problem = (
        ""
        if job.state is JobState.COMPLETED
        else f"ended {job.state}{_exit(job)}{': ' + job.reason if job.reason else ''}"
    )
    deadline = time.monotonic() + (VISIBLE_WITHIN_S if not problem else 0.0)
    with ExitStack() as opened:

        @cache
        def the_files() -> SiteFiles:
            if site is None:
                raise Unreachable(
                    f"site '{job.site}' is no longer described here",
                    "put its description back, or bring its lab up again",
                )
            return opened.enter_context(open_files(site))

        def there() -> SiteFiles:
            if away is not None:  # not each file of many waits for a site that does not answer
                raise away
            return the_files()

        for name in promised(job):
            try:
                files[name] = fetched(job, there, name, deadline)
            except FileNotFoundError:
                problem = problem or f"it ended {job.state} but left no {name}"
            except Unreachable as error:
                away = away or error
            except StorageError as error:
                problem = problem or f"{name} could not be fetched: {error}"
    record, wrong = _records(job, files)
    return JobResult(job.key, job.state, record, files, problem or wrong, away)


def copy_outputs(result: JobResult, target: Path, force: bool = False) -> list[Path]:
    """Copy what was fetched of a job under a directory of the user's, which is made where it is not there; where each file lies now.

    Raises:
        Unsafe: some of them are there, and may not be replaced without `force`; then nothing was copied.
        StorageError: it cannot be written there.
    """
    wanted = {target.joinpath(*PurePosixPath(name).parts): file for name, file in result.files.items()}
    there = [path for path in wanted if path.is_symlink() or path.exists()]
    if there and not force:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise Unsafe(
            f"'{there[0]}'{more} would be overwritten; nothing was copied", "name another directory, or --force"
        )
    for path, file in wanted.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                shutil.copyfile(file, draft)
                os.replace(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot write '{path}': {error.strerror}", "name another directory") from error
    return list(wanted)


def promised(job: Job) -> list[str]:
    """The files that must be there at the end, relative to the job's directory; each task of an array has a directory of its own."""
    if job.submission.array is None:
        return list(job.outputs)
    return [f"{task}/{name}" for task in Array.parse(job.submission.array).task_ids for name in job.outputs]


@contextmanager
def open_log(job: Job, site: Site, task: int | None = None) -> Iterator[IO[bytes]]:
    """The job's output so far (stdout and stderr of its batch script), or that of one task of an array.

    Raises:
        InputError: it is an array and no task is named, or the other way round.
        FileNotFoundError: it has not started to write.
        Unreachable: the site's files cannot be read here.
    """
    with open_files(site) as there, there.open(stdout_path(job, task)) as log:
        yield log


def fetched(job: Job, there: Callable[[], SiteFiles], name: str, deadline: float) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise StorageError(f"'{name}' is not a file under the job's directory")
    target = results_dir(job.key).joinpath(*parts)
    private_dir(target.parent)
    while not target.exists():
        try:
            there().fetch(f"{job.submission.directory}/{name}", target)
        except FileNotFoundError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)
    return target


def _records(job: Job, files: Mapping[str, Path]) -> tuple[Mapping[str, Any] | None, str]:
    """The record of the job, and what is wrong with it; of an array none stands for all, and what is wrong with those of its tasks."""
    if job.submission.array is None:
        return read_record(files.get(RECORD))
    wrong = {}
    for task in Array.parse(job.submission.array).task_ids:
        _, problem = read_record(files.get(f"{task}/{RECORD}"))
        if problem:
            wrong[task] = problem
    if not wrong:
        return None, ""
    first, *others = wrong
    more = f" (and {len(others)} more of its tasks: {_few(others)})" if others else ""
    return None, f"task {first}: {wrong[first]}{more}"


def _few(tasks: Sequence[int]) -> str:
    return ", ".join(map(str, tasks[:_NAMED])) + (", ..." if len(tasks) > _NAMED else "")


def read_record(file: Path | None) -> tuple[Mapping[str, Any] | None, str]:
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


def _exit(job: Job) -> str:
    if job.signal:
        return f" by signal {job.signal}"
    return f" with exit code {job.exit_code}" if job.exit_code else ""
