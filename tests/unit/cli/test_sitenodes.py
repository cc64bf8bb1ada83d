"""`westward site drain|resume|reboot|freeze|thaw`: what is said, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from unit.cli.sites import failed
from unit.provision.clusterhere import ClusterHere, here
from westward.cli import managed
from westward.cli.site import app
from westward.errors import InputError, Unsafe, WestwardError
from westward.provision import drains, freezes, reboots

__all__ = ["here"]
Hand = Callable[..., Result]


@pytest.fixture
def hand(here: ClusterHere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hand:
    monkeypatch.setattr(managed, "managed", lambda site, more: here.site)
    monkeypatch.setattr(freezes, "FOLDER", str(tmp_path / "frozen"))
    for module in (drains, reboots):
        monkeypatch.setattr(module, "POLL_S", 0.01)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_drain_and_resume(here: ClusterHere, hand: Hand) -> None:
    here.node("n3", State="IDLE+DRAIN", Reason="new disk")
    said = hand("drain", "here", "n[1-3]", "--reason", "memory")
    assert said.exit_code == 0
    assert "n1: drained (westward: memory (" in said.output
    assert "n3: somebody else's (new disk)" in said.output
    back = hand("resume", "here", "n1,n3", "--json")
    assert "1 of 2 nodes are not back in service: n3: somebody else's: new disk" in str(failed(back, WestwardError))
    assert [node["outcome"] for node in json.loads(back.stdout)] == ["resumed", "somebody else's"]


def test_jobs_that_do_not_end_in_time(here: ClusterHere, hand: Hand) -> None:
    here.jobs(n1=["17"])
    said = hand("drain", "here", "n1", "--reason", "memory", "--wait", "--timeout", "0")
    error = failed(said, WestwardError)
    assert str(error) == "after 0.0 s there are still jobs: n1: 17 of ann"
    assert error.exit_code == 1
    assert here.node("n1")["State"] == "IDLE+DRAIN"


def test_a_batch_that_does_not_come_back_stops_the_rest(
    here: ClusterHere, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.program("reboot", "true")
    said = hand("reboot", "here", "n[1-3]", "--batch", "1", "--back-within", "0.1")
    error = failed(said, WestwardError)
    assert "n1: not back: rebooting for 0.1 s; so n[2-3] were not begun" in str(error)
    assert "still drained: n1; 'westward site resume here n1'" in error.next_step
    assert here.node("n2")["State"] == "IDLE"


def test_an_interruption_says_what_is_drained(here: ClusterHere, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reboots.Rebooter, "_step", interrupt)
    said = hand("reboot", "here", "n1")
    assert "still drained: n1; 'westward site resume here n1' takes back what is fit" in said.stderr
    assert said.exit_code != 0


def test_freeze_and_thaw(here: ClusterHere, hand: Hand) -> None:
    assert hand("freeze", "here", "gpu").output == "gpu: DOWN; 'westward site thaw' makes it UP\n"
    assert "gpu: UP, as before" in hand("thaw", "here", "gpu").output
    assert failed(hand("freeze", "here", "low"), Unsafe).exit_code == 5
    assert failed(hand("freeze", "here", "nothing"), InputError).exit_code == 2
