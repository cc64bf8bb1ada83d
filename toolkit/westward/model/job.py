"""A job: what is asked for, what a cluster says of it, and the key by which it is known everywhere."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from westward.errors import InputError, QuantityError

KEY_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
KEY_LENGTH = 12
KEY_MARK = "~"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ACCELERATORS = re.compile(r"(?P<chip>[A-Za-z][\w.-]*):(?P<count>\d+)")
ANY_CHIP = "any"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # the name of an environment variable, as a shell exports it


def new_key() -> str:
    """A key no other job has: 12 base32 characters (60 random bits), in lower case."""
    return "".join(secrets.choice(KEY_ALPHABET) for _ in range(KEY_LENGTH))


def slurm_name(name: str, key: str) -> str:
    """The job's name at a cluster: the user's name reduced to [A-Za-z0-9._-], `~`, and the key.

    The user's own name stays in the ledger, so a hostile one reaches neither a shell nor Slurm.
    """
    return f"{_UNSAFE.sub('_', name)[:64].strip('_') or 'job'}{KEY_MARK}{key}"


@dataclass(frozen=True, slots=True)
class AcceleratorRequest:
    """Accelerators on each node: `count` of one named chip, or of whatever chip the site has ("any").

    Raises:
        QuantityError: (from `parse`) the text is not CHIP:COUNT.
    """

    chip: str
    count: int

    @classmethod
    def parse(cls, text: str) -> AcceleratorRequest:
        match = _ACCELERATORS.fullmatch(text.strip())
        if match is None or int(match["count"]) == 0:
            raise QuantityError(
                f"'{text}' does not name accelerators; write CHIP:COUNT, for example h100:4 or any:1", text
            )
        return cls(match["chip"].lower(), int(match["count"]))

    @property
    def any_chip(self) -> bool:
        return self.chip == ANY_CHIP

    def __str__(self) -> str:
        return f"{self.chip}:{self.count}"


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job occupies. Memory and accelerators are per node, as Slurm's --mem and --gres are.

    Raises:
        InputError: a count is below one.
    """

    nodes: int = 1
    ntasks_per_node: int = 1
    cpus_per_task: int = 1
    mem_bytes: int | None = None
    accelerators: AcceleratorRequest | None = None
    walltime_s: int = 600

    def __post_init__(self) -> None:
        for name in ("nodes", "ntasks_per_node", "cpus_per_task", "walltime_s"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be at least 1")
        if self.mem_bytes is not None and self.mem_bytes < 1:
            raise InputError(f"mem_bytes={self.mem_bytes} must be at least 1")

    @property
    def ntasks(self) -> int:
        return self.nodes * self.ntasks_per_node

    @property
    def cpus_per_node(self) -> int:
        return self.ntasks_per_node * self.cpus_per_task

    @property
    def accelerator_count(self) -> int:
        """Accelerators on all nodes together."""
        return self.nodes * self.accelerators.count if self.accelerators else 0


class Launcher(StrEnum):
    """What starts the job's tasks inside its allocation."""

    SRUN = "srun"
    MPI = "mpi"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the researcher wants; no site is in it.

    Attributes:
        name: the user's own words; any text.
        command: argv of the program that `launcher` starts.
        setup: shell lines that the template's author wrote, run before the command.
        env: variables for the job.
        outputs: files, relative to the job's directory, that must be there at the end.
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


@dataclass(frozen=True, slots=True)
class Submission:
    """One job as a cluster takes it, the same through every door.

    Attributes:
        name: the name that carries our key.
        directory: the job's own directory at the site; the script makes it.
        stdout: both outputs of the batch script, beside that directory (Slurm opens it before the script runs).
        gres: accelerators per node in Slurm's form, e.g. "gpu:h100:4"; None for none.
    """

    name: str
    partition: str
    account: str | None
    qos: str | None
    nodes: int
    ntasks: int
    ntasks_per_node: int
    cpus_per_task: int
    mem_per_node_mib: int | None
    gres: str | None
    walltime_s: int
    root: str
    directory: str
    stdout: str
    environment: Mapping[str, str]
    script: str


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


_GOING_ON = frozenset({JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED, JobState.UNKNOWN})
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
    """What a cluster last said of one attempt. Times are UTC; `nodes` is Slurm's own host list expression."""

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
