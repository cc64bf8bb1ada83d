"""The pytest plugin: Slurm labs, and a PostgreSQL, as fixtures. Use it with `pytest_plugins = ["westward.testing"]` in a conftest.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from westward.lab import cluster, teardown
from westward.lab.cluster import Lab
from westward.lab.progress import quiet
from westward.lab.services import postgres


@pytest.fixture(scope="session")
def lab_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory for the session, so that tests touch no lab and no ledger of the user's."""
    before = os.environ.get("WESTWARD_STATE_DIR")
    folder = tmp_path_factory.mktemp("state")
    os.environ["WESTWARD_STATE_DIR"] = str(folder)
    yield folder
    _restore("WESTWARD_STATE_DIR", before)


@pytest.fixture(scope="session")
def lab(lab_state: Path) -> Iterator[Lab]:
    """Two real Slurm clusters, `test-<pid>`, for the whole session; gone at its end, also where it could not come up."""
    with _lab("east-west", f"test-{os.getpid()}", lab_state) as made:
        yield made


@pytest.fixture(scope="session")
def versions_lab(lab_state: Path) -> Iterator[Lab]:
    """Three clusters of three Slurm releases, `versions-<pid>`, for the whole session."""
    with _lab("versions", f"versions-{os.getpid()}", lab_state) as made:
        yield made


@pytest.fixture(scope="session")
def postgres_url(lab_state: Path) -> Iterator[str]:
    """The address of an empty PostgreSQL, for the whole session; PGPASSFILE names the file with its password."""
    with postgres(f"postgres-{os.getpid()}") as (url, passfile):
        before = os.environ.get("PGPASSFILE")
        os.environ["PGPASSFILE"] = str(passfile)
        yield url
        _restore("PGPASSFILE", before)


@contextmanager
def _lab(topology: str, name: str, state: Path) -> Iterator[Lab]:
    try:
        yield cluster.up(topology, name)
    finally:
        os.environ["WESTWARD_STATE_DIR"] = str(state)
        teardown.down(name, quiet)


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(variable, None)
    else:
        os.environ[variable] = value
