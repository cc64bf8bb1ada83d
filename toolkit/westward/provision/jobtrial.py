"""An actual job, to see whether one runs: on one node, and on two. It asks for little, waits for little, and takes nobody's place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from westward.errors import WestwardError
from westward.slurm import clustertext
from westward.slurm.commands import Answer

WAIT_S = 15  # that the job may wait for nodes; 'srun --immediate' ends then
LIMIT_S = 60.0
_BUSY = re.compile(r"nodes are busy|immediate execution|insufficient priority|QOS\w*Limit|Assoc\w*Limit", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trial:
    """A job that was tried.

    Attributes:
        hosts: on which its tasks ran.
        busy: no node was free in time.
        complaint: why it did not run; empty where it did.
    """

    nodes: int
    hosts: tuple[str, ...] = ()
    busy: bool = False
    complaint: str = ""


def run(start: Callable[[Sequence[str]], Answer], nodes: int, config: Mapping[str, str], partitions: str) -> Trial:
    """Run a job by `srun`; as SlurmUser where root may run none.

    Args:
        start: runs a program at a controller as root.
        config: `scontrol show config`.
        partitions: `scontrol -o show partition`.
    """
    argv = command(nodes, partitions)
    if config.get("DisableRootJobs", "No").lower() in ("yes", "1"):
        argv = ("runuser", "-u", config.get("SlurmUser", "slurm").partition("(")[0], "--", *argv)
    return read(nodes, start(argv))


def command(nodes: int, partitions: str) -> tuple[str, ...]:
    """The words of it. SIGTERM ends both srun and its job."""
    found = clustertext.partitions(partitions)
    named = next((one.name for one in found if one.up), "") if not any(one.default for one in found) else ""
    wanted = (f"--nodes={nodes}", "--ntasks-per-node=1", "--cpus-per-task=1", "--mem=16M", "--time=1", "--chdir=/")
    return (
        *("timeout", "-s", "TERM", "-k", "5", str(WAIT_S + 25)),
        *("srun", "--job-name=westward-doctor", f"--immediate={WAIT_S}", "--mpi=none", "--quit-on-interrupt", *wanted),
        *((f"--partition={named}",) if named else ()),
        "hostname",
    )


def read(nodes: int, answer: Answer) -> Trial:
    """What became of it."""
    if isinstance(answer, WestwardError):
        return Trial(nodes, complaint=str(answer))
    hosts = tuple(sorted(answer.stdout.split()))
    if answer.status == 0 and len(set(hosts)) == nodes:
        return Trial(nodes, hosts)
    if answer.status == 124:
        return Trial(nodes, hosts, complaint=f"it did not end within {WAIT_S + 25} s and was cancelled")
    if answer.status == 0:
        return Trial(nodes, hosts, complaint=f"it ran on {len(set(hosts))} instead of {nodes} hosts")
    said = [line for line in answer.stderr.splitlines() if "error" in line] or answer.stderr.splitlines()
    told = (said or ["it says nothing"])[0].removeprefix("srun: error: ")
    return Trial(nodes, hosts, bool(_BUSY.search(answer.stderr)), told)
