"""What the tests of one cluster share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.slurm.replay import Slurmrestd, serving
from westward.model.job import Submission
from westward.model.site import RestDoor
from westward.slurm.rest import RestClient


@pytest.fixture
def slurmrestd() -> Iterator[Slurmrestd]:
    with serving() as made:
        yield made


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "researcher.jwt"
    file.touch(mode=0o600)
    file.write_text("first.token.here\n")
    return file


@pytest.fixture
def client(slurmrestd: Slurmrestd, token_file: Path) -> Iterator[RestClient]:
    with RestClient("west", RestDoor(slurmrestd.url, "researcher", token_file)) as made:
        yield made


@pytest.fixture
def submission() -> Submission:
    return Submission(
        name="job~aaaaaaaaaaaa", partition="gpu", account="research", qos=None, nodes=2, ntasks=4, ntasks_per_node=2,
        cpus_per_task=3, mem_per_node_mib=1024, gres="gpu:h100:4", walltime_s=300, root="/shared/me",
        directory="/shared/me/job~aaaaaaaaaaaa", stdout="/shared/me/job~aaaaaaaaaaaa.out",
        environment={"B": "it's\n\"b\"", "A": "1"}, script="#!/bin/bash\ntrue\n",
    )  # fmt: skip
