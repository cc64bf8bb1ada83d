"""What a change takes, by release: the table of changes.yaml in tests/data, from the manuals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from westward.provision.ansiblecode import load
from westward.slurm.confcluster import of_texts
from westward.slurm.confcompare import Difference, compare
from westward.slurm.confeffects import Class, daemons_of, effect_of, name_of
from westward.slurm.confmeaning import release_of

TOLD = yaml.safe_load((Path(__file__).parents[2] / "data" / "changes.yaml").read_text())
FILES: dict[str, str] = TOLD["files"]
RELEASES = ("22.05", "24.11", "26.05")


def changed(change: dict[str, Any]) -> dict[str, str]:
    """The files after a change."""
    name = change.get("file", "slurm.conf")
    text = FILES[name]
    if not change["from"]:
        return FILES | {name: f"{text}{change['to']}\n"}
    for old, new in {change["from"]: change["to"], **change.get("more", {})}.items():
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    return FILES | {name: text}


def differences(change: dict[str, Any], release: str) -> list[Difference]:
    found = compare(*(of_texts(texts, release_of(release)) for texts in (FILES, changed(change))))
    assert found
    return found


def test_there_are_enough_of_them() -> None:
    assert sum(change.get("file", "slurm.conf") in ("slurm.conf", "gres.conf") for change in TOLD["changes"]) >= 24
    assert all(change["see"] for change in TOLD["changes"])


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("change", TOLD["changes"], ids=lambda change: f"{change['from']}->{change['to']}")
def test_each_has_its_class(change: dict[str, Any], release: str) -> None:
    wanted = change["class"] if isinstance(change["class"], str) else change["class"][release]
    deepest = max(
        (effect_of(difference, release_of(release)) for difference in differences(change, release)),
        key=lambda effect: effect.kind,
    )
    assert str(deepest.kind) == wanted
    assert deepest.why and deepest.see
    assert bool(deepest.daemons) >= (deepest.kind is Class.RESTART)
    assert bool(deepest.harms) is (deepest.kind in (Class.DRAINED, Class.DESTROYS))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("change", TOLD["changes"], ids=lambda change: f"{change['from']}->{change['to']}")
def test_the_roles_restart_what_the_plan_says(change: dict[str, Any], release: str) -> None:
    """Where devices change the roles do it node by node, and slurmdbd has a role of its own."""
    told = [each for each in differences(change, release) if each.where == "slurm.conf" and each.what != "Gres"]
    wanted = daemons_of(effect_of(difference, release_of(release)) for difference in told)
    roles = load("filter_plugins/slurm_changes.py")
    done = roles.restarts(FILES["slurm.conf"], changed(change)["slurm.conf"], f"{release}.5")
    assert done == sorted(wanted)


def test_a_change_is_named_by_its_key_or_its_line() -> None:
    assert name_of(Difference("slurm.conf", "NodeName=n1", "CPUs", "1", "2")) == "CPUs"
    assert name_of(Difference("slurm.conf", "PartitionName=gpu", "", "Nodes=n1", None)) == "PartitionName=gpu"


def test_nodes_are_told() -> None:
    effect = effect_of(Difference("gres.conf", "NodeName=n[1-2]", "", "a", "b"), (24, 11))
    assert (effect.nodes, effect.harms, effect.daemons) == ("n[1-2]", "gres", ("slurmctld", "slurmd"))
