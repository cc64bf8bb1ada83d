"""Drain and resume: whose drain it is, what a reason may hold, and what has changed hands meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unit.provision.clusterhere import ClusterHere, hands, here, slurmctld
from westward.errors import InputError
from westward.provision import drains
from westward.provision.drains import Outcome
from westward.provision.hosts import Hands
from westward.provision.slurmctld import NodeState, Slurmctld, read_nodes

__all__ = ["hands", "here", "slurmctld"]


def outcomes(results: list[drains.Result]) -> dict[str, Outcome]:
    return {result.node: result.outcome for result in results}


@pytest.mark.parametrize(
    "text",
    ["new disk", 'a "quoted" one', "$(reboot) `id` ;&", "two\nlines\tand a tab", "新内存", "n7 [ann@1790000000] (x"],
)
def test_a_drain_is_known_again_whatever_its_reason_says(here: ClusterHere, slurmctld: Slurmctld, text: str) -> None:
    made = drains.mark(text)
    assert outcomes(drains.drain(slurmctld, ["n1", "n3"], made)) == {"n1": Outcome.DRAINED, "n3": Outcome.DRAINED}
    node = slurmctld.nodes()["n1"]
    assert node.reason == made
    assert drains.ours(node)
    assert here.node("n2")["State"] == "IDLE"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_reason_is_one_line_and_read_back_as_it_was_written(text: str) -> None:
    try:
        made = drains.mark(text)
    except InputError:
        assert not "".join(char if char.isprintable() else " " for char in text).strip()
        return
    node = read_nodes(f"NodeName=n1 State=IDLE+DRAIN SlurmdStartTime=1  Reason={made} [root@1790000000]")["n1"]
    assert node.reason == made
    assert drains.ours(node)


@pytest.mark.parametrize("text", ["", " \n", "x" * 300, "\udce4"])
def test_a_reason_that_says_nothing_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        drains.mark(text)


@pytest.mark.parametrize(
    "reason", ["new disk", "health: /tmp is full", "westward: no time and no name", "Not responding"]
)
def test_what_others_said_is_not_ours(reason: str) -> None:
    assert not drains.ours(NodeState("n1", frozenset(["IDLE", "DRAIN"]), reason, None))


def test_a_node_that_is_out_of_service_keeps_its_reason(here: ClusterHere, slurmctld: Slurmctld) -> None:
    first = drains.mark("first")
    drains.drain(slurmctld, ["n1"], first)
    here.node("n2", State="IDLE+DRAIN", Reason="new disk")
    here.node("n3", State="DOWN", Reason="Not responding")
    results = drains.drain(slurmctld, ["n1", "n2", "n3"], drains.mark("second"))
    assert outcomes(results) == {"n1": Outcome.BEFORE, "n2": Outcome.OTHERS, "n3": Outcome.DRAINED}
    assert here.node("n1")["Reason"] == first
    assert here.node("n2")["Reason"] == "new disk"


def test_only_what_we_drained_is_put_back(here: ClusterHere, slurmctld: Slurmctld, hands: Hands) -> None:
    drains.drain(slurmctld, ["n1"], drains.mark("disk"))
    here.node("n2", State="IDLE+DRAIN", Reason="health: /tmp is full")
    results = drains.resume(slurmctld, hands, here.site.nodes(), ["n1", "n2", "n3"])
    assert outcomes(results) == {"n1": Outcome.RESUMED, "n2": Outcome.OTHERS, "n3": Outcome.SERVING}
    assert here.node("n1")["State"] == "IDLE"
    assert here.node("n2")["State"] == "IDLE+DRAIN"


def test_a_node_that_is_not_fit_is_not_put_back(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "HEALTH", str(here.program("health", 'echo "no /home for $1"; exit 1')))
    drains.drain(slurmctld, ["n1"], drains.mark("disk"))
    (result,) = drains.resume(slurmctld, hands, here.site.nodes(), ["n1"])
    assert result == drains.Result("n1", Outcome.UNFIT, "no /home for tell")
    assert here.node("n1")["State"] == "IDLE+DRAIN"


def test_a_node_that_changes_hands_during_the_check_stays(
    here: ClusterHere, slurmctld: Slurmctld, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    drains.drain(slurmctld, ["n1"], drains.mark("disk"))
    look = drains.unfit

    def meanwhile(*arguments: object) -> dict[str, drains.Result]:
        here.node("n1", Reason="mine now")
        return look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(drains, "unfit", meanwhile)
    (result,) = drains.resume(slurmctld, hands, here.site.nodes(), ["n1"])
    assert result == drains.Result("n1", Outcome.OTHERS, "mine now")
    assert here.node("n1")["State"] == "IDLE+DRAIN"


def test_waiting_ends_with_the_last_job_or_with_the_time(
    here: ClusterHere, slurmctld: Slurmctld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "POLL_S", 0.01)
    here.jobs(n1=["17", "18_3"])
    seen: list[dict[str, list[str]]] = []
    left = drains.wait(slurmctld, ["n1", "n2"], lambda jobs: None, 0.0)
    assert [job.job_id for job in left["n1"]] == ["17", "18_3"]

    def told(jobs: object) -> None:
        seen.append({})
        here.jobs()
        here.node("n1", State="IDLE+COMPLETING+DRAIN" if len(seen) < 2 else "IDLE+DRAIN")

    assert drains.wait(slurmctld, ["n1"], told, None) == {}
    assert len(seen) >= 2


@pytest.mark.parametrize("text", ["n9", "n1,n9", "h200", "n[1-", ""])
def test_a_node_that_is_not_known_is_refused(slurmctld: Slurmctld, text: str) -> None:
    with pytest.raises(InputError):
        slurmctld.named(text)


def test_nodes_are_named_by_group_too(slurmctld: Slurmctld) -> None:
    assert slurmctld.named("n2,h100") == ["n2", "n1", "n3"]
