"""Four columns of a node's accelerators: nothing to say where they agree; each way in which they differ named, with its remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unit.provision.clusters import CHIPS, FOUND, GRES_CONF, NODE, SLURM_CONF, configuration, facts, look, site
from westward.provision import gres
from westward.provision.clusterfacts import Facts
from westward.provision.gres import Mismatch

CAPTURED = Path(__file__).parents[2] / "data" / "gres"
INVALID = "State=IDLE+DRAIN+INVALID_REG Reason=gres/gpu count reported lower than configured (3 < 4) [slurm@1795493049]"
STRANGER = "slurmd: gres/gpu: _normalize_sys_gres_types: Could not find an unused configuration record with a GRES type that is a substring of system device `{}`. Setting system GRES type to NULL\n"

REAL = [(CAPTURED / f"slurm-{version}" / "mig.txt").read_text() for version in ("22.05", "24.11", "26.05")]


def differs(world: Facts, node: str = "n1") -> list[Mismatch]:
    rows = {row.node: row for row in gres.compare(world)}
    assert all(not row.mismatches for name, row in rows.items() if name != node), "no other node is blamed"
    return list(rows[node].mismatches)


def the_one(world: Facts) -> Mismatch:
    (found,) = differs(world)
    return found


def of_both(world: Facts) -> Mismatch:
    """What is said of each node alike."""
    first, second = (row.mismatches for row in gres.compare(world))
    assert len(first) == len(second) == 1
    return first[0]


def mig(configured: str, count: int) -> dict[str, Any]:
    """A cluster whose nodes have detected MIG slices."""
    slurm = SLURM_CONF.replace("gpu:h100:4", f"gpu:{configured}:{count}")
    return {
        "site": site({"type": configured, "count": count, "detect": "nvml", "slicing": "mig"}),
        "configuration": configuration(slurm, "NodeName=n[1-2] AutoDetect=nvml\n"),
        "said": facts().said | {"nodes": (NODE.format("n1") + NODE.format("n2")).replace("gpu:h100:4", f"gpu:{configured}:{count}")},
    }  # fmt: skip


def slices(kind: str, count: int) -> str:
    return "".join(
        f"slurmd: Gres Name=gpu Type={kind} Count=1 Index={n} ID=7696487 File=/dev/nvidia0 Flags=HAS_FILE\n"
        for n in range(count)
    )


def test_where_all_four_agree_there_is_nothing_to_say() -> None:
    rows = gres.compare(facts())
    assert [(row.node, row.mismatches) for row in rows] == [("n1", ()), ("n2", ())]
    assert rows[0].inventory == rows[0].configured == rows[0].filed == rows[0].registered == {("gpu", "h100"): 4}
    assert gres.exit_code(rows) == 0


def test_the_inventory_says_another_count() -> None:
    found = of_both(facts(site=site(CHIPS | {"count": 8, "files": "/dev/nvidia[0-7]"})))
    assert found.found == "the inventory says gpu:h100:8, and slurm.conf gpu:h100:4"
    assert "site.yml" in found.fix
    assert gres.exit_code(gres.compare(facts(site=site(CHIPS | {"count": 8})))) == 1


def test_slurm_conf_says_more_than_gres_conf_names() -> None:
    world = facts(configuration=configuration(gres=GRES_CONF.replace("[0-3]", "[0-2]")))
    assert of_both(world).found == "slurm.conf says gpu:h100:4, and gres.conf names 3 such devices"


def test_a_device_file_that_is_missing() -> None:
    found = the_one(facts({"n1": {"files": dict(look("n1").files or {}) | {"/dev/nvidia3": False}, "gres": ""}}))
    assert found.found == "/dev/nvidia3 is not there, and gres.conf names it: slurmd does not start without it"
    assert "systemctl restart slurmd" in found.fix


def test_a_node_that_slurmctld_holds_invalid() -> None:
    nodes = NODE.format("n1").replace("State=IDLE", INVALID) + NODE.format("n2")
    found = the_one(facts(said=facts().said | {"nodes": nodes}))
    assert "count reported lower than configured (3 < 4)'" in found.found
    assert "scontrol update NodeName=n1 State=RESUME" in found.fix


@pytest.mark.parametrize(
    "text", ["", *REAL, slices("3g.39gb", 2), slices("(null)", 2) + STRANGER.format("nvidia_h100_3g.39gb") * 2]
)
def test_a_mig_profile_that_the_driver_renamed(text: str) -> None:
    text = text or STRANGER.format("nvidia_h100_80gb_hbm3_3g.39gb") * 2
    found = the_one(facts({"n1": {"gres": text}, "n2": {"gres": slices("3g.40gb", 2)}}, **mig("3g.40gb", 2)))
    assert found.found == "the driver calls the MIG profile '3g.40gb' now '3g.39gb': the same slices, by another name"
    assert "type: 3g.39gb" in found.fix


def test_fewer_slices_than_configured() -> None:
    found = the_one(
        facts({"n1": {"gres": slices("1g.10gb", 5)}, "n2": {"gres": slices("1g.10gb", 7)}}, **mig("1g.10gb", 7))
    )
    assert found.found == "n1 has 5 MIG slices '1g.10gb', and 7 are configured"
    assert "changes the configuration first and starts slurmd after it" in found.fix


def test_a_type_that_is_no_part_of_what_the_detector_says() -> None:
    found = the_one(facts({"n1": {"gres": STRANGER.format("nvidia_a100-sxm4-80gb") * 4}}))
    assert found.found == "slurmd finds 4 nvidia_a100-sxm4-80gb, and the configured type 'h100' is no part of that name"
    assert "type: a100" in found.fix


def test_more_than_configured() -> None:
    more = FOUND + slices("h100", 4)
    assert (
        the_one(facts({"n1": {"gres": more}})).found
        == "slurmd finds gpu:h100:8, and slurm.conf says 4: 4 of them are given to no job"
    )


def test_fewer_with_what_slurmd_complains_of() -> None:
    text = FOUND.replace("Index=3", "Index=9").splitlines(keepends=True)[:3]
    found = the_one(facts({"n1": {"gres": "slurmd: error: gres: no such thing\n" + "".join(text)}}))
    assert found.found == "slurm.conf says gpu:h100:4, and slurmd finds 3; it says: gres: no such thing"


def test_slurmd_has_other_files_than_slurmctld() -> None:
    found = the_one(facts({"n1": {"digests": {"slurm.conf": "a", "gres.conf": "old"}}}))
    assert found.found == "slurmd on n1 has another gres.conf than slurmctld"


def test_slurmctld_was_not_told_of_a_change() -> None:
    nodes = (NODE.format("n1") + NODE.format("n2")).replace("gpu:h100:4", "gpu:h100:2")
    found = of_both(facts(said=facts().said | {"nodes": nodes}))
    assert found.found == "slurmctld runs with gpu:h100:2, and its slurm.conf says gpu:h100:4"


def test_slurmd_that_says_nothing_is_not_taken_for_well() -> None:
    assert "did not say" in the_one(facts({"n1": {"gres": None}})).found


def test_slurmd_that_ended_says_why() -> None:
    found = the_one(facts({"n1": {"gres": "slurmd: fatal: auth/slurm: cannot stat 'slurm.key'\n"}}))
    assert found.found == "slurmd on n1 did not say what it finds: auth/slurm: cannot stat 'slurm.key'"


def test_a_silent_host_is_no_mismatch_but_is_silent() -> None:
    world = replace(facts(silent={"n1": "no route"}), looks={"ctl": look("ctl"), "n2": look("n2")})
    assert differs(world) == []
    assert gres.exit_code(gres.compare(world)) == 4
