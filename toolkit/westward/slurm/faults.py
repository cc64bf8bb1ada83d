"""What Slurm's error numbers and words say of a request: refused, surely not carried out, or perhaps carried out. One table for all doors.

Numbers are those of slurm_errno.h (22.05 to 26.05), which libslurm, and slurmrestd after it, shares with the operating system's: below
1000 they are errno(3). The commands print the words that belong to them.
"""

from __future__ import annotations

import errno
import os
from enum import Enum, auto

SLURM_ERROR = -1
PROTOCOL_VERSION_ERROR = 1005
PROTOCOL_AUTHENTICATION_ERROR = 1007
INVALID_JOB_ID = 2017
ALREADY_DONE = 2021
IN_STANDBY_MODE = 2027
JOB_FINISHED = 2084
IN_STANDBY_USE_BACKUP = 2131
REST_AUTH_FAIL = 9008
# a release or a cancel says so of a job that has ended: there is nothing to do any more
NOTHING_TO_DO = frozenset({INVALID_JOB_ID, ALREADY_DONE, JOB_FINISHED})


class Fault(Enum):
    """What went wrong with a request.

    REFUSED: the cluster understood it and refuses.
    NOT_DONE: nobody took it, so it was surely not carried out.
    SILENT: it was sent, or may have been, and no whole answer came.
    DATABASE: slurmdbd does not answer.
    ACCESS: who we are is refused.
    VERSION: the other side speaks another version of Slurm's protocol.
    UNSPECIFIED: SLURM_ERROR. To a question it is what a daemon's silence becomes; to a change, what a site's own job_submit plugin
        answers that refuses without a number.
    """

    REFUSED = auto()
    NOT_DONE = auto()
    SILENT = auto()
    DATABASE = auto()
    ACCESS = auto()
    VERSION = auto()
    UNSPECIFIED = auto()


# what connect(2) says
_NOT_CONNECTED = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
# what else a network says, of which the commands print the words
_BROKEN = (
    errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTDOWN, errno.ENOTCONN,
    errno.ESHUTDOWN, errno.EAGAIN, errno.EALREADY, errno.EINPROGRESS, errno.EINTR, errno.ENOBUFS, errno.EPROTO,
)  # fmt: skip
_SINGLE = {
    SLURM_ERROR: Fault.UNSPECIFIED,
    **dict.fromkeys(_NOT_CONNECTED, Fault.NOT_DONE),
    1001: Fault.NOT_DONE,  # SLURM_COMMUNICATIONS_CONNECTION_ERROR
    PROTOCOL_VERSION_ERROR: Fault.VERSION,
    PROTOCOL_AUTHENTICATION_ERROR: Fault.ACCESS,
    1021: Fault.NOT_DONE,  # SLURM_COMMUNICATIONS_CONNECT_TIMEOUT
    1800: Fault.NOT_DONE,  # SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR
    1804: Fault.NOT_DONE,  # SLURMCTLD_COMMUNICATIONS_BACKOFF
    1805: Fault.NOT_DONE,  # SLURMCTLD_COMMUNICATIONS_HARD_DROP
    IN_STANDBY_MODE: Fault.NOT_DONE,
    IN_STANDBY_USE_BACKUP: Fault.NOT_DONE,
    7000: Fault.DATABASE,  # ESLURM_DB_CONNECTION
    7008: Fault.DATABASE,  # ESLURM_DB_CONNECTION_INVALID
    7010: Fault.DATABASE,  # ESLURM_BAD_SQL
    REST_AUTH_FAIL: Fault.ACCESS,
}
_RANGES = (
    (range(2000, 5000), Fault.REFUSED),
    (range(6000, 7000), Fault.ACCESS),
    (range(7000, 14000), Fault.REFUSED),
)


def numbered(number: int) -> Fault:
    """By its number. The operating system's (1 to 999), those of communication (1000 to 1999, 5000 to 5999) and unknown ones are silence:
    the captured ones of a slurmctld that is away are 1800 to a submission, 1000 to an update, and 1 (EPERM) to a cancel."""
    return _SINGLE.get(number) or next((fault for span, fault in _RANGES if number in span), Fault.SILENT)


# the first that is found counts. Without a configuration a command sends nothing; and a silence goes before a failed connection, since a
# command tries again by itself and may print both
_WORDS: tuple[tuple[Fault, tuple[str, ...]], ...] = (
    (
        Fault.ACCESS,
        ("authentication error", "Invalid authentication credential", "Authentication failure", "Munge", "munge", "invalid user"),
    ),
    (Fault.NOT_DONE, ("Unable to establish configuration source", "Could not establish a configuration source")),
    (
        Fault.SILENT,
        (
            "(send failure)", "(receive failure)", "(shutdown failure)",
            "Zero Bytes were transmitted", "Socket timed out", "Header lengths are longer", "Insane message length", "Message send failure",
            "Message receive failure", "Communication shutdown failure", "Unexpected message recieved", "Unexpected message received",
            "Received zero length message", "Received message length < 0", "Failed to send entire message", "I/O stream version number error",
            "Unexpected missing socket", "Read would block", "Write would block", "Connection timed out reading", "Connection timed out writing",
            "delayed socket error", "Connection forced closed", "Connection rejected by handler", "Process is shutting down",
        ),
    ),
    (Fault.NOT_DONE, ("Connection timed out establishing",)),
    (Fault.SILENT, tuple(map(os.strerror, _BROKEN))),
    (
        Fault.NOT_DONE,
        (
            "connect failure", "standby mode", "Communication connection failure", "Rate limit exceeded",
            *map(os.strerror, _NOT_CONNECTED),
        ),
    ),
    (Fault.SILENT, ("Unable to contact slurm controller",)),
    (Fault.DATABASE, ("slurmdbd", "Slurm accounting storage is disabled", "Unable to connect to database")),
    (Fault.VERSION, ("Incompatible versions of client and server", "Protocol version has changed")),
)  # fmt: skip


def worded(said: str) -> Fault:
    """By the words that Slurm's commands print, whatever stands around them; what is none of these is a refusal."""
    return next((fault for fault, words in _WORDS if any(word in said for word in words)), Fault.REFUSED)


def beyond_limits(said: str) -> bool:
    """Whether a refusal is about a limit of a QOS or an account, ESLURM_ACCOUNTING_POLICY: Slurm does not say which."""
    return "violates accounting/QOS policy" in said


def next_step(fault: Fault, site: str) -> str:
    """What the user can do about it; empty for a refusal, whose own words say so."""
    then = f"then 'westward site check {site}'"
    match fault:
        case Fault.REFUSED:
            return ""
        case Fault.ACCESS:
            return f"'sinfo' has to work there as this user: munge, the clock or the user's account there may be wrong; {then}"
        case Fault.DATABASE:
            return f"is its slurmdbd up? 'sacctmgr show cluster' there says more; {then}"
        case Fault.VERSION:
            return f"name the directory of that cluster's own Slurm commands as 'commands' of the door; {then}"
        case _:
            return f"is its slurmctld up? 'scontrol ping' there says more; {then}"
