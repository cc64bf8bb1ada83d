"""What Slurm's commands print of a cluster, as three versions really printed it."""

from __future__ import annotations

import pytest

from unit.slurm.fakes import VERSIONS, said
from westward.slurm import clustertext

every_version = pytest.mark.parametrize("version", VERSIONS)


@every_version
def test_nodes_and_partitions(version: str) -> None:
    nodes = {node.name: node for node in clustertext.nodes(said(version, "node"))}
    first = nodes[f"v{version.replace('.', '')}-n1"]
    assert first.usable and first.states[0] in ("MIXED", "ALLOCATED")
    assert (first.cpus, first.mem_bytes, first.partitions) == (8, 8000 * 1024**2, ("gpu", "low"))
    assert sum(first.accelerators_used.values()) == 1 and sum(first.accelerators.values()) in (2, 4)
    partitions = {partition.name: partition for partition in clustertext.partitions(said(version, "partition"))}
    assert (partitions["gpu"].max_walltime_s, partitions["gpu"].default, partitions["gpu"].up) == (86400, True, True)
    assert partitions["low"].default is False and partitions["low"].max_nodes is None


@every_version
def test_a_cloud_node_that_failed_to_start_is_not_usable(version: str) -> None:
    clouds = [node for node in clustertext.nodes(said(version, "node")) if "cloud" in node.partitions]
    assert not any(node.usable for node in clouds)


@every_version
def test_the_rest_of_a_cluster(version: str) -> None:
    settings = clustertext.config(said(version, "config"))
    assert settings["SLURM_VERSION"].startswith(version)
    assert (settings["ClusterName"], settings["MaxArraySize"]) == (f"v{version.replace('.', '')}", "1001")
    assert clustertext.backlog(said(version, "sdiag")) == 0
    assert {a.account for a in clustertext.associations(said(version, "assoc"))} == {"research", "teaching"}
    assert all(a.qos == ("normal", "urgent") for a in clustertext.associations(said(version, "assoc")))
    assert "pmi2" in clustertext.mpi_types(said(version, "mpi")) and "MPI" not in clustertext.mpi_types(
        said(version, "mpi")
    )
    ends = clustertext.running_ends(said(version, "squeue_ends"))
    assert set(ends) == {f"v{version.replace('.', '')}-n{number}" for number in (1, 2)}


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3,08-10],login", ["n1", "n2", "n3", "n08", "n09", "n10", "login"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("", []),
        ("None assigned", []),
    ],
)
def test_host_lists(written: str, names: list[str]) -> None:
    assert clustertext.host_names(written) == names


def test_old_signs_of_a_node_are_words() -> None:
    (node,) = clustertext.nodes(
        "NodeName=n1 CPUTot=8 RealMemory=1 State=IDLE* Partitions=gpu Reason=it State=IDLE is [root@2026]\n"
    )
    assert node.states == ("IDLE", "NOT_RESPONDING") and not node.usable
    assert node.reason == "it State=IDLE is"
