"""The protocol that every way to a cluster keeps, and `open_client`, which picks the way.

What happens when a cluster does not answer: each call raises `Unreachable` (nobody there, or it cannot now), `AccessRefused` (it refuses
who we are), `InDoubt` (it may have heard us) or `SiteRefused` (it understood and refuses the request). Callers never guess a state
from silence. Calls about many things answer for each of them, so that one that is refused stops none of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from westward.errors import InputError, Unreachable, WestwardError
from westward.model.job import Attempt, JobChange, JobState, JobStatus, Submission
from westward.model.limits import Limits, Trial
from westward.model.site import Account, ClusterState, Door, NativeDoor, RestDoor, ShellDoor, Site


class InDoubt(Unreachable):
    """A request was sent and no answer came: it may have been carried out, or may yet be."""


class TakenInPart(InDoubt):
    """A job was accepted without a part of what was asked for, and could not be taken back: it must never be let go."""


class NotOffered(Unreachable):
    """This door has no way to do that, whatever the cluster could: another door may have. Nothing was sent."""

    transient = False


class OtherCluster(Unreachable):
    """A door leads to another cluster than its site is: nothing that it says is about the site's jobs, and nothing was sent."""

    transient = False


def same_cluster(site: str, door: object, told: str | None, expected: str) -> None:
    """Compare the ClusterName that a door tells with the site's own; empty where it is not known yet.

    Raises:
        OtherCluster: they are not the same. Slurm itself takes no notice of capitals.
    """
    if expected and (told or "").lower() != expected.lower():
        where = f"leads to the cluster '{told}'" if told else "does not say to which cluster it leads"
        raise OtherCluster(
            f"site '{site}': {door} {where}, not to '{expected}'",
            f"a door on this host works on a login node of '{expected}' only: leave it out elsewhere, or correct 'cluster' in the "
            f"site's description; 'westward site check {site}' asks each door",
        )


class Known(NamedTuple):
    """What is known of a job before a poll."""

    state: JobState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Poll:
    """One look at many jobs: those that are otherwise than was known, and those that neither queue nor accounting knows.

    A job that is in none of them is as it was known to be, or could not be asked about this time.

    Attributes:
        unheard: jobs that the queue does not have (or not all tasks of), while the accounting does not answer; with what is wrong there.
    """

    changed: Mapping[int, JobStatus]
    gone: frozenset[int]
    unheard: Mapping[int, str] = field(default_factory=dict)


class SlurmClient(Protocol):
    """One cluster, spoken to as one user. A client is used by one thread at a time; it may use several itself."""

    def state(self) -> ClusterState:
        """Partitions, nodes with what is used of them, and when running jobs end at the latest."""
        ...

    def account(self) -> Account:
        """Who we are there, and what we may charge."""
        ...

    def limits(self) -> Limits:
        """What we may have there: the limits of arrays, partitions, QOS and accounts, and what counts against them now. Changes nothing.

        Where slurmdbd does not answer, those of QOS and accounts are left out, and a note says so: jobs are taken then, too.
        """
        ...

    def try_out(self, submission: Submission) -> Trial:
        """Have the cluster look at a job without submitting it.

        Raises:
            NotOffered: slurmrestd cannot.
            Unreachable: it does not answer soon.
        """
        ...

    def refuses(self, submission: Submission) -> str:
        """Why this door cannot pass that submission on in full (an option it has no field for); empty where it can. Asks nobody."""
        ...

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        """Submit jobs, several at a time; for each, in their order, its Slurm job id or what went wrong.

        `SiteRefused` and `Unreachable`: this one is not there. `InDoubt`: it may be, so look before a second try. Raises nothing.
        """
        ...

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        """Let held jobs start; what went wrong, by job. Repeatable: a job that is not held, or has ended, stays as it is."""
        ...

    def hold(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        """Keep pending jobs from starting; what went wrong, by job."""
        ...

    def cancel(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        """End jobs; what went wrong, by job. Repeatable: a job that has ended stays as it is."""
        ...

    def signal(self, job_id: int, signal: str) -> None:
        """Send a signal ("USR1", "TERM", ...) to the processes of a running job's steps, not to its batch shell."""
        ...

    def requeue(self, job_id: int) -> None:
        """Put a running or ended job back into the queue; it was submitted with `requeue`, or is refused."""
        ...

    def update(self, job_id: int, change: JobChange) -> None:
        """Change a job that waits (most things) or runs (a shorter time limit)."""
        ...

    def find(self, names: Collection[str]) -> dict[str, list[JobStatus]]:
        """Every job of exactly those names that the queue or the accounting (of the last 31 days) knows, oldest first.

        A name that nobody knows is a key with an empty list.

        Raises:
            Unreachable: queue or accounting does not answer: then nothing is proved by not finding a job, so nothing is said.
        """
        ...

    def poll(self, known: Mapping[int, Known]) -> Poll:
        """What is otherwise with these jobs than it was known to be.

        One query for all that are queued, whatever their number, and one for all that have left the queue.
        """
        ...

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Attempt]:
        """This user's records in the accounting since then (all of them, requeued attempts and array tasks each on its own), or those
        of the given names; oldest first."""
        ...

    def accounting_backlog(self) -> int:
        """How many messages slurmctld still owes slurmdbd.

        Raises:
            Unreachable: slurmctld or slurmdbd does not answer.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_door(site: Site, door: Door) -> SlurmClient:
    """A client by that one door. Nothing is sent yet; its first call makes sure that the door leads to the site's cluster.

    Raises:
        AccessRefused: there is no token to be had.
        Unreachable: this host cannot use that door (no pyslurm of that version, no ssh).
    """
    # each door's libraries are loaded only where it is used: a command that only reads the ledger starts in a blink
    match door:
        case RestDoor():
            from westward.slurm.rest import RestClient

            return RestClient(site.name, door, site.cluster)
        case ShellDoor():
            from westward.slurm.shell import ShellClient

            return ShellClient(site.name, door, site.cluster)
        case NativeDoor():
            from westward.slurm.native import NativeClient

            return NativeClient(site.name, site.cluster)


def open_client(site: Site) -> SlurmClient:
    """A client that uses the first of the site's doors that answers.

    Raises:
        InputError: the site lists none.
    """
    from westward.slurm.doors import Doors

    if not site.doors:
        raise InputError(
            f"site '{site.name}' lists no way to reach it", "add one under 'access: doors:' in its description"
        )
    return Doors(site)
