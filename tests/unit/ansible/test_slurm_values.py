"""What a cluster's variables become: values for the templates, or a refusal that names the variable."""

from __future__ import annotations

from typing import Any

import pytest

from westward.provision.ansiblecode import load

FILTERS = load("filter_plugins/slurm_values.py")
GROUPS = {"slurm_controller": ["ctl"], "slurm_dbd": ["ctl"], "h100": ["n2", "n1"]}
FACTS = {"processor_count": 2, "processor_cores": 32, "processor_threads_per_core": 2, "memtotal_mb": 515_000}
HOSTS: dict[str, Any] = {"ctl": {}, "n1": {"ansible_facts": FACTS}, "n2": {"ansible_facts": FACTS}}
CHIPS = {"type": "h100", "count": 4, "detect": "files", "files": "/dev/nvidia[0-3]"}
VARIABLES: dict[str, Any] = {
    "slurm_cluster_name": "c",
    "slurm_nodegroups": [{"name": "h100", "accelerators": [CHIPS]}],
    "slurm_partitions": [{"name": "gpu", "nodegroups": ["h100"]}],
}


def values(version: str = "24.11.5", hosts: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = FILTERS.slurm_values({**VARIABLES, **changed}, GROUPS, hosts or HOSTS, version)
    return found


def chips(**changed: Any) -> list[dict[str, Any]]:
    return [{"name": "h100", "accelerators": [{**CHIPS, **changed}]}]


def test_hosts_of_a_group_are_one_line_with_what_their_facts_say() -> None:
    (line,) = values()["nodes"]
    assert line["name"] == "n[1-2]"
    assert line["settings"]["Sockets"] == "2"
    assert line["settings"]["CoresPerSocket"] == "32"
    assert line["settings"]["RealMemory"] == "489200"
    assert line["settings"]["Gres"] == "gpu:h100:4"


def test_a_host_whose_facts_are_not_known_is_named() -> None:
    with pytest.raises(FILTERS.Refused, match="the facts of host 'n2' are not known"):
        values(hosts={**HOSTS, "n2": {}})


def test_a_node_has_the_name_and_address_that_the_inventory_gives_it() -> None:
    named = {**HOSTS, "n1": {**HOSTS["n1"], "slurm_node_name": "node1", "slurm_node_address": "10.0.0.1"}}
    lines = values(hosts=named)["nodes"]
    assert [(line["name"], line["settings"].get("NodeAddr")) for line in lines] == [("n2", None), ("node1", "10.0.0.1")]
    assert values(hosts=named)["partitions"][0]["settings"]["Nodes"] == "n2,node1"


def test_native_keys_replace_ours_whatever_their_case_and_omit_removes_them() -> None:
    settings = values(slurm_config={"returntoservice": 2, "MpiDefault": "omit", "SchedulerParameters": ["a=1", "b"]})[
        "settings"
    ]
    assert settings["ReturnToService"] == "2"
    assert settings["MpiDefault"] is None
    assert settings["SchedulerParameters"] == "a=1,b"


@pytest.mark.parametrize("detect", ["nvml", "rsmi", "oneapi", "nrt", "nvidia"])
def test_devices_that_a_library_finds(detect: str) -> None:
    (line,) = values(slurm_nodegroups=chips(detect=detect))["gres"]
    assert line == {"nodes": "n[1-2]", "name": None, "settings": {"AutoDetect": detect}}


def test_devices_by_file_mig_slices_and_shards() -> None:
    (line,) = values()["gres"]
    assert (line["name"], line["settings"]["Type"], line["settings"]["File"]) == ("gpu", "h100", "/dev/nvidia[0-3]")
    slices = ["/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia0,/dev/nvidia-caps/nvidia-cap30"]
    mig = values(slurm_nodegroups=chips(type="1g.10gb", count=2, slicing="mig", files=slices))
    assert [line["settings"]["MultipleFiles"] for line in mig["gres"]] == slices
    shard = values(slurm_nodegroups=chips(slicing="shard", slices=16))
    assert shard["nodes"][0]["settings"]["Gres"] == "gpu:h100:4,shard:16"
    assert shard["settings"]["GresTypes"] == "gpu,shard"
    assert shard["gres"][1] == {"nodes": "n[1-2]", "name": "shard", "settings": {"Count": "16"}}


def test_devices_that_are_only_believed_in() -> None:
    found = values(slurm_nodegroups=chips(count=2, detect="fake", cores="0-3", files=None))
    assert found["fake_gpus"] == {
        "h100": [
            "h100|4|0-3|-1,0|/dev/nvidia0|0|nvidia_gpu_env",
            "h100|4|0-3|0,-1|/dev/nvidia1|1|nvidia_gpu_env",
        ]
    }
    assert found["gres"] == [{"nodes": "n[1-2]", "name": None, "settings": {"AutoDetect": "off"}}]


@pytest.mark.parametrize(
    ("version", "changed", "told"),
    [
        (
            "22.05.8",
            {"slurm_auth": "slurm"},
            "'slurm' needs Slurm 23.11 or newer, and the hosts have 22.05: use 'munge'",
        ),
        ("22.05.8", {"slurm_nodegroups": chips(detect="nvidia")}, "AutoDetect=nvidia needs Slurm 24.11 or newer"),
        ("24.11.5", {"slurm_nodegroups": chips(detect="nvidia", slicing="mig")}, "sees no MIG slices"),
        ("24.11.5", {"slurm_nodegroups": chips(files=None)}, "'files' is missing"),
        ("24.11.5", {"slurm_nodegroups": chips(slicing="shard")}, "'slices' is missing"),
        ("24.11.5", {"slurm_partitions": [{"name": "p", "nodegroups": ["cpu"]}]}, "names the node group 'cpu'"),
        ("24.11.5", {"slurm_partitions": [{"name": "p"}]}, "neither 'nodegroups' nor 'nodes'"),
        (
            "24.11.5",
            {"slurm_partitions": [{"name": "p", "nodes": "n1", "parameters": {"MaxTime": 86400}}]},
            "MaxTime is the number 86400: write it in quotes",
        ),
        ("24.11.5", {"slurm_topology": {"plugin": "tree"}}, "'switches' is needed"),
        (
            "22.05.8",
            {"slurm_topology": {"plugin": "block", "blocks": [{"name": "b", "nodes": "n1"}]}},
            "plugin 'block' needs Slurm 23.11 or newer, and the hosts have 22.05: use 'tree'",
        ),
        ("unknown", {}, "is no version of Slurm"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(version: str, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(FILTERS.Refused, match=told):
        values(version, **changed)


def test_what_the_version_offers_decides_on_rest_and_topology() -> None:
    wires = {"plugin": "tree", "switches": [{"name": "s1", "nodes": "{h100}"}]}
    old, new = values("22.05.8", slurm_topology=wires), values("26.05.5", slurm_topology=wires)
    assert (old["rest"], old["settings"]["AuthAltTypes"], old["topology"]["yaml"]) == (False, None, False)
    assert (new["rest"], new["settings"]["AuthAltTypes"], new["topology"]["yaml"]) == (True, "auth/jwt", True)
    assert new["topology"]["lines"] == [{"name": "s1", "nodes": "n[1-2]"}]


def test_what_a_node_looks_for_follows_from_its_group() -> None:
    files = [f"device /dev/nvidia{number}" for number in range(4)]
    assert values()["health"]["nodegroups"] == {"h100": ["memory 489200", *files, "gpus 4"]}
    found = values(slurm_nodegroups=chips(detect="nvml", files=None))
    assert found["health"]["nodegroups"] == {"h100": ["memory 489200", *files, "gpus 4"]}
    slices = ["/dev/nvidia0,/dev/nvidia-caps/nvidia-cap21"]
    mig = values(slurm_nodegroups=chips(type="1g.10gb", count=1, slicing="mig", files=slices))
    wanted = ["memory 489200", "device /dev/nvidia-caps/nvidia-cap21", "device /dev/nvidia0"]
    assert sorted(mig["health"]["nodegroups"]["h100"]) == sorted(wanted)
    assert values(slurm_nodegroups=chips(detect="fake", files=None))["health"]["nodegroups"] == {
        "h100": ["memory 489200"]
    }


def test_health_check_prolog_and_epilog_are_there_unless_they_are_not_wanted() -> None:
    ours = {"HealthCheckProgram", "HealthCheckInterval", "HealthCheckNodeState", "Prolog", "Epilog"}
    assert all(values()["settings"][key] for key in ours)
    off = values(slurm_health={"enabled": False})["settings"]
    assert {off[key] for key in ours} == {None}
    cloud = [*VARIABLES["slurm_nodegroups"], {"name": "cloud", "nodes": "c[1-8]", "parameters": {"CPUs": 4}}]
    assert values(slurm_nodegroups=cloud)["settings"]["Prolog"] is None
    assert values(slurm_nodegroups=cloud, slurm_health={"enabled": True})["settings"]["Prolog"]
    own = values(slurm_config={"HealthCheckInterval": 60, "Epilog": "omit"})["settings"]
    assert (own["HealthCheckInterval"], own["Epilog"]) == ("60", None)
    with pytest.raises(FILTERS.Refused, match="slurm_health: mounts: 'home' is no absolute path"):
        values(slurm_health={"mounts": ["home"]})
