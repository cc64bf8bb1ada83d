"""The protocol that every way to a cluster keeps, and `open_client`, which picks the way.

What happens when a cluster does not answer: each call raises `Unreachable` (nobody there, or it cannot now), `AccessRefused` (it refuses
who we are) or `SiteRefused` (it understood and refuses the request). Callers never guess a state from silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from westward.errors import InputError, Unreachable
from westward.model.job import JobState, JobStatus, Submission
from westward.model.site import ClusterState, Site


class InDoubt(Unreachable):
    """A request was sent and no answer came: it may have been carried out, or may yet be."""


@dataclass(frozen=True, slots=True)
class Poll:
    """One look at many jobs: those in another state than was known, and those that neither queue nor accounting knows."""

    changed: Mapping[int, JobStatus]
    gone: frozenset[int]


class SlurmClient(Protocol):
    """One cluster, spoken to as one user. A client is used by one thread at a time."""

    def state(self) -> ClusterState:
        """Partitions, nodes with what is used of them, and when running jobs end at the latest."""
        ...

    def submit_held(self, submission: Submission) -> int:
        """Submit a job that cannot start before `release`; its Slurm job id. Not repeatable: look before a second try."""
        ...

    def release(self, job_id: int) -> None:
        """Let a held job start. Repeatable: a job that is not held stays as it is."""
        ...

    def cancel(self, job_id: int) -> None:
        """End a job. Repeatable: a job that has ended stays as it is."""
        ...

    def find(self, name: str) -> list[JobStatus]:
        """Every job of exactly that name that the queue or the accounting knows, oldest first."""
        ...

    def poll(self, known: Mapping[int, JobState]) -> Poll:
        """What changed with these jobs since they were in the given states.

        One query for all that are queued, whatever their number; details are asked only of what changed or has left the queue,
        and of a few that wait, whose reason may have changed.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_client(site: Site) -> SlurmClient:
    """A client by the first door that the site lists.

    Raises:
        InputError: the site lists none.
    """
    from westward.slurm.rest import RestClient

    if not site.doors:
        raise InputError(
            f"site '{site.name}' lists no way to reach it", "add one under 'access: doors:' in its description"
        )
    return RestClient(site.name, site.doors[0])
