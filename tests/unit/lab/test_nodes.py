"""Names, labels, capabilities, and who is given which secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from westward.errors import InputError
from westward.lab import engine, nodes
from westward.lab.access import find
from westward.lab.engine import Seen
from westward.lab.sites import doors, job_environment, site_name, url
from westward.lab.sshkeys import KeyPair
from westward.lab.state import ClusterSecrets, LabFolder
from westward.lab.topology import load_topology

KEYS = ClusterSecrets(
    b"the slurm key",
    b"the jwt key",
    "the-database-password",
    KeyPair("the host key", "ssh-ed25519 HOST"),
    KeyPair("the user key", "ssh-ed25519 USER"),
)
SECRETS = (b"the slurm key", b"the jwt key", b"the-database-password", b"the host key", b"the user key")
TOPOLOGY = load_topology("east-west")
PLAN = nodes.plan_nodes("mine", TOPOLOGY)
VERSIONS = {node.name: node for node in nodes.plan_nodes("mine", load_topology("versions"))}


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
    for node in (*PLAN, *VERSIONS.values()):
        for file in nodes.files(node, KEYS, nodes.lab_user()):
            secret = any(text in file.content for text in SECRETS)
            assert (file.mode == 0o600) == secret, file.path
            assert (file.uid != 0) == secret, file.path


def test_jwt_key_and_database_password_stay_on_the_controller_and_the_users_key_on_the_host() -> None:
    for node in PLAN:
        text = b"".join(file.content for file in nodes.files(node, KEYS, nodes.lab_user()))
        for controllers_own in (b"the jwt key", b"the-database-password", b"the host key", b"ssh-ed25519 USER"):
            assert (controllers_own in text) == (node.role == nodes.CONTROLLER)
        assert b"the user key" not in text


def test_slurm_22_05_is_given_a_munge_key_and_no_other() -> None:
    for name, node in VERSIONS.items():
        paths = {file.path for file in nodes.files(node, KEYS, nodes.lab_user())}
        old = name.startswith("v2205")
        assert ("/etc/munge/munge.key" in paths) == old
        assert ("/etc/slurm/slurm.key" in paths) != old
        assert ("/etc/slurm/jwt.key" in paths) == (name in ("v2411-ctl", "v2605-ctl"))


def test_a_site_file_lists_the_doors_that_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    plan, user = TOPOLOGY.cluster("west"), nodes.lab_user()
    folder = LabFolder("mine")
    cluster = folder.cluster("west")
    rest = {"door": "rest", "url": "http://127.0.0.1:1", "user": "researcher"} | {
        "token_file": str(cluster / "researcher.jwt")
    }
    shell = {"door": "shell", "host": "127.0.0.1", "port": 2, "user": "researcher"} | {
        "identity_file": str(cluster / "researcher.ssh-key"),
        "known_hosts": str(cluster / "known_hosts"),
    }
    assert doors(folder, plan, {6820: 1, 2222: 2}, user) == [rest, shell]
    assert doors(folder, plan, {2222: 2}, user) == [shell]
    assert doors(folder, plan, {}, user) == []
    assert [url(door) for door in (rest, shell)] == ["http://127.0.0.1:1", "ssh://researcher@127.0.0.1:2"]


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
    first = nodes.spec_digest(TOPOLOGY, ["image:1"], {"/a"})
    assert first == nodes.spec_digest(TOPOLOGY, ["image:1"], {"/a"})
    assert first != nodes.spec_digest(TOPOLOGY, ["image:2"], {"/a"})


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
        Seen("service", "mine.postgres", {engine.LAB: "mine"}, "running", "image", {}),
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
        ("postgres", None, "no lab has a cluster or node 'postgres'"),
        ("west", "none", "no lab 'none' is up"),
    ],
)
def test_a_name_that_means_nothing_or_several_things_is_refused(where: str, lab: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        find(None, where, lab)  # type: ignore[arg-type]
