"""What a job writes: where its outputs are at its site, and reading on in them from where one was."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Protocol

from westward.errors import InputError
from westward.slurm.filenames import filled
from westward.slurm.files import Part
from westward.store.ledger import Job

# read at once; a log that is longer is read in parts, each a connection's round trips
WINDOW = 4 << 20
# what was read last, as far as it is compared with what stands there now: whether this is still the same file
_KEPT = 256
_BLOCK = 1 << 16


class Readable(Protocol):
    """Files of a site, as far as a log needs them."""

    def part(self, path: str, start: int, most: int) -> Part: ...


def stdout_path(job: Job, task: int | None = None) -> str:
    """Where a job, or a task of an array, writes its stdout; its stderr as well, unless `stderr_path` says otherwise.

    Raises:
        InputError: it is an array and no task is named, or the other way round; or the name cannot be told from here.
        FileNotFoundError: the name depends on the id that its cluster has not given it yet.
    """
    array = job.submission.array
    if (array is None) is not (task is None):
        said = f"job {job.key} is an array ({array})" if array else f"job {job.key} is no array"
        raise InputError(
            said, f"name one task: westward logs {job.key} --task 0" if array else f"westward logs {job.key}"
        )
    if job.submission.arguments is None:
        path = job.submission.stdout
        return path.replace("%a", str(task)) if task is not None else path
    return _filled(job, job.submission.stdout, task)


def stderr_path(job: Job, task: int | None = None) -> str | None:
    """Where it writes its stderr, where that is a file of its own; None where it goes to stdout's. Raises as `stdout_path`."""
    beside, wanted = stdout_path(job, task), job.submission.options.get("error")
    if not wanted or wanted.startswith("/dev/"):
        return None
    # a script of the user's own starts in its directory; one of ours is told to start in the root, and makes its directory itself
    start = job.submission.root if job.submission.arguments is None else job.submission.directory
    path = _filled(job, posixpath.join(start, wanted), task)
    return path if path != beside else None


def _filled(job: Job, pattern: str, task: int | None) -> str:
    """A name with what slurmd fills in, as far as it is known here."""
    values: dict[str, int | str] = {"x": job.submission.name}
    if job.job_id is not None:
        # a task of an array has an id of its own
        values |= {"A": job.job_id} if task is not None else {"A": job.job_id, "j": job.job_id, "J": job.job_id}
    if task is not None:
        values["a"] = task
    path, missing = filled(pattern, values)
    if missing and job.job_id is None:
        raise FileNotFoundError(path)
    if missing:
        raise InputError(
            f"job {job.key} writes to '{path}' at {job.site}, and what {missing[0]} became is not recorded",
            "read it there; %A, %a and %x can be found from here, and %j where it is no array: --output",
        )
    return path


class Log:
    """One file that a job writes, read on from where one was.

    A file that was cut short or replaced (it was rotated, or the job was put back and started anew) is read from its beginning: it is
    known by the bytes that were read last, which no longer stand where they did.

    Args:
        lines: of what is there at first, only so many lines from the end; None for all.
    """

    def __init__(self, files: Readable, path: str, lines: int | None = None) -> None:
        self.path = path
        self._files = files
        self._lines = lines
        self._at = 0
        self._last = b""

    def more(self) -> Iterator[bytes]:
        """What was written since, in parts.

        Raises:
            FileNotFoundError: it is not there (yet, or any more).
            Unreachable, StorageError: it cannot be read now; nothing of it is left out the next time.
        """
        if self._lines is not None:
            self._begin_near_the_end(self._lines)
        while True:
            part = self._read(self._at - len(self._last), len(self._last) + WINDOW)
            if not part.data.startswith(self._last):
                self._at, self._last = 0, b""
                continue
            new = part.data[len(self._last) :]
            if not new:
                return
            self._at += len(new)
            self._last = (self._last + new)[-_KEPT:]
            yield new
            if len(new) < WINDOW:
                return

    def _read(self, start: int, most: int) -> Part:
        try:
            return self._files.part(self.path, start, most)
        except FileNotFoundError:
            self._at, self._last, self._lines = 0, b"", None  # what comes is new from its first line
            raise

    def _begin_near_the_end(self, lines: int) -> None:
        size = self._read(0, 0).size
        self._at = self._beginning_of(lines, size) if lines else size
        self._lines = None

    def _beginning_of(self, lines: int, size: int) -> int:
        """Where the last so many lines begin; read from the end, a block at a time."""
        left, at = lines, size
        while at > 0:
            begin = max(0, at - _BLOCK)
            block = self._files.part(self.path, begin, at - begin).data
            if at == size:
                block = block.removesuffix(b"\n")
            ends = block.count(b"\n")
            if ends >= left:
                cut = len(block)
                for _ in range(left):
                    cut = block.rfind(b"\n", 0, cut)
                return begin + cut + 1
            left, at = left - ends, begin
        return 0
