"""What Slurm's commands print -> model. Pure.

Every record is asked for with separators of our own, never as a screen layout: a random word begins each line of squeue and separates
the fields of sacct, so no job's name, whatever is in it, can be taken for a record. Times come as seconds since the epoch
(SLURM_TIME_FORMAT=%s), or as Slurm's own in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from westward.errors import QuantityError
from westward.model.job import Attempt, JobState, JobStatus, Usage, array_state, by_state
from westward.model.limits import Trial
from westward.model.units import from_epoch
from westward.slurm.client import Known
from westward.slurm.looking import age, exited, never_started, why

SEPARATOR = "\x1f"
# of squeue: array's id, task or tasks, state, reason, priority, partition, submit, start, end, nodes, name
QUEUE_FIELDS = ("%F", "%K", "%T", "%r", "%Q", "%P", "%V", "%S", "%e", "%N", "%j")
# and those that are looked at in every tick
BRIEF_FIELDS = QUEUE_FIELDS[:4]
# the name is last: it alone may hold a line break
RECORD_FIELDS = (
    "JobID", "State", "ExitCode", "Submit", "Start", "End", "Partition", "NodeList", "Reason", "Account", "QOS",
    "ElapsedRaw", "AllocTRES", "TotalCPU", "MaxRSS", "ConsumedEnergyRaw", "JobName",
)  # fmt: skip
NOTHING = frozenset({"", "N/A", "None", "Unknown", "None assigned", "(null)", "n/a"})
_JOB_ID = re.compile(r"(?P<id>\d{1,18})(?:_(?P<task>\d+|\[[^\]]*\]))?(?:\+0)?(?P<step>\.\S+)?")
_SIZES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[KMGTP]?)")
_CPU_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d+)?)")
_INDICES = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+)(?::(?P<step>\d+))?)?")


class Row(NamedTuple):
    """What one line says: of a job, or of one or more tasks of an array."""

    status: JobStatus
    tasks: Collection[int] | None = None


# --- the queue --------------------------------------------------------------------------------------------------------


class Listed(NamedTuple):
    """A queue in brief: state and reason of each job, and of each array a line for every task, or several of them, that it still has."""

    plain: Mapping[int, Known]
    arrays: Mapping[int, list[str]]

    def has(self, job_id: int) -> bool:
        return job_id in self.plain or job_id in self.arrays


def queue_format(token: str, fields: Sequence[str] = QUEUE_FIELDS) -> str:
    """What squeue's -o takes; `token` is a word that nobody can guess."""
    return token + SEPARATOR.join(fields)


def listed(text: str, token: str) -> Listed:
    """squeue's lines of BRIEF_FIELDS. Many jobs are in few states, so what stands behind an id is taken apart once."""
    plain: dict[int, Known] = {}
    arrays: dict[int, list[str]] = {}
    known: dict[str, Known] = {}
    start = len(token)
    for line in text.split("\n"):
        job_id, _, rest = line[start:].partition(SEPARATOR)
        if not (line.startswith(token) and job_id.isdecimal()):
            continue
        told = known.get(rest)
        if told is None:
            fields = rest.split(SEPARATOR)
            if len(fields) != len(BRIEF_FIELDS) - 1:
                continue
            task, state, reason = fields
            if task not in NOTHING:
                arrays.setdefault(int(job_id), []).append(rest)
                continue
            told = known[rest] = Known(*_told(state, reason))
        plain[int(job_id)] = told
    return Listed(plain, arrays)


def queue(text: str, token: str) -> dict[int, list[list[str]]]:
    """squeue's lines of QUEUE_FIELDS, taken apart, by the id of the job or of the whole array."""
    found: dict[int, list[list[str]]] = {}
    start, wanted = len(token), len(QUEUE_FIELDS)
    for line in text.split("\n"):
        if not line.startswith(token):
            continue
        fields = line[start:].split(SEPARATOR, wanted - 1)
        if len(fields) == wanted and fields[0].isdecimal():
            found.setdefault(int(fields[0]), []).append(fields)
    return found


def _told(word: str, reason: str) -> tuple[JobState, str]:
    """State and reason as the queue words them."""
    state = _state(word)
    return state, why(state, or_empty(reason))


_states: dict[str, JobState] = {}


def _state(word: str) -> JobState:
    """JobState.parse, remembered: there are few words and many jobs."""
    state = _states.get(word)
    if state is None:
        state = _states[word] = JobState.parse(word)
    return state


def queued(fields: Sequence[str]) -> Row:
    """A line of the queue."""
    job_id, task, word, cause, priority, partition, submit, start, end, nodes, name = fields
    state, reason = _told(word, cause)
    waiting = state is JobState.PENDING
    status = JobStatus(
        job_id=int(job_id),
        name=name,
        state=state,
        reason=reason,
        held=waiting and priority == "0",
        submitted_at=moment(submit),
        started_at=None if never_started(state, or_empty(nodes)) else moment(start),
        estimated_start=moment(start) if waiting and priority != "0" else None,
        ended_at=moment(end) if state.final else None,
        nodes=or_empty(nodes),
        partition=partition,
    )
    return Row(status, None if task in NOTHING else indices(task))


DETAIL_FIELDS = "ArrayJobID:22,ArrayTaskID:22,exit_code:22,RestartCnt:22"


def details(text: str) -> dict[tuple[int, str], tuple[int, int, int]]:
    """Exit code, signal and restarts by job (or array) and task ("N/A" for none), from squeue's -O DETAIL_FIELDS."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and words[0].isdecimal() and words[3].isdecimal():
            code, colon, signal = words[2].partition(":")
            if colon and code.isdecimal() and signal.isdecimal():
                found[int(words[0]), words[1]] = (int(code), int(signal), int(words[3]))
            elif code.isdecimal():  # 22.05 prints what wait(2) gives
                found[int(words[0]), words[1]] = (int(code) >> 8, int(code) & 0x7F, int(words[3]))
    return found


def detailed(row: Row, task: str, known: Mapping[tuple[int, str], tuple[int, int, int]]) -> Row:
    """The row with what `details` adds to it."""
    told = known.get((row.status.job_id, task))
    if told is None:
        return row
    code, signal, restarts = told
    if not (restarts or row.status.state.final):
        return row
    exit_code, signalled = exited(code, signal) if row.status.state.final else (None, None)
    return Row(replace(row.status, exit_code=exit_code, signal=signalled, restarts=restarts), row.tasks)


def indices(text: str) -> frozenset[int]:
    """The tasks of "1-9:2,12%4" or "[...]". A list that was cut short ("...") gives what is left of it."""
    found: set[int] = set()
    for part in _INDICES.finditer(text.strip("[]").partition("%")[0]):
        first, last = int(part["first"]), int(part["last"] or part["first"])
        found.update(range(first, last + 1, max(1, int(part["step"] or 1))))
    return frozenset(found)


def whole(rows: Iterable[Row]) -> JobStatus:
    """The status of a job from all that is known of it; of two rows about one task the later counts.

    Raises:
        ValueError: there is no row.
    """
    by_task: dict[int | None, JobStatus] = {}
    for row in rows:
        by_task.update(dict.fromkeys((None,) if row.tasks is None else row.tasks, row.status))
    if not by_task:
        raise ValueError("no rows")
    array = {task: status for task, status in by_task.items() if task is not None}
    if not array:
        return by_task[None]
    tasks: dict[JobState, int] = {}
    for status in array.values():
        tasks[status.state] = tasks.get(status.state, 0) + 1
    state = array_state(tasks)
    parts = list({id(status): status for status in array.values()}.values())
    telling = next(status for status in parts if status.state is state)
    waiting = [status for status in parts if status.state is JobState.PENDING]
    return replace(
        telling,
        held=bool(waiting) and all(status.held for status in waiting),
        submitted_at=_first(status.submitted_at for status in parts),
        started_at=_first(status.started_at for status in parts),
        ended_at=_last(status.ended_at for status in parts) if state.final else None,
        nodes=",".join(sorted({status.nodes for status in parts if status.nodes})),
        tasks=tasks,
        task_ids=by_state({task: status.state for task, status in array.items()}),
        estimated_start=_first(status.estimated_start for status in parts),
        restarts=max(status.restarts for status in parts),
    )


def _first(moments: Iterable[datetime | None]) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _last(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def job_id(text: str) -> int | None:
    """The id that `sbatch --parsable` printed: "123", or "123;cluster"."""
    lines = text.split()
    match = re.fullmatch(r"(\d+)(?:;\S+)?", lines[-1]) if lines else None
    return int(match[1]) if match else None


# --- the accounting ---------------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """One line of sacct: a job, a task or a step of one."""

    job_id: int
    task: str
    step: str
    fields: Mapping[str, str]


def records(text: str, delimiter: str) -> list[Record]:
    """sacct's lines (-n -P, RECORD_FIELDS), in its order. A line break in a name goes on in the next line."""
    found = []
    for line in text.split("\n"):
        fields = line.split(delimiter)
        job = _JOB_ID.fullmatch(fields[0])
        if len(fields) == len(RECORD_FIELDS) and job is not None:
            named = dict(zip(RECORD_FIELDS, fields, strict=True))
            found.append(Record(int(job["id"]), job["task"] or "", (job["step"] or "")[1:], named))
    return found


def accounted(record: Record) -> Row:
    """A record of the accounting. A reason is told only while it waits: later it still tells of the time before the start."""
    fields = record.fields
    state = _state(fields["State"].partition(" ")[0])
    waiting = state is JobState.PENDING
    code, _, signal = fields["ExitCode"].partition(":")
    ended = state.final and code.isdecimal() and signal.isdecimal()
    exit_code, signalled = exited(int(code), int(signal)) if ended else (None, None)
    status = JobStatus(
        job_id=record.job_id,
        name=fields["JobName"],
        state=state,
        reason=or_empty(fields["Reason"]) if waiting else "",
        exit_code=exit_code,
        signal=signalled,
        submitted_at=moment(fields["Submit"]),
        started_at=None if waiting else moment(fields["Start"]),
        # an attempt that was requeued has ended, though its job has not
        ended_at=moment(fields["End"]) if state.final or fields["State"] == "REQUEUED" else None,
        nodes=or_empty(fields["NodeList"]),
        partition=fields["Partition"],
    )
    return Row(status, indices(record.task) if record.task else None)


def latest(found: Iterable[Record]) -> dict[tuple[int, str], list[Row]]:
    """By job id and name, the latest attempt of the job or of each task of it, which counts those before it.

    An id alone would not do: a cluster that was set up anew counts from one again.
    """
    attempts: dict[tuple[int, str, str], list[Record]] = {}
    for record in sorted(found, key=_order):
        if not record.step:
            attempts.setdefault((record.job_id, record.fields["JobName"], record.task), []).append(record)
    rows: dict[tuple[int, str], list[Row]] = {}
    for (job_id, name, _), each in attempts.items():
        row = accounted(each[-1])
        rows.setdefault((job_id, name), []).append(Row(replace(row.status, restarts=len(each) - 1), row.tasks))
    return rows


def _order(record: Record) -> tuple[str, str]:
    """Sorts the attempts of a job: one that was requeued within a second has the same submit time, and one without a start comes last."""
    return record.fields["Submit"], record.fields["Start"]


def without_doubles(found: Iterable[Record]) -> list[Record]:
    """The records of several queries that overlap, each once, in their order."""
    once: dict[tuple[str, ...], Record] = {}
    for record in found:
        once.setdefault(tuple(record.fields[name] for name in ("JobID", "Submit", "Start", "End", "State")), record)
    return list(once.values())


def attempts(found: Sequence[Record]) -> list[Attempt]:
    """The attempts in records that hold steps too, oldest first. A step belongs to the attempt that stands before it."""
    made: list[tuple[Record, list[Record]]] = []
    for record in found:
        if not record.step:
            made.append((record, []))
        elif made and (record.job_id, record.task) == (made[-1][0].job_id, made[-1][0].task):
            made[-1][1].append(record)
    seen: dict[tuple[int, str], int] = {}
    told = []
    for record, steps in sorted(made, key=lambda attempt: _order(attempt[0])):
        key = record.job_id, record.task
        status = replace(accounted(record).status, restarts=seen.get(key, 0))
        seen[key] = status.restarts + 1
        task = int(record.task) if record.task.isdecimal() else None
        told.append(Attempt(status, _usage(record, steps), record.fields["Account"], record.fields["QOS"], task))
    return sorted(told, key=lambda attempt: age(attempt.status))


def _usage(record: Record, steps: Sequence[Record]) -> Usage:
    fields = record.fields
    memory = [size(step.fields["MaxRSS"]) for step in steps if step.fields["MaxRSS"]]
    allocated = tres(fields["AllocTRES"])
    energy = allocated.pop("energy", 0)
    return Usage(
        elapsed_s=int(fields["ElapsedRaw"]) if fields["ElapsedRaw"].isdecimal() else 0,
        tres=allocated,
        cpu_s=cpu_seconds(fields["TotalCPU"]) if steps else None,
        max_rss_bytes=max(memory, default=None),
        energy_j=energy or _measured(fields["ConsumedEnergyRaw"]) or None,
    )


def tres(text: str) -> dict[str, int]:
    """ "billing=8,cpu=8,gres/gpu:a100=2,mem=16000M,node=1" as numbers, memory in bytes. What cannot be read, or was not measured, is left out."""
    found = {}
    for entry in text.split(","):
        name, _, value = entry.rpartition("=")
        count = _measured(value)
        if name and count:
            found[name] = count
    return found


def _measured(text: str) -> int:
    """A count of something that may not be measured, which is then missing, 0, or slurm.h's NO_VAL64 and the like."""
    count = size(text) if _SIZE.fullmatch(text) else 0
    return count if count < 1 << 63 else 0


_TRIAL = re.compile(r"Job \d+ to start at (?P<start>\S+).*? using \d+ processors on (?:nodes )?(?P<nodes>\S+)")


def trial(text: str) -> Trial | None:
    """What `sbatch --test-only` says of a job that it would take; None where it says nothing of the kind."""
    match = _TRIAL.search(text)
    start = moment(match["start"]) if match else None
    return Trial(start.timestamp(), match["nodes"]) if match and start else None


def trial_refusal(text: str) -> str:
    """Why it would not: "allocation failure: Invalid qos specification", and before it which limit it is."""
    said = [
        line.removeprefix("sbatch: ").removeprefix("error: ").removeprefix("allocation failure: ").strip()
        for line in text.splitlines()
        if line.startswith(("allocation failure:", "sbatch: error:"))
    ]
    return ": ".join(dict.fromkeys(filter(None, said)))


def size(text: str) -> int:
    """A number with K, M, G, T or P (powers of 1024).

    Raises:
        QuantityError: it is none.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise QuantityError(f"'{text}' is not a number with a unit", text)
    return round(float(match["number"]) * _SIZES[match["unit"]])


def cpu_seconds(text: str) -> float | None:
    """Seconds of [DD-[HH:]]MM:SS[.mmm]."""
    match = _CPU_TIME.fullmatch(text)
    if match is None:
        return None
    hours = int(match["days"] or 0) * 24 + int(match["hours"] or 0)
    return (hours * 60 + int(match["minutes"])) * 60 + float(match["seconds"])


def moment(text: str) -> datetime | None:
    """A point in time as Slurm prints it, None where it says that there is none."""
    if text.isdecimal():
        return from_epoch(int(text)) if len(text) <= 11 else None  # later than the year 5000 is no time
    if text in NOTHING or text == "NONE":
        return None
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def or_empty(text: str) -> str:
    return "" if text in NOTHING else text
