"""The sites of a lab beside those that are described already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unit.federation.worlds import SITES
from westward.directories import config_dir, state_dir
from westward.errors import Unreachable, Unsafe
from westward.lab import cluster


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


def describe_west(folder: Path, file: str = "mine.yaml") -> None:
    folder.mkdir(parents=True)
    (folder / file).write_text((SITES / "west.yaml").read_text())


def of_lab(name: str) -> Path:
    return state_dir() / "labs" / name / "sites"


@pytest.mark.parametrize("where", [lambda: config_dir() / "sites", lambda: of_lab("another")])
def test_a_lab_is_not_made_beside_a_site_of_the_same_name(where: Callable[[], Path]) -> None:
    describe_west(where())
    with pytest.raises(Unsafe, match=r"'west'.*mine\.yaml") as caught:
        cluster.up("east-west")
    assert caught.value.exit_code == 5
    assert "westward lab up east-west --name N" in caught.value.next_step
    assert not of_lab("east-west").exists()


def test_a_lab_of_another_name_is_and_so_is_one_that_is_up() -> None:
    describe_west(config_dir() / "sites")
    with pytest.raises(Unreachable):  # as far as the engine
        cluster.up("east-west", "mine")
    (config_dir() / "sites" / "mine.yaml").unlink()
    describe_west(of_lab("east-west"), "west.yaml")
    with pytest.raises(Unreachable):
        cluster.up("east-west")


def test_a_description_that_cannot_be_read_is_no_reason() -> None:
    describe_west(config_dir() / "sites")
    (config_dir() / "sites" / "mine.yaml").write_text("place: 2026-02-30")
    with pytest.raises(Unreachable):
        cluster.up("east-west")
