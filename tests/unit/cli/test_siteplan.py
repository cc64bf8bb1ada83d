"""What a plan looks like, and what a command ends with for it."""

from __future__ import annotations

import json

import pytest

from westward.cli import siteplan
from westward.errors import InputError, Unsafe
from westward.provision.planning import Candidate, Change, Plan, RunningJob
from westward.provision.trial import Trial
from westward.slurm.confcompare import Difference
from westward.slurm.confeffects import effect_of

JOB = RunningJob("7", "RUNNING", frozenset(["gpu"]), frozenset(["n1"]), True)


def change(key: str, *jobs: str, allowed: bool = False, before: str = "a") -> Change:
    difference = Difference("slurm.conf", "", key, before, "b")
    return Change(difference, effect_of(difference, (24, 11)), jobs, allowed)


def trial(started: bool = True, missing: tuple[str, ...] = ()) -> Trial:
    return Trial(started, missing, ("fatal: Unable to process [red]it[/red]",), ("Prolog",), ("lo",), 1.25)


def plan(*changes: Change, trial: Trial | None = None) -> Plan:
    return Plan("site", "24.11.5", changes, trial, (JOB,), Candidate({}, "24.11.5"), ("n2 does not answer",))


def test_safe_changes_end_well() -> None:
    siteplan.refuse(plan())
    siteplan.refuse(plan(change("KillWait"), change("AuthInfo"), trial=trial()))
    siteplan.refuse(plan(change("SlurmdSpoolDir"), trial=trial()))
    siteplan.refuse(plan(change("StateSaveLocation", "7", allowed=True), trial=trial()))


def test_a_loss_is_refused_with_the_jobs_and_the_word_that_allows_it() -> None:
    with pytest.raises(Unsafe, match=r"SlurmdSpoolDir: .*\(jobs 7\)") as refused:
        siteplan.refuse(plan(change("SlurmdSpoolDir", "7"), change("KillWait"), trial=trial()))
    assert refused.value.exit_code == 5
    assert refused.value.next_step.endswith("--allow SlurmdSpoolDir")


@pytest.mark.parametrize(
    ("made", "told"),
    [(trial(started=False), "does not start"), (trial(missing=("NodeName=n2",)), "does not show NodeName=n2")],
)
def test_what_does_not_start_comes_before_what_is_lost(made: Trial, told: str) -> None:
    with pytest.raises(InputError, match=told):
        siteplan.refuse(plan(change("ClusterName", "7"), trial=made))


def test_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    siteplan.tell(plan(change("AuthInfo"), change("KillWait", before="x" * 200), trial=trial(started=False)))
    said = capsys.readouterr().out
    for told in (
        "1 jobs running, 0 waiting",
        "note: n2 does not answer",
        "starts again: slurmctld",
        "slurmctld does not start with this configuration (1.2 s)",
        "it says fatal: Unable to process [red]it[/red]",
        "not tried: Prolog",
        "restart",
    ):
        assert told in said
    siteplan.tell(plan())
    assert "nothing changes" in capsys.readouterr().out


def test_json_has_all_of_it() -> None:
    said = json.loads(json.dumps(siteplan.facts(plan(change("SlurmdSpoolDir", "7"), trial=trial()))))
    (told,) = said["changes"]
    assert (told["class"], told["jobs"], told["refused"], told["daemons"]) == ("destroys", ["7"], True, ["slurmd"])
    assert said["trial"]["passed"] is True
