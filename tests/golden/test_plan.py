"""What `westward plan` says below its offers, whole. WESTWARD_UPDATE_GOLDEN=1 pytest tests/golden/test_plan.py writes it anew."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from golden.kept import as_kept
from unit.federation.test_foresight import LIMITS, Door, planned
from unit.federation.worlds import NOW, catalogue, cluster, job, site, snapshot
from westward.cli.limits import jobs_limits_line, jobs_limits_notes, jobs_limits_table, limits_table
from westward.cli.plan import foresight_lines
from westward.errors import Unreachable
from westward.federation.checking import Checked, check_all
from westward.federation.foresight import Start
from westward.federation.router import chosen_offer, route
from westward.model.decision import TERMS, Policy
from westward.model.job import Array
from westward.model.limits import Cap, Finding, Qos, Rules, Trial, Verdict
from westward.slurm.client import NotOffered

HERE = Path(__file__).parent / "data"
MANY = replace(
    LIMITS,
    partitions={"gpu": Rules("gpu", "UP", max_walltime_s=86400, allow_groups=("staff",))},
    qos={"normal": Qos("normal", (Cap("MaxSubmitJobsPerUser", 2, "", 2), Cap("MaxJobsPerUser", 1, "", 1), Cap("MaxTRESPerJob", 2, "gres/gpu"),
         Cap("GrpTRES", 512 * 1024, "mem"), Cap("GrpTRESMins", 10**6, "cpu", 10**6 - 1.0)))},
    notes=("a note of the door's",),
)  # fmt: skip
CASES = {
    "plan-within": (Door(), None),
    "plan-array": (Door(), replace(job(), array=Array.parse("0-9"))),
    "plan-limits": (Door(MANY, NotOffered("no")), None),
    "plan-silent": (Door(Unreachable("site 'west': nobody answers"), Trial(refusal="Invalid qos specification")), None),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_plan_says(name: str) -> None:
    door, spec = CASES[name]
    told = planned(door, spec=spec, earlier=[(0.0, 30.0 + late) for late in range(5 if spec is None else 0)])
    told = replace(told, start=replace(told.start, tested=None if told.start.tested is None else 90.0))
    assert isinstance(told.start, Start)
    policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
    state = snapshot({"west": cluster(), "east": cluster()})
    decision = route(spec or job(), policy, "ningxia", catalogue(site("west"), site("east")), state, NOW, "west")
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=False, color_system=None)
    for line in foresight_lines(told, decision):
        console.print(line, soft_wrap=True, markup=False)
    if name == "plan-limits":
        console.print(limits_table(told.limits))
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    assert as_kept(text, HERE / f"{name}.txt")


def test_what_a_plan_says_of_the_jobs_of_a_sweep() -> None:
    """Five arrays of four at the west, where six jobs may be there at once, and one job at a site that is silent."""
    policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
    state, known = snapshot({"west": cluster(), "east": cluster()}), catalogue(site("west"), site("east"))
    four = replace(job(), array=Array.parse("0-3"))
    few = replace(MANY, qos={"normal": Qos("normal", (Cap("MaxSubmitJobsPerUser", 9, "", 1), Cap("MaxWall", 90)))})
    wanted = [
        (spec, chosen_offer(route(spec, policy, "ningxia", known, state, NOW, name)))
        for spec, name in [
            *((replace(four, resources=replace(four.resources, walltime_s=60 * minutes)), "west") for minutes in (60, 120, 61, 62, 63)),
            (job(), "east"),
        ]
    ]  # fmt: skip
    checks = check_all(wanted, known.sites, {"west": few, "east": Unreachable("site 'east': nobody answers")})
    out = io.StringIO()
    console = Console(file=out, width=140, force_terminal=False, color_system=None)
    console.print(jobs_limits_line(checks), soft_wrap=True)
    console.print(jobs_limits_table(checks))
    for note in jobs_limits_notes(checks):
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
    assert as_kept(text, HERE / "plan-sweep.txt")


def test_a_sweep_within_its_limits_is_one_line() -> None:
    within = Checked("west", "gpu", (Finding(Verdict.OK, "partition gpu: State", "UP", "UP"),))
    assert jobs_limits_line([within]) == "limits: the job is within all that are set"
    assert jobs_limits_line([within] * 1234) == "limits: all 1,234 jobs within"
    assert jobs_limits_table([within]) is None
