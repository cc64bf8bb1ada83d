"""A cluster through libslurm in this process, by pyslurm: `SlurmClient` on a login node of that very cluster. Experimental.

pyslurm is licensed under the GPL, version 2, and fits one version of Slurm: so it is an extra of Westward ("native"), never a part of its
wheel, and imported only here, at the first call. pip builds it from source, which takes the headers and the library of the login
node's own Slurm: 25.11 as it is; for 26.05 by the recipe in containers/pyslurm, without pyslurm's module `deprecated`.
Checked with pyslurm 25.11.2 built against Slurm 26.05.5.

libslurm does one thing at a time and holds Python's lock meanwhile: while a slurmctld does not answer (MessageTimeout, 10 s by
default) the whole process waits. Some calls of pyslurm end the process and are not used: `Job.hold(mode=...)` and `Job.get_resource_layout_per_node`.
Exit codes are told as sacct tells them: 128 and more are 128 less. A search by name asks the accounting with sacct.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from westward.errors import SiteRefused, Unreachable, WestwardError
from westward.model.job import Attempt, JobChange, JobState, JobStatus, Submission
from westward.model.limits import Limits, Trial
from westward.model.site import Account, Association, ClusterState, ShellDoor
from westward.model.units import from_epoch
from westward.slurm import nativedata
from westward.slurm.client import InDoubt, Known, NotOffered, Poll
from westward.slurm.faults import NOTHING_TO_DO
from westward.slurm.looking import Told, age, chunks, same
from westward.slurm.nativelib import Library
from westward.slurm.shell import ShellClient
from westward.slurm.text import Row, whole

# names or ids in one query of slurmdbd
AT_ONCE = 500
OFFERED = (
    "state", "account", "refuses", "submit", "release", "hold", "cancel", "signal", "requeue", "update", "find", "poll", "accounting_backlog",
    "limits", "try_out",
)  # fmt: skip
# pyslurm keeps one record of each job id, so the attempts before a requeue are not to be had
NOT_OFFERED = ("history",)
_WAITS = frozenset({JobState.PENDING})
_RUNS = frozenset({JobState.RUNNING, JobState.SUSPENDED})


class NativeClient:
    """`SlurmClient` by pyslurm, as the user of this process.

    Args:
        cluster: the ClusterName that has to be found there; empty for whichever it is.

    Raises (from every call):
        NotOffered: pyslurm has no way to do that.
        Unreachable: there is no pyslurm that fits, or slurmctld or slurmdbd does not answer.
        InDoubt: the request may have been carried out.
        AccessRefused: the cluster refuses who we are.
        SiteRefused: the cluster refuses what was asked.
    """

    def __init__(self, site: str, cluster: str = "") -> None:
        self._site, self._cluster = site, cluster
        self._library = Library(site, cluster)
        # of arrays: what the queue said when it was last looked at, and what was told of it
        self._seen: dict[int, list[tuple[Any, ...]]] = {}
        self._told = Told()
        # submitted here, and no array: their one record has their id
        self._plain: set[int] = set()

    def close(self) -> None:
        """Nothing is kept open; libslurm stays loaded until the process ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the cluster --------------------------------------------------------------------------------------------------

    def state(self) -> ClusterState:
        return self._library.ask(self._state)

    def _state(self, pyslurm: Any) -> ClusterState:
        settings = pyslurm.slurmctld.Config.load()
        records = pyslurm.Nodes.load().values()
        nodes = [nativedata.node(record) for record in records]
        told = [node for node in nodes if node is not None]
        counted = any(str(name).startswith("gres/gpu") for name in settings.accounting_storage_tres or ())
        if len(told) < len(nodes) or (not counted and any(node.accelerators for node in told)):
            raise NotOffered(
                f"site '{self._site}': pyslurm cannot tell which accelerators are in use, since the cluster does not count them by type",
                "the cluster's administrator can add gres/gpu:TYPE to AccountingStorageTRES; a rest or shell door tells it now",
            )
        return ClusterState(
            version=settings.version,
            partitions=tuple(nativedata.partition(record) for record in pyslurm.Partitions.load().values()),
            nodes=tuple(told),
            running_ends=nativedata.running_ends(pyslurm.Jobs.load().values()),
            taken_at=datetime.now(UTC),
        )

    def account(self) -> Account:
        """Default QOS and the kinds of MPI are not to be had from pyslurm."""
        return self._library.ask(self._account)

    def _account(self, pyslurm: Any) -> Account:
        settings = pyslurm.slurmctld.Config.load()
        user, home = _who()
        known: list[Any] = []
        if str(settings.accounting_storage_type).endswith("slurmdbd"):
            of_user = pyslurm.db.Associations.load(pyslurm.db.AssociationFilter(users=[user])).values()
            known = [each for each in of_user if each.user == user and each.cluster == settings.cluster_name]
        return Account(
            cluster=settings.cluster_name,
            user=user,
            home=home,
            default_account=next((each.account for each in known if each.is_default), None),
            associations=tuple(
                Association(each.account, each.partition or None, tuple(each.qos or ()), None) for each in known
            ),
            clock=from_epoch(pyslurm.slurmctld.diag().request_time),
            max_array_size=settings.max_array_size,
        )

    def limits(self) -> Limits:
        """By the commands, which stand beside libslurm on a login node: pyslurm has no way to read a QOS's limits."""
        with ShellClient(self._site, ShellDoor(), self._cluster) as commands:
            return commands.limits()

    def try_out(self, submission: Submission) -> Trial:
        """As `limits`."""
        with ShellClient(self._site, ShellDoor(), self._cluster) as commands:
            return commands.try_out(submission)

    def accounting_backlog(self) -> int:
        return self._library.ask(_backlog)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def refuses(self, submission: Submission) -> str:
        return nativedata.refused(submission)

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        results: list[int | WestwardError] = []
        for submission in submissions:
            try:
                results.append(self._submit(submission))
            except Unreachable as error:
                # each try may take as long as slurmctld is waited for: the others are left to the next door
                results.append(error)
                results += [_not_tried(error)] * (len(submissions) - len(results))
                break
            except WestwardError as error:
                results.append(error)
        return results

    def _submit(self, submission: Submission) -> int:
        reason = nativedata.refused(submission)
        if reason:
            raise SiteRefused(f"site '{self._site}': the native door cannot take this job: {reason}")
        fields = nativedata.job_fields(submission)
        job_id = int(self._library.act(lambda pyslurm: pyslurm.JobSubmitDescription(**fields).submit()))
        if submission.array is None:
            self._plain.add(job_id)
        return job_id

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each_record(job_ids, lambda job: job.release(), NOTHING_TO_DO)

    def hold(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each_record(job_ids, lambda job: job.hold())

    def cancel(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each(job_ids, lambda job_id: self._change([job_id], lambda job: job.cancel(), NOTHING_TO_DO))

    def signal(self, job_id: int, signal: str) -> None:
        records = self._records([job_id]).get(job_id, [])
        running = _in_state(records, _RUNS)
        if not running:
            raise SiteRefused(f"site '{self._site}': job {job_id} does not run, so it cannot be signalled")
        name = signal if signal.isdigit() else f"SIG{signal.upper().removeprefix('SIG')}"
        self._change(running, lambda job: job.send_signal(name, steps="children"))

    def requeue(self, job_id: int) -> None:
        self._change([job_id], lambda job: job.requeue())

    def update(self, job_id: int, change: JobChange) -> None:
        beyond = nativedata.unchangeable(change)
        if beyond:
            raise NotOffered(
                f"site '{self._site}': pyslurm has no way to ask for {beyond}", "add a shell door to the site"
            )
        fields = nativedata.change_fields(change)
        if not fields:
            return
        if change.at_once is not None:  # the array's own record has it
            self._library.act(lambda pyslurm: _modify(pyslurm, [job_id], fields))
        else:
            own = self._own_ids([job_id], _WAITS | _RUNS)[job_id]
            self._library.act(lambda pyslurm: _modify(pyslurm, own, fields))

    def find(self, names: Collection[str]) -> dict[str, list[JobStatus]]:
        if not names:
            return {}
        wanted = set(names)
        # the queue is asked first: what has left it before is in the accounting; where both know something the queue's word counts
        queue = [nativedata.queued(record) for record in self._queue() if record.name in wanted]
        # pyslurm cannot ask for a state, and without that slurmdbd leaves out what was cancelled before it was eligible
        with ShellClient(self._site, ShellDoor(), self._cluster) as commands:
            rows = commands.accounted(wanted)
        for row in queue:
            rows.setdefault((row.status.job_id, row.status.name), []).append(row)
        told: dict[str, list[JobStatus]] = {name: [] for name in wanted}
        for (_, name), parts in rows.items():
            if name in told:
                told[name].append(whole(parts))
        return {name: sorted(jobs, key=age) for name, jobs in told.items()}

    def poll(self, known: Mapping[int, Known]) -> Poll:
        if not known:
            return Poll({}, frozenset())
        records = self._records(known)
        others = [job_id for job_id, was in known.items() if self._differs(was, job_id, records.get(job_id))]
        # tasks of an array that have ended leave the queue one by one
        ask = [job_id for job_id in others if job_id not in records or records[job_id][0].array_id]
        unheard: dict[int, str] = {}
        try:
            accounted = self._accounted(ask)
        except Unreachable as error:
            accounted, unheard = {}, dict.fromkeys(ask, str(error))
        changed: dict[int, JobStatus] = {}
        gone: set[int] = set()
        for job_id in others:
            if job_id in unheard:
                self._seen.pop(job_id, None)  # to be asked again
                continue
            rows = accounted.get(job_id, []) + [nativedata.queued(record) for record in records.get(job_id, ())]
            if not rows:
                gone.add(job_id)
                continue
            status = whole(rows)
            if self._told.is_news(known[job_id], status):
                changed[job_id] = status
        return Poll(changed, frozenset(gone), unheard)

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Attempt]:
        raise NotOffered(
            f"site '{self._site}': pyslurm gives one record of each job only, not those before a requeue",
            "add a rest or shell door to the site",
        )

    # --- asking -------------------------------------------------------------------------------------------------------

    def _queue(self) -> list[Any]:
        """This user's records in the queue."""
        own = os.geteuid()
        return self._library.ask(
            lambda pyslurm: [record for record in pyslurm.Jobs.load().values() if record.user_id == own]
        )

    def _records(self, job_ids: Iterable[int]) -> dict[int, list[Any]]:
        """The queue's records of these jobs: one of each, and several of an array."""
        wanted = set(job_ids)
        found: dict[int, list[Any]] = {}
        for record in self._queue():
            job_id = nativedata.whole_id(record)
            if job_id in wanted:
                found.setdefault(job_id, []).append(record)
        return found

    def _accounting(self, **condition: Any) -> list[Any]:
        def load(pyslurm: Any) -> list[Any]:
            return list(pyslurm.db.Jobs.load(pyslurm.db.JobFilter(**condition)).values())

        return self._library.ask(load)

    def _accounted(self, job_ids: Sequence[int]) -> dict[int, list[Row]]:
        """What the accounting says of these jobs, the latest attempt of each."""
        found: dict[int, list[Row]] = {}
        for chunk in chunks(job_ids, AT_ONCE):
            for row in map(nativedata.accounted, self._accounting(ids=list(chunk))):
                found.setdefault(row.status.job_id, []).append(row)
        return found

    def _differs(self, was: Known, job_id: int, records: Sequence[Any] | None) -> bool:
        """Whether the queue says something new of a job; of one that has left it the accounting has to be asked."""
        if records is None:
            return True
        if not records[0].array_id:
            return not same(was, *nativedata.brief(records[0]))
        marks = [nativedata.mark(record) for record in records]
        new = self._seen.get(job_id) != marks
        self._seen[job_id] = marks
        return new

    # --- changing -----------------------------------------------------------------------------------------------------

    def _change(
        self, ids: Iterable[int], request: Callable[[Any], object], harmless: frozenset[int] = frozenset()
    ) -> None:
        """Ask for a change of jobs, by the ids of their records. `harmless` are Slurm's numbers for "there is nothing to change"."""

        def ask(pyslurm: Any) -> None:
            for each in ids:
                try:
                    request(pyslurm.Job(each))
                except pyslurm.RPCError as error:
                    if error.errno not in harmless:
                        raise

        self._library.act(ask)

    def _each(self, job_ids: Sequence[int], change: Callable[[int], None]) -> dict[int, WestwardError]:
        failed: dict[int, WestwardError] = {}
        for place, job_id in enumerate(job_ids):
            try:
                change(job_id)
            except Unreachable as error:
                failed[job_id] = error
                failed |= dict.fromkeys(job_ids[place + 1 :], _not_tried(error))
                break
            except WestwardError as error:
                failed[job_id] = error
        return failed

    def _each_record(
        self,
        job_ids: Sequence[int],
        request: Callable[[Any], object],
        harmless: frozenset[int] = frozenset(),
    ) -> dict[int, WestwardError]:
        """Ask for a change of each record of these jobs; what went wrong, by job."""
        try:
            own = self._own_ids(job_ids, _WAITS)
        except WestwardError as error:
            return dict.fromkeys(job_ids, error)
        return self._each(job_ids, lambda job_id: self._change(own[job_id], request, harmless))

    def _own_ids(self, job_ids: Sequence[int], states: frozenset[JobState]) -> dict[int, list[int]]:
        """The ids of each job's records in these states. A change by the id of an array reaches none of its tasks that ever started."""
        unsure = [job_id for job_id in job_ids if job_id not in self._plain]
        records = self._records(unsure) if unsure else {}
        return {job_id: _in_state(records.get(job_id, ()), states) or [job_id] for job_id in job_ids}


def _in_state(records: Iterable[Any], states: frozenset[JobState]) -> list[int]:
    return [record.id for record in records if nativedata.brief(record)[0] in states]


def _modify(pyslurm: Any, ids: Iterable[int], fields: Mapping[str, Any]) -> None:
    for each in ids:
        pyslurm.Job(each).modify(pyslurm.JobSubmitDescription(**fields))


def _backlog(pyslurm: Any) -> int:
    waiting = int(pyslurm.slurmctld.diag().dbd_agent_queue_size)
    pyslurm.db.QualitiesOfService.load()  # the smallest question that slurmdbd itself has to answer
    return waiting


def _who() -> tuple[str, str | None]:
    """The user that the cluster takes this process for, with the home directory."""
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise SiteRefused(f"the user {os.geteuid()} of this process has no name on this host") from None
    return entry.pw_name, entry.pw_dir or None


def _not_tried(error: Unreachable) -> Unreachable:
    """For what was not even sent, since what came before it got no answer."""
    kind = Unreachable if isinstance(error, InDoubt) else type(error)
    return kind(str(error), error.next_step)
