"""GRES strings as nodes report them."""

from __future__ import annotations

import pytest

from westward.errors import QuantityError
from westward.model.tres import chip_kind, chip_type, gres, is_slice, parse_gpus


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("", {}),
        ("(null)", {}),
        ("gpu:h100:4", {"h100": 4}),
        ("gpu:h100:4(S:0-1)", {"h100": 4}),
        ("gpu:h100:2(IDX:0-1),gpu:a100:1(IDX:2)", {"h100": 2, "a100": 1}),
        ("gpu:h100:2(IDX:0,2),gpu:a100:1(IDX:1,3)", {"h100": 2, "a100": 1}),
        ("gpu:h100:0(IDX:N/A)", {}),
        ("gpu:2(S:0)", {"gpu": 2}),
        ("gpu", {"gpu": 1}),
        ("gres/gpu:h100:4", {"h100": 4}),
        ("gpu:h100:2,gpu:h100:2", {"h100": 4}),
        ("license:1,gpu:a100:1", {"a100": 1}),
        ("gpu:nvidia_h100_80gb_hbm3:8(S:0-1)", {"nvidia_h100_80gb_hbm3": 8}),
        ("dcu:4", {"dcu": 4}),
        ("dcu:k100_ai:8(S:0-7),gpu:a100:1", {"dcu:k100_ai": 8, "a100": 1}),
        ("npu:910b:8", {"npu:910b": 8}),
        ("mlu:mlu370-x8:2,license:1", {"mlu:mlu370-x8": 2}),
    ],
)
def test_accelerators_by_type(text: str, gpus: dict[str, int]) -> None:
    assert parse_gpus(text) == gpus


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        # the example of slurm.conf(5): a kind that is no accelerator, with a count of its own notation
        ("gpu:tesla:1,gpu:kepler:1,bandwidth:lustre:no_consume:4G", {"tesla": 1, "kepler": 1}),
        # NVIDIA's names of MIG slices, as sites give them to Type=
        ("gpu:1g.10gb:7", {"1g.10gb": 7}),
    ],
)
def test_what_sites_really_write_does_not_take_a_site_out(text: str, gpus: dict[str, int]) -> None:
    assert parse_gpus(text) == gpus


def test_a_string_of_another_form_names_the_entry() -> None:
    with pytest.raises(QuantityError) as caught:
        parse_gpus("gpu:h100:4,gpu:h100:many")
    assert caught.value.part == "gpu:h100:many"


@pytest.mark.parametrize(
    ("chip", "kind", "typed", "asked"),
    [
        ("h100", "gpu", "h100", "gpu:h100:4"),
        ("gpu", "gpu", "gpu", "gpu:4"),
        ("dcu", "dcu", "dcu", "dcu:4"),
        ("dcu:K100_AI", "dcu", "k100_ai", "dcu:K100_AI:4"),
        ("1g.10gb", "gpu", "1g.10gb", "gpu:1g.10gb:4"),
    ],
)
def test_a_chip_is_asked_for_as_it_was_named(chip: str, kind: str, typed: str, asked: str) -> None:
    assert (chip_kind(chip), chip_type(chip), gres(chip, 4)) == (kind, typed, asked)
    assert parse_gpus(gres(chip, 4)) == {chip: 4}


@pytest.mark.parametrize(
    ("chip", "part"),
    [
        ("1g.10gb", True), ("nvidia_h100_80gb_hbm3_3g.39gb", True), ("a100-2g.20gb", True), ("1g.10gb+me", True),
        ("h100", False), ("nvidia_h100_80gb_hbm3", False), ("gpu", False), ("a100-sxm4-80gb", False),
    ],
)  # fmt: skip
def test_parts_of_chips_are_told_from_chips(chip: str, part: bool) -> None:
    assert is_slice(chip) is part
