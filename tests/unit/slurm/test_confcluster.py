"""What the files of a cluster say together: controllers, nodes one by one, node sets, devices, wires."""

from __future__ import annotations

import pytest

from westward.errors import InputError
from westward.slurm.confcluster import Configuration, of_texts, parse_topology_yaml


def cluster(slurm: str, **files: str) -> Configuration:
    return of_texts({"slurm.conf": slurm, **{f"{name}.conf": text for name, text in files.items()}}, (24, 11))


def test_controllers_in_new_and_old_words() -> None:
    new = cluster("SlurmctldHost=ctl(10.0.0.1)\nSlurmctldHost=ctl2\n")
    old = cluster("ControlMachine=ctl\nControlAddr=10.0.0.1\nBackupController=ctl2\n")
    assert new.controllers == old.controllers == (("ctl", "10.0.0.1"), ("ctl2", "ctl2"))
    assert "ControlMachine" not in old.settings


def test_each_node_has_its_own_address() -> None:
    nodes = cluster("NodeName=n[1-2] NodeAddr=10.0.0.[7,5] Port=7001\nNodeName=n3 NodeAddr=n3 Procs=4").nodes
    assert [dict(settings) for settings in nodes.values()] == [
        {"NodeAddr": "10.0.0.7", "Port": "7001"},
        {"NodeAddr": "10.0.0.5", "Port": "7001"},
        {"CPUs": "4"},
    ]


def test_down_nodes_are_a_state_of_their_nodes() -> None:
    nodes = cluster("NodeName=n[1-2] State=UNKNOWN\nDownNodes=n2 Reason=fan\nDownNodes=n9").nodes
    assert dict(nodes["n1"]) == {"State": "UNKNOWN"}
    assert dict(nodes["n2"]) == {"State": "DOWN", "Reason": "fan"}
    assert list(nodes) == ["n1", "n2"]


def test_members_of_a_partition() -> None:
    found = cluster(
        "NodeName=n[1-4]\nNodeName=g[1-2] Feature=fast,ib\nNodeSet=left Nodes=n[1-2]\nNodeSet=quick Feature=fast"
    )
    assert found.members("ALL") == frozenset(found.nodes)
    assert found.members("left,n4") == {"n1", "n2", "n4"}
    assert found.members("quick") == {"g1", "g2"}
    assert found.members("") == frozenset()


def test_devices_of_a_node() -> None:
    gres = "AutoDetect=nvml\nName=gpu Type=a File=/dev/a0\nNodeName=n1 Name=mps Count=100\nNodeName=n2 AutoDetect=off"
    found = cluster("NodeName=n[1-2] Gres=gpu:a:1\nNodeName=n3", gres=gres)
    assert [(line.name, dict(line.settings)) for line in found.devices("n2")] == [
        ("gpu", {"Type": "a", "File": "/dev/a0"}),
        (None, {"AutoDetect": "off"}),
    ]
    assert found.devices("n3") == ()
    assert found.autodetect == "nvml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NodeName=n1\n\nNodeName=n[1-2]", "slurm.conf:3: node 'n1' is there twice"),
        ("NodeName=n[1-3] NodeAddr=a[1-2]", r"slurm.conf:1: 'NodeAddr=a\[1-2\]' names 2, and the line has 3 nodes"),
        ("\nNodeName=n[1-", r"slurm.conf:2: 'n\[1-' is no host list"),
    ],
)
def test_a_bad_line_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _ = cluster(text).nodes


def test_topology_of_either_file() -> None:
    lines = "SwitchName=s1 Nodes=n[1-2]\nSwitchName=top Switches=s1\n"
    text = "- cluster_default: true\n  tree: {switches: [{switch: s1, nodes: 'n[1-2]'}, {switch: top, children: s1}]}\n"
    assert parse_topology_yaml(text) == cluster("ClusterName=c", topology=lines).topology
    block = parse_topology_yaml("- block: {block_sizes: [2, 4], blocks: [{block: b1, nodes: 'n[1-2]'}]}")
    assert block == cluster("ClusterName=c", topology="BlockName=b1 Nodes=n[1-2]\nBlockSizes=2,4").topology
    assert parse_topology_yaml("- {topology: flat, flat: true}").lines == ()


@pytest.mark.parametrize(("text", "said"), [("tree: {}", "a list of topologies was expected"), ("- [", "is not YAML")])
def test_a_bad_topology_is_named(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_topology_yaml(text)
