"""What one job left behind: its outputs and its log. A missing file is never a success."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from westward.errors import StorageError, Unsafe
from westward.jobs.gathering import Wanted, at_task, gather
from westward.jobs.logs import stdout_path
from westward.model.job import Array, JobState
from westward.model.result import JobResult
from westward.model.site import Site
from westward.slurm.files import open_files
from westward.store.ledger import Job

_NAMED = 10  # of many tasks that failed, so many are named


def collect(job: Job, site: Site | None) -> JobResult:
    """Fetch what the job promised, once: what is already here is not asked for again, so its site may be gone by then.

    Raises:
        StorageError: nothing can be written here.
    """
    completed = job.state is JobState.COMPLETED
    array = job.submission.array
    tasks = [None] if array is None else Array.parse(array).task_ids
    sites = {} if site is None else {job.site: site}
    found = dict(zip(tasks, gather([Wanted(job, task, completed) for task in tasks], sites), strict=True))
    ended = "" if completed else f"ended {job.state}{_exit(job)}{': ' + job.reason if job.reason else ''}"
    return JobResult(
        job.key,
        job.state,
        found[None].record if array is None else None,
        {at_task(task, name): file for task, left in found.items() for name, file in left.files.items()},
        ended or _problem({task: left.problem for task, left in found.items() if left.problem}),
        next((left.away for left in found.values() if left.away is not None), None),
    )


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


def _problem(problems: Mapping[int | None, str]) -> str:
    """What is wrong with a job, by what is wrong with its tasks; None stands for one that is no array."""
    if None in problems or not problems:
        return problems.get(None, "")
    first, *others = problems
    more = f" (and {len(others)} more of its tasks: {_few(others)})" if others else ""
    return f"task {first}: {problems[first]}{more}"


def _few(tasks: Sequence[int | None]) -> str:
    return ", ".join(map(str, tasks[:_NAMED])) + (", ..." if len(tasks) > _NAMED else "")


def _exit(job: Job) -> str:
    if job.signal:
        return f" by signal {job.signal}"
    return f" with exit code {job.exit_code}" if job.exit_code else ""
