"""A job: what is asked for, what a cluster says of it, and the key by which it is known everywhere."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from westward.errors import QuantityError
from westward.model.batchscript import BatchScript
from westward.model.budget import NO_CAPS, Caps
from westward.model.checkpoint import Checkpoint
from westward.model.container import Container
from westward.model.resources import Resources

KEY_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
KEY_LENGTH = 12
KEY_MARK = "~"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_PART = r"[0-9]{1,7}(?:-[0-9]{1,7}(?::[0-9]{1,7})?)?"  # MaxArraySize is at most 4,000,001
_RANGE = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+)(?::(?P<step>\d+))?)?")
_ARRAY = re.compile(rf"(?P<indices>{_PART}(?:,{_PART})*)(?:%(?P<at_once>[0-9]{{1,7}}))?")
_KEY = re.compile(rf"[{KEY_ALPHABET}]{{{KEY_LENGTH}}}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # the name of an environment variable, as a shell exports it


def new_key() -> str:
    """A key no other job has: 12 base32 characters (60 random bits), in lower case."""
    return "".join(KEY_ALPHABET[byte % len(KEY_ALPHABET)] for byte in secrets.token_bytes(KEY_LENGTH))


def slurm_name(name: str, key: str) -> str:
    """The job's name at a cluster: the user's name reduced to [A-Za-z0-9._-], `~`, and the key.

    The user's own name stays in the ledger, so a hostile one reaches neither a shell nor Slurm.
    """
    return f"{_UNSAFE.sub('_', name)[:64].strip('_') or 'job'}{KEY_MARK}{key}"


@dataclass(frozen=True, slots=True)
class Array:
    """The tasks of an array job: Slurm's own list of indices ("0-9", "1,3,7", "0-99:10"), and how many run at once.

    Raises:
        QuantityError: (from `parse`) the text is not what sbatch's --array takes.
    """

    indices: str
    at_once: int | None = None

    @classmethod
    def parse(cls, text: str) -> Array:
        match = _ARRAY.fullmatch(text.strip())
        if match is None or (match["at_once"] and int(match["at_once"]) == 0):
            raise QuantityError(f"'{text}' is not a list of array tasks; write it as 0-9, 1,3,7 or 0-99:10%4", text)
        array = cls(match["indices"], int(match["at_once"]) if match["at_once"] else None)
        for part in _RANGE.finditer(array.indices):
            if (part["last"] and int(part["last"]) < int(part["first"])) or (part["step"] and int(part["step"]) == 0):
                raise QuantityError(f"'{text}': '{part[0]}' names no array tasks", part[0])
        return array

    @classmethod
    def of(cls, task_ids: Iterable[int]) -> Array:
        """The array of these tasks, in as few words as it takes."""
        runs: list[list[int]] = []
        for task in sorted(set(task_ids)):
            if runs and task == runs[-1][1] + 1:
                runs[-1][1] = task
            else:
                runs.append([task, task])
        return cls(",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs))

    @property
    def task_ids(self) -> tuple[int, ...]:
        """The indices, ascending; one that is named twice is one task."""
        found = {
            index
            for part in _RANGE.finditer(self.indices)
            for index in range(int(part["first"]), int(part["last"] or part["first"]) + 1, int(part["step"] or 1))
        }
        return tuple(sorted(found))

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return len(self.task_ids)

    def __str__(self) -> str:
        return self.indices + (f"%{self.at_once}" if self.at_once else "")


class After(StrEnum):
    """When a dependency is met, in Slurm's words. What can never be met cancels the job."""

    START = "after"
    ANY = "afterany"
    OK = "afterok"
    NOT_OK = "afternotok"
    CORRESPONDING = "aftercorr"


@dataclass(frozen=True, slots=True)
class Dependency:
    """One job that another waits for: by its key, at whatever site it is."""

    after: After
    key: str

    @classmethod
    def parse(cls, text: str) -> Dependency:
        """From "afterok:KEY"; a key alone means afterok."""
        word, _, key = text.rpartition(":")
        if (word or After.OK) not in list(After) or not _KEY.fullmatch(key):
            raise QuantityError(
                f"'{text}' is no dependency; write afterok:KEY (or {', '.join(kind for kind in After if kind != After.OK)})",
                text,
            )
        return cls(After(word or After.OK), key)

    def __str__(self) -> str:
        return f"{self.after}:{self.key}"


class Launcher(StrEnum):
    """What starts the job's tasks inside its allocation."""

    SRUN = "srun"
    MPI = "mpi"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Task:
    """What one task of an array runs, where each has a command of its own.

    Attributes:
        env: variables for this task, beside those of the job.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the researcher wants; no site is in it.

    Attributes:
        name: the user's own words; any text.
        command: argv of the program that `launcher` starts; of no meaning where there are `tasks`.
        setup: shell lines that the template's author wrote, run before the command.
        env: variables for the job.
        outputs: files, relative to the job's directory, that must be there at the end.
        depends_on: all of them must be met before the job starts.
        begin_at: not before this moment (UTC).
        requeue: whether the cluster may start it again after a node failed or a more urgent job took its place.
        idempotent: two runs at once do no harm, so it is submitted without a hold: one request instead of two.
        options: more of sbatch's long options, by name without dashes; None for an option that takes no value.
        budget: the most that this submission may spend.
        project: the budget that it is paid from.
        container: what the command runs in; None for the node itself.
        modules: what is loaded before the setup, by the names that the site's map translates.
        inputs: files and directories that must be there when it starts: paths, which the site's map translates; relative ones from its root.
        max_rtt_ms: the longest round trip between its user's region and its site; None for any.
        script: a batch script of the user's own, which is submitted as it is; what it says of its job goes before everything here.
        tasks: what each task of `array` runs, in the order of the indices; empty where all run `command`.
        config: all that its template and overrides say, for the record; empty where it was not composed of these.
        checkpoint: how it is stopped before its time limit, and started again; None where it simply ends there.
    """

    name: str
    command: tuple[str, ...]
    resources: Resources = field(default_factory=Resources)
    launcher: Launcher = Launcher.SRUN
    setup: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    account: str | None = None
    qos: str | None = None
    template: str | None = None
    array: Array | None = None
    depends_on: tuple[Dependency, ...] = ()
    begin_at: datetime | None = None
    requeue: bool = False
    idempotent: bool = False
    options: Mapping[str, str | None] = field(default_factory=dict)
    container: Container | None = None
    modules: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    max_rtt_ms: float | None = None
    script: BatchScript | None = None
    tasks: tuple[Task, ...] = ()
    budget: Caps = NO_CAPS
    project: str | None = None
    checkpoint: Checkpoint | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submission:
    """One job as a cluster takes it, the same through every door. None leaves a thing to the cluster.

    Attributes:
        name: the name that carries our key.
        root: where it is submitted from.
        directory: the job's own directory at the site; the script makes it. A script of the user's own starts there.
        stdout: both outputs of the batch script, beside that directory (Slurm opens it before the script runs).
        gres: accelerators per node in Slurm's form, e.g. "gpu:h100:4"; None for none.
        array: task indices as --array takes them.
        dependency: as --dependency takes it: Slurm job ids of this cluster.
        begin_at: seconds since the epoch, UTC.
        hold: it cannot start before `release`.
        options: more of sbatch's long options, as in JobSpec; of a script of the user's own, all that have no field here.
        arguments: what a script of the user's own is called with; None for a script that Westward wrote, whose #SBATCH lines say everything.
    """

    name: str
    partition: str | None
    account: str | None
    qos: str | None
    nodes: int | None
    ntasks: int | None
    ntasks_per_node: int | None
    cpus_per_task: int | None
    mem_per_node_mib: int | None
    gres: str | None
    walltime_s: int | None
    root: str
    directory: str
    stdout: str
    environment: Mapping[str, str]
    script: str
    array: str | None = None
    dependency: str | None = None
    begin_at: int | None = None
    requeue: bool | None = False
    hold: bool = True
    options: Mapping[str, str | None] = field(default_factory=dict)
    arguments: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class JobChange:
    """What is to become of a job that waits or runs; None leaves a thing as it is. Not every cluster lets a user change all of it."""

    walltime_s: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    begin_at: int | None = None
    dependency: str | None = None
    nodes: int | None = None
    at_once: int | None = None


class JobState(StrEnum):
    """The state of a job: Slurm's own base states, then UNKNOWN (its site does not answer) and LOST (it is nowhere)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    CANCELLED = "CANCELLED"
    BOOT_FAIL = "BOOT_FAIL"
    DEADLINE = "DEADLINE"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    REVOKED = "REVOKED"
    UNKNOWN = "UNKNOWN"
    LOST = "LOST"

    @property
    def final(self) -> bool:
        """True where nothing more happens to this attempt: a requeue makes a later attempt, which counts instead."""
        return self not in _GOING_ON

    @classmethod
    def parse(cls, text: str) -> JobState:
        """The state a cluster names; whatever is not known here is UNKNOWN and never stops a poll.

        Takes one word of Slurm's: where it gives a state with flags, the state comes first. "CANCELLED by 1000" is CANCELLED.
        """
        word = text.split()[0].upper() if text.strip() else ""
        return cls(_ALIAS.get(word, word)) if _ALIAS.get(word, word) in cls.__members__ else cls.UNKNOWN

    @classmethod
    def of(cls, words: Sequence[str]) -> JobState:
        """The state in a base state and its flags, as slurmrestd lists them: a flag that Slurm's commands would show instead goes first.

        So a job that has COMPLETED and is still COMPLETING goes on, through every door. No word is UNKNOWN.
        """
        return cls.parse(next((flag for flag in _SHOWN if flag in words), words[0] if words else ""))


_GOING_ON = frozenset({JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED, JobState.UNKNOWN})
_ARRAY_ORDER = (
    JobState.RUNNING,
    JobState.SUSPENDED,
    JobState.PENDING,
    JobState.UNKNOWN,
    JobState.LOST,
    *sorted(set(JobState) - _GOING_ON - {JobState.LOST, JobState.COMPLETED, JobState.REVOKED, JobState.CANCELLED}),
    JobState.CANCELLED,
    JobState.REVOKED,
    JobState.COMPLETED,
)
# the flags that job_state_string() of Slurm's slurm_protocol_defs.c puts before the base state, in its order
_SHOWN = (
    "COMPLETING", "STAGE_OUT", "CONFIGURING", "RESIZING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "STOPPED", "REVOKED",
    "RESV_DEL_HOLD", "SIGNALING",
)  # fmt: skip
_ALIAS = {
    "CONFIGURING": "RUNNING",
    "COMPLETING": "RUNNING",
    "STAGE_OUT": "RUNNING",
    "SIGNALING": "RUNNING",
    "RESIZING": "RUNNING",
    "STOPPED": "SUSPENDED",
    "REQUEUED": "PENDING",
    "REQUEUE_FED": "PENDING",
    "REQUEUE_HOLD": "PENDING",
    "SPECIAL_EXIT": "PENDING",
    "RESV_DEL_HOLD": "PENDING",
    "TIMELIMIT": "TIMEOUT",
}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a cluster last said of one attempt. Times are UTC; `nodes` is Slurm's own host list expression.

    Attributes:
        job_id: of an array, the id of the whole.
        state: of an array, what is true of the whole: RUNNING where a task runs, else PENDING where one waits, and when all have
            ended COMPLETED where all did (`array_state`).
        tasks: how many tasks of an array are in each state; empty for any other job.
        task_ids: which they are, as --array takes them.
        exit_code: None where a signal ended it.
        estimated_start: where the cluster's scheduler has planned it.
        restarts: how often the cluster has requeued it.
    """

    job_id: int
    name: str
    state: JobState
    reason: str = ""
    held: bool = False
    exit_code: int | None = None
    signal: int | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    nodes: str = ""
    partition: str = ""
    tasks: Mapping[JobState, int] = field(default_factory=dict)
    estimated_start: datetime | None = None
    restarts: int = 0
    task_ids: Mapping[JobState, str] = field(default_factory=dict)


def by_state(tasks: Mapping[int, JobState]) -> dict[JobState, str]:
    """Which tasks of an array are in each state, as --array takes them."""
    found: dict[JobState, list[int]] = {}
    for task, state in tasks.items():
        found.setdefault(state, []).append(task)
    return {state: Array.of(ids).indices for state, ids in found.items()}


def array_state(tasks: Mapping[JobState, int]) -> JobState:
    """The state of an array as a whole, from how many of its tasks are in each state.

    RUNNING where one runs, PENDING where none runs and one waits; when all have ended, COMPLETED if all did, else the worst of them.
    """
    present = {state for state, count in tasks.items() if count}
    return next((state for state in _ARRAY_ORDER if state in present), JobState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt used, as the cluster's accounting has it; None where it does not record it.

    Attributes:
        elapsed_s: wall-clock seconds of its allocation.
        tres: what was allocated, by Slurm's names: "cpu", "mem" (in bytes), "node", "billing", "gres/gpu", "gres/gpu:h100", ...
        cpu_s: CPU seconds that its processes used, user and system.
        max_rss_bytes: the most memory that one of its tasks used.
        energy_j: joules on all its nodes, whatever else ran there.
    """

    elapsed_s: int
    tres: Mapping[str, int]
    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    energy_j: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One record of the accounting: a requeue makes another one under the same id. Each task of an array has its own.

    Attributes:
        task: the index in its array; None for any other job.
    """

    status: JobStatus
    usage: Usage
    account: str = ""
    qos: str = ""
    task: int | None = None
