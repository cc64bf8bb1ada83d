"""A plan beside the last submission of its template."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unit.jobs.world import KNOWN, World, a_job, decision, submit
from westward.cli.plan import difference_facts, difference_lines
from westward.jobs.difference import Difference, difference
from westward.slurm.script import render

KEY = "k" * 12


def planned(world: World, where: str = "west", **more: Any) -> Difference:
    before = world.ledger.last_of("gemm")
    assert before is not None
    offer = decision(where).chosen
    assert offer is not None
    now = render(a_job(template="gemm", **more), offer, KNOWN.sites[where], KEY)
    return difference(before, now, offer, KEY)


def test_the_same_job_again_has_changed_in_nothing_not_even_its_key(world: World) -> None:
    submit(world, template="gemm")
    told = planned(world)
    assert (told.changes, told.script) == ({}, ())
    assert [line.strip() for line in difference_lines(told)[1:]] == ["nothing has changed", "the script is the same"]


def test_what_has_changed_is_named_with_what_it_was(world: World) -> None:
    submit(world, template="gemm", env={"A": "1"})
    resources = replace(a_job().resources, mem_bytes=2 * 1024**3, walltime_s=7200)
    told = planned(world, "east", env={"A": "2"}, resources=resources)
    assert told.changes["site"] == ("west", "east")
    assert told.changes["mem_per_node_mib"] == ("-", "2048")
    assert told.changes["walltime"] == ("01:00:00", "02:00:00")
    assert "-#SBATCH --time=01:00:00" in told.script and "+#SBATCH --mem=2048M" in told.script
    assert "-export A=1" in told.script and "+export A=2" in told.script
    assert not any(told.against.key in line for line in told.script[2:])
    lines = difference_lines(told)
    assert lines[0].startswith(f"against job {told.against.key} of ")
    assert "  site" in lines[1] and lines[1].endswith("west -> east")
    facts = difference_facts(told)
    assert facts is not None and facts["changes"]["walltime"] == {"before": "01:00:00", "now": "02:00:00"}


def test_the_last_one_that_was_submitted_counts(world: World) -> None:
    assert world.ledger.last_of("gemm") is None
    submit(world, template="gemm")
    second = submit(world, template="gemm")
    submit(world, template="other")
    refused = world.ledger.add([replace(world.jobs()._intent(a_job(template="gemm"), decision()))])[0]
    world.ledger.refused({refused.key: "no"})
    last = world.ledger.last_of("gemm")
    assert last is not None and last.key == second.key
