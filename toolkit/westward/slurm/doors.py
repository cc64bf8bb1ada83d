"""A site through its doors, in the order in which it lists them: when one is down the next is used, and the user is told once.

Another door is tried only where that does no harm: a submission, a signal, a requeue or an update that may have been heard (`InDoubt`)
is never repeated through another door; a question, a release, a hold or a cancel is, for they may be repeated at will. What the
cluster itself refuses (`SiteRefused`) would be refused there as well.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from westward.errors import AccessRefused, SiteRefused, Unreachable, WestwardError
from westward.model.job import Attempt, JobChange, JobStatus, Submission
from westward.model.limits import Limits, Trial
from westward.model.site import Account, ClusterState, Door, ShellDoor, Site
from westward.slurm import client as clients
from westward.slurm.client import InDoubt, Known, NotOffered, OtherCluster, Poll, SlurmClient

# a door that failed is left alone for so long
PAUSE_S = 60.0

Result = TypeVar("Result")

_log = logging.getLogger("westward")


class _Way:
    """One door, with its client once it has been opened and what went wrong with it last."""

    def __init__(self, site: Site, door: Door) -> None:
        self.door = door
        self.error: Unreachable | None = None
        self._site = site
        self._client: SlurmClient | None = None
        self._down_until = 0.0
        self._opening = threading.Lock()

    @property
    def down(self) -> bool:
        return self.error is not None and time.monotonic() < self._down_until

    def client(self) -> SlurmClient:
        with self._opening:
            if self._client is None:
                self._client = clients.open_door(self._site, self.door)
            return self._client

    def works(self) -> None:
        self.error = None

    def failed(self, error: Unreachable) -> None:
        self.error = error
        self._down_until = time.monotonic() + PAUSE_S

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class Doors:
    """`SlurmClient` over every door of a site.

    Raises (from every call, beside what the calls themselves raise):
        AccessRefused: every door refuses who we are.
        Unreachable: no door works; the message has what is wrong with each.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ways = [_Way(site, door) for door in site.doors]
        self._told: set[Door] = set()

    def close(self) -> None:
        for way in self._ways:
            way.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def state(self) -> ClusterState:
        return self._first(lambda client: client.state())

    def account(self) -> Account:
        return self._first(lambda client: client.account())

    def refuses(self, submission: Submission) -> str:
        said: list[str] = []
        for way in self._ways:
            try:
                reason = way.client().refuses(submission)
            except Unreachable:
                continue
            if not reason:
                return ""
            said.append(f"{way.door}: {reason}")
        return "; ".join(said)

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        results: dict[int, int | WestwardError] = {}
        refusals: dict[int, list[str]] = {}
        todo = list(range(len(submissions)))
        for way in self._usable():
            if not todo:
                break
            todo = self._submit_by(way, submissions, todo, results, refusals)
        for place in todo:
            results[place] = self._not_submitted(refusals.get(place, []))
        return [results[place] for place in range(len(submissions))]

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each(lambda client, ids: client.release(ids), job_ids)

    def hold(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each(lambda client, ids: client.hold(ids), job_ids)

    def cancel(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each(lambda client, ids: client.cancel(ids), job_ids)

    def signal(self, job_id: int, signal: str) -> None:
        self._first(lambda client: client.signal(job_id, signal), repeatable=False)

    def requeue(self, job_id: int) -> None:
        self._first(lambda client: client.requeue(job_id), repeatable=False)

    def update(self, job_id: int, change: JobChange) -> None:
        self._first(lambda client: client.update(job_id, change), repeatable=False)

    def find(self, names: Collection[str]) -> dict[str, list[JobStatus]]:
        return self._first(lambda client: client.find(names))

    def poll(self, known: Mapping[int, Known]) -> Poll:
        return self._first(lambda client: client.poll(known))

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Attempt]:
        return self._first(lambda client: client.history(since, names))

    def limits(self) -> Limits:
        return self._first(lambda client: client.limits(), shell_first=True)

    def try_out(self, submission: Submission) -> Trial:
        return self._first(lambda client: client.try_out(submission), shell_first=True)

    def accounting_backlog(self) -> int:
        return self._first(lambda client: client.accounting_backlog())

    def _usable(self) -> list[_Way]:
        """The doors to try, in order; all of them where every one has failed lately, for somebody is waiting."""
        return [way for way in self._ways if not way.down] or list(self._ways)

    def _first(
        self, call: Callable[[SlurmClient], Result], *, repeatable: bool = True, shell_first: bool = False
    ) -> Result:
        """What the first door says that works; with `shell_first`, which can tell more than slurmrestd, before the others."""
        offers: list[NotOffered] = []
        ways = self._usable()
        if shell_first:
            ways = sorted(ways, key=lambda way: not isinstance(way.door, ShellDoor))
        for way in ways:
            try:
                result = call(way.client())
            except NotOffered as error:
                offers.append(error)
            except Unreachable as error:
                way.failed(error)
                if isinstance(error, InDoubt) and not repeatable:
                    raise
            else:
                self._use(way)
                return result
        raise self._no_door(offers)

    def _each(
        self, call: Callable[[SlurmClient, Sequence[int]], dict[int, WestwardError]], job_ids: Sequence[int]
    ) -> dict[int, WestwardError]:
        """What went wrong, by job. The jobs that a door could not reach are asked for at the next one."""
        errors: dict[int, WestwardError] = {}
        offers: list[NotOffered] = []
        todo: Sequence[int] = job_ids
        for way in self._usable():
            if not todo:
                break
            try:
                answers = call(way.client(), todo)
            except NotOffered as error:
                offers.append(error)
                continue
            except Unreachable as error:
                answers = dict.fromkeys(todo, error)
            missed = {job_id: error for job_id, error in answers.items() if isinstance(error, Unreachable)}
            errors.update((job_id, error) for job_id, error in answers.items() if job_id not in missed)
            self._settle(way, list(missed.values()))
            todo = [job_id for job_id in todo if job_id in missed]
        return errors | {job_id: self._no_door(offers) for job_id in todo}

    def _submit_by(
        self,
        way: _Way,
        submissions: Sequence[Submission],
        places: Sequence[int],
        results: dict[int, int | WestwardError],
        refusals: dict[int, list[str]],
    ) -> list[int]:
        """Submit by one door those of `places` that it can take in full; returns those that another door has to take."""
        try:
            client = way.client()
        except NotOffered:
            return list(places)
        except Unreachable as error:
            way.failed(error)
            return list(places)
        except WestwardError as error:  # a token that others can read, an address that is none: the user has to mend it
            results.update(dict.fromkeys(places, error))
            return []
        taken: list[int] = []
        left: list[int] = []
        for place in places:
            reason = client.refuses(submissions[place])
            if reason:
                refusals.setdefault(place, []).append(f"{way.door}: {reason}")
            (left if reason else taken).append(place)
        if not taken:
            return left
        missed: list[WestwardError] = []
        doubts: list[WestwardError] = []
        for place, result in zip(taken, client.submit([submissions[place] for place in taken]), strict=True):
            if isinstance(result, Unreachable) and not isinstance(result, InDoubt):
                missed.append(result)
                left.append(place)
            else:
                results[place] = result
                if isinstance(result, InDoubt):  # remembered of the door, of which nothing is in doubt
                    doubts.append(Unreachable(str(result), result.next_step))
        # a door from which nothing but silence came has not worked
        self._settle(way, missed or (doubts if len(doubts) == len(taken) else []))
        return sorted(left)

    def _not_submitted(self, refusals: Sequence[str]) -> WestwardError:
        """Why no door took a submission: they cannot say all of it, or none that could works."""
        down = any(way.error is not None for way in self._ways)
        if not refusals or (down and len(refusals) < len(self._ways)):
            error = self._no_door([])
            return type(error)("; ".join([str(error), *refusals]), error.next_step) if refusals else error
        has_shell = any(isinstance(way.door, ShellDoor) for way in self._ways)
        return SiteRefused(
            f"site '{self._site.name}': no door takes this job as it is: {'; '.join(refusals)}",
            "leave that option out"
            if has_shell
            else "add a shell door to the site's description, or leave that option out",
        )

    def _settle(self, way: _Way, missed: Sequence[WestwardError]) -> None:
        """Remember whether a door worked, from what it could not do."""
        unreachable = [
            error for error in missed if isinstance(error, Unreachable) and not isinstance(error, NotOffered)
        ]
        if unreachable:
            way.failed(unreachable[0])
        elif not missed:
            self._use(way)

    def _use(self, way: _Way) -> None:
        """This door works. The user hears once of each door before it that does not, and again only after that one has worked."""
        way.works()
        self._told.discard(way.door)
        for before in self._ways[: self._ways.index(way)]:
            if before.error is not None and before.door not in self._told:
                self._told.add(before.door)
                _log.warning("%s; using %s", _complaint(self._site, before), way.door)

    def _no_door(self, offers: Sequence[NotOffered]) -> Unreachable:
        failed = [way for way in self._ways if way.error is not None]
        errors = [way.error for way in failed if way.error is not None]
        if not errors:
            return offers[-1] if offers else NotOffered(f"site '{self._site.name}': no door offers this")
        if len(self._ways) == 1:
            return errors[0]
        refused = all(isinstance(error, AccessRefused) for error in errors)
        steps = dict.fromkeys(error.next_step for error in errors if error.next_step)
        said = "; ".join([*(f"{way.door}: {_without_site(self._site, error)}" for way, error in zip(failed, errors, strict=True)),
                          *(_without_site(self._site, offer) for offer in offers)])  # fmt: skip
        return (AccessRefused if refused else Unreachable)(
            f"site '{self._site.name}': none of its doors works: {said}", "; or ".join(steps)
        )


def _complaint(site: Site, way: _Way) -> str:
    assert way.error is not None
    verb = "refuses us" if isinstance(way.error, AccessRefused) else "does not answer"
    if isinstance(way.error, OtherCluster):
        verb = "is another cluster's"
    return f"site '{site.name}': {way.door} {verb} ({_without_site(site, way.error)})"


def _without_site(site: Site, error: WestwardError) -> str:
    return str(error).removeprefix(f"site '{site.name}': ")
