"""A cluster through slurmrestd with a JWT: kept connections, several requests in flight, the newest data_parser that both sides know.

slurmrestd ignores `#SBATCH` lines and gives no login environment, so a submission says everything in its fields.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from urllib.parse import quote

from westward.errors import AccessRefused, SiteRefused, Unreachable, WestwardError
from westward.model.job import Attempt, JobChange, JobState, JobStatus, Submission, array_state
from westward.model.limits import Limits, Trial
from westward.model.site import Account, ClusterState, RestDoor
from westward.slurm import restdata, restlimits
from westward.slurm.client import InDoubt, Known, NotOffered, Poll, TakenInPart
from westward.slurm.faults import NOTHING_TO_DO
from westward.slurm.looking import ACCOUNTING_SINCE, ENDED, age
from westward.slurm.options import refused_option
from westward.slurm.restarrays import Listing, Part, Tasks, attempt_order, listing, merged, split, whole_array
from westward.slurm.restarrays import accounted as accounted_of
from westward.slurm.restcall import NONE_HARMLESS, Caller, Content, Query
from westward.slurm.restwire import NotConnected

# slurmrestd says nothing before it has gathered the whole answer: half a millisecond for each job of a large queue
SCAN_TIMEOUT_S = 60
# of how many waiting jobs the reason is asked, one request each
REASONS_AT_MOST = 20
# the whole queue is asked for where more than this part of it has changed: one job by itself costs about four times its share of that
SCAN_FROM = 0.25
# of so many jobs the state is asked by their ids: 1 ms, where that of 10,000 takes 0.1 s
NAMED_AT_MOST = 64
# bytes of ids or names in one query: gateways take request lines of 8 KiB, path and other conditions included
QUERY_BYTES = 6000

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")


class RestClient:
    """`SlurmClient` over slurmrestd.

    Args:
        cluster: the ClusterName that has to be found there; empty for whichever it is.

    Raises (from every call):
        Unreachable: nobody listens there, or slurmrestd cannot reach its slurmctld or slurmdbd.
        InDoubt: the request may have been carried out.
        AccessRefused: the token is missing, expired, or not this user's.
        SiteRefused: the cluster refuses what was asked.
    """

    def __init__(self, site: str, door: RestDoor, cluster: str = "") -> None:
        self._site = site
        self._user = door.user
        self._rest = Caller(site, door, cluster)
        # of arrays that were seen: the ids of their tasks' own records, and the state of each task at the last poll
        self._records_of: dict[int, set[int]] = {}
        self._arrays: dict[int, Tasks] = {}
        self._seen_whole: set[int] = set()

    def close(self) -> None:
        self._rest.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def state(self) -> ClusterState:
        nodes = self._rest.call("GET", "slurm", "nodes/")
        partitions = self._rest.call("GET", "slurm", "partitions/")
        busy = any(node.get("alloc_cpus") for node in nodes["nodes"])
        jobs = self._scan() if busy else []
        return self._told(restdata.cluster_state, nodes, partitions, jobs, datetime.now(UTC))

    def account(self) -> Account:
        diag = self._rest.call("GET", "slurm", "diag/")
        user = self._user
        keeps = diag["meta"]["plugin"].get("accounting_storage") != "accounting_storage/none"
        known = self._accounting("associations/", {"user": user})["associations"] if keeps else []
        conf = self._rest.call("GET", "slurm", "conf")["slurm_conf"] if self._rest.speaks("v0.0.45") else None
        return self._told(restdata.account, user, known, diag, conf)

    def limits(self) -> Limits:
        return self._told(restlimits.read, self._user, self._rest, self._accounting, self._listing, self._scan)

    def try_out(self, submission: Submission) -> Trial:
        raise NotOffered(
            f"site '{self._site}': slurmrestd cannot try a job without submitting it", "add a shell door to the site"
        )

    def accounting_backlog(self) -> int:
        waiting = self._rest.call("GET", "slurm", "diag/")["statistics"]["dbd_agent_queue_size"]
        if not self._rest.speaks("v0.0.42"):
            self._accounting("clusters/", {})
        elif not any(ping["responding"] for ping in self._accounting("ping/", {})["pings"]):
            raise Unreachable(f"site '{self._site}': slurmdbd does not answer")
        return int(waiting)

    def refuses(self, submission: Submission) -> str:
        speaker = f"slurmrestd {self._rest.version}" if self._rest.version else "slurmrestd"
        return refused_option(submission.options, speaker)

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        return self._rest.many(self._submit, submissions)

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each(lambda job_id: self._change(job_id, "POST", {"hold": False}, NOTHING_TO_DO), job_ids)

    def hold(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each(lambda job_id: self._change(job_id, "POST", {"hold": True}), job_ids)

    def cancel(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        # one request each: the one that ends many names them in the body of a DELETE, which a gateway may leave out
        return self._each(lambda job_id: self._change(job_id, "DELETE", None, NOTHING_TO_DO), job_ids)

    def signal(self, job_id: int, signal: str) -> None:
        query = {"signal": signal.upper().removeprefix("SIG"), "flags": "FULL_STEPS_ONLY"}
        self._change(job_id, "DELETE", None, query=query, repeatable=False)

    def requeue(self, job_id: int) -> None:
        if not self._rest.speaks("v0.0.45"):
            raise NotOffered(
                f"site '{self._site}': slurmrestd {self._rest.version} cannot requeue a job",
                "add a shell door to the site",
            )
        # a second requeue would end what the first one has started again
        answer = self._rest.call("POST", "slurm", "jobs/requeue", body={"jobs": [str(job_id)]}, repeatable=False)
        self._check(job_id, answer)

    def update(self, job_id: int, change: JobChange) -> None:
        fields = restdata.change_fields(change)
        if fields:
            self._change(job_id, "POST", fields, repeatable=False)

    def find(self, names: Collection[str]) -> dict[str, list[JobStatus]]:
        """As `SlurmClient.find`; the queue is always scanned in full, once for all names, beside slurmdb.

        slurmdb alone would not do, though it can be asked for a name: a job that is held is not in it before it becomes eligible, and
        what is looked for here is mostly held. And slurmctld's REST query cannot filter by name (24.11 leaves `job_name` unread and
        answers with all jobs): so this costs about half a millisecond for each job in the queue.
        """
        wanted = set(names)
        if not wanted:
            return {}
        queued = [job for job in self._scan() if job["name"] in wanted]
        records = self._since(datetime.now(UTC) - ACCOUNTING_SINCE, {"skip_steps": "true"}, wanted)
        listed = self._listing() if any(map(restdata.array_id, queued)) else Listing({}, {})
        found: list[JobStatus] = []
        for name in wanted:
            # an id that was used before belongs to several jobs, but not of one name
            accounted, accounted_arrays = self._told(accounted_of, [job for job in records if job["name"] == name])
            plain, arrays = self._told(self._queued, [job for job in queued if job["name"] == name])
            found.extend({**accounted, **plain}.values())
            for array in {**arrays, **accounted_arrays}:
                parts = _once(arrays.get(array, []), accounted_arrays.get(array, []))
                tasks = merged(self._listed_tasks(array, listed), {}, parts)
                found.append(self._told(whole_array, parts, tasks))
        answer: dict[str, list[JobStatus]] = {name: [] for name in wanted}
        for status in sorted(found, key=age):
            answer[status.name].append(status)
        return answer

    def poll(self, known: Mapping[int, Known]) -> Poll:
        listed = self._listing_of(known) or self._listing()
        # the light query does not say why a job waits, which is what its user wants to know first
        reasons = sum(was.state is JobState.PENDING for was in known.values()) <= REASONS_AT_MOST
        ask: list[int] = []
        left: list[int] = []
        for job_id, was in known.items():
            now = listed.plain.get(job_id) or self._unchanged_array(job_id, listed)
            if now is None and job_id not in listed.tasks:
                left.append(job_id)
            elif now is not was.state or (now is JobState.PENDING and reasons):
                ask.append(job_id)
        statuses, arrays, missed = self._details(ask, listed)
        left.extend(job_id for job_id in ask if not (job_id in statuses or job_id in arrays or job_id in missed))
        grown = {job_id for job_id in arrays if self._grow(job_id, listed)}
        partial = [job_id for job_id in grown if self._is_partial(job_id)]
        unheard: dict[int, str] = {}
        try:
            accounted, accounted_arrays = self._accounted(left, partial)
        except Unreachable as error:
            accounted, accounted_arrays = {}, {}
            unheard = dict.fromkeys((*left, *partial), str(error))
            arrays = {job_id: parts for job_id, parts in arrays.items() if job_id not in unheard}
        for job_id, parts in accounted_arrays.items():
            before = self._arrays.get(job_id, {})
            self._arrays[job_id] = merged(self._listed_tasks(job_id, listed), before, parts)
        statuses |= {job_id: status for job_id, status in accounted.items() if job_id not in statuses}
        for job_id in {**arrays, **accounted_arrays}:
            parts = _once(arrays.get(job_id, []), accounted_arrays.get(job_id, []))
            statuses[job_id] = self._told(whole_array, parts, self._arrays[job_id])
        changed = {
            job_id: status for job_id, status in statuses.items() if job_id in grown or _differs(status, known[job_id])
        }
        return Poll(changed, frozenset(left).difference(statuses, unheard), unheard)

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Attempt]:
        records = self._since(since, {} if names else {"users": self._user}, names)
        attempts = self._told(lambda: [restdata.attempt(record) for record in sorted(records, key=attempt_order)])
        return sorted(attempts, key=lambda attempt: (*age(attempt.status), attempt.task or 0))

    def _submit(self, submission: Submission) -> int:
        try:
            answer = self._rest.call(
                "POST",
                "slurm",
                "job/submit",
                body={"job": restdata.job_fields(submission, self._user)},
                repeatable=False,
            )
        except (InDoubt, AccessRefused):
            raise
        except Unreachable as error:
            if self._rest.version is None or isinstance(error.__cause__, NotConnected):
                raise  # nothing was sent to slurmctld
            raise InDoubt(str(error)) from error
        job_id = answer.get("job_id")
        if not isinstance(job_id, int) or job_id <= 0:
            raise InDoubt(f"site '{self._site}': the answer to the submission names no job id")
        missing = restdata.dropped(answer["warnings"])
        if missing:
            self._take_back(job_id)
            raise SiteRefused(f"site '{self._site}' would leave out a part of the job: {missing}")
        return job_id

    def _take_back(self, job_id: int) -> None:
        """Cancel a job that was not taken as it was meant."""
        try:
            self._change(job_id, "DELETE", None, NOTHING_TO_DO)
        except WestwardError as error:
            raise TakenInPart(
                f"site '{self._site}' took a part of the job only, as job {job_id}, which could not be cancelled: {error}"
            ) from error

    def _change(
        self,
        job_id: int,
        method: str,
        body: Mapping[str, Any] | None,
        harmless: frozenset[int] = NONE_HARMLESS,
        *,
        query: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> None:
        """Change a job. `harmless` are the error numbers which say that there is nothing to change any more."""
        answer = self._rest.call(
            method, "slurm", f"job/{job_id}", body=body, query=query, harmless=harmless, repeatable=repeatable
        )
        self._check(job_id, answer, harmless)

    def _check(self, job_id: int, answer: Content, harmless: frozenset[int] = NONE_HARMLESS) -> None:
        """Raise what the answer to a change says of tasks or fields that were left as they are."""
        failed = restdata.unchanged(answer, harmless)
        if failed:
            raise self._rest.problem(failed[:1], changes=True, about=f"job {job_id}")
        missing = restdata.dropped(answer["warnings"])
        if missing:
            raise SiteRefused(f"site '{self._site}' refuses to change job {job_id}: {missing}")

    def _listing_of(self, job_ids: Collection[int]) -> Listing | None:
        """The state of a few jobs; None where they are many, or an array is among them: its tasks have ids of their own."""
        if len(job_ids) > NAMED_AT_MOST or self._arrays:
            return None
        query = [("job_id", str(job_id)) for job_id in job_ids]
        content = self._rest.call("GET", "slurm", "jobs/state/", query=query, timeout_s=SCAN_TIMEOUT_S)
        listed = self._told(listing, content["jobs"])
        return None if listed.tasks else listed._replace(whole=False)

    def _listing(self) -> Listing:
        """The state of everything that is queued: 32 ms for 3,000 jobs, where the full query takes 2 to 3 s."""
        content = self._rest.call("GET", "slurm", "jobs/state/", timeout_s=SCAN_TIMEOUT_S)
        listed = self._told(listing, content["jobs"])
        self._records_of = {
            array: {task for task in tasks if task in listed.tasks}
            for array, tasks in self._records_of.items()
            if array in listed.tasks
        }
        self._arrays = {array: tasks for array, tasks in self._arrays.items() if array in listed.tasks}
        self._seen_whole &= self._arrays.keys()
        return listed

    def _scan(self) -> list[Content]:
        """The whole queue in full."""
        jobs: list[Content] = self._rest.call("GET", "slurm", "jobs/", timeout_s=SCAN_TIMEOUT_S)["jobs"]
        return jobs

    def _details(
        self, job_ids: Sequence[int], listed: Listing
    ) -> tuple[dict[int, JobStatus], dict[int, list[Part]], set[int]]:
        """What slurmctld says of these jobs: it keeps one for a while (MinJobAge) after its end, complete with exit code.

        And those whose question was not answered, while others were: they are asked for again at the next poll.
        """
        missed: set[int] = set()
        if listed.whole and len(job_ids) > max(REASONS_AT_MOST, SCAN_FROM * (len(listed.plain) + len(listed.tasks))):
            asked = set(job_ids)
            records = [job for job in self._scan() if (restdata.array_id(job) or job["job_id"]) in asked]
        else:
            records = []
            for job_id, answer in zip(job_ids, self._rest.many(self._records, job_ids), strict=True):
                if isinstance(answer, WestwardError):
                    missed.add(job_id)
                    if len(missed) == len(job_ids):
                        raise answer
                else:
                    records += answer
        return *self._told(self._queued, records), missed

    def _records(self, job_id: int) -> list[Content]:
        jobs: list[Content] = self._rest.call("GET", "slurm", f"job/{job_id}", absent={"jobs": []})["jobs"]
        return jobs

    def _queued(self, records: Iterable[Content]) -> tuple[dict[int, JobStatus], dict[int, list[Part]]]:
        """Records of slurmctld, as `split` gives them; remembers which belong to an array."""
        told: list[tuple[JobStatus, Mapping[str, Any]]] = []
        for record in records:
            array = restdata.array_id(record)
            if array is not None:
                self._records_of.setdefault(array, set()).add(record["job_id"])
            told.append((restdata.queued_status(record), {"job_id": array, "task_id": record["array_task_id"]}))
        return split(told)

    def _listed_tasks(self, array: int, listed: Listing) -> dict[int, JobState]:
        """The tasks of an array that are listed: those that wait under its own id, and those whose records were seen."""
        return {
            index: state
            for record in (*self._records_of.get(array, ()), array)
            for index, state in listed.tasks.get(record, {}).items()
        }

    def _unchanged_array(self, job_id: int, listed: Listing) -> JobState | None:
        """The state of an array all of whose tasks are as they were at the last poll; None for any other, and for what is no array."""
        before = self._arrays.get(job_id)
        if before is None:
            return None
        now = self._listed_tasks(job_id, listed)
        same = all(now.get(index, state if state.final else None) is state for index, state in before.items())
        return array_state(Counter(before.values())) if same and now.keys() <= before.keys() else None

    def _grow(self, array: int, listed: Listing) -> bool:
        """Take up what is listed of an array; whether that is news."""
        before = self._arrays.get(array)
        now = self._listed_tasks(array, listed)
        self._arrays[array] = merged(now, before or {}, ())
        if before is not None and all(index in now or state.final for index, state in before.items()):
            self._seen_whole.add(array)
        else:
            self._seen_whole.discard(array)
        return self._arrays[array] != before

    def _is_partial(self, array: int) -> bool:
        """Whether the accounting has to say the rest: tasks may have ended unseen, or all have ended and the exit codes matter."""
        return array not in self._seen_whole or array_state(Counter(self._arrays[array].values())).final

    def _accounted(
        self, left: Sequence[int], partial: Sequence[int]
    ) -> tuple[dict[int, JobStatus], dict[int, list[Part]]]:
        """What slurmdbd says of jobs that have left the queue, and of arrays that may have left it in part.

        Of each id the latest record: a requeue makes a new one.
        """
        records: list[Content] = []
        try:
            for ids in _parts([*left, *partial], "&step="):
                # a list with commas is refused here; the name given again is not
                query = [("skip_steps", "true"), *(("step", str(job_id)) for job_id in ids)]
                records += self._accounting("jobs/", query)["jobs"]
        except Unreachable:
            # an array that goes on can be told of without: what ended unseen is asked for again when all has ended
            if left or any(array_state(Counter(self._arrays[array].values())).final for array in partial):
                raise
        wanted = {*left, *partial}
        plain, arrays = self._told(accounted_of, records)
        return (
            {job_id: status for job_id, status in plain.items() if job_id in wanted},
            {array: parts for array, parts in arrays.items() if array in wanted},
        )

    def _since(self, since: datetime, query: Mapping[str, str], names: Collection[str]) -> list[Content]:
        """slurmdbd's records since then, of those names or of all; asked twice, see `looking.ENDED`. A question by state needs the
        window's end."""
        window = [*query.items(), ("start_time", _moment(since))]
        ended = [("end_time", _moment(datetime.now(UTC) + timedelta(days=1))), *(("state", state) for state in ENDED)]
        named = [[("job_name", ",".join(part))] for part in _parts(sorted(set(names)), ",")] if names else [[]]
        records = [
            record
            for part in named
            for more in ([], ended)
            for record in self._accounting("jobs/", [*window, *more, *part])["jobs"]
        ]
        return list({_which(record): record for record in records}.values())

    def _accounting(self, path: str, query: Query) -> Content:
        if path == "jobs/":
            # otherwise slurmdbd cuts a job's times to the window that is asked for
            given = query.items() if isinstance(query, Mapping) else query
            # and without duplicates it leaves out jobs that were revoked
            query = [*given, ("disable_truncate_usage_time", "true"), ("show_duplicates", "true")]
        return self._rest.call("GET", "slurmdb", path, query=query, timeout_s=SCAN_TIMEOUT_S)

    def _each(self, call: Callable[[int], None], job_ids: Sequence[int]) -> dict[int, WestwardError]:
        results = self._rest.many(call, job_ids)
        return {
            job_id: result for job_id, result in zip(job_ids, results, strict=True) if isinstance(result, WestwardError)
        }

    def _told(self, read: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """What an answer says, or an error where it has another form than every version known here."""
        try:
            return read(*args, **kwargs)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise Unreachable(
                f"site '{self._site}' describes itself in a form not known here ({type(error).__name__}: {error})"
            ) from error


def _which(record: Content) -> tuple[object, ...]:
    """What tells a record of slurmdbd from every other one."""
    times = record["time"]
    return record["job_id"], times["submission"], times["start"], times["end"], *record["state"]["current"]


def _differs(status: JobStatus, was: Known) -> bool:
    return status.state is not was.state or (status.state is JobState.PENDING and status.reason != was.reason)


def _once(queued: Sequence[Part], accounted: Sequence[Part]) -> list[Part]:
    """The parts of an array of which the queue and the accounting tell; the queue knows better."""
    indices = {index for part in queued for index in part.indices}
    waits = any(not part.indices for part in queued)  # the record of the tasks that wait does not say which
    return [
        *queued,
        *(
            part
            for part in accounted
            if not (part.indices & indices or (waits and part.status.state is JobState.PENDING))
        ),
    ]


def _moment(moment: datetime) -> str:
    """A point in time in a query, in the one form that every version takes: v0.0.41 refuses a bare number."""
    return f"uts{int(moment.timestamp())}"


def _parts(items: Iterable[Item], between: str) -> list[list[Item]]:
    """The items in their order, as many together as QUERY_BYTES of a request line hold with `between` before each of them."""
    parts: list[list[Item]] = []
    left = 0
    for item in items:
        size = len(quote(str(item), safe="")) + len(quote(between, safe="&="))
        if size > left:
            parts.append([])
            left = QUERY_BYTES
        parts[-1].append(item)
        left -= size
    return parts
