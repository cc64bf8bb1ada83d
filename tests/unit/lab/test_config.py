"""The rendered Slurm configuration, against golden files.

`WESTWARD_UPDATE_GOLDEN=1 pytest tests/unit/lab/test_config.py` writes them anew; look at the difference before committing it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from golden.kept import as_kept
from westward.lab.config import Line, SlurmValues, accounting, lab_values, render
from westward.lab.topology import load_topology

GOLDEN = Path(__file__).parents[2] / "golden" / "lab"
FILES = ("slurm.conf", "gres.conf", "cgroup.conf", "slurmdbd.conf")


CLUSTERS = [
    (topology, plan.name) for topology in ("east-west", "versions") for plan in load_topology(topology).clusters
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("topology", "cluster"), CLUSTERS)
def test_a_cluster_of_the_lab_is_rendered_as_in_the_golden_file(topology: str, cluster: str, name: str) -> None:
    text = render(name, lab_values(load_topology(topology).cluster(cluster), "database-password"))
    assert as_kept(text, GOLDEN / f"{cluster}.{name}")


def test_a_topology_can_replace_and_leave_out_native_keys() -> None:
    plan = replace(
        load_topology("east-west").cluster("east"), slurm={"MailProg": None, "SlurmdTimeout": "60", "KillWait": "5"}
    )
    lines = render("slurm.conf", lab_values(plan, "")).splitlines()
    assert "SlurmdTimeout=60" in lines
    assert "KillWait=5" in lines
    assert not any(line.startswith("MailProg") for line in lines)


def test_accounts_and_qos_reach_accounting_before_any_job() -> None:
    assert accounting(load_topology("versions").cluster("v2411")) == (
        "add cluster v2411",
        "add qos urgent Priority=1000",
        "add account research cluster=v2411 description=research organization=westward",
        "add account teaching cluster=v2411 description=teaching organization=westward",
        "add user researcher account=research cluster=v2411 defaultaccount=research qos=normal,urgent",
        "add user researcher account=teaching cluster=v2411 defaultaccount=research qos=normal,urgent",
    )


def test_a_cluster_without_accelerators_has_no_gres() -> None:
    values = lab_values(replace(load_topology("east-west").cluster("east"), accelerators=None), "")
    assert "gpu:" not in render("slurm.conf", values)
    assert "Name=gpu" not in render("gres.conf", values)


def test_templates_serve_several_controllers_node_groups_and_gres_by_node() -> None:
    values = SlurmValues(
        cluster="real",
        controllers=("a", "b"),
        settings={"SlurmUser": "slurm", "Epilog": None},
        nodes=(Line("n[1-4]", {"CPUs": "64"}), Line("n5", {"CPUs": "32", "Gres": None})),
        partitions=(Line("all", {"Nodes": "ALL"}),),
        gres=(Line("gpu", {"AutoDetect": "nvml"}, nodes="n[1-4]"),),
    )
    lines = render("slurm.conf", values).splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "ClusterName=real",
        "SlurmctldHost=a",
        "SlurmctldHost=b",
        "SlurmUser=slurm",
        "NodeName=n[1-4] CPUs=64",
        "NodeName=n5 CPUs=32",
        "PartitionName=all Nodes=ALL",
    ]
    assert "NodeName=n[1-4] Name=gpu AutoDetect=nvml" in render("gres.conf", values)


def test_a_template_that_is_given_too_little_fails() -> None:
    with pytest.raises(jinja2.UndefinedError):  # a lab has no topology of switches
        render("topology.conf", lab_values(load_topology("east-west").cluster("east"), ""))
