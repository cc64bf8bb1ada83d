"""sbatch's options as fields of a REST job."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from westward.model.job import Submission
from westward.slurm import restdata
from westward.slurm.options import TABLE, number, option_fields, refused_option

SPEAKER = "slurmrestd v0.0.42"


@pytest.mark.parametrize(
    ("option", "value", "fields"),
    [
        ("comment", "two words", {"comment": "two words"}),
        ("constraint", "[fast|big]", {"constraints": "[fast|big]"}),
        ("contiguous", None, {"contiguous": True}),
        ("exclude", "n1,n[3,5-6]", {"excluded_nodes": ["n1", "n[3,5-6]"]}),
        ("exclusive", None, {"shared": ["none"]}),
        ("exclusive", "user", {"shared": ["user"]}),
        ("oversubscribe", None, {"shared": ["oversubscribe"]}),
        ("gpus", "a100:2", {"tres_per_job": "gres/gpu:a100:2"}),
        ("gpus-per-task", "a100:2", {"tres_per_task": "gres/gpu:a100=2", "tres_bind": "gres/gpu:per_task:2"}),
        ("mem-per-cpu", "2G", {"memory_per_cpu": number(2048)}),
        ("mem-per-gpu", "300", {"memory_per_tres": "gres/gpu:300"}),
        ("tmp", "1025K", {"temporary_disk_per_node": 2}),
        ("nice", None, {"nice": 100}),
        ("nice", "-5", {"nice": -5}),
        ("open-mode", "append", {"open_mode": ["APPEND"]}),
        ("kill-on-invalid-dep", "yes", {"flags": ["KILL_INVALID_DEPENDENCY"]}),
        ("mail-type", "END,time_limit_80", {"mail_type": ["END", "TIME=80%"]}),
        ("mail-type", "NONE", {"mail_type": []}),
        ("signal", "B:USR1@90", {"kill_warning_signal": "USR1", "kill_warning_delay": number(90), "kill_warning_flags": ["BATCH_JOB"]}),
        ("signal", "TERM", {"kill_warning_signal": "TERM", "kill_warning_delay": number(60)}),
        ("switches", "1@5:00", {"required_switches": number(1), "wait_for_switch": 300}),
        ("time-min", "1:30", {"time_minimum": number(2)}),
        ("time", "1:30", {"time_limit": number(2)}),
        ("time", "infinite", {"time_limit": {"set": True, "infinite": True, "number": 0}}),
        ("nodes", "2-4", {"nodes": "2-4"}),
        ("mem", "2G", {"memory_per_node": number(2048)}),
        ("gres", "gpu:a100:2,shard:1", {"tres_per_node": "gres/gpu:a100:2,gres/shard:1"}),
        ("no-requeue", None, {"requeue": False}),
        ("begin", "uts1800000000", {"begin_time": number(1800000000)}),
        ("export", "ALL,X=1", {}),
    ],
)  # fmt: skip
def test_an_option_becomes_its_field(option: str, value: str | None, fields: dict[str, object]) -> None:
    assert refused_option({option: value}, SPEAKER) == ""
    assert option_fields({option: value}) == fields


def test_options_that_share_a_field_add_up() -> None:
    options = {"kill-on-invalid-dep": "no", "spread-job": None, "gres-flags": "enforce-binding"}
    assert option_fields(options)["flags"] == ["NO_KILL_INVALID_DEPENDENCY", "SPREAD_JOB", "GRES_BINDING_ENFORCED"]


@pytest.mark.parametrize("option", ["x11", "deadline", "hint", "get-user-env", "no-such-option", "priority"])
def test_an_option_without_a_field_is_named(option: str) -> None:
    assert (
        refused_option({"comment": "x", option: "1"}, SPEAKER)
        == f"sbatch option --{option} has no field in slurmrestd v0.0.42"
    )


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("constraint", None, "a value is needed"),
        ("contiguous", "yes", "takes no value"),
        ("nice", "a lot", "whole number"),
        ("gpus", "two", r"\[TYPE:\]COUNT"),
        ("mem-per-cpu", "much", "not a memory size"),
        ("exclusive", "topo", "one of user, mcs"),
        ("mail-type", "END,LUNCH", "LUNCH"),
        ("signal", "R:USR1@60", "SIGNAL"),
        ("time-min", "soon", "not a time limit"),
    ],
)
def test_a_value_that_cannot_be_passed_on_says_so(option: str, value: str | None, why: str) -> None:
    said = refused_option({option: value}, SPEAKER)
    assert said.startswith(f"sbatch option --{option}")
    assert re.search(why, said)


def test_names_are_those_of_sbatch() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in TABLE)


def test_options_stand_in_the_request_and_override_what_they_speak_of(submission: Submission) -> None:
    fields = restdata.job_fields(replace(submission, options={"ntasks": "7", "error": "/shared/me/e.%j"}))
    assert (fields["tasks"], fields["standard_error"], fields["nodes"]) == (7, "/shared/me/e.%j", "2")
