"""Where a chip's peak comes from: every figure with its document, dense, under names that mean one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from westward.catalogue.chips import SHIPPED, load_accelerators, own_chips_file, read_chips, shipped_chips, with_power
from westward.catalogue.load import known_chips
from westward.errors import InputError
from westward.model.accelerators import PRECISIONS
from westward.model.site import Accelerator

CHIPS = sorted({chip.name: chip for chip in read_chips(SHIPPED).values()}.items())
each = pytest.mark.parametrize("chip", [chip for _, chip in CHIPS], ids=[name for name, _ in CHIPS])
CHIP: dict[str, Any] = {"vendor": "x", "source": "a data sheet", "as_of": "2024", "peak_flops": {"f64": 1e12}}


def figures(chip: Accelerator) -> set[str]:
    others = {key: getattr(chip, key) for key in ("mem_bytes", "mem_bytes_per_s", "power_w")}
    return {*chip.peak_flops, *(key for key, value in others.items() if value is not None)}


@each
def test_every_figure_has_one_document_with_its_address_and_its_year(chip: Accelerator) -> None:
    named = [figure for origin in chip.origins for figure in origin.figures]
    assert sorted(named) == sorted(figures(chip))
    for origin in chip.origins:
        assert origin.figures, f"{origin.source} gives nothing"
        assert len(origin.source) > 10
        assert (origin.url or "").startswith(("https://", "http://"))
        assert 2017 <= int(origin.as_of) <= 2026


def test_the_shipped_file_reads_alike_in_both_ways() -> None:
    assert shipped_chips() == read_chips(SHIPPED)


@each
def test_figures_are_plausible(chip: Accelerator) -> None:
    assert set(chip.peak_flops) <= set(PRECISIONS)
    assert chip.power_w is None or 50 <= chip.power_w <= 3000
    assert chip.mem_bytes is None or 1e10 <= chip.mem_bytes <= 1e12
    assert chip.mem_bytes_per_s is None or 1e11 <= chip.mem_bytes_per_s <= 1e13
    order = [chip.peak_flops[name] for name in ("fp64", "fp32", "tf32", "bf16", "fp8") if name in chip.peak_flops]
    assert order == sorted(order), "a narrower number is never slower"
    assert all(5e11 <= peak <= 1e16 for peak in chip.peak_flops.values())


@each
def test_a_dense_peak_is_half_of_the_sparse_one(chip: Accelerator) -> None:
    """Which is how data sheets tell the two apart, where their footnote is lost."""
    for name, sparse in chip.sparse_flops.items():
        assert chip.peak_flops[name] == pytest.approx(sparse / 2, rel=0.02), name


@pytest.mark.parametrize(
    ("one", "other"),
    [("h100", "nvidia_h100_80gb_hbm3"), ("a100_80gb", "nvidia_a100-sxm4-80gb"), ("910b4", "ascend910b4")],
)
def test_the_names_of_autodetect_are_the_same_chip(one: str, other: str) -> None:
    chips = load_accelerators()
    assert chips[one] is chips[other]


def test_a_name_that_leaves_the_memory_open_has_the_least() -> None:
    chips = load_accelerators()
    assert chips["a100"].mem_bytes == chips["a100_40gb"].mem_bytes
    assert chips["910b"].peak_flops["bf16"] == min(
        chips[name].peak_flops["bf16"] for name in ("910b2", "910b3", "910b4")
    )


def test_what_no_document_says_is_unknown() -> None:
    chips = load_accelerators()
    assert not chips["k100_ai"].peak_flops
    assert chips["k100_ai"].power_w is None
    assert "k100_ai" not in with_power(chips)
    assert "k100_ai" not in known_chips()
    assert "h100" in known_chips()


def test_makers_figures_are_told_from_those_of_others() -> None:
    chips = load_accelerators()
    assert not chips["h100"].estimated("bf16")
    assert chips["910b"].estimated("bf16")
    assert (chips["h200"].estimated("fp64"), chips["h200"].estimated("bf16")) == (True, False)


def own_chips(**chips: object) -> Path:
    file = own_chips_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(chips))
    return file


class TestOwn:
    def test_a_user_s_own_chips_are_added_whatever_their_case(self) -> None:
        own_chips(X9000={**CHIP, "power_w": 750, "aliases": ["X9"]})
        assert {"a100", "h100", "x9000", "x9"} <= load_accelerators().keys()
        assert load_accelerators()["x9"].peak_flops == {"fp64": 1e12}, "f64 is fp64"

    def test_and_go_before_ours(self) -> None:
        own_chips(h100={**CHIP, "power_w": 1})
        assert load_accelerators()["h100"].power_w == 1

    def test_figures_of_another_document_follow_under_also(self) -> None:
        own_chips(x1={**CHIP, "also": [{"power_w": 300, "source": "a bench", "as_of": "2025", "estimated": True}]})
        chip = load_accelerators()["x1"]
        assert (chip.power_w, chip.estimated("power_w"), chip.estimated("fp64")) == (300, True, False)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"power_w": -400}, r"x1\.power_w: must be above zero"),
            ({"power_w": 0}, r"x1\.power_w: must be above zero"),
            ({"mem_bytes": 0}, r"x1\.mem_bytes: must be above zero"),
            ({"peak_flops": {"bf16": 0}}, r"x1\.peak_flops\.bf16: must be above zero"),
            ({"peak_flops": {"bf17": 1e12}}, r"x1\.peak_flops\.bf17: is no precision; known: fp64"),
            ({"peak_flops": {"bf16": 2e12}, "sparse_flops": {"bf16": 1e12}}, r"bf16: is above the one with sparsity"),
            ({"source": None}, r"x1\.source: a text was expected"),
            ({"aliases": ["X2"]}, r"'x2' is a name of 'x1' too"),
            ({"also": [{"peak_flops": {"fp64": 1e12}, "source": "another", "as_of": "2024"}]}, "fp64: is given twice"),
            ({"also": [{"power_w": 1}]}, r"also\[0\]\.source: is missing"),
            ({"price": 1}, r"x1\.price: is not known here"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_file(self, change: dict[str, Any], told: str) -> None:
        own_chips(x1={**CHIP, **change}, x2=CHIP)
        with pytest.raises(InputError, match=rf"accelerators\.yaml.*{told}"):
            load_accelerators()
