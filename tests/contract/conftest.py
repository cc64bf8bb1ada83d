"""Fixtures of the contract tests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from contract.clusters import Judge, Lab, westward
from contract.doors import DOORS, Opened, open_one
from westward.catalogue.load import load_site
from westward.model.site import Site

ONE_RELEASE = ("test_bad_doors", "test_doors_change", "test_doors_limits", "test_doors_rare_ends")


@pytest.fixture(scope="session")
def clusters(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab of this test session, with at least two sites that the router can choose from, and no others to choose."""
    labs = tmp_path_factory.mktemp("east-west") / "labs"
    labs.mkdir()
    (labs / lab.name).symlink_to(Path(os.environ["WESTWARD_STATE_DIR"]) / "labs" / lab.name)
    labs.parent.chmod(0o700)
    os.environ["WESTWARD_STATE_DIR"] = str(labs.parent)
    return Lab(lab.name)


@pytest.fixture
def submit(clusters: Lab) -> Iterator[Callable[..., Any]]:
    """Submit; returns the job as --json shows it. A test's jobs do not outlive it, however it ends."""
    keys = []

    def run(*args: str) -> Any:
        said = westward("submit", *args, "--json")
        assert said.status == 0, said.err
        keys.append(said.json["key"])
        return said.json

    yield run
    for key in keys:
        said = westward("cancel", key)  # harmless where it has ended
        assert said.status == 0, said


@pytest.fixture(scope="session")
def version_sites(lab_state: Path, request: pytest.FixtureRequest) -> tuple[Lab, Mapping[str, Site]]:
    """The lab with one cluster of each Slurm version, and its sites by cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WESTWARD_STATE_DIR", str(lab_state))
        lab = request.getfixturevalue("versions_lab")
    return Lab(lab.name), {cluster: load_site(file) for cluster, file in lab.sites.items()}


@pytest.hookimpl(tryfirst=True)  # before -m is applied
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every release is submitted to and looked at in every run; the rest of what a door does is tried on one of them, on all by --full."""
    for item in items:
        if item.path.stem in ONE_RELEASE and re.search("v2205|v2605", item.name):
            item.add_marker(pytest.mark.full)


@pytest.fixture(scope="session")
def all_doors(version_sites: tuple[Lab, Mapping[str, Site]]) -> Iterator[Mapping[tuple[str, str], Opened]]:
    """Every door of every version, open for the whole session."""
    versions, sites = version_sites
    with ExitStack() as stack:
        doors = {}
        for cluster, door in DOORS:
            site = sites[cluster]
            client = stack.enter_context(open_one(versions, site, cluster, door))
            doors[cluster, door] = Opened(cluster, door, site, client, Judge(versions, cluster))
        yield doors


@pytest.fixture
def opened(all_doors: Mapping[tuple[str, str], Opened], request: pytest.FixtureRequest) -> Iterator[Opened]:
    """One door; a test's jobs are gone when it ends. Which doors: `through` in contract/doors.py."""
    door = all_doors[request.param]
    with door.cleared():
        yield door
