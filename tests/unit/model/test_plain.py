"""What is kept as plain values comes back as it was."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime

import pytest

from westward.jobs.template import compose_job, templates
from westward.model.accelerators import AcceleratorRequest, ComputeDemand
from westward.model.batchscript import BatchScript
from westward.model.budget import Caps
from westward.model.checkpoint import Checkpoint
from westward.model.container import Container, Runtime
from westward.model.job import After, Array, Dependency, JobSpec, Launcher, Task
from westward.model.plain import built, plain
from westward.model.resources import Resources

FULL = JobSpec(
    name="it's\n训练",
    command=("a", "", "b c"),
    resources=Resources(nodes=2, accelerators=AcceleratorRequest("h100", 4), mem_bytes=5, ntasks_per_accelerator=1),
    launcher=Launcher.NONE,
    setup=("x",),
    env={"A": "b"},
    outputs=("r.json",),
    account="research",
    qos="short",
    template="gemm",
    array=Array("0-9", 2),
    depends_on=(Dependency(After.ANY, "a" * 12),),
    begin_at=datetime(2026, 1, 1, tzinfo=UTC),
    requeue=True,
    idempotent=True,
    options={"exclusive": None, "nice": "3"},
    tasks=(Task(("x",), {"B": "c"}), Task(("y",))),
    container=Container("image.sif", Runtime.APPTAINER, ("/a:/b:ro",), ("--nv",)),
    modules=("gcc",),
    inputs=("data/a b",),
    max_rtt_ms=12.5,
    budget=Caps(money=3.5, currency="CNY", allow_unknown=True),
    project="p",
    checkpoint=Checkpoint(before_s=60, restarts=1),
    config={"size": 1, "list": ["a", None]},
)
DEMAND = JobSpec("job", ("true",), Resources(compute=ComputeDemand.parse("2PFLOPS@bf16"), nodes_given=False))


@pytest.mark.parametrize("spec", [FULL, DEMAND, JobSpec("job", ("true",))])
def test_a_job_comes_back_through_json(spec: JobSpec) -> None:
    assert built(JobSpec, json.loads(json.dumps(plain(spec)))) == spec


@pytest.mark.parametrize("name", [template.name for template in templates()])
def test_every_template_does(name: str) -> None:
    composed = compose_job(name, ["command=[true]"] if name == "command" else [])
    for value in (composed.spec, composed.policy):
        assert built(type(value), json.loads(json.dumps(plain(value)))) == value


def test_every_field_of_a_job_is_tried_here() -> None:
    """So that a new one is thought of."""
    tried = {item.name for item in fields(JobSpec) if getattr(FULL, item.name) != getattr(JobSpec("", ()), item.name)}
    assert {item.name for item in fields(JobSpec)} - tried == {"script"}
    assert BatchScript is not None


def test_what_is_not_known_is_left_out_and_what_is_missing_has_its_default() -> None:
    assert built(JobSpec, {"name": "a", "command": ["b"], "of_a_later_version": 1}) == JobSpec("a", ("b",))
