"""The user's own templates and policies: which directory goes before which, what is left alone, and what is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from westward.cli import complete
from westward.errors import InputError, NotFound, Unsafe, WestwardError
from westward.jobs import composing, templatefiles
from westward.jobs.template import Template, compose_job, templates

MINE = """
# @package _global_
description: gemm as we like it
defaults: [/job/gemm]
size: 2048
own: 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory of our own, and nothing named."""
    place = tmp_path / "here"
    place.mkdir(mode=0o755)
    monkeypatch.chdir(place)
    monkeypatch.delenv(templatefiles.VARIABLE, raising=False)
    # few templates that ship, for each takes a moment to compose
    few = tmp_path / "few"
    shutil.copytree(templatefiles.CONF / "root", few / "root")
    shutil.copytree(templatefiles.CONF / "policy", few / "policy")
    (few / "job").mkdir()
    for name in ("gemm", "allreduce", "command"):
        shutil.copy(templatefiles.CONF / "job" / f"{name}.yaml", few / "job")
    monkeypatch.setattr(templatefiles, "CONF", few)
    for cached in (templatefiles._entries, templatefiles._used, templatefiles._folders, composing._base):
        cached.cache_clear()
    return place


def write(conf: Path, name: str, text: str) -> Path:
    file = conf / name
    for folder in reversed(file.parents[: len(Path(name).parts)]):
        if not folder.is_dir():
            folder.mkdir(mode=0o755)
    file.write_text(text.lstrip())
    file.chmod(0o644)
    return file


def of(name: str) -> Template:
    (found,) = (template for template in templates() if template.name == name)
    return found


def refused(template: str, *overrides: str) -> WestwardError:
    with pytest.raises(WestwardError) as caught:
        compose_job(template, overrides)
    return caught.value


def test_a_template_of_the_user_extends_one_that_ships(here: Path) -> None:
    write(here / "conf", "job/mine.yaml", MINE)
    spec = compose_job("mine", ["dtype=f32", "own=8"]).spec
    assert {"--size=2048", "--dtype=f32"} <= set(spec.command)
    assert (of("mine").origin, of("mine").parameters["own"]) == ("./conf", 7)
    assert "description" not in of("mine").parameters and "defaults" not in of("mine").parameters


def test_it_may_take_the_place_of_the_one_that_it_extends(here: Path) -> None:
    write(here / "conf", "job/gemm.yaml", MINE.replace("/job/gemm", "/shipped/job/gemm"))
    assert "--size=2048" in compose_job("gemm", []).spec.command
    assert of("gemm").replaces == ("Westward",)


def test_what_is_named_goes_before_what_is_here_and_that_before_what_ships(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, conf in enumerate((tmp_path / "a", tmp_path / "b", here / "conf")):
        write(conf, "job/mine.yaml", MINE.replace("2048", f"{100 + number}"))
        write(conf, f"job/only{number}.yaml", MINE)
    assert "--size=102" in compose_job("mine", []).spec.command
    monkeypatch.setenv(templatefiles.VARIABLE, f"{tmp_path / 'a'}::{tmp_path / 'b'}")
    assert "--size=100" in compose_job("mine", []).spec.command
    assert (of("mine").origin, of("mine").replaces) == ("WESTWARD_CONF", ("WESTWARD_CONF", "./conf"))
    assert {"only0", "only1", "only2", "gemm"} <= {template.name for template in templates()}


def test_a_directory_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(templatefiles.VARIABLE, str(tmp_path / "nowhere"))
    assert "is no directory" in str(refused("gemm"))


def test_a_policy_of_the_user_s(here: Path) -> None:
    write(here / "conf", "policy/mine.yaml", "name: mine\nweights: {energy: 3}\n")
    write(here / "conf", "policy/ppo.yaml", "lr: 0.1\n")
    assert compose_job("gemm", ["policy=mine"]).policy.weights["energy"] == 3
    assert "there is no policy 'ppo'; known: balanced, cheapest, greenest, mine, soonest" in str(
        refused("gemm", "policy=ppo")
    )


def test_the_conf_of_another_program_does_no_harm(here: Path) -> None:
    conf = here / "conf"
    for name, text in {
        "westward.yaml": "defaults: [nonsense]\n",
        "job_defaults.yaml": "name: 3\n",
        "hydra/job_logging/default.yaml": "[broken\n",
        "shipped/job/gemm.yaml": "a: 1\n",
        "job/gemm.yaml": "lr: 0.1\n",
        "job/allreduce.yaml": "# @package _global_\nlr: 0.1\n",
        "job/a b.yaml": MINE,
        "job/bytes.yaml": "x",
        "policy/cheapest.yaml": "optimizer: adam\n",
    }.items():
        write(conf, name, text)
    (conf / "job" / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    (conf / "job" / "folder.yaml").mkdir()
    for shipped in ("gemm", "allreduce", "command"):
        assert compose_job(shipped, []).policy.name == "cheapest"
    problems = {Path(template.file).name: template.problem for template in templates() if template.problem}
    assert problems["gemm.yaml"] == "no template of Westward's: its first line is not '# @package _global_'"
    assert "neither a description nor a command" in problems["allreduce.yaml"]
    assert {"a b.yaml", "bytes.yaml", "folder.yaml"} <= set(problems)
    assert {template.name for template in templates() if not template.problem} >= {"gemm", "allreduce", "command"}


def test_one_that_is_none_says_why_when_it_is_named(here: Path) -> None:
    write(here / "conf", "job/foreign.yaml", "lr: 0.1\n")
    error = refused("foreign")
    assert isinstance(error, NotFound) and "its first line is not '# @package _global_'" in str(error)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# @package _global_\ndescription: [1\n", "is not YAML: line 3"),
        ("# @package _global_\ndescription: a\ndescription: b\n", "found duplicate key description"),
        ("# @package _global_\ndescription: a\nname: ${x:a=b}\n", "name: token recognition error at: '='"),
        ("# @package _global_\ndescription: a\nname: x\n", "Missing mandatory value: command"),
        ("# @package _global_\ndescription: a\ndefaults: [/job/nowhere]\n", "Could not load 'job/nowhere'"),
        ("# @package _global_\ndescription: a\ndefaults: [{x: {y: z}}]\n", "Hydra cannot compose it"),
        ("# @package _global_\ndescription: a\nname: a\ncommand: [a]\nnodes: two\n", "nodes=two: an integer was expected"),
        ("# @package _global_\ndescription: a\nname: a\ncommand: ['${nope}']\n", "Interpolation key 'nope' not found"),
        ("# @package _global_\ndescription: a\nname: ${walltime}\nwalltime: ${name}\ncommand: [a]\n", "Recursive interpolation"),
        ("# @package _global_\ndescription: a\ndefaults: [/job/broken]\n", "it extends itself: /job/broken -> /job/broken"),
        ("# @package _global_\ndescription: a\ndefaults: [/job/other]\n", "it extends itself: /job/other -> /job/other2 -> /job/other"),
    ],
)  # fmt: skip
def test_a_broken_template_breaks_no_other(here: Path, text: str, told: str) -> None:
    file = write(here / "conf", "job/broken.yaml", text)
    write(here / "conf", "job/mine.yaml", MINE)
    write(here / "conf", "job/other.yaml", "# @package _global_\ndescription: a\ndefaults: [/job/other2]\n")
    write(here / "conf", "job/other2.yaml", "# @package _global_\ndescription: a\ndefaults: [/job/other]\n")
    error = refused("broken")
    assert isinstance(error, InputError) and error.exit_code == 2
    assert told in str(error) and str(file) in str(error) and "\n" not in str(error)
    assert told in of("broken").problem
    assert not of("mine").problem and not of("gemm").problem


def test_an_override_can_make_a_circle_as_well(here: Path) -> None:
    write(here / "conf", "job/mine.yaml", MINE)
    error = refused("mine", "size='${own}'", "own='${size}'")
    assert isinstance(error, InputError) and "Recursive interpolation" in str(error)
    assert compose_job("mine", []).spec.name == "gemm"


@pytest.mark.parametrize("which", ["conf", "conf/job", "conf/job/mine.yaml"])
@pytest.mark.parametrize("mode", [0o002, 0o020])
def test_what_others_can_write_is_refused_unless_it_is_named(
    here: Path, which: str, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "conf", "job/mine.yaml", MINE)
    (here / which).chmod((here / which).stat().st_mode | mode)
    monkeypatch.setattr(templatefiles, "_own_group", lambda gid: False)
    error = refused("mine")
    assert isinstance(error, Unsafe) and error.exit_code == 5
    assert f"can write '{here / which}'" in str(error)
    assert "can write" in of("mine").problem and not of("gemm").problem
    assert compose_job("gemm", []).spec.name == "gemm", "no other template is concerned"
    monkeypatch.setenv(templatefiles.VARIABLE, "conf")
    assert compose_job("mine", []).spec.name == "gemm"


def test_what_belongs_to_somebody_else_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "conf", "job/gemm.yaml", MINE.replace("/job/gemm", "/shipped/job/gemm"))
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    owner = (here / "conf").stat().st_uid
    if owner == 0:
        os.chown(here / "conf", 4712, -1)
    error = refused("gemm")
    assert isinstance(error, Unsafe) and "belongs to user" in str(error) and "export WESTWARD_CONF=" in error.next_step


def test_parts_lie_deeper_and_are_no_templates(here: Path) -> None:
    write(here / "conf", "job/parts/big.yaml", "# @package _global_\nsize: 9000\n")
    write(
        here / "conf",
        "job/mine.yaml",
        MINE.replace("[/job/gemm]", "[/job/gemm, /job/parts/big, _self_]").replace("size: 2048", ""),
    )
    assert "--size=9000" in compose_job("mine", []).spec.command
    assert "big" not in {template.name for template in templates()}


def test_the_list_as_a_user_sees_it(here: Path) -> None:
    write(here / "conf", "job/mine.yaml", MINE)
    write(here / "conf", "job/broken.yaml", "# @package _global_\ndescription: [1\n")

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "westward.cli.main", "templates", *words],
            capture_output=True, text=True, check=True, cwd=here, env={**os.environ, "COLUMNS": "160"},
        )  # fmt: skip
        return done.stdout

    said = run()
    assert "conf/job/broken.yaml: is not YAML: line 3" in said
    (row,) = (line for line in said.splitlines() if line.startswith(" mine "))
    assert "gemm as we like it" in row and "own=7" in row and "./conf" in row
    listed = {template["name"]: template for template in json.loads(run("--json"))}
    assert listed["mine"]["file"] == str(here / "conf/job/mine.yaml") and listed["broken"]["problem"]


def test_a_shell_completes_them_too(here: Path) -> None:
    write(here / "conf", "job/mine.yaml", MINE + "choices: {own: [7, 8]}\n")
    write(here / "conf", "job/foreign.yaml", "lr: 0.1\n")
    assert complete.templates("") == [
        (name, templatefiles.written(name)["description"]) for name in ("allreduce", "command", "gemm", "mine")
    ]
    values = dict(complete._values("mine"))
    assert values["own"] == ["7", "8"] and values["size"] == ["2048"] and values["dtype"] == ["f32", "f64"], (
        "its own, and what it extends"
    )
    assert dict(complete._values("foreign")) == {}
