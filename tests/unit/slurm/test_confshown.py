"""A configuration from what the daemons of three releases show: nothing of what has its default, and all of what has not."""

from __future__ import annotations

import pytest

from unit.slurm.fakes import VERSIONS, said
from westward.slurm import confshown
from westward.slurm.confcluster import of_confs
from westward.slurm.confcompare import compare
from westward.slurm.confmeaning import release_of


def shown(version: str, prefix: str = "") -> tuple[str, str, str]:
    config, node, partition = (said(version, f"{prefix}{what}") for what in ("config", "node", "partition"))
    return config, node, partition


@pytest.mark.parametrize("version", VERSIONS)
def test_a_daemon_with_nothing_configured_shows_what_has_to_be_said(version: str) -> None:
    conf = confshown.slurm_conf(*shown(version, "minimal_"), release_of(version))
    assert {"ClusterName", "SLURM_VERSION", "KillWait", "SelectType"} & set(conf.settings) == {"ClusterName"}
    (node,), (partition,) = conf.of("NodeName"), conf.of("PartitionName")
    assert (node.name, partition.name, dict(partition.settings)) == ("n1", "p", {"Nodes": "n1"})


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_shown_of_a_lab_is_what_its_files_said(version: str) -> None:
    conf = confshown.slurm_conf(*shown(version), release_of(version))
    nodes = {line.name: line.settings for line in conf.of("NodeName")}
    assert all("gpu:" in settings.get("Gres", "") for settings in nodes.values())
    assert conf.settings["AccountingStorageType"] == "accounting_storage/slurmdbd"
    assert len(conf.of("SlurmctldHost")) == 1
    configuration = of_confs({"slurm.conf": conf}, "", release_of(version))
    assert compare(configuration, configuration) == []
    assert configuration.nodes.keys() == nodes.keys()


def test_one_value() -> None:
    config = said("24.11", "config")
    assert confshown.value(config, "SLURM_VERSION").startswith("24.11")
    assert confshown.value(config, "NOT_THERE") == ""
