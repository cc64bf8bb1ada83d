"""Every door of every Slurm version of the lab `versions`, as `SlurmClient`s to one suite."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pytest

from contract.clusters import Judge, Lab
from westward.errors import Unreachable
from westward.model.decision import Cost, Offer
from westward.model.job import JobSpec, JobState, JobStatus, Launcher, Submission, new_key
from westward.model.resources import Resources
from westward.model.site import NativeDoor, RestDoor, ShellDoor, Site
from westward.slurm.client import SlurmClient, open_door
from westward.slurm.script import render

# (cluster, door): what each version is reached through. 22.05's slurmrestd speaks none of our data_parser versions.
DOORS = (
    ("v2205", "shell"),
    ("v2411", "rest"),
    ("v2411", "shell"),
    ("v2605", "rest"),
    ("v2605", "shell"),
    ("v2605", "native"),
)
CLUSTERS = tuple(dict.fromkeys(cluster for cluster, _ in DOORS))
# what a door has no way to do, and says so; everything else is the same through all of them
NOT_OFFERED = {
    ("v2411", "rest"): frozenset({"requeue", "try_out"}),
    ("v2605", "rest"): frozenset({"try_out"}),
    ("v2605", "native"): frozenset({"history"}),
}
MIB = 1024**2
SMALL = Resources(mem_bytes=64 * MIB)
_KINDS = {"rest": RestDoor, "shell": ShellDoor, "native": NativeDoor}


def offers(door: tuple[str, str], *methods: str) -> bool:
    return not NOT_OFFERED.get(door, frozenset()).intersection(methods)


def through(*methods: str, doors: Sequence[tuple[str, str]] = DOORS) -> pytest.MarkDecorator:
    """Run a test through every door that offers these methods; the test takes `opened`."""
    chosen = [door for door in doors if offers(door, *methods)]
    return pytest.mark.parametrize("opened", chosen, indirect=True, ids=["-".join(door) for door in chosen])


each_cluster = pytest.mark.parametrize("cluster", CLUSTERS)
# those with more than one door
several_doors = pytest.mark.parametrize(
    "cluster", [name for name in CLUSTERS if sum(cluster == name for cluster, _ in DOORS) > 1]
)


@dataclass(frozen=True)
class Opened:
    """One door that is open, and the judge of what came through it."""

    cluster: str
    door: str
    site: Site
    client: SlurmClient
    judge: Judge

    def __str__(self) -> str:
        return f"{self.cluster}-{self.door}"

    def offers(self, *methods: str) -> bool:
        return offers((self.cluster, self.door), *methods)

    @property
    def chip(self) -> str:
        return "a100" if self.cluster == "v2205" else "h100"

    def node(self, number: int) -> str:
        return f"{self.cluster}-n{number}"

    def submission(
        self,
        *command: str,
        name: str = "contract",
        partition: str = "gpu",
        hold: bool = True,
        dependency: str | None = None,
        resources: Resources = SMALL,
        launcher: Launcher = Launcher.NONE,
        **spec: Any,
    ) -> Submission:
        """What the road makes of a specification at this site; without a hold it is one of an idempotent job."""
        wanted = JobSpec(name, command, resources, launcher, idempotent=not hold, **spec)
        offer = Offer(self.site.name, partition, self.chip, 0.0, None, None, None, Cost())
        return render(wanted, offer, self.site, new_key(), dependency)

    def shell(self, script: str, **words: Any) -> Submission:
        """A job of a few shell lines, let go at once."""
        return self.submission("bash", "-c", script, **{"hold": False, **words})

    def submit(self, *submissions: Submission) -> list[int]:
        """Submit through the door under test; every one must be taken."""
        answers = self.client.submit(submissions)
        ids = [answer for answer in answers if isinstance(answer, int)]
        assert len(ids) == len(submissions), answers
        return ids

    def start(self, submission: Submission) -> int:
        (job_id,) = self.submit(submission)
        return job_id

    def found(self, submission: Submission) -> JobStatus:
        """The one job of that name, as this door finds it."""
        (status,) = self.client.find([submission.name])[submission.name]
        return status

    def here(self, path: str) -> Path:
        """A file of the cluster, as this host sees it."""
        return next(here / path.removeprefix(there).lstrip("/") for there, here in self.site.files.items())

    def written(self, submission: Submission, name: str | None = None) -> str:
        """What a job printed, or wrote into a file of its directory."""
        return self.here(f"{submission.directory}/{name}" if name else submission.stdout).read_text()

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Whatever a test leaves in the queue is cancelled, not by the door under test."""
        try:
            yield
        finally:
            self.judge.root("scancel", "--user=researcher")


@dataclass(frozen=True)
class Looked:
    """What one door said of the same jobs at one moment: found by name, and polled as jobs of which nothing was known."""

    found: Mapping[str, list[JobStatus]]
    polled: Mapping[int, JobStatus]
    gone: frozenset[int] = field(default=frozenset())


def open_one(lab: Lab, site: Site, cluster: str, door: str) -> SlurmClient:
    if door == "native":
        return NativeThere(f"{lab.name}.{cluster}-ctl", site.name)  # type: ignore[return-value]
    return open_door(site, next(each for each in site.doors if isinstance(each, _KINDS[door])))


def same_but(status: JobStatus, *names: str) -> JobStatus:
    """A status with these fields as they are by default."""
    empty = JobStatus(0, "", JobState.UNKNOWN)
    return replace(status, **{name: getattr(empty, name) for name in names})


# runs on the login node: takes (method, arguments) and gives ("value" | "error", what came of it), each as a length and a pickle
_THERE = """
import pickle, struct, sys
from westward.errors import WestwardError
from westward.slurm.native import NativeClient
read, write = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr
client = NativeClient(sys.argv[1])
while head := read.read(4):
    method, words = pickle.loads(read.read(struct.unpack('>I', head)[0]))
    try:
        answer = ('value', getattr(client, method)(*words))
    except WestwardError as error:
        answer = ('error', (type(error), str(error), error.next_step))
    frame = pickle.dumps(answer)
    write.write(struct.pack('>I', len(frame)) + frame)
    write.flush()
"""


class NativeThere:
    """`NativeClient` in a process on the cluster's login node, where libslurm is; called from here."""

    def __init__(self, container: str, site: str) -> None:
        argv = ["docker", "exec", "-i", "-u", "researcher", "-e", "PYTHONPATH=/opt/westward/toolkit", container]
        self._there = subprocess.Popen(
            [*argv, "python3", "-c", _THERE, site], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __getattr__(self, method: str) -> Any:
        def call(*words: Any) -> Any:
            assert self._there.stdin is not None and self._there.stdout is not None
            frame = pickle.dumps((method, words))
            try:
                self._there.stdin.write(len(frame).to_bytes(4, "big") + frame)
                self._there.stdin.flush()
                head = self._there.stdout.read(4)
            except BrokenPipeError:
                head = b""
            if len(head) < 4:
                raise Unreachable("the process on the login node ended")
            kind, value = pickle.loads(self._there.stdout.read(int.from_bytes(head, "big")))
            if kind == "error":
                error, said, next_step = value
                raise error(said, next_step)
            return value

        return call

    def close(self) -> None:
        assert self._there.stdin is not None
        with suppress(BrokenPipeError):
            self._there.stdin.close()
        self._there.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
