"""What a request for accelerators becomes where there are these nodes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from unit.federation.worlds import cluster, node, wants
from westward.catalogue.chips import load_accelerators
from westward.federation.predict import fits
from westward.model.accelerators import ComputeDemand, Granted
from westward.model.resources import Resources
from westward.model.site import Node
from westward.model.tres import chip_type

CHIPS = load_accelerators()


def nodes(*counts: int, chip: str = "h100", **more: Any) -> list[Node]:
    return [node(f"n{i}", accelerators={chip: count}, **more) for i, count in enumerate(counts)]


def demand(text: str, **more: Any) -> Resources:
    return wants(None, **{"compute": ComputeDemand.parse(text), "nodes_given": "nodes" in more, **more})


def became(resources: Resources, *there: Node, **partition: Any) -> list[str]:
    good, reasons = fits(resources, cluster(*there, **partition), CHIPS)
    assert not reasons
    return [str(fit.granted) for fit in good]


def refused(resources: Resources, *there: Node, **partition: Any) -> str:
    good, (reason,) = fits(resources, cluster(*there, **partition), CHIPS)
    assert not good
    return reason


class TestCompute:
    def test_the_least_number_of_chips_on_the_fewest_nodes(self) -> None:
        said = became(demand("2PFLOPS@bf16"), *nodes(4, 4))
        assert said == ["2PFLOPS@bf16 = 3 x h100 (989.5 TFLOPS each, 2.969 PFLOPS) on 1 node"]

    def test_what_one_node_does_not_hold_is_spread_evenly(self) -> None:
        (said,) = became(demand("4.5PFLOPS@bf16"), *nodes(4, 4, 4))
        assert "= 6 x h100 " in said, "five would do, but not the same number on each of two nodes"
        assert said.endswith("on 2 nodes")

    def test_each_chip_of_the_site_in_its_own_way(self) -> None:
        there = [*nodes(8, chip="a100"), *nodes(4), *nodes(8, chip="npu:910b"), *nodes(8, chip="MI300X")]
        assert became(demand("1PFLOPS@fp16"), *there) == [
            "1PFLOPS@fp16 = 1 x MI300X (1.3 PFLOPS each, 1.3 PFLOPS) on 1 node",
            "1PFLOPS@fp16 = 4 x a100 (312 TFLOPS each, 1.248 PFLOPS) on 1 node",
            "1PFLOPS@fp16 = 2 x h100 (989.5 TFLOPS each, 1.979 PFLOPS) on 1 node",
            "1PFLOPS@fp16 = 4 x npu:910b (280 TFLOPS each, estimated, 1.12 PFLOPS) on 1 node",
        ]

    def test_by_the_name_that_autodetect_gives(self) -> None:
        (said,) = became(demand("1EFLOPS@fp8"), *nodes(*[8] * 64, chip="nvidia_h100_80gb_hbm3"))
        assert "506" not in said
        assert "= 512 x nvidia_h100_80gb_hbm3 (1.979 PFLOPS each, 1.013 EFLOPS) on 64 nodes" in said

    def test_on_the_nodes_that_were_named(self) -> None:
        (said,) = became(demand("2PFLOPS@bf16", nodes=2), *nodes(4, 4))
        assert said.endswith("= 4 x h100 (989.5 TFLOPS each, 3.958 PFLOPS) on 2 nodes")

    def test_more_nodes_where_the_cpus_of_few_do_not_do(self) -> None:
        """One task an accelerator with 32 CPUs: two of them fill a node."""
        asked = demand("4PFLOPS@bf16", ntasks_per_accelerator=1, cpus_per_task=32)
        good, _ = fits(asked, cluster(*nodes(*[8] * 4)), CHIPS)
        assert [(fit.granted.per_node, fit.granted.nodes) for fit in good if fit.granted] == [(2, 3)]

    def test_nodes_of_several_sizes(self) -> None:
        good, _ = fits(demand("6PFLOPS@bf16"), cluster(*nodes(8, 2, 2, 2)), CHIPS)
        assert [(fit.granted.per_node, fit.granted.nodes) for fit in good if fit.granted] == [(7, 1)]
        good, _ = fits(demand("6PFLOPS@bf16"), cluster(*nodes(2, 2, 2, 2)), CHIPS)
        assert [(fit.granted.per_node, fit.granted.nodes) for fit in good if fit.granted] == [(2, 4)]

    def test_only_chips_with_the_memory_asked_for(self) -> None:
        asked = demand("1PFLOPS@fp16", accelerator_mem_bytes=64 * 10**9)
        there = [*nodes(8, chip="a100"), *nodes(8, chip="a100_80gb"), *nodes(8, chip="910b3"), *nodes(8)]
        good, _ = fits(asked, cluster(*there), CHIPS)
        assert [fit.chip for fit in good] == ["910b3", "a100_80gb", "h100"]

    @settings(deadline=None)
    @given(
        flops=some.integers(10**12, 10**17),
        chip=some.sampled_from(["h100", "a100", "910b", "mi210", "v100"]),
        counts=some.lists(some.integers(1, 16), min_size=1, max_size=40),
        most=some.one_of(some.none(), some.integers(1, 40)),
    )
    def test_it_is_met_and_would_not_be_with_a_chip_less_on_each_node(
        self, flops: int, chip: str, counts: list[int], most: int | None
    ) -> None:
        asked = Resources(compute=ComputeDemand(flops, "fp16"), nodes_given=False)
        good, reasons = fits(asked, cluster(*nodes(*counts, chip=chip), max_nodes=most), CHIPS)
        peak = CHIPS[chip].peak_flops["fp16"]
        largest = sorted(counts, reverse=True)[:most]
        held = [number for number in range(1, len(largest) + 1) if largest[number - 1] * number * peak >= flops]
        assert bool(good) == bool(held), "exactly where some number of nodes holds as many"
        assert bool(reasons) != bool(good)
        for fit in good:
            assert fit.granted is not None
            assert fit.granted.count * peak >= flops > (fit.granted.per_node - 1) * fit.granted.nodes * peak
            assert fit.granted.nodes == held[0], "and on the fewest"

    @pytest.mark.parametrize(
        ("asked", "there", "reason"),
        [
            (demand("2PFLOPS@bf16"), nodes(4, chip="k80"), "gpu: no chip here has a known bf16 peak; it has k80 (unknown)"),
            (demand("2PFLOPS@bf16"), nodes(4, chip="v100"), "gpu: no chip here has a known bf16 peak; it has v100 (unknown)"),
            (demand("2PFLOPS@bf16"), nodes(8, chip="dcu:k100_ai"), "gpu: no chip here has a known bf16 peak; it has dcu:k100_ai (unknown)"),
            (demand("2PFLOPS@bf16"), nodes(7, chip="1g.10gb"), "gpu: no chip here has a known bf16 peak; it has 1g.10gb (a part of a chip)"),
            (
                demand("2PFLOPS@bf16", accelerator_mem_bytes=10**11), [*nodes(4), *nodes(4, chip="k80")],
                "gpu: no chip here has a known bf16 peak and 100 GB or more; it has h100 (80 GB), k80 (unknown)",
            ),
            (demand("2PFLOPS@bf16"), nodes(4, chip="a100"), "gpu: 2PFLOPS@bf16 takes 7 x a100 (312 TFLOPS each), 4 are on 1 node"),
            (
                demand("10PFLOPS@bf16", nodes=2), nodes(4, 4, 4),
                "gpu: 10PFLOPS@bf16 takes 11 x h100 (989.5 TFLOPS each), 8 are on the 2 largest nodes asked for",
            ),
            (demand("2PFLOPS@bf16"), nodes(0), "gpu: has no accelerators a node, 2PFLOPS@bf16 was asked for"),
            (demand("2PFLOPS@bf16", cpus_per_task=65), nodes(4), "gpu: has at most 64 CPUs a node, 65 were asked for"),
        ],
    )  # fmt: skip
    def test_why_it_cannot_be_met(self, asked: Resources, there: list[Node], reason: str) -> None:
        there = [each if any(each.accelerators.values()) else node(accelerators={}) for each in there]
        assert refused(asked, *there) == reason

    def test_the_limit_of_a_partition_counts(self) -> None:
        reason = refused(demand("10PFLOPS@bf16"), *nodes(4, 4, 4), max_nodes=2)
        assert reason.endswith("8 are on the 2 largest nodes")


class TestNamedAndAny:
    def test_any_is_an_offer_for_each_chip(self) -> None:
        there = [*nodes(4), *nodes(8, chip="a100"), *nodes(4, chip="dcu")]
        assert became(wants("any:4"), *there) == [
            "any:4 = 4 x a100 on 1 node", "any:4 = 4 x dcu on 1 node", "any:4 = 4 x h100 on 1 node",
        ]  # fmt: skip

    def test_parts_of_chips_are_given_to_whom_names_them(self) -> None:
        there = nodes(7, chip="1g.10gb")
        assert became(wants("1g.10gb:2"), *there) == ["1g.10gb:2 = 2 x 1g.10gb on 1 node"]
        assert refused(wants("any:2"), *there) == "gpu: no whole chip here; it has 1g.10gb (a part of a chip)"

    @pytest.mark.parametrize(
        ("asked", "chip", "given"),
        [
            ("h100:4", "nvidia_h100_80gb_hbm3", True), ("nvidia_h100_80gb_hbm3:4", "H100", True), ("k100_ai:4", "dcu:K100_AI", True),
            ("dcu:k100_ai:4", "dcu:k100_ai", True), ("dcu:4", "dcu:k100_ai", True), ("dcu:4", "dcu", True), ("gpu:4", "h100", True),
            ("gpu:4", "gpu", True), ("dcu:4", "h100", False), ("gpu:4", "dcu", False), ("h100:4", "h200", False), ("a100:4", "gpu", False),
            ("gpu:4", "1g.10gb", False),
        ],
    )  # fmt: skip
    def test_a_chip_by_any_of_its_names(self, asked: str, chip: str, given: bool) -> None:
        good, _ = fits(wants(asked), cluster(*nodes(4, chip=chip)), CHIPS)
        maker = CHIPS[chip_type(chip)].vendor if chip_type(chip) in CHIPS else None
        assert [fit.granted for fit in good] == ([Granted(asked, chip, 4, 1, vendor=maker)] if given else [])

    def test_with_the_least_memory_asked_for(self) -> None:
        there = [*nodes(4), *nodes(4, chip="a100"), *nodes(4, chip="x9000")]
        asked = wants("any:4", accelerator_mem_bytes=80 * 10**9)
        assert became(asked, *there) == ["any:4 = 4 x h100 on 1 node"]
        assert refused(asked, *there[1:]) == (
            "gpu: no chip here has 80 GB or more; it has a100 (40 GB), x9000 (memory unknown)"
        )

    def test_tasks_follow_the_accelerators_and_need_their_cpus(self) -> None:
        asked = wants("any:4", ntasks_per_accelerator=1, cpus_per_task=17)
        assert refused(asked, *nodes(4)) == "gpu: has at most 64 CPUs a node, 68 were asked for"
