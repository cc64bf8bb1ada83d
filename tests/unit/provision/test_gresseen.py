"""What slurmd prints of accelerators, as it was captured on real nodes (tests/data/gres), and Slurm's rule for their types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from westward.provision import gresseen
from westward.provision.ansiblecode import load

CAPTURED = Path(__file__).parents[2] / "data" / "gres"
FILTERS = load("filter_plugins/slurm_values.py")


def seen(name: str) -> gresseen.Seen:
    return gresseen.parse((CAPTURED / f"{name}.txt").read_text())


def rendered(*accelerators: dict[str, Any]) -> dict[str, Any]:
    """What the roles write for a node group with these."""
    group = {"name": "g", "nodes": "n1", "accelerators": list(accelerators), "parameters": {"CPUs": 4, "RealMemory": 1}}
    variables = {
        "slurm_cluster_name": "c",
        "slurm_nodegroups": [group],
        "slurm_partitions": [{"name": "p", "nodegroups": ["g"]}],
    }
    found: dict[str, Any] = FILTERS.slurm_values(variables, {"slurm_controller": ["ctl"]}, {"ctl": {}}, "24.11.5")
    return found


def test_nvml_tells_the_devices_their_files_and_what_is_only_counted() -> None:
    found = seen("nvml-a6000")
    assert found.counts == {("gpu", "nvidia_rtx_a6000"): 8, ("vrampergpu", ""): 48 * 2**30}
    assert [device.file for device in found.devices[:2]] == ["/dev/nvidia0", "/dev/nvidia1"]
    assert found.detected == {"nvml": 8}
    assert found.complaints == ()


@pytest.mark.parametrize(
    ("capture", "detect", "accelerators"),
    [
        ("nvml-a6000", "nvml", {"a6000": 8}),
        ("nvml-a6000", "nvml", {"RTX A6000": 8}),
        ("nvml-h100-mig", "nvml", {"4g.40gb": 2, "1g.10gb": 6, "h100": 2}),
    ],
)
def test_types_as_people_say_them_mean_what_the_detector_found(
    capture: str, detect: str, accelerators: dict[str, int]
) -> None:
    entries = [
        {"type": kind.replace(" ", "_"), "count": count, "detect": detect} for kind, count in accelerators.items()
    ]
    values = rendered(*entries)
    assert values["gres"] == [{"nodes": "n1", "name": None, "settings": {"AutoDetect": detect}}]
    configured = gresseen.counts(values["nodes"][0]["settings"]["Gres"])
    given, rest = gresseen.allotted(configured, seen(capture).counts)
    assert given == configured
    assert not [kind for name, kind in rest if name == "gpu"]


@pytest.mark.parametrize(
    ("capture", "detect", "right", "wrong"),
    [
        ("nvml-a100-mig-ignored", "nvml", "1g.5gb", "3g.20gb"),
        ("nvidia-h100-ignored", "nvidia", "h100", "a100"),
        ("rsmi-mi300x", "rsmi", "mi300x", "8"),
    ],
)
def test_what_slurmd_passes_over_is_named_and_the_right_type_would_fit(
    capture: str, detect: str, right: str, wrong: str
) -> None:
    found = seen(capture)
    assert found.counts == {}
    (kind,) = found.strangers
    values = rendered({"type": right, "count": 1, "detect": detect})
    ((_, configured),) = gresseen.counts(values["nodes"][0]["settings"]["Gres"])
    assert gresseen.fits(configured, kind)
    assert not gresseen.fits(wrong, kind)


@pytest.mark.parametrize("detect", ["oneapi", "nrt"])
def test_detectors_of_which_nothing_was_captured_are_at_least_written(detect: str) -> None:
    (line,) = rendered({"type": "x", "count": 2, "detect": detect})["gres"]
    assert line["settings"] == {"AutoDetect": detect}


VERSIONS = ("22.05", "24.11", "26.05")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("case", "counts", "strangers", "complaint"),
    [
        ("well", {("gpu", "h100"): 4}, {}, None),
        ("missing", {}, {}, "can't stat gres.conf file /dev/nvidia3: No such file or directory"),
        ("fewer", {("gpu", "h100"): 3}, {}, None),
        (
            "other-type",
            {},
            {},
            "A line in gres.conf for GRES gpu:a100 has 4 more configured than expected in slurm.conf. Ignoring extra GRES.",
        ),
        ("sub", {("gpu", "h100"): 2}, {}, None),
        ("fewer-fake", {("gpu", "h100"): 2}, {}, None),
        ("mig", {}, {"3g.39gb": 2}, None),
        ("stranger", {}, {"nvidia_h100_80gb_hbm3": 2}, None),
    ],
)
def test_every_release_says_the_same(
    version: str, case: str, counts: gresseen.Counts, strangers: dict[str, int], complaint: str | None
) -> None:
    found = seen(f"slurm-{version}/{case}")
    assert found.counts == counts
    assert found.strangers == strangers
    assert complaint is None or found.complaints[0] == complaint


def test_a_log_that_ends_with_a_merged_list_is_read_from_it() -> None:
    text = (CAPTURED / "rsmi-mi300x.txt").read_text()
    final = "debug:  Gres GPU plugin: Final merged gres.conf list:\ndebug:      GRES[gpu] Type:mi300x Count:1 Cores(4):0 Links:-1 File:/dev/dri/renderD128\n"
    assert gresseen.parse(text + final).counts == {("gpu", "mi300x"): 1}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(null)", {}),
        ("", {}),
        ("gpu:h100:4(S:0-1),shard:8", {("gpu", "h100"): 4, ("shard", ""): 8}),
        ("gpu:4", {("gpu", ""): 4}),
        ("gpu:1g.10gb:7", {("gpu", "1g.10gb"): 7}),
        ("gpu:1g.10gb", {("gpu", "1g.10gb"): 1}),
        ("bandwidth:lustre:no_consume:4G", {("bandwidth", "lustre"): 4 * 2**30}),
    ],
)
def test_counts(text: str, found: gresseen.Counts) -> None:
    assert gresseen.counts(text) == found


@pytest.mark.parametrize(
    ("configured", "detected", "renamed"),
    [
        ("3g.40gb", "nvidia_h100_80gb_hbm3_3g.39gb", True),
        ("3g.40gb", "3g.40gb", False),
        ("3g.40gb", "2g.20gb", False),
        ("1g.10gb", "1g.10gb+me", False),
        ("1g.5gb", "1g.10gb", False),
        ("h100", "nvidia_h100", False),
    ],
)
def test_a_profile_that_the_driver_calls_otherwise(configured: str, detected: str, renamed: bool) -> None:
    assert gresseen.is_renamed(configured, detected) is renamed
