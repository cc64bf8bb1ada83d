"""What a job occupies, from a template and what its user names: of two ways to say one thing, the user's own."""

from __future__ import annotations

import pytest

from westward.errors import InputError
from westward.jobs.template import common_keys, compose_job
from westward.model.resources import Resources


def occupied(template: str, *overrides: str) -> Resources:
    return compose_job(template, overrides).spec.resources


def test_the_keys_are_common_to_all_templates() -> None:
    assert {"compute", "accelerator_mem", "ntasks_per_accelerator"} <= set(common_keys())


def test_compute_takes_the_place_of_a_template_s_accelerators_and_nodes() -> None:
    """The template asks for any:4 on two nodes."""
    asked = occupied("allreduce", "compute=2PFLOPS@bf16")
    assert (str(asked.compute), asked.accelerators, asked.nodes_given) == ("2PFLOPS@bf16", None, False)


def test_nodes_that_are_named_hold() -> None:
    asked = occupied("allreduce", "compute=2PFLOPS@bf16", "nodes=4")
    assert (asked.nodes, asked.nodes_given) == (4, True)


def test_without_it_nothing_has_changed() -> None:
    asked = occupied("allreduce")
    assert (str(asked.accelerators), asked.nodes, asked.nodes_given, asked.compute) == ("any:4", 2, True, None)


def test_nothing_takes_the_place_of_nothing() -> None:
    assert str(occupied("allreduce", "compute=null").accelerators) == "any:4"
    asked = occupied("allreduce", "accelerators=null", "compute=1PFLOPS@fp16")
    assert (str(asked.compute), asked.accelerators) == ("1PFLOPS@fp16", None)


@pytest.mark.parametrize("order", [1, -1])
def test_both_ways_at_once_are_refused_with_what_to_do(order: int) -> None:
    named = ["compute=2PFLOPS@bf16", "accelerators=h100:4"][::order]
    with pytest.raises(
        InputError, match=r"compute=2PFLOPS@bf16 and accelerators=h100:4 contradict each other"
    ) as caught:
        compose_job("gemm", named)
    assert caught.value.exit_code == 2
    assert caught.value.next_step.startswith("keep one of them")


def test_tasks_by_accelerator_or_by_node_but_not_both() -> None:
    asked = occupied("allreduce", "ntasks_per_accelerator=1")
    assert asked.granted("h100", 4, 2).ntasks == 8
    with pytest.raises(InputError, match="contradict") as caught:
        compose_job("allreduce", ["ntasks_per_accelerator=1", "ntasks_per_node=4"])
    assert "keep one of them" in caught.value.next_step


@pytest.mark.parametrize("override", ["accelerator_mem=80GB", "ntasks_per_accelerator=1"])
def test_what_speaks_of_accelerators_needs_some(override: str) -> None:
    with pytest.raises(InputError, match="none are asked for") as caught:
        compose_job("gemm", [override])
    assert "accelerators=any:1" in caught.value.next_step


def test_the_memory_of_a_chip() -> None:
    assert occupied("gemm", "accelerators=any:1", "accelerator_mem=80GB").accelerator_mem_bytes == 80 * 10**9


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("compute=2PFLOPS", "for example 2PFLOPS@bf16"),
        ("compute=2", "for example 2PFLOPS@bf16"),
        ("compute=2PFLOPS@bf17", "there is no precision 'bf17'; known: fp64"),
        ("accelerator_mem=80", "for example 80GB"),
        ("ntasks_per_accelerator=0", "must be at least 1"),
        ("ntasks_per_accelerator=one", "an integer was expected"),
    ],
)
def test_what_cannot_be_meant_says_how_it_is_written(override: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        compose_job("allreduce", [override])
    assert caught.value.exit_code == 2
