"""The pytest plugin: a Slurm lab as a fixture. Use it with `pytest_plugins = ["westward.testing"]` in a conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from westward.lab import cluster, teardown
from westward.lab.cluster import Lab
from westward.lab.progress import quiet

TOPOLOGY = "east-west"


@pytest.fixture(scope="session")
def lab_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory for the session, so that tests touch no lab and no ledger of the user's."""
    before = os.environ.get("WESTWARD_STATE_DIR")
    folder = tmp_path_factory.mktemp("state")
    os.environ["WESTWARD_STATE_DIR"] = str(folder)
    yield folder
    if before is None:
        os.environ.pop("WESTWARD_STATE_DIR", None)
    else:
        os.environ["WESTWARD_STATE_DIR"] = before


@pytest.fixture(scope="session")
def lab(lab_state: Path) -> Iterator[Lab]:
    """Two real Slurm clusters, `test-<pid>`, for the whole session; gone at its end, also where it could not come up."""
    name = f"test-{os.getpid()}"
    try:
        yield cluster.up(TOPOLOGY, name)
    finally:
        os.environ["WESTWARD_STATE_DIR"] = str(lab_state)
        teardown.down(name, quiet)
