"""Freeze and thaw: a partition gets back what it was, and only where we took it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.provision.clusterhere import ClusterHere, hands, here, slurmctld
from westward.errors import InputError, Unsafe
from westward.provision import freezes
from westward.provision.hosts import Hands
from westward.provision.slurmctld import Slurmctld

__all__ = ["hands", "here", "slurmctld"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(freezes, "FOLDER", str(tmp_path / "frozen"))
    return tmp_path / "frozen"


@pytest.mark.parametrize(("closed", "state"), [(False, "DOWN"), (True, "INACTIVE")])
def test_a_partition_gets_back_what_it_was(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands, folder: Path, closed: bool, state: str
) -> None:
    made, now = freezes.freeze(here.site, slurmctld, hands, "gpu", closed)
    assert (made.before, made.state, now) == ("UP", state, True)
    assert here.partition("gpu") == state
    assert (folder / "gpu").stat().st_mode & 0o777 == 0o600
    assert freezes.freeze(here.site, slurmctld, hands, "gpu", closed) == (made, False)
    assert freezes.thaw(here.site, slurmctld, hands, "gpu") == (made, True)
    assert here.partition("gpu") == "UP"
    assert freezes.thaw(here.site, slurmctld, hands, "gpu") == (None, False)


def test_what_somebody_else_closed_stays_closed(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    with pytest.raises(Unsafe):
        freezes.freeze(here.site, slurmctld, hands, "low", False)
    with pytest.raises(Unsafe):
        freezes.thaw(here.site, slurmctld, hands, "low")
    freezes.freeze(here.site, slurmctld, hands, "gpu", False)
    here.partition("gpu", "DRAIN")
    with pytest.raises(Unsafe):
        freezes.thaw(here.site, slurmctld, hands, "gpu")
    assert here.updates == [["PartitionName=gpu", "State=DOWN"]]


def test_what_somebody_else_opened_is_forgotten(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    made, _ = freezes.freeze(here.site, slurmctld, hands, "gpu", False)
    here.partition("gpu", "UP")
    assert freezes.thaw(here.site, slurmctld, hands, "gpu") == (made, False)
    assert here.partition("gpu") == "UP"


def test_a_partition_that_is_not_there(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    with pytest.raises(InputError):
        freezes.freeze(here.site, slurmctld, hands, "../gpu", False)
