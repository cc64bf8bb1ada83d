"""One tree of errors. Each knows the exit code a command ends with and whether trying again can help.

The command line prints `str(error)` and, where there is one, the next step (`cli.main`).
"""

from __future__ import annotations


class WestwardError(Exception):
    """Something a user has to know about. The message names the place and what is wrong there.

    Attributes:
        next_step: what the user can do about it, as a command or a sentence; empty where there is nothing to say.
        exit_code: what the process exits with (0 done, 1 the job failed, 2 bad input, 3 no site fits, 4 unreachable, 5 unsafe).
        transient: True where the same call may succeed later without a change.
    """

    exit_code = 1
    transient = False

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step


class JobFailed(WestwardError):
    """The job ended in another state than COMPLETED, or left no result.

    Attributes:
        log: the end of what it wrote, where that was asked for and could be read; empty otherwise.
    """

    exit_code = 1

    def __init__(self, message: str, next_step: str = "", log: str = "") -> None:
        super().__init__(message, next_step)
        self.log = log


class NotEnded(WestwardError, TimeoutError):
    """A job goes on for longer than its caller wanted to wait. Nothing happened to the job."""

    exit_code = 1
    transient = True


class InputError(WestwardError):
    """A command, a template or a file says something that cannot be meant."""

    exit_code = 2


class QuantityError(InputError):
    """A text is not a quantity of the expected kind.

    Attributes:
        part: the piece that could not be read.
    """

    def __init__(self, message: str, part: str) -> None:
        super().__init__(message)
        self.part = part


class NotFound(InputError):
    """A job, site, lab or template of that name does not exist here."""


class NoSiteFits(WestwardError):
    """Every site was rejected; the decision holds the reason for each."""

    exit_code = 3


class SweepFailed(WestwardError):
    """Points of a sweep went wrong; the message says which, and why. Exit code and next step are those of the first one."""

    def __init__(self, message: str, first: WestwardError) -> None:
        super().__init__(message, first.next_step)
        self.exit_code = first.exit_code


class Unreachable(WestwardError):
    """A site, a service or the container engine did not answer, or answered that it cannot now."""

    exit_code = 4
    transient = True


class AccessRefused(Unreachable):
    """A site answered, and refused who we are: a wrong user, or a token that is expired or not its own."""

    transient = False


class SiteRefused(WestwardError):
    """A cluster understood the request and refuses it: a limit, an unknown partition, a bad field."""

    exit_code = 2


class StorageError(WestwardError):
    """A file or the ledger cannot be read or written: a full disk, missing permission, a damaged file."""

    exit_code = 4


class OverBudget(WestwardError):
    """A submission would spend more than its user, or a project, has allowed; nothing was submitted."""

    exit_code = 5


class Unsafe(WestwardError):
    """The command would destroy or disturb something and was not told to."""

    exit_code = 5
