"""`westward route`, as a user calls it, at sites that nobody asks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from unit.federation.test_foresight import ACCOUNT, LIMITS, Door
from unit.federation.worlds import catalogue, cluster, site, snapshot
from westward.cli import main, route
from westward.errors import InputError, NotFound, SiteRefused, Unreachable
from westward.federation import deciding, foresight
from westward.model.limits import Cap, Charge, Qos, Trial
from westward.model.sitemap import SiteMap

SCRIPT = """#!/bin/bash
#SBATCH --time=5 --account=physics
module load gcc
hostname
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(route, "load_catalogue", lambda: catalogue(site("west"), site("east")))
    for variable in ("SBATCH_TIMELIMIT", "SBATCH_ACCOUNT"):
        monkeypatch.delenv(variable, raising=False)
    file = tmp_path / "job.sh"
    file.write_text(SCRIPT)
    return file


def westward(*words: str) -> Result:
    return CliRunner().invoke(main.app, ["route", *words])


def test_a_plan_lists_what_ties_the_script_to_its_site(script: Path) -> None:
    said = json.loads(westward("--plan", "--json", "--site", "west", str(script), "a").stdout)
    assert [(found["line"], found["what"]) for found in said["obstacles"]] == [
        (2, "--account=physics"),
        (3, "module load gcc"),
    ]
    assert (said["site"], said["portable"], said["arguments"]) == ("west", False, ["a"])
    assert westward("--plan", "--site", "west", str(script)).stdout.count("module load gcc") == 1


def asked_of(site: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sites say when they are asked about limits and a trial."""
    ask = foresight.ask_about
    monkeypatch.setattr(route, "ask_about", lambda spec, offer, at: ask(spec, offer, at, lambda _: site))  # type: ignore[arg-type,return-value]


def test_a_plan_lists_the_limits_and_what_a_script_does_not_say_is_unknown(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.write_text("#!/bin/sh\n#SBATCH --account=physics --ntasks=8\nhostname\n")
    caps = Cap("MaxWall", 60), Cap("MaxTRESPerJob", 4, "cpu"), Cap("MaxJobsPerUser", 9, "", 1.0)
    charge = Charge("physics", "u", "", "physics", ("normal",))
    asked_of(
        Door(replace(LIMITS, qos={"normal": Qos("normal", caps)}, charges=(charge,), default_partition="gpu")),
        monkeypatch,
    )
    done = westward("--plan", "--site", "west", str(script))
    assert done.exit_code == 0, done.exception
    assert "limits     accepted, but never started: QOS normal: MaxTRESPerJob cpu is 4, asked: 8" in done.stdout
    assert "by sbatch --test-only, on west-n1" in done.stdout
    said = json.loads(westward("--plan", "--json", "--site", "west", str(script)).stdout)["limits"]
    told = {each["limit"]: (each["verdict"], each["asked"]) for each in said["findings"]}
    assert told["QOS normal: MaxWall"] == ("unknown", "not known")
    assert told["QOS normal: MaxJobsPerUser"] == ("ok", "1")
    assert (said["verdict"], said["partition"]) == ("never starts", "gpu")


@pytest.mark.parametrize("door", [
    Door(replace(LIMITS, qos={"normal": Qos("normal", (Cap("MaxSubmitJobsPerUser", 2, "", 2.0),))})),
    Door(trial=Trial(refusal="MaxSubmitJobsPerUser")),
])  # fmt: skip
def test_what_its_site_would_refuse_ends_as_submit_would(
    script: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of(door, monkeypatch)
    done = westward("--plan", "--site", "west", "-A", ACCOUNT, str(script))
    assert isinstance(done.exception, SiteRefused) and done.exception.exit_code == 2
    assert "would refuse this job" in str(done.exception) and "MaxSubmitJobsPerUser" in str(done.exception)
    assert "limits     " in done.stdout


def test_a_site_that_does_not_answer_is_a_note(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Unreachable("site 'west': nobody answers")
    asked_of(Door(silent, silent), monkeypatch)
    done = westward("--plan", "--site", "west", str(script))
    assert done.exit_code == 0 and "limits     its limits cannot be read: site 'west': nobody answers" in done.stdout


def test_options_of_sbatch_and_our_own_may_be_mixed(script: Path) -> None:
    said = json.loads(westward("-N", "2", "--json", "-Jhh", "--site=west", "--plan", str(script), "--site", "x").stdout)
    assert {option["name"]: option["value"] for option in said["options"]} == {
        "time": "5",
        "account": "physics",
        "nodes": "2",
        "job-name": "hh",
    }
    assert said["arguments"] == ["--site", "x"]


@pytest.mark.parametrize(
    ("words", "kind", "why"),
    [
        (["--plan"], InputError, "no script is named"),
        (["--plan", "--site", "mars", "FILE"], NotFound, "there is no site 'mars'"),
        (["--plan", "FILE"], InputError, "which site is this script made for"),
        (["--plan", "--hold", "--site", "west", "FILE"], InputError, "the command line: --hold"),
        (["--nonsense", "FILE"], InputError, "'--nonsense' is no option of sbatch"),
    ],
)
def test_what_is_refused(script: Path, words: list[str], kind: type[InputError], why: str) -> None:
    found = westward(*[str(script) if word == "FILE" else word for word in words])
    assert isinstance(found.exception, kind) and why in str(found.exception)
    assert found.exception.exit_code == 2 and found.exception.next_step


def test_help_names_our_own_options() -> None:
    said = westward("--help").stdout
    assert "--portable" in said and "--plan" in said


def test_a_script_that_nothing_ties_down_is_portable_without_a_home(script: Path) -> None:
    script.write_text("#!/bin/sh\nhostname\n")
    found = westward("--plan", str(script)).exception
    assert isinstance(found, InputError) and "which site" in str(found)  # "no --time" ties it
    script.write_text("#!/bin/sh\n#SBATCH --account=physics\nhostname\n")
    found = westward("--plan", "--portable", str(script)).exception
    assert isinstance(found, InputError) and "with a time limit" in str(found)


def test_home_is_what_the_description_says(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = catalogue(site("west"), replace(site("east"), home=True))
    monkeypatch.setattr(route, "load_catalogue", lambda: sites)
    assert json.loads(westward("--plan", "--json", str(script)).stdout)["site"] == "east"


def test_what_the_maps_know_ties_it_to_no_site(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    east = replace(site("east"), home=True, sitemap=SiteMap(accounts={"physics": "physics"}, modules={"gcc": ("gcc",)}))
    west = replace(site("west"), sitemap=SiteMap(accounts={"physics": "phys-123"}, modules={"gcc": ("gcc",)}))
    monkeypatch.setattr(route, "load_catalogue", lambda: catalogue(west, east, site("north")))
    state = snapshot({"west": cluster(), "east": cluster()})
    monkeypatch.setattr(deciding, "take_snapshot", lambda sites: state)
    said = json.loads(westward("--plan", "--json", str(script)).stdout)
    assert {offer["site"] for offer in said["decision"]["offers"]} == {"east", "west"}
    assert {each["site"]: each["reason"] for each in said["decision"]["rejections"]} == {
        "north": "2 things tie the script to its home, first --account=physics (line 2)"
    }
    assert (len(said["obstacles"]), said["left_at"]["west"], len(said["left_at"]["north"])) == (2, [], 2)
    there = json.loads(westward("--plan", "--json", "--site", "west", str(script)).stdout)
    (account,) = (option for option in there["options"] if option["name"] == "account")
    assert (account["value"], account["from"]) == ("phys-123", "the map of site 'west'")
    shown = westward("--plan", str(script)).stdout
    assert "known there" in shown and "the script itself is not changed" in shown


def test_one_name_that_a_map_does_not_know_keeps_it_at_home(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    east = replace(site("east"), home=True, sitemap=SiteMap(accounts={"physics": "physics"}))
    west = replace(site("west"), sitemap=SiteMap(accounts={"physics": "phys-123"}))
    monkeypatch.setattr(route, "load_catalogue", lambda: catalogue(west, east))
    said = json.loads(westward("--plan", "--json", str(script)).stdout)
    assert (said["site"], said["decision"]["policy"]) == ("east", "home")
    assert [found["what"] for found in said["left_at"]["west"]] == ["module load gcc"]
