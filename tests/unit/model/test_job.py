"""Names, keys, resources and states of jobs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from westward.errors import InputError, QuantityError
from westward.model.accelerators import AcceleratorRequest
from westward.model.job import After, Array, Dependency, JobState, array_state, by_state, new_key, slurm_name
from westward.model.resources import Resources

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


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["PENDING"], JobState.PENDING),
        (["PENDING", "REVOKED"], JobState.REVOKED),
        (["COMPLETED", "COMPLETING"], JobState.RUNNING),
        (["RUNNING", "STOPPED"], JobState.SUSPENDED),
        (["FAILED", "REQUEUED"], JobState.PENDING),
        (["CANCELLED", "UPDATE_DB"], JobState.CANCELLED),
        (["BRAND_NEW"], JobState.UNKNOWN),
        (["BRAND_NEW", "COMPLETING"], JobState.RUNNING),
        ([], JobState.UNKNOWN),
    ],
)
def test_of_a_state_and_its_flags_what_the_commands_show_counts(words: list[str], state: JobState) -> None:
    assert JobState.of(words) is state


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


class TestArray:
    @pytest.mark.parametrize(
        ("text", "tasks", "at_once"),
        [
            ("0", 1, None),
            ("0-9", 10, None),
            ("1,3,7", 3, None),
            ("0-99:10%4", 10, 4),
            ("0-9:4", 3, None),
            ("1,3,5-9:2,100-102%1000", 8, 1000),
            ("5-5", 1, None),
            ("1,1,0-1", 2, None),
            ("0-4,2-6", 7, None),
            (" 0-3 ", 4, None),
            ("4000000", 1, None),
        ],
    )
    def test_what_sbatch_takes(self, text: str, tasks: int, at_once: int | None) -> None:
        array = Array.parse(text)
        assert (array.tasks, array.at_once) == (tasks, at_once)
        assert str(array) == text.strip()

    @pytest.mark.parametrize(
        "text",
        ["", "-1", "0-", "a", "0-9%", "0-9%0", "0-9%00", "0..9", "0-9:", "0,,1", ",1", "1,", "0-9%2%3", "0 -9", "[0-9]", "12345678", "٣", "0-9;id", "0-9 --uid=0"],
    )  # fmt: skip
    def test_what_it_does_not_names_the_part_and_the_form(self, text: str) -> None:
        with pytest.raises(QuantityError, match="0-99:10%4") as caught:
            Array.parse(text)
        assert caught.value.part == text

    @pytest.mark.parametrize(
        ("text", "part"), [("9-0", "9-0"), ("1,5-2:1,7", "5-2:1"), ("0-9:0", "0-9:0"), ("0-9:00", "0-9:00")]
    )
    def test_a_range_without_tasks_is_named(self, text: str, part: str) -> None:
        with pytest.raises(QuantityError, match="names no array tasks") as caught:
            Array.parse(text)
        assert caught.value.part == part

    @settings(deadline=None)
    @given(
        some.lists(
            some.tuples(some.integers(0, 500), some.none() | some.integers(0, 50), some.integers(1, 9)),
            min_size=1,
            max_size=6,
        ),
        some.none() | some.integers(1, 9999),
    )
    def test_what_is_printed_reads_back_with_the_same_tasks(
        self, parts: list[tuple[int, int | None, int]], at_once: int | None
    ) -> None:
        written = [f"{first}" if more is None else f"{first}-{first + more}:{step}" for first, more, step in parts]
        meant = {i for first, more, step in parts for i in range(first, first + (more or 0) + 1, step)}
        array = Array.parse(",".join(written) + (f"%{at_once}" if at_once else ""))
        assert array.tasks == len(meant)
        assert Array.parse(str(array)) == array

    @settings(deadline=None)
    @given(some.text(alphabet="0123456789-,:%٣ a\n", max_size=12))
    def test_no_text_gets_through_that_sbatch_would_split(self, text: str) -> None:
        try:
            array = Array.parse(text)
        except QuantityError:
            return
        assert re.fullmatch(r"[0-9,:%-]+", str(array))


class TestDependency:
    @pytest.mark.parametrize("kind", list(After))
    def test_each_kind_reads_back(self, kind: After) -> None:
        dependency = Dependency.parse(f"{kind}:{KEY}")
        assert dependency == Dependency(kind, KEY)
        assert Dependency.parse(str(dependency)) == dependency

    def test_a_key_alone_means_afterok(self) -> None:
        assert Dependency.parse(KEY) == Dependency(After.OK, KEY)

    @pytest.mark.parametrize(
        "text", ["", "afterok", "afterok:", "afterok:42", f"later:{KEY}", f"afterok:{KEY}:{KEY}", f"afterok:{KEY.upper()}", f"AFTEROK:{KEY}", f"afterok:{KEY}+5", f"afterok:{KEY}\n"]
    )  # fmt: skip
    def test_anything_else_names_the_form(self, text: str) -> None:
        with pytest.raises(QuantityError, match="afterok:KEY") as caught:
            Dependency.parse(text)
        assert caught.value.part == text


class TestArrayState:
    @pytest.mark.parametrize(
        ("tasks", "state"),
        [
            ({}, JobState.UNKNOWN),
            ({JobState.COMPLETED: 0}, JobState.UNKNOWN),
            ({JobState.COMPLETED: 9}, JobState.COMPLETED),
            ({JobState.COMPLETED: 9, JobState.PENDING: 1}, JobState.PENDING),
            ({JobState.COMPLETED: 9, JobState.PENDING: 1, JobState.RUNNING: 1}, JobState.RUNNING),
            ({JobState.FAILED: 1, JobState.RUNNING: 1}, JobState.RUNNING),
            ({JobState.SUSPENDED: 1, JobState.PENDING: 1}, JobState.SUSPENDED),
            ({JobState.COMPLETED: 9, JobState.FAILED: 1}, JobState.FAILED),
            ({JobState.CANCELLED: 5, JobState.FAILED: 1}, JobState.FAILED),
            ({JobState.CANCELLED: 5, JobState.COMPLETED: 1}, JobState.CANCELLED),
            ({JobState.COMPLETED: 5, JobState.UNKNOWN: 1}, JobState.UNKNOWN),
        ],
    )
    def test_the_whole_from_its_tasks(self, tasks: dict[JobState, int], state: JobState) -> None:
        assert array_state(tasks) is state

    @given(some.dictionaries(some.sampled_from(JobState), some.integers(1, 5), min_size=1))
    def test_it_is_final_only_when_all_are_and_completed_only_when_all_did(self, tasks: dict[JobState, int]) -> None:
        state = array_state(tasks)
        assert state in tasks
        assert (state is JobState.COMPLETED) == (tasks.keys() == {JobState.COMPLETED})
        assert state.final == all(each.final for each in tasks)


class TestTasksByState:
    def test_they_are_said_as_an_array_takes_them(self) -> None:
        states = {**dict.fromkeys((0, 1, 2, 7), JobState.COMPLETED), 3: JobState.FAILED, 5: JobState.COMPLETED}
        assert by_state(states) == {JobState.COMPLETED: "0-2,5,7", JobState.FAILED: "3"}
        assert by_state({}) == {}

    @given(some.sets(some.integers(0, 5000), min_size=1))
    def test_what_is_said_is_what_was_meant(self, ids: set[int]) -> None:
        assert set(Array.parse(str(Array.of(ids))).task_ids) == ids
