"""Reboot in batches: what is put back, what is left alone, and where it stops. A reboot here is a file that changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from unit.provision.clusterhere import ClusterHere, hands, here, slurmctld
from westward.errors import InputError
from westward.provision import drains, reboots
from westward.provision.hosts import Hands
from westward.provision.reboots import Phase, Reboot, Rebooter
from westward.provision.slurmctld import Slurmctld

__all__ = ["hands", "here", "slurmctld"]


@pytest.fixture(autouse=True)
def machine(here: ClusterHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """All nodes are one machine, whose boot is a number in a file."""
    (here.folder / "boot").write_text("1")
    here.program("reboot", f"echo $(($(cat {here.folder}/boot) + 1)) >{here.folder}/boot")
    monkeypatch.setattr(reboots, "_BOOT", ("sh", "-c", f"echo id; cat {here.folder}/boot"))
    monkeypatch.setattr(reboots, "POLL_S", 0.01)


def rebooter(slurmctld: Slurmctld, hands: Hands, here: ClusterHere, told: Any = None, **limits: Any) -> Rebooter:
    given = {"jobs_within_s": None, "back_within_s": 5.0} | limits

    def registers(nodes: Mapping[str, Reboot]) -> None:
        for node in nodes.values():
            if node.phase is Phase.BOOTED:
                here.node(node.node, Started=1790000777)

    return Rebooter(slurmctld, hands, here.site.nodes(), told=told or registers, **given)


def phases(made: Rebooter) -> dict[str, Phase]:
    return {name: node.phase for name, node in made.nodes.items()}


def test_nodes_go_and_come_back(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    made = rebooter(slurmctld, hands, here)
    assert made.batch(["n1", "n2"], drains.mark("kernel"))
    assert phases(made) == {"n1": Phase.BACK, "n2": Phase.BACK}
    assert here.node("n1") == {"State": "IDLE", "Reason": "", "Started": 1790000777}
    assert made.drained_now() == []


def test_one_that_somebody_else_drained_is_left_alone_and_one_of_ours_stays_drained(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands
) -> None:
    here.node("n1", State="IDLE+DRAIN", Reason="new disk")
    before = drains.mark("for a while")
    drains.drain(slurmctld, ["n2"], before)
    made = rebooter(slurmctld, hands, here)
    assert made.batch(["n1", "n2"], drains.mark("kernel"))
    assert phases(made) == {"n1": Phase.LEFT_ALONE, "n2": Phase.STAYS}
    assert here.node("n1")["Started"] == 1790000000
    assert here.node("n2")["Reason"] == before


def test_a_node_with_jobs_is_waited_for(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    here.jobs(n1=["17"])
    seen: list[Phase] = []

    def told(nodes: Mapping[str, Reboot]) -> None:
        seen.append(nodes["n1"].phase)
        if len(seen) == 3:
            assert (here.folder / "boot").read_text().strip() == "1"
            here.jobs()
        if nodes["n1"].phase is Phase.BOOTED:
            here.node("n1", Started=1790000777)

    made = rebooter(slurmctld, hands, here, told)
    assert made.batch(["n1"], drains.mark("kernel"))
    assert seen[:3] == [Phase.WAITING] * 3


def test_jobs_that_do_not_end_in_time_stop_it_before_anything_is_rebooted(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands
) -> None:
    here.jobs(n1=["17"])
    made = rebooter(slurmctld, hands, here, jobs_within_s=0.0)
    assert not made.batch(["n1"], drains.mark("kernel"))
    assert phases(made) == {"n1": Phase.BUSY}
    assert made.nodes["n1"].detail == "jobs 17"
    assert made.drained_now() == ["n1"]
    assert (here.folder / "boot").read_text().strip() == "1"


def test_one_that_does_not_come_back_is_told_and_stays_drained(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands
) -> None:
    made = rebooter(slurmctld, hands, here, lambda nodes: None, back_within_s=0.2)
    assert not made.batch(["n1"], drains.mark("kernel"))
    assert phases(made) == {"n1": Phase.LATE}
    assert "waiting for slurmd" in made.nodes["n1"].detail
    assert made.drained_now() == ["n1"]


def test_one_that_changes_hands_meanwhile_is_left_alone(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    def told(nodes: Mapping[str, Reboot]) -> None:
        if nodes["n1"].phase is Phase.BOOTED:
            here.node("n1", Started=1790000777, Reason="mine now")

    made = rebooter(slurmctld, hands, here, told)
    assert made.batch(["n1"], drains.mark("kernel"))
    assert phases(made) == {"n1": Phase.LEFT_ALONE}
    assert here.node("n1")["State"] == "IDLE+DRAIN"


def test_slurm_s_own_word_after_a_reboot_is_no_other_hand(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands
) -> None:
    def told(nodes: Mapping[str, Reboot]) -> None:
        if nodes["n1"].phase is Phase.BOOTED:
            here.node("n1", Started=1790000777, State="DOWN+DRAIN", Reason="Node unexpectedly rebooted")

    made = rebooter(slurmctld, hands, here, told)
    assert made.batch(["n1"], drains.mark("kernel"))
    assert here.node("n1")["State"] == "IDLE"


@pytest.mark.parametrize(
    ("text", "sizes"), [("1", [1, 1, 1, 1, 1]), ("2", [2, 2, 1]), ("9", [5]), ("50%", [2, 2, 1]), ("1%", [1] * 5)]
)
def test_batches(text: str, sizes: list[int]) -> None:
    assert [len(batch) for batch in reboots.batches(["a", "b", "c", "d", "e"], text)] == sizes


@pytest.mark.parametrize("text", ["0", "0%", "101%", "half", "-1", "", "%"])
def test_what_is_no_size_of_a_batch(text: str) -> None:
    with pytest.raises(InputError):
        reboots.batches(["a"], text)
