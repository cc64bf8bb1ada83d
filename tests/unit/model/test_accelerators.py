"""What is asked of accelerators, and what it became, as people read and write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from westward.errors import InputError, QuantityError
from westward.model.accelerators import (
    PRECISIONS,
    AcceleratorRequest,
    ComputeDemand,
    Granted,
    format_flops,
    parse_chip_memory,
)
from westward.model.resources import Resources


@pytest.mark.parametrize(
    ("text", "chip", "count", "any_chip"),
    [
        ("h100:4", "h100", 4, False),
        ("H100:1", "h100", 1, False),
        ("any:2", "any", 2, True),
        (" a100:8 ", "a100", 8, False),
        ("1g.10gb:2", "1g.10gb", 2, False),
        ("910b:8", "910b", 8, False),
        ("dcu:4", "dcu", 4, False),
        ("dcu:K100_AI:4", "dcu:k100_ai", 4, False),
    ],
)
def test_accelerator_requests(text: str, chip: str, count: int, any_chip: bool) -> None:
    request = AcceleratorRequest.parse(text)
    assert (request.chip, request.count, request.any_chip) == (chip, count, any_chip)
    assert AcceleratorRequest.parse(str(request)) == request


@pytest.mark.parametrize(
    "text",
    ["", "h100", "4", "4:4", "h100:0", "h100:-1", "h100:four", ":4", "h100:4:2", "h100:4;id", "a:b:2", "größe:1"],
)
def test_a_bad_accelerator_request_shows_the_form(text: str) -> None:
    with pytest.raises(QuantityError, match="CHIP:COUNT") as caught:
        AcceleratorRequest.parse(text)
    assert caught.value.part == text


@pytest.mark.parametrize(
    ("text", "flops", "precision", "shown"),
    [
        ("2PFLOPS@bf16", 2 * 10**15, "bf16", "2PFLOPS@bf16"),
        ("0.5 pflops @ BF16", 5 * 10**14, "bf16", "500TFLOPS@bf16"),
        ("100TFLOP/s@f64", 10**14, "fp64", "100TFLOPS@fp64"),
        ("1EFLOPS@fp8", 10**18, "fp8", "1EFLOPS@fp8"),
        ("3.958PFLOPS@fp16", 3_958 * 10**12, "fp16", "3.958PFLOPS@fp16"),
        ("900GFLOPS@fp64_tensor", 9 * 10**11, "fp64_tensor", "900GFLOPS@fp64_tensor"),
        ("4POPS@int8", 4 * 10**15, "int8", "4POPS@int8"),
    ],
)
def test_demands_for_compute(text: str, flops: int, precision: str, shown: str) -> None:
    demand = ComputeDemand.parse(text)
    assert (demand.flops, demand.precision, str(demand)) == (flops, precision, shown)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("2PFLOPS", "2PFLOPS"), ("2@bf16", "2@bf16"), ("PFLOPS@bf16", "PFLOPS@bf16"), ("-1PFLOPS@bf16", "-1PFLOPS@bf16"),
        ("2PFLOPS@fp12", "fp12"), ("0PFLOPS@bf16", "0"), ("1e3TFLOPS@bf16", "1e3TFLOPS@bf16"), ("2MFLOPS@bf16", "2MFLOPS@bf16"),
    ],
)  # fmt: skip
def test_what_is_no_demand_for_compute_names_the_faulty_part(text: str, part: str) -> None:
    with pytest.raises(QuantityError) as caught:
        ComputeDemand.parse(text)
    assert (caught.value.part, caught.value.exit_code) == (part, 2)


@given(flops=some.integers(10**9, 10**20), precision=some.sampled_from(PRECISIONS))
def test_a_demand_prints_as_what_it_is_read_from(flops: int, precision: str) -> None:
    demand = ComputeDemand(flops // 10**9 * 10**9, precision)
    again = ComputeDemand.parse(str(demand))
    assert again.precision == precision
    assert again.flops == pytest.approx(demand.flops, rel=1e-14)


@given(flops=some.integers(1, 10**19), peak=some.integers(10**9, 10**16).map(float))
def test_so_many_chips_meet_a_demand_and_one_less_does_not(flops: int, peak: float) -> None:
    chips = ComputeDemand(flops, "bf16").chips(peak)
    assert chips * int(peak) >= flops > (chips - 1) * int(peak)


def test_four_chips_meet_four_times_their_peak() -> None:
    """No chip too many for a rounding error."""
    assert ComputeDemand.parse("3.958PFLOPS@bf16").chips(989.5e12) == 4


@pytest.mark.parametrize(
    ("value", "of", "shown"),
    [(989.5e12, "bf16", "989.5 TFLOPS"), (2.9685e15, "bf16", "2.969 PFLOPS"), (1.979e15, "int8", "1.979 POPS"), (5e8, "fp64", "0.5 GFLOPS")],
)  # fmt: skip
def test_operations_per_second_for_people(value: float, of: str, shown: str) -> None:
    assert format_flops(value, of) == shown


@pytest.mark.parametrize(
    ("text", "size"), [("80GB", 80 * 10**9), ("80 GiB", 80 * 2**30), ("0.5tb", 5 * 10**11), ("1.5GB", 1_500_000_000)]
)
def test_the_memory_of_a_chip_is_in_the_units_of_data_sheets(text: str, size: int) -> None:
    assert parse_chip_memory(text) == size


@pytest.mark.parametrize("text", ["", "80", "80G", "80MB", "0GB", "-1GB", "eighty"])
def test_a_memory_that_could_be_meant_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="80GB"):
        parse_chip_memory(text)


@pytest.mark.parametrize(
    ("granted", "text"),
    [
        (Granted("2PFLOPS@bf16", "h100", 3, 1, "bf16", 989.5e12), "2PFLOPS@bf16 = 3 x h100 (989.5 TFLOPS each, 2.969 PFLOPS) on 1 node"),
        (Granted("2PFLOPS@bf16", "npu:910b", 4, 2, "bf16", 280e12, True), "2PFLOPS@bf16 = 8 x npu:910b (280 TFLOPS each, estimated, 2.24 PFLOPS) on 2 nodes"),
        (Granted("any:4", "a100", 4, 2), "any:4 = 8 x a100 on 2 nodes"),
    ],
)  # fmt: skip
def test_what_a_request_became_in_a_sentence(granted: Granted, text: str) -> None:
    assert str(granted) == text


class TestResources:
    def test_compute_and_accelerators_are_one_too_many(self) -> None:
        with pytest.raises(InputError, match="twice"):
            Resources(compute=ComputeDemand(10**15, "bf16"), accelerators=AcceleratorRequest("h100", 1))

    def test_the_tasks_of_a_node_follow_its_accelerators(self) -> None:
        asked = Resources(
            compute=ComputeDemand(10**15, "bf16"), nodes_given=False, ntasks_per_accelerator=2, cpus_per_task=3
        )
        now = asked.granted("h100", 4, 5)
        assert (now.nodes, now.ntasks_per_node, now.ntasks, now.cpus_per_node, now.accelerator_count) == (
            5,
            8,
            40,
            24,
            20,
        )
        assert now.compute is None
        assert asked.at(Granted("1PFLOPS@bf16", "h100", 4, 5)) == now
        assert asked.at(None) is asked

    @pytest.mark.parametrize("key", ["accelerator_mem_bytes", "ntasks_per_accelerator"])
    def test_counts_from_one_up(self, key: str) -> None:
        with pytest.raises(InputError, match=key):
            Resources(accelerators=AcceleratorRequest("h100", 1), **{key: 0})  # type: ignore[arg-type]
