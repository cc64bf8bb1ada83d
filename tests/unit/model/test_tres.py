"""GRES strings as nodes report them."""

from __future__ import annotations

import pytest

from westward.errors import QuantityError
from westward.model.tres import parse_gpus


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
