"""What a plan foresees: asked of all sites at once, and honest about what none of them says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import pytest

from unit.federation.worlds import NOW, catalogue, cluster, job, site, snapshot
from westward.errors import Unreachable, WestwardError
from westward.federation.foresight import Foresight, effort, foresee, foreseen_between, refusal
from westward.federation.router import chosen_offer, route
from westward.model.decision import TERMS, Policy
from westward.model.job import Array, JobSpec, Submission
from westward.model.limits import Cap, Charge, Limits, Qos, Rules, Trial, Verdict
from westward.model.site import Site
from westward.slurm.client import NotOffered

KNOWN = catalogue(site("west"), site("east"))
ACCOUNT = site("west").account or ""
LIMITS = Limits(
    "u",
    {"gpu": Rules("gpu", "UP")},
    {"normal": Qos("normal")},
    (Charge(ACCOUNT, "u", "", ACCOUNT, ("normal",)),),
    ACCOUNT,
)


@dataclass
class Door:
    """A client that answers these two questions, or fails at them."""

    limits_told: Limits | WestwardError = LIMITS
    trial: Trial | WestwardError = field(default_factory=lambda: Trial(0.0, "west-n1"))
    tried: list[Submission] = field(default_factory=list)

    def limits(self) -> Limits:
        if isinstance(self.limits_told, WestwardError):
            raise self.limits_told
        return self.limits_told

    def try_out(self, submission: Submission) -> Trial:
        self.tried.append(submission)
        if isinstance(self.trial, WestwardError):
            raise self.trial
        return self.trial

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def planned(west: Door, east: Door | None = None, spec: JobSpec | None = None, **more: Any) -> Foresight:
    policy = Policy("plain", dict.fromkeys(TERMS, 1.0), 0.1, 20.0)
    spec = spec or job(mem_bytes=1024**3)
    state = snapshot({"west": cluster(), "east": cluster()})
    decision = route(spec, policy, "ningxia", KNOWN, state, NOW, "west")
    doors: dict[str, Door] = {"west": west, "east": east or Door()}

    def connect(to: Site) -> Any:
        return doors[to.name]

    return foresee(spec, decision, chosen_offer(decision), KNOWN, connect=connect, **more)


def capped(*caps: Cap) -> Limits:
    return replace(LIMITS, qos={"normal": Qos("normal", caps)})


def test_the_chosen_site_is_tried_and_the_others_are_only_asked_for_their_limits() -> None:
    west, east = Door(), Door(capped(Cap("MaxWall", 1)))
    told = planned(west, east)
    assert (told.limits.site, told.limits.verdict) == ("west", Verdict.OK)
    assert [(other.site, other.verdict) for other in told.others] == [("east", Verdict.NEVER)]
    assert (len(west.tried), len(east.tried)) == (1, 0)
    assert told.start.tested == 0.0
    assert refusal(told.limits, told.trial) is None


def test_a_site_that_does_not_answer_is_a_note_and_no_failure() -> None:
    silent = Unreachable("site 'west': nobody answers")
    told = planned(Door(silent, silent), Door(silent))
    assert told.limits.verdict is Verdict.UNKNOWN
    assert told.limits.notes == ("its limits cannot be read: site 'west': nobody answers",)
    assert told.notes == ("sbatch --test-only did not answer: site 'west': nobody answers",)
    assert (told.trial, told.start.tested, refusal(told.limits, told.trial)) == (None, None, None)


def test_a_site_without_a_shell_says_that_it_cannot_be_tried() -> None:
    told = planned(Door(trial=NotOffered("site 'west': slurmrestd cannot")))
    assert told.notes == ("sbatch --test-only is not to be had there: the site has no shell door",)


def test_a_full_quota_is_what_submit_would_end_with() -> None:
    told = planned(Door(capped(Cap("MaxSubmitJobsPerUser", 2, "", 2))))
    problem = refusal(told.limits, told.trial)
    assert problem is not None
    assert problem.exit_code == 2
    assert "QOS normal: MaxSubmitJobsPerUser is 2, 2 in use, asked: 1" in str(problem)
    assert "wait until some of your jobs have ended" in problem.next_step


def test_what_only_the_cluster_knows_to_refuse_is_said_in_its_words() -> None:
    told = planned(Door(trial=Trial(refusal="Invalid feature specification")))
    problem = refusal(told.limits, told.trial)
    assert problem is not None and "Invalid feature specification" in str(problem)


def test_what_waits_is_not_refused() -> None:
    told = planned(Door(capped(Cap("MaxJobsPerUser", 1, "", 1))))
    assert (told.limits.verdict, refusal(told.limits, told.trial)) == (Verdict.WAITS, None)


def test_what_a_job_takes_is_for_its_whole_time_limit_and_all_tasks_of_an_array() -> None:
    told = planned(Door(), spec=replace(job(nodes=1, ntasks_per_node=8), array=Array.parse("0-9")))
    assert told.effort == effort(replace(job(nodes=1, ntasks_per_node=8), array=Array.parse("0-9")), told.offer)
    assert (told.effort.tasks, told.effort.node_hours, told.effort.accelerator_hours, told.effort.cpu_hours) == (
        10,
        10,
        40,
        80,
    )


class TestBand:
    def test_it_comes_from_how_far_earlier_starts_were_from_what_was_foreseen(self) -> None:
        earlier = [(10.0, 10.0 + late) for late in range(11)]
        assert foreseen_between(100.0, earlier) == (101.0, 109.0)

    def test_a_start_is_never_in_the_past(self) -> None:
        assert foreseen_between(0.0, [(50.0, 0.0)] * 5) == (0.0, 0.0)

    @pytest.mark.parametrize("count", [0, 4])
    def test_few_starts_say_nothing(self, count: int) -> None:
        assert foreseen_between(0.0, [(0.0, 1.0)] * count) is None
        told = planned(Door(), earlier=[(0.0, 1.0)] * count)
        assert (told.start.band, told.start.starts) == (None, count)
