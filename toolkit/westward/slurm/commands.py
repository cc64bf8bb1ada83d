"""How the shell door runs Slurm's commands: many at a time, each with an environment of its own. Here on this host; `remote` does it by ssh."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from westward import process
from westward.errors import WestwardError
from westward.process import Completed
from westward.slurm.client import InDoubt

# what a command finds of the login environment; SBATCH_..., SQUEUE_..., SLURM_... of a user would change what it does or prints
LOGIN = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "SLURM_CONF")
QUERY = (*LOGIN, "PATH", "LD_LIBRARY_PATH")
# no language, no time zone and no cut of a long list in what is read
PLAIN = {"LC_ALL": "C", "TZ": "UTC", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Request:
    """A program to run at a site.

    Attributes:
        stdin: what it reads; empty for nothing.
        keep: variables of the login environment that it gets; no others.
        variables: more of them.
        folder: where it runs; empty where that does not matter.
    """

    argv: tuple[str, ...]
    stdin: str = ""
    keep: tuple[str, ...] = QUERY
    variables: Mapping[str, str] = field(default_factory=lambda: PLAIN)
    folder: str = ""


Answer = Completed | WestwardError


class Commands(Protocol):
    """A host on which Slurm's commands run."""

    def each(self, requests: Sequence[Request], *, at_once: int, timeout_s: float, repeat: bool) -> list[Answer]:
        """Run programs, up to `at_once` (AT_ONCE at most) together; for each, in their order, how it ended or why it did not.

        `Unreachable` (or `AccessRefused`): it was not started. `InDoubt`: it may have run.

        Args:
            timeout_s: seconds that one of them may take.
            repeat: they may be run twice, so a connection that was lost is made again and they are run again, once.
        """
        ...

    def close(self) -> None: ...


class LocalCommands:
    """The commands of this host."""

    def __init__(self) -> None:
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def each(self, requests: Sequence[Request], *, at_once: int, timeout_s: float, repeat: bool) -> list[Answer]:
        if len(requests) <= 1 or at_once == 1:
            return [self._run(request, timeout_s) for request in requests]
        with ThreadPoolExecutor(min(at_once, len(requests), AT_ONCE)) as pool:
            return list(pool.map(lambda request: self._run(request, timeout_s), requests))

    def _run(self, request: Request, timeout_s: float) -> Answer:
        with self._free:
            return _run(request, timeout_s)

    def close(self) -> None:
        pass


def _run(request: Request, timeout_s: float) -> Answer:
    kept = {name: os.environ[name] for name in request.keep if name in os.environ}
    try:
        return process.run(
            request.argv,
            timeout_s=timeout_s,
            stdin=request.stdin or None,
            environment={**kept, **request.variables},
            inherit=False,
            check=False,
            folder=request.folder or None,
        )
    except process.RanTooLong as error:
        return InDoubt(str(error))
    except WestwardError as error:
        return error
