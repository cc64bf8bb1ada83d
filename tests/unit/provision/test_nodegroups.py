"""Nodes that are alike: their name, and what they have in the variables' own words or in native ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unit.provision.takeover import GPUS, SLURM, cluster, taken_over
from westward.provision.nodegroups import native
from westward.slurm.confcluster import Configuration


def groups(conf: Configuration, folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = taken_over(conf, folder).variables["slurm_nodegroups"]
    return found


def test_nodes_that_are_alike_are_a_group_named_for_what_they_have(tmp_path: Path) -> None:
    nodes = "NodeName=n[1-2] Gres=gpu:h100:8\nNodeName=m1\nNodeName=m2 Weight=2\nNodeName=k1 Gres=gpu:1g.10gb:7\n"
    conf = cluster(
        SLURM + nodes + "PartitionName=all Nodes=ALL\nPartitionName=Big-Mem Nodes=m[1-2]", gres="AutoDetect=nvml"
    )
    assert [group["name"] for group in groups(conf, tmp_path / "out")] == [
        "h100",
        "big_mem",
        "big_mem_2",
        "gpu_1g_10gb",
    ]


def test_accelerators_have_their_own_words_where_these_say_all(tmp_path: Path) -> None:
    shared = GPUS.replace("gpu:a:2", "gpu:a:2,shard:8")
    (group,) = groups(cluster(shared, gres="Name=gpu Type=a File=/dev/a[0-1]\nName=shard Count=8"), tmp_path / "a")
    assert group["accelerators"] == [
        {"type": "a", "count": 2, "detect": "files", "files": "/dev/a[0-1]", "slicing": "shard", "slices": 8}
    ]
    (group,) = groups(cluster(GPUS, gres="AutoDetect=nvml"), tmp_path / "b")
    assert group["accelerators"] == [{"type": "a", "count": 2, "detect": "nvml"}]


def test_what_they_do_not_say_stands_in_native_lines(tmp_path: Path) -> None:
    variables = taken_over(cluster(GPUS, gres="Name=gpu Type=a File=/dev/a[0-1] Flags=x"), tmp_path / "out").variables
    assert variables["slurm_nodegroups"][0]["parameters"]["Gres"] == "gpu:a:2"
    assert variables["slurm_gres"] == [
        {"nodes": "n[1-2]", "name": "gpu", "parameters": {"Type": "a", "File": "/dev/a[0-1]", "Flags": "x"}}
    ]


def test_names_that_ansible_or_the_cluster_has_taken_are_not_given_again(tmp_path: Path) -> None:
    conf = cluster(SLURM + "NodeName=all\nNodeName=p Weight=2\nPartitionName=all Nodes=all\nPartitionName=p Nodes=p")
    assert [group["name"] for group in groups(conf, tmp_path / "out")] == ["all_2", "p_2"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("Weight", "10", 10),
        ("Weight", "010", "010"),
        ("MaxTime", "60", "60"),
        ("X", "1e3", "1e3"),
        ("X", "a b", '"a b"'),
    ],
)
def test_a_number_is_one_where_nobody_could_take_it_for_a_time(key: str, value: str, told: object) -> None:
    assert native(key, value) == told
