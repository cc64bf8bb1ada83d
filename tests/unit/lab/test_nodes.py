"""Names, labels, capabilities, and who is given which secret."""

from __future__ import annotations

import pytest

from westward.errors import InputError
from westward.lab import engine, nodes
from westward.lab.access import find
from westward.lab.engine import Seen
from westward.lab.sites import job_environment, site_name
from westward.lab.state import ClusterSecrets, LabFolder
from westward.lab.topology import load_topology

KEYS = ClusterSecrets(b"the slurm key", b"the jwt key", "the-database-password")
TOPOLOGY = load_topology("east-west")
PLAN = nodes.plan_nodes("mine", TOPOLOGY)


def test_containers_are_named_by_lab_and_node_controllers_first() -> None:
    assert [node.container for node in PLAN] == [
        "mine.east-ctl",
        "mine.west-ctl",
        "mine.east-n1",
        "mine.east-n2",
        "mine.west-n1",
        "mine.west-n2",
    ]


def test_labels_say_whose_a_container_is() -> None:
    assert nodes.labels(PLAN[2], "east-west", "/state", "abc") == {
        "org.westward.lab": "mine",
        "org.westward.owner": "/state",
        "org.westward.topology": "east-west",
        "org.westward.cluster": "east",
        "org.westward.role": "compute",
        "org.westward.spec": "abc",
    }


@pytest.mark.parametrize("name", ["", "Lab", "a b", "../x", ".x", "-x", "a" * 41, "x/y", "x.y"])
def test_a_lab_has_a_plain_name(name: str, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    with pytest.raises(InputError):
        LabFolder(name)


def test_secrets_are_readable_by_their_daemon_alone() -> None:
    for node in PLAN:
        for file in nodes.files(node, KEYS, nodes.lab_user()):
            secret = any(text in file.content for text in (b"the slurm key", b"the jwt key", b"the-database-password"))
            assert (file.mode == 0o600) == secret, file.path
            assert (file.uid != 0) == secret, file.path


def test_jwt_key_and_database_password_stay_on_the_controller() -> None:
    for node in PLAN:
        text = b"".join(file.content for file in nodes.files(node, KEYS, nodes.lab_user()))
        assert (b"the jwt key" in text) == (node.role == nodes.CONTROLLER)
        assert (b"the-database-password" in text) == (node.role == nodes.CONTROLLER)


def test_a_controller_may_not_make_device_files() -> None:
    assert "MKNOD" not in nodes.CAPABILITIES
    assert set(nodes.COMPUTE_CAPABILITIES) - set(nodes.CAPABILITIES) == {"MKNOD"}
    assert not {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"} & set(nodes.COMPUTE_CAPABILITIES)


def test_a_site_is_named_by_its_cluster_in_the_lab_of_the_topologys_name() -> None:
    assert site_name("east-west", "east-west", "west") == "west"
    assert site_name("mine", "east-west", "west") == "mine-west"


def test_the_benchmark_sources_come_before_the_packages() -> None:
    paths = job_environment(("/opt/westward/bench/1", "/opt/westward/packages/2"), nodes.lab_user(), None)["PYTHONPATH"]
    assert paths == "/opt/westward/bench/1:/opt/westward/packages/2"


def test_the_spec_changes_with_image_and_topology_and_not_with_the_secrets() -> None:
    first = nodes.spec_digest(TOPOLOGY, "image:1", {"/a": 0})
    assert first == nodes.spec_digest(TOPOLOGY, "image:1", {"/a": 0})
    assert first != nodes.spec_digest(TOPOLOGY, "image:2", {"/a": 0})


def _seen(lab: str, node: str, role: str, state: str = "running") -> Seen:
    labels = {engine.LAB: lab, engine.TOPOLOGY: "east-west", engine.CLUSTER: node.split("-")[0], engine.ROLE: role}
    return Seen(f"{lab}.{node}", f"{lab}.{node}", labels, state, "image", {})


@pytest.fixture
def two_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        _seen("east-west", "west-ctl", nodes.CONTROLLER),
        _seen("mine", "west-ctl", nodes.CONTROLLER),
        _seen("mine", "west-n1", nodes.COMPUTE),
        _seen("theirs", "west-n1", nodes.COMPUTE, "exited"),
        Seen("other", "west-n1", {}, "running", "image", {}),
    ]
    monkeypatch.setattr(engine, "survey", lambda client: found)


@pytest.mark.usefixtures("two_labs")
@pytest.mark.parametrize(
    ("where", "lab", "found"),
    [
        ("west", None, "east-west.west-ctl"),
        ("west", "mine", "mine.west-ctl"),
        ("mine-west", None, "mine.west-ctl"),
        ("west-n1", "mine", "mine.west-n1"),
    ],
)
def test_a_cluster_stands_for_its_controller(where: str, lab: str | None, found: str) -> None:
    assert find(None, where, lab).name == found  # type: ignore[arg-type]


@pytest.mark.usefixtures("two_labs")
@pytest.mark.parametrize(
    ("where", "lab", "said"),
    [
        ("west-n1", None, "several labs have 'west-n1': mine, theirs"),
        ("west-n9", None, "no lab has a cluster or node 'west-n9'"),
        ("west", "none", "no lab 'none' is up"),
    ],
)
def test_a_name_that_means_nothing_or_several_things_is_refused(where: str, lab: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        find(None, where, lab)  # type: ignore[arg-type]
