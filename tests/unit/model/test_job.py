"""Names, keys, resources and states of jobs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from westward.errors import InputError, QuantityError
from westward.model.job import AcceleratorRequest, JobState, Resources, new_key, slurm_name

KEY = "a2b3c4d5e6f7"
SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}~[a-z2-7]{12}")


def test_keys_differ_and_are_base32() -> None:
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch("[a-z2-7]{12}", key) for key in keys)


@pytest.mark.parametrize(
    ("name", "reduced"),
    [
        ("allreduce", "allreduce"),
        ("my job", "my_job"),
        ("a'b\"c`d", "a_b_c_d"),
        ("two\nlines", "two_lines"),
        ("$(touch /tmp/x); rm -rf /", "touch_tmp_x_rm_-rf"),
        ("训练", "job"),
        ("größe", "gr_e"),
        ("", "job"),
        ("~~~", "job"),
        ("x" * 300, "x" * 64),
    ],
)
def test_a_hostile_name_is_reduced(name: str, reduced: str) -> None:
    assert slurm_name(name, KEY) == f"{reduced}~{KEY}"


@settings(deadline=None)
@given(some.text(max_size=400))
def test_every_name_is_harmless_and_keeps_its_key(name: str) -> None:
    made = slurm_name(name, KEY)
    assert SAFE.fullmatch(made)
    assert made.endswith(f"~{KEY}")


@pytest.mark.parametrize("field", ["nodes", "ntasks_per_node", "cpus_per_task", "walltime_s"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_count_below_one_is_refused_by_name(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{field}={value}"):
        Resources(**{field: value})


def test_no_memory_at_all_is_refused() -> None:
    """sbatch reads --mem=0 as all memory of a node; nobody who writes 0 here means "whatever the site gives"."""
    with pytest.raises(InputError, match="mem"):
        Resources(mem_bytes=0)


def test_totals_over_all_nodes() -> None:
    resources = Resources(nodes=3, ntasks_per_node=4, cpus_per_task=2, accelerators=AcceleratorRequest("h100", 2))
    assert (resources.ntasks, resources.cpus_per_node, resources.accelerator_count) == (12, 8, 6)
    assert Resources(nodes=3).accelerator_count == 0


@pytest.mark.parametrize(
    ("text", "chip", "count", "any_chip"),
    [
        ("h100:4", "h100", 4, False),
        ("H100:1", "h100", 1, False),
        ("any:2", "any", 2, True),
        (" a100:8 ", "a100", 8, False),
    ],
)
def test_accelerator_requests(text: str, chip: str, count: int, any_chip: bool) -> None:
    request = AcceleratorRequest.parse(text)
    assert (request.chip, request.count, request.any_chip) == (chip, count, any_chip)
    assert AcceleratorRequest.parse(str(request)) == request


@pytest.mark.parametrize("text", ["", "h100", "4", "h100:0", "h100:-1", "h100:four", ":4", "h100:4:2", "h100:4;id"])
def test_a_bad_accelerator_request_shows_the_form(text: str) -> None:
    with pytest.raises(QuantityError, match="CHIP:COUNT") as caught:
        AcceleratorRequest.parse(text)
    assert caught.value.part == text


# slurm.h's job states, as squeue, sacct and slurmrestd spell them
BASE_STATES = [
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED",
    "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY",
]  # fmt: skip
GOING_ON = ["PENDING", "RUNNING", "SUSPENDED", "UNKNOWN"]


@pytest.mark.parametrize("text", BASE_STATES)
def test_base_states_keep_their_name(text: str) -> None:
    assert JobState.parse(text) == text
    assert JobState.parse(text.lower()) == text


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CONFIGURING", JobState.RUNNING),
        ("COMPLETING", JobState.RUNNING),
        ("STAGE_OUT", JobState.RUNNING),
        ("SIGNALING", JobState.RUNNING),
        ("RESIZING", JobState.RUNNING),
        ("STOPPED", JobState.SUSPENDED),
        ("REQUEUED", JobState.PENDING),
        ("REQUEUE_FED", JobState.PENDING),
        ("REQUEUE_HOLD", JobState.PENDING),
        ("SPECIAL_EXIT", JobState.PENDING),
        ("RESV_DEL_HOLD", JobState.PENDING),
        ("REVOKED", JobState.REVOKED),
        ("LAUNCH_FAILED", JobState.LAUNCH_FAILED),
        ("CANCELLED by 1000", JobState.CANCELLED),
    ],
)
def test_flags_and_details_mean_a_base_state(text: str, state: JobState) -> None:
    assert JobState.parse(text) is state


@settings(deadline=None)
@given(some.text().filter(lambda text: text.strip().upper() not in set(JobState)))
def test_no_word_stops_a_poll(text: str) -> None:
    assert isinstance(JobState.parse(text), JobState)


@pytest.mark.parametrize("text", ["", "  ", "BRAND_NEW_STATE", "42"])
def test_what_is_not_known_is_unknown_and_not_final(text: str) -> None:
    assert JobState.parse(text) is JobState.UNKNOWN
    assert not JobState.parse(text).final


@pytest.mark.parametrize("state", list(JobState))
def test_only_an_end_is_final(state: JobState) -> None:
    assert state.final == (state not in GOING_ON)
