"""From up to down: twice, killed in between, side by side, stopped, broken, and beside what is not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.labs_of_tests import Labs
from westward.errors import Unsafe, WestwardError
from westward.lab import cluster, engine, teardown
from westward.lab.cluster import Lab
from westward.lab.images import node_image_tag
from westward.lab.progress import quiet

pytestmark = pytest.mark.lab

MOMENTS: dict[str, Callable[[Labs], bool]] = {
    "record": lambda labs: (labs.state / "labs" / labs.name("killed") / "lab.json").exists(),
    "network": lambda labs: bool(engine.lab_networks(labs.client, labs.name("killed"))),
    "first container": lambda labs: bool(labs.containers("killed")),
    "some running": lambda labs: sum(seen.running for seen in labs.containers("killed")) >= 3,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_in_the_middle_of_up_down_leaves_nothing(labs: Labs, moment: str) -> None:
    labs.kill_when("killed", lambda: MOMENTS[moment](labs))
    assert labs.left("killed")
    assert labs.down("killed").anything
    assert labs.left("killed") == []


def test_after_a_kill_in_the_middle_up_makes_a_lab_that_works(labs: Labs) -> None:
    labs.kill_when("killed", lambda: MOMENTS["some running"](labs))
    lab = labs.up("killed")
    assert lab.outcome == "made"
    assert labs.run("killed", "west-ctl", "srun", "-N2", "true").status == 0
    labs.down("killed")
    assert labs.left("killed") == []
    assert not labs.down("killed").anything


def test_down_needs_no_state_directory(labs: Labs) -> None:
    labs.kill_when("lost", lambda: len(labs.containers("lost")) == 6)
    folder = labs.state / "labs" / labs.name("lost")
    folder.rename(labs.state / "elsewhere")
    assert len(labs.down("lost").containers) == 6
    assert labs.left("lost") == []


def test_two_processes_at_once_make_one_lab_beside_another(labs: Labs, one: Lab) -> None:
    first, second = labs.start("both"), labs.start("both")
    assert [first.wait(120), second.wait(120)] == [0, 0], (first.communicate(), second.communicate())
    assert len(labs.containers("both")) == 6
    assert not {seen.published.get(6820) for seen in labs.containers("both")} & {
        seen.published[6820] for seen in labs.containers("one") if seen.published
    }
    assert labs.run("one", "east-ctl", "srun", "-N2", "true").status == 0
    assert labs.run("both", "east-ctl", "srun", "-N2", "true").status == 0


def test_a_stopped_lab_starts_again_with_its_accounting(labs: Labs) -> None:
    labs.up("both")
    (labs.state / "labs" / labs.name("both") / "east" / "shared" / "researcher" / "kept").write_text("")
    before = labs.run("both", "east-ctl", "sacct", "-n", "-X", "-a", "-o", "jobid").stdout.split()
    for seen in labs.containers("both"):
        labs.client.api.stop(seen.id, timeout=10)
    lab = labs.up("both")
    assert lab.outcome == "started"
    after = labs.run("both", "east-ctl", "sacct", "-n", "-X", "-a", "-o", "jobid").stdout.split()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert labs.run("both", "east-ctl", "ls", "/shared/researcher/kept").status == 0


def test_a_lab_that_lost_a_node_or_a_daemon_is_repaired(labs: Labs) -> None:
    labs.up("both")
    assert labs.run("both", "west-ctl", "pkill", "slurmrestd", user="root").status == 0
    assert labs.up("both").outcome == "repaired"
    lost = next(seen for seen in labs.containers("both") if seen.node == "east-n2")
    labs.client.api.remove_container(lost.id, force=True)
    assert labs.up("both").outcome == "made"
    # what the user wrote to the shared directory outlives the nodes
    assert labs.run("both", "east-ctl", "ls", "/shared/researcher/kept").status == 0


def test_down_removes_what_root_in_a_node_wrote_and_touches_nothing_else(labs: Labs) -> None:
    labs.up("both")
    assert (
        labs.run("both", "east-n1", "bash", "-c", "mkdir -m 700 /shared/r && touch /shared/r/f", user="root").status
        == 0
    )
    foreign = labs.client.containers.create(node_image_tag(), name=f"{labs.name('both')}.foreign", entrypoint=["true"])
    try:
        labs.down("both")
        assert labs.left("both") == [f"{labs.name('both')}.foreign"]
    finally:
        foreign.remove(force=True)


def test_a_name_that_something_else_has_is_refused(labs: Labs) -> None:
    foreign = labs.client.containers.create(node_image_tag(), name=f"{labs.name('taken')}.west-n1", entrypoint=["true"])
    try:
        with pytest.raises(Unsafe, match="west-n1"):
            labs.up("taken")
        assert labs.left("taken") == [f"{labs.name('taken')}.west-n1"]
    finally:
        foreign.remove(force=True)


def test_a_lab_of_another_state_directory_is_left_alone(
    labs: Labs, one: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    for act in (lambda: cluster.up("east-west", one.name), lambda: teardown.down(one.name, quiet)):
        with pytest.raises(Unsafe, match=str(labs.state)):
            act()
    assert len(labs.containers("one")) == 6


def test_a_daemon_that_cannot_start_is_named_with_its_log(labs: Labs, monkeypatch: pytest.MonkeyPatch) -> None:
    render = cluster.nodes.render

    def broken(template: str, values: object) -> str:
        text = render(template, values)  # type: ignore[arg-type]
        return text.replace("CPUs=8", "CPUs=eight") if template == "slurm.conf" else text

    monkeypatch.setattr(cluster.nodes, "render", broken)
    with pytest.raises(WestwardError) as raised:
        labs.up("broken")
    assert "-ctl': " in str(raised.value)
    assert "eight" in str(raised.value)
    labs.down("broken")
    assert labs.left("broken") == []
