"""The one place that starts a program: argv only, with a time limit; no shell ever sees a word of ours."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from westward.errors import Unreachable, WestwardError

MASK = "********"


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended: its argv (secrets masked), exit status and both outputs as text."""

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str


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
    secrets: Sequence[str] = (),
    check: bool = True,
) -> Completed:
    """Run a program to its end.

    Args:
        argv: program and arguments. Secrets do not belong here (every user of a host can read argv): pass them by `stdin` or
            `environment`, and name them in `secrets` so that no message repeats them.
        timeout_s: seconds until the program is killed.
        environment: variables added to this process's own.
        check: raise when the status is not 0.

    Raises:
        Unreachable: the program is not installed, or ran past its limit.
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
            input=stdin,
            env={**os.environ, **environment} if environment else None,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unreachable(f"the program '{shown[0]}' is not installed here") from error
    except OSError as error:
        raise WestwardError(f"the program '{shown[0]}' cannot be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"'{shlex.join(shown)}' did not end within {timeout_s:g} s and was stopped") from error
    completed = Completed(shown, done.returncode, masked(done.stdout), masked(done.stderr))
    if check and done.returncode != 0:
        raise CommandFailed(completed)
    return completed
