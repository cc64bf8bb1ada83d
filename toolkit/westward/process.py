"""The one place that starts a program: argv only, with a time limit; no shell ever sees a word of ours."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from westward.errors import StorageError, Unreachable, WestwardError

MASK = "********"
_LOOKS_SECRET = re.compile(r"[\w-]{8,}\.[\w-]{8,}\.[\w-]+")


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended: its argv (secrets masked), exit status and both outputs as text."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """What may be shown of a program that handles secrets: the last line on stderr, shortened, without anything like a token."""
        return (_LOOKS_SECRET.sub(MASK, self.stderr).strip().splitlines() or ["it says nothing"])[-1][:200]


class RanTooLong(Unreachable):
    """A program was stopped at its time limit: whatever it was to do may have been done."""


class CommandFailed(WestwardError):
    """A program ended with a status other than 0; the message carries its command line, status and last output."""

    def __init__(self, completed: Completed) -> None:
        self.completed = completed
        said = (completed.stderr.strip() or completed.stdout.strip() or "it printed nothing").splitlines()[-5:]
        super().__init__(f"'{shlex.join(completed.argv)}' ended with status {completed.status}: " + "\n".join(said))


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    inherit: bool = True,
    secrets: Sequence[str] = (),
    check: bool = True,
    folder: str | None = None,
) -> Completed:
    """Run a program to its end.

    Args:
        argv: program and arguments. Secrets do not belong here (every user of a host can read argv): pass them by `stdin` or
            `environment`, and name them in `secrets` so that no message repeats them.
        timeout_s: seconds until the program is killed.
        environment: variables added to this process's own.
        inherit: False where `environment` is all that the program gets; it is still looked for along this process's own PATH.
        check: raise when the status is not 0.
        folder: where it runs; this process's own working directory unless it is named.

    Raises:
        Unreachable: the program is not installed.
        RanTooLong: it ran past its limit.
        CommandFailed: it ended with another status than 0 and `check` is set.
    """

    def masked(text: str) -> str:
        for secret in filter(None, secrets):
            text = text.replace(secret, MASK)
        return text

    shown = tuple(masked(word) for word in argv)
    try:
        done = subprocess.run(
            list(argv),
            executable=None if inherit else shutil.which(argv[0]) or argv[0],
            input=stdin,
            env={**(os.environ if inherit else {}), **(environment or {})},
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            cwd=folder,
        )
    except FileNotFoundError as error:
        if folder is not None and not os.path.isdir(folder):
            raise WestwardError(f"there is no directory '{folder}' on this host") from error
        raise Unreachable(f"the program '{shown[0]}' is not installed here") from error
    except OSError as error:
        raise WestwardError(f"the program '{shown[0]}' cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise RanTooLong(f"'{shlex.join(shown)}' did not end within {timeout_s:g} s and was stopped") from error
    completed = Completed(shown, done.returncode, masked(done.stdout), masked(done.stderr))
    if check and done.returncode != 0:
        raise CommandFailed(completed)
    return completed


def stream(
    argv: Sequence[str],
    told: Callable[[str], None],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> int:
    """Run a program for as long as it takes, and hand on each line of its two outputs as it comes; its exit status.

    Ctrl-C on a terminal reaches it too, so it is waited for before this is interrupted itself.

    Raises:
        Unreachable: the program is not installed.
    """
    try:
        started = subprocess.Popen(
            list(argv),
            env={**os.environ, **(environment or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise Unreachable(f"the program '{argv[0]}' is not installed here") from error
    assert started.stdout is not None
    with started.stdout as said:
        try:
            for line in said:
                told(line.rstrip("\n"))
            return started.wait()
        except KeyboardInterrupt:
            for line in said:
                told(line.rstrip("\n"))
            raise
        finally:
            started.wait()


def start_detached(argv: Sequence[str], log: Path) -> Callable[[], int | None]:
    """Start a program that outlives this one, in a session of its own, both outputs appended to `log` (mode 600).

    Returns a function that gives its exit status, None while it runs.

    Raises:
        StorageError: the log cannot be written.
        WestwardError: the program cannot be started.
    """
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StorageError(f"cannot write '{log}': {error.strerror}") from error
    try:
        started = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True, cwd="/"
        )
    except OSError as error:
        raise WestwardError(f"the program '{argv[0]}' cannot be started: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return started.poll
