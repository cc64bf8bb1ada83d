"""Topologies are read strictly, and an error names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from westward.errors import InputError, NotFound
from westward.lab.topology import Accelerators, known_topologies, load_topology, parse_topology

GOOD = """
clusters:
  east:
    facts: east
    nodes: 2
    cpus: 8
    memory_mib: 16000
    accelerators: {type: a100, count: 4}
    partitions:
      gpu: {max_time: "1-00:00:00", default: true}
"""


def test_east_west_is_two_clusters_of_typed_accelerators() -> None:
    topology = load_topology("east-west")
    assert [(cluster.name, cluster.accelerators) for cluster in topology.clusters] == [
        ("east", Accelerators("a100", 4)),
        ("west", Accelerators("h100", 4)),
    ]
    west = topology.cluster("west")
    assert west.controller == "west-ctl"
    assert west.compute_nodes == ("west-n1", "west-n2")
    assert west.devices == ("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia2", "/dev/nvidia3")


@pytest.mark.parametrize("name", known_topologies())
def test_every_topology_that_comes_with_westward_can_be_read(name: str) -> None:
    assert load_topology(name).clusters


def test_versions_is_three_releases_with_the_same_partitions_accounts_and_qos() -> None:
    clusters = load_topology("versions").clusters
    assert [(cluster.name, cluster.release.slurm) for cluster in clusters] == [
        ("v2205", "22.05"),
        ("v2411", "24.11"),
        ("v2605", "26.05"),
    ]
    for cluster in clusters[1:]:
        assert (cluster.partitions, cluster.accounts, cluster.qos, cluster.slurm) == (
            clusters[0].partitions,
            clusters[0].accounts,
            clusters[0].qos,
            clusters[0].slurm,
        )
    assert [release.suite for release in load_topology("east-west").releases] == ["trixie"]


def test_an_unknown_topology_names_the_known_ones() -> None:
    with pytest.raises(NotFound) as raised:
        load_topology("north-south")
    assert "east-west" in raised.value.next_step


@pytest.mark.parametrize("name", ["../site/east", "", "East", "a/b"])
def test_a_topology_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(NotFound):
        load_topology(name)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    cpus: 8", "    cpu: 8", "clusters.east.cpus: is missing"),
        ("    cpus: 8", "    cpus: 8\n    colour: red", "clusters.east.colour: is not known here"),
        ("    cpus: 8", "    cpus: eight", "clusters.east.cpus: a whole number was expected, not 'eight'"),
        ("    cpus: 8", "    cpus: true", "clusters.east.cpus: a whole number was expected, not True"),
        ("    nodes: 2", "    nodes: 0", "clusters.east.nodes: 1 or more was expected, not 0"),
        ("count: 4", "count: 4, memory: 80", "clusters.east.accelerators.memory: is not known here"),
        ("type: a100", "type: 'a100,h100'", "clusters.east.accelerators.type: a GRES type"),
        ("default: true", "default: 'yes'", "clusters.east.partitions.gpu.default: true or false was expected"),
        ("default: true", "default: false", "clusters.east.partitions: exactly one is the default"),
        ('"1-00:00:00"', '"a day"', "gpu.max_time: D-HH:MM:SS"),
        ("  east:", "  East:", "clusters.East: a name has lower-case letters"),
        ("clusters:", "cluster:", "clusters: is missing"),
        (GOOD, "clusters: [east]", "clusters: a mapping was expected"),
        (GOOD, "clusters: {", "is not YAML"),
        (GOOD, "", "a mapping was expected"),
        (GOOD, "clusters: {}", "at least one"),
        (
            "    cpus: 8",
            "    cpus: 8\n    release: buster",
            "clusters.east.release: 'buster' is not known; known: bookworm",
        ),
        ("    cpus: 8", "    cpus: 8\n    accounts: []", "clusters.east.accounts: a list of names"),
        ("    cpus: 8", "    cpus: 8\n    accounts: [Me]", "clusters.east.accounts: a list of names"),
        ("    cpus: 8", "    cpus: 8\n    cloud_nodes: 0", "clusters.east.cloud_nodes: 1 or more"),
        ("    cpus: 8", "    cpus: 8\n    qos: {fast: {Priority: 1}}", "qos.fast.Priority: a text was expected"),
        ("default: true", "default: true, cloud: true", "clusters.east.partitions.gpu.cloud: there are no cloud nodes"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_file_and_key(old: str, new: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_topology("mine", GOOD.replace(old, new), Path("mine.yaml"))
    assert "mine.yaml" in str(raised.value)
    assert said in str(raised.value)


def test_native_slurm_keys_pass_through() -> None:
    text = GOOD + "    slurm: {SlurmdTimeout: '60', MailProg: null}\n"
    assert parse_topology("mine", text, Path("mine.yaml")).clusters[0].slurm == {
        "SlurmdTimeout": "60",
        "MailProg": None,
    }
    with pytest.raises(InputError, match="SlurmdTimeout: a text was expected"):
        parse_topology("mine", text.replace("'60'", "60"), Path("mine.yaml"))
