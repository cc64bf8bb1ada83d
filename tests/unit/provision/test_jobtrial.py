"""A job that is tried: what it asks for, and what became of it."""

from __future__ import annotations

import pytest

from westward.errors import Unreachable
from westward.process import Completed
from westward.provision import jobtrial
from westward.provision.jobtrial import Trial

PARTITIONS = "PartitionName=gpu Default=NO State=DOWN\nPartitionName=cpu Default=NO State=UP\n"
BUSY = "srun: error: Unable to allocate resources: Requested nodes are busy\n"


def test_it_takes_the_default_partition_or_the_first_that_is_up() -> None:
    assert "--partition=cpu" in jobtrial.command(1, PARTITIONS)
    assert not any("--partition" in word for word in jobtrial.command(1, PARTITIONS.replace("=NO", "=YES", 1)))
    assert {"--nodes=2", "--immediate=15", "--time=1"} <= set(jobtrial.command(2, PARTITIONS))


@pytest.mark.parametrize(
    ("status", "out", "err", "found"),
    [
        (0, "n1\nn2\n", "", Trial(2, ("n1", "n2"))),
        (0, "n1\nn1\n", "", Trial(2, ("n1", "n1"), complaint="it ran on 1 instead of 2 hosts")),
        (1, "", BUSY, Trial(2, (), True, "Unable to allocate resources: Requested nodes are busy")),
        (1, "", "srun: error: Invalid account\n", Trial(2, (), False, "Invalid account")),
        (124, "", "", Trial(2, (), False, "it did not end within 40 s and was cancelled")),
        (1, "", "", Trial(2, (), False, "it says nothing")),
    ],
)
def test_what_became_of_it(status: int, out: str, err: str, found: Trial) -> None:
    assert jobtrial.read(2, Completed(("srun",), status, out, err)) == found


def test_nobody_answers() -> None:
    assert jobtrial.read(1, Unreachable("no route")) == Trial(1, complaint="no route")


def test_as_slurm_where_root_may_run_none() -> None:
    started: list[tuple[str, ...]] = []

    def start(argv: object) -> Completed:
        started.append(tuple(argv))
        return Completed((), 0, "n1\n", "")

    config = {"DisableRootJobs": "Yes", "SlurmUser": "slurm(64030)"}
    assert jobtrial.run(start, 1, config, PARTITIONS) == Trial(1, ("n1",))
    assert started[0][:4] == ("runuser", "-u", "slurm", "--")
