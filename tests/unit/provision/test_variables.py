"""From a configuration to variables and an inventory, and back by the roles' own code: the same by meaning, in the variables' own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.provision.takeover import GPUS, NODES, SLURM, cluster, taken_over
from westward.errors import InputError
from westward.provision.variables import inventory_of


@pytest.mark.parametrize("version", ["22.05.8", "24.11.5", "26.05.5"])
@pytest.mark.parametrize(
    ("slurm", "files"),
    [
        (SLURM + NODES, {}),
        (SLURM + "NodeName=n1\nPartitionName=p Nodes=n1", {}),
        (SLURM + "NodeName=n1\nPartitionName=p", {}),
        (SLURM + 'Prolog="/opt/a b"\nEpilog=/opt/\\#1\n' + NODES, {}),
        (SLURM + "SchedulerParameters=a=1,b,c=2\nKeyOfTomorrow=x,y\n" + NODES, {}),
        (SLURM + "SlurmctldHost=ctl2(10.0.0.2)\nNodeName=n[1-2] NodeAddr=10.0.0.[7-8]\nPartitionName=p Nodes=n1", {}),
        (SLURM + "NodeName=n[1-4] NodeHostname=host Port=[7001-7004]\nPartitionName=p Nodes=n[1-2]", {}),
        (SLURM + "NodeName=c[1-9] State=CLOUD\nNodeName=f[1-9] State=FUTURE\nPartitionName=p Nodes=c[1-9]", {}),
        (SLURM + "NodeName=n[1-2]\nDownNodes=n2 State=DOWN Reason=fan\nPartitionName=p Nodes=n2", {}),
        (SLURM + "NodeName=n[1-3] Feature=x\nNodeSet=s Feature=x\nPartitionName=p Nodes=s", {}),
        (SLURM + "NodeName=n1\nPartitionName=p Nodes=n1 MaxTime=60 DefaultTime=00:10:00 Priority=3 Shared=FORCE:2", {}),
        (SLURM + "NodeName=n[1-3]\nNodeName=m[1-3]\nPartitionName=p Nodes=n[1-2],m3", {}),
        (GPUS, {"gres": "Name=gpu Type=a File=/dev/a[0-1]"}),
        (GPUS, {"gres": "AutoDetect=nvml"}),
        (GPUS, {"gres": "NodeName=n1 AutoDetect=nvml\nNodeName=n2 Name=gpu Type=a File=/dev/a[0-1] Flags=x"}),
        (GPUS.replace("gpu:a:2", "gpu:a:2,shard:8"), {"gres": "Name=gpu Type=a File=/dev/a[0-1]\nName=shard Count=8"}),
        (GPUS.replace("gpu:a:2", "gpu:a:2,shard:8"), {"gres": "Name=gpu Type=a File=/dev/a[0-1]\nName=shard Count=4"}),
        (GPUS.replace("gpu:a:2", "craynetwork:4,lustre:no_consume:1k"), {"gres": "Name=lustre Count=1k"}),
        (
            GPUS,
            {"gres": "Name=gpu Type=a MultipleFiles=/dev/a0,/dev/b0\nName=gpu Type=a MultipleFiles=/dev/a1,/dev/b1"},
        ),
        (SLURM + NODES, {"topology": "SwitchName=a Nodes=n1\nSwitchName=b Nodes=n2\nSwitchName=c Switches=a,b"}),
        (SLURM + NODES, {"cgroup": "ConstrainCores=yes\nConstrainSwapSpace=yes"}),
        (
            SLURM + "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=db\n" + NODES,
            {"slurmdbd": "DbdHost=db\nstorageloc=acct\nPurgeJobAfter=6months"},
        ),
    ],
)
def test_the_roles_write_the_same_from_it(slurm: str, files: dict[str, str], version: str, tmp_path: Path) -> None:
    taken_over(cluster(slurm, version, **files), tmp_path / "out", version)


@pytest.mark.parametrize("version", ["23.11.1", "24.11.5", "26.05.5"])
def test_blocks_of_nodes_where_slurm_has_them(version: str, tmp_path: Path) -> None:
    blocks = "BlockName=a Nodes=n1\nBlockName=b Nodes=n2\nBlockSizes=1,2"
    taken_over(cluster(SLURM + NODES, version, topology=blocks), tmp_path / "out", version)


def test_nodes_that_are_no_hosts_are_in_no_inventory_group(tmp_path: Path) -> None:
    conf = cluster(SLURM + "NodeName=n1\nNodeName=c[1-9] State=CLOUD\nPartitionName=p Nodes=ALL")
    inventory = taken_over(conf, tmp_path / "out")
    assert inventory.node_groups == {"p": {"n1": {}}, "p_cloud": {}}
    assert inventory.variables["slurm_nodegroups"][1]["nodes"] == "c[1-9]"


def test_an_address_is_where_ansible_goes_too(tmp_path: Path) -> None:
    conf = cluster(
        SLURM.replace("=ctl\n", "=ctl(10.0.0.1)\n") + "NodeName=n1 NodeAddr=10.0.0.7\nPartitionName=p Nodes=n1"
    )
    inventory = taken_over(conf, tmp_path / "out")
    assert inventory.groups["slurm_controller"] == {
        "ctl": {"slurm_node_address": "10.0.0.1", "ansible_host": "10.0.0.1"}
    }
    assert inventory.node_groups["p"]["n1"]["ansible_host"] == "10.0.0.7"


def test_what_the_roles_set_and_the_cluster_does_not_is_left_out(tmp_path: Path) -> None:
    config = taken_over(cluster(SLURM + NODES), tmp_path / "out").variables["slurm_config"]
    assert (config["PrologFlags"], config["SlurmctldParameters"], config["StateSaveLocation"]) == (
        "omit",
        "omit",
        "/s/ctl",
    )


def test_an_unknown_slurmdbd_is_left_alone(tmp_path: Path) -> None:
    conf = cluster(SLURM + "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=db\n" + NODES)
    assert taken_over(conf, tmp_path / "out").groups["slurm_dbd"] == {}
    assert any("slurmdbd at db alone" in note for note in inventory_of(conf, "24.11.5").notes)


@pytest.mark.parametrize(
    ("slurm", "said"),
    [
        (SLURM.replace("/s/ctl", "/var/spool"), "StateSaveLocation is /var/spool, which other programs use too"),
        (SLURM.replace("StateSaveLocation=/s/ctl\n", ""), "StateSaveLocation is /var/spool"),
        (SLURM.replace("/s/d", "/tmp/"), "SlurmdSpoolDir is /tmp"),
        (SLURM + "SlurmUser=hpc\n", "SlurmUser is hpc, and the roles' directories belong to slurm"),
        (SLURM.replace("SlurmctldHost=ctl\n", ""), "slurm.conf names no controller"),
        (SLURM.replace("ClusterName=c\n", ""), "slurm.conf names no cluster"),
    ],
)
def test_what_could_only_be_taken_over_with_damage_is_refused(slurm: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        inventory_of(cluster(slurm + NODES), "24.11.5")


def test_a_directory_that_slurm_chooses_is_named(tmp_path: Path) -> None:
    conf = cluster(SLURM.replace("SlurmdSpoolDir=/s/d\n", "") + NODES)
    assert taken_over(conf, tmp_path / "out").variables["slurm_config"]["SlurmdSpoolDir"] == "/var/spool/slurmd"
