"""The accounting as variables: what sacctmgr of three releases printed, and nothing left to do where the variables say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from westward.provision.accounts import accounts_of, differences, queries

DATA = Path(__file__).parents[2] / "data"
CLUSTER = "altbau"


def printed(**changed: str) -> dict[str, str]:
    folder = DATA / "provision" / "handwritten" / "said"
    found = {name: (folder / f"sacctmgr-{name}.txt").read_text() for name in queries()}
    return {name: text + changed.get(name, "") for name, text in found.items()}


def test_nothing_is_left_to_do() -> None:
    found = accounts_of(CLUSTER, printed())
    assert differences(CLUSTER, printed(), found) == []
    assert [qos["name"] for qos in found["qos"]] == ["normal", "eilig"]
    (eilig,) = [qos for qos in found["qos"] if qos["name"] == "eilig"]
    assert eilig["parameters"] == {
        "Priority": "100",
        "MaxWall": "1-00:00:00",
        "MaxTRESPerUser": "node=2",
        "Description": "eilig",
    }


def test_what_only_another_cluster_has_is_not_ours() -> None:
    other = {"associations": "east|geo|||root|1|normal||||||||||||||||\n", "accounts": "geo|None|geo|geo\n"}
    found = accounts_of(CLUSTER, printed(**other))
    assert "geo" not in {account["name"] for account in found["accounts"]}


def test_an_association_of_a_partition_has_no_words_and_is_told() -> None:
    more = printed(associations="altbau|chemie|admin|long||3|||||||||||||||||\n")
    (told,) = differences(CLUSTER, more, accounts_of(CLUSTER, more))
    assert told.startswith("not in slurm_accounts: ") and "partition long" in told


@pytest.mark.parametrize("cluster", ["altbau", "Altbau"])
def test_a_name_of_a_cluster_has_no_case(cluster: str) -> None:
    assert accounts_of(cluster, printed()) == accounts_of(CLUSTER, printed())
