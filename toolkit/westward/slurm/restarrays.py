"""What slurmrestd says of array jobs, put together: one status for an array, whichever of its tasks queue and accounting still know. Pure.

The tasks that wait share one record under the array's id; a task that starts gets a record of its own with another id (one of them keeps
the array's). slurmctld forgets each ended task by itself after MinJobAge, so what it lists of an array may be a part of it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from westward.errors import QuantityError
from westward.model.job import Array, JobState, JobStatus, array_state, by_state
from westward.slurm.restdata import Record, accounted_status, plain_number

_MASK = re.compile(r"0x(?P<bits>[0-9A-Fa-f]+)")

Tasks = Mapping[int, JobState]


class Listing(NamedTuple):
    """What /jobs/state/ says: the state of each job; and by the id of a task's record, the state of each task by its index.

    Attributes:
        whole: of everything that is queued, and not only of the jobs that were asked about.
    """

    plain: Mapping[int, JobState]
    tasks: Mapping[int, Tasks]
    whole: bool = True


class Part(NamedTuple):
    """A record of an array, and the indices of the tasks it speaks of where it says them."""

    status: JobStatus
    indices: frozenset[int]


def listing(jobs: Iterable[Record]) -> Listing:
    """An answer of /jobs/state/, whose ids are texts: "12", or "12_3" for a task. Parts of a heterogeneous job ("12+1") are left out."""
    seen: dict[tuple[str, ...], JobState] = {}
    plain: dict[int, JobState] = {}
    tasks: dict[int, dict[int, JobState]] = {}
    for job in jobs:
        words = tuple(job["state"])
        state = seen.get(words) or seen.setdefault(words, JobState.of(words))
        head, _, index = str(job["job_id"]).partition("_")
        if not head.isdigit():
            continue
        if index.isdigit():
            tasks.setdefault(int(head), {})[int(index)] = state
        elif not index:
            plain[int(head)] = state
    return Listing(plain, tasks)


def split(records: Iterable[tuple[JobStatus, Record]]) -> tuple[dict[int, JobStatus], dict[int, list[Part]]]:
    """Statuses with the `array` of their record: those of other jobs by id, and the parts of arrays by the array's id."""
    plain: dict[int, JobStatus] = {}
    arrays: dict[int, list[Part]] = {}
    for status, array in records:
        if plain_number(array["job_id"]):
            arrays.setdefault(status.job_id, []).append(Part(status, task_indices(array)))
        else:
            plain[status.job_id] = status
    return plain, arrays


def accounted(records: Iterable[Record]) -> tuple[dict[int, JobStatus], dict[int, list[Part]]]:
    """Records of slurmdbd, as `split` gives them; of records that a requeue repeated the last counts."""
    latest = {record["job_id"]: record for record in sorted(records, key=attempt_order)}
    return split((accounted_status(record), record["array"]) for record in latest.values())


def attempt_order(record: Record) -> tuple[int, float]:
    """Sorts slurmdbd's records of a job: one that was requeued within a second has the same submit time, and one without a start comes last."""
    return int(record["time"]["submission"]), int(record["time"]["start"]) or math.inf


def task_indices(array: Record) -> frozenset[int]:
    """Which tasks a record speaks of: one, or those that never started, which slurmdbd gives as a mask of bits ("0x8A")."""
    task = plain_number(array["task_id"])
    if task is not None:
        return frozenset({task})
    text = str(array.get("task") or "").strip("[]")
    mask = _MASK.search(text)
    if mask is not None:
        bits = int(mask["bits"], 16)
        return frozenset(index for index in range(bits.bit_length()) if bits >> index & 1)
    try:
        return frozenset(Array.parse(text).task_ids) if text else frozenset()
    except QuantityError:
        return frozenset()


def merged(listed: Tasks, before: Tasks, parts: Iterable[Part]) -> dict[int, JobState]:
    """The state of every task of an array: as it is listed, else as it ended when it was seen last, else as the accounting has it."""
    told = {index: part.status.state for part in parts for index in part.indices}
    ended = {index: state for index, state in before.items() if state.final}
    return {**before, **told, **ended, **listed}


def whole_array(parts: Sequence[Part], tasks: Tasks) -> JobStatus:
    """One status for an array, from its records and the state of each task.

    The reason, the exit code and the signal are those of a task in the state that stands for the whole.
    """
    counts = Counter(tasks.values()) or Counter(part.status.state for part in parts)
    state = array_state(counts)
    statuses = [part.status for part in parts]
    shown = next((status for status in statuses if status.state is state), None)
    waiting = [status for status in statuses if status.state is JobState.PENDING]
    nodes = {status.nodes for status in statuses if status.nodes}
    ends = [status.ended_at for status in statuses if status.ended_at is not None]
    return replace(
        shown or statuses[0],
        state=state,
        reason=shown.reason if shown else "",
        held=bool(waiting) and state is JobState.PENDING and all(status.held for status in waiting),
        exit_code=shown.exit_code if shown else None,
        signal=shown.signal if shown else None,
        submitted_at=min((status.submitted_at for status in statuses if status.submitted_at is not None), default=None),
        started_at=min((status.started_at for status in statuses if status.started_at is not None), default=None),
        ended_at=max(ends, default=None) if state.final else None,
        nodes=nodes.pop() if len(nodes) == 1 else "",
        tasks=dict(counts),
        task_ids=by_state(tasks),
        estimated_start=shown.estimated_start if shown else None,
        restarts=max(status.restarts for status in statuses),
    )
