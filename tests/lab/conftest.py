"""Labs of the tests' own, in a state directory of their own; whatever a test leaves is taken down."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.labs_of_tests import Labs
from westward.lab import engine, teardown
from westward.lab.cluster import Lab
from westward.lab.progress import quiet


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    patch = pytest.MonkeyPatch()
    state = tmp_path_factory.mktemp("lab-state")
    patch.setenv("WESTWARD_STATE_DIR", str(state))
    made = Labs(state, engine.connect())
    try:
        yield made
    finally:
        for name in made.names:
            teardown.down(name, quiet)
        patch.undo()


@pytest.fixture(autouse=True)
def own_state(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test finds the state directory of these labs, whatever other fixtures of the session have set."""
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(labs.state))


@pytest.fixture(scope="session")
def one(labs: Labs) -> Lab:
    """A lab that several tests look at."""
    before = os.environ["WESTWARD_STATE_DIR"]
    os.environ["WESTWARD_STATE_DIR"] = str(labs.state)
    try:
        return labs.up("one")
    finally:
        os.environ["WESTWARD_STATE_DIR"] = before
