"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from contract.clusters import Lab, westward


@pytest.fixture(scope="session")
def clusters(lab: Any) -> Lab:
    """The lab of this test session, with at least two sites that the router can choose from."""
    return Lab(lab.name)


@pytest.fixture
def submit(clusters: Lab) -> Callable[..., Any]:
    """Submit and detach; returns the job as --json shows it."""

    def run(*args: str) -> Any:
        said = westward("submit", *args, "--detach", "--json")
        assert said.status == 0, said.err
        return said.json

    return run
