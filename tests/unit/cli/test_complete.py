"""What the shell completes, as bash asks for it; with the programs that stand for Slurm's where a job is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unit.store.test_ledger import let_go
from westward.cli import complete
from westward.directories import config_dir, state_path
from westward.jobs.template import common_keys
from westward.jobs.templatefiles import names
from westward.model.sweep import Sweep
from westward.store.ledger import Ledger

PROGRAM = "import sys; sys.argv[0] = 'westward'; from westward.cli.main import main; main()"


def tab(line: str, **environment: str) -> list[str]:
    """What is offered for the last word of a line; bash breaks words at `=`."""
    words = line.replace("=", " = ").split(" ")
    asked = {"_WESTWARD_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **asked, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    return Ledger()


class TestJobs:
    @pytest.mark.parametrize("command", ["watch", "logs", "logs -f", "results", "explain", "cancel", "attempts"])
    def test_by_their_keys(self, ledger: Ledger, command: str) -> None:
        job = let_go(ledger)
        assert tab(f"westward {command} {job.key[:3]}") == [job.key]

    def test_the_newest_first_and_not_too_many(self, ledger: Ledger) -> None:
        keys = [let_go(ledger, job_id=number).key for number in range(complete.SHOWN + 5)]
        assert tab("westward watch ") == keys[:4:-1]

    def test_none_where_there_is_no_ledger_and_none_is_made(self) -> None:
        assert tab("westward watch a") == []
        assert not state_path().exists()

    @pytest.mark.parametrize("text", ["nothing like it!", "--"])
    def test_nothing_for_what_begins_no_key(self, ledger: Ledger, text: str) -> None:
        let_go(ledger)
        assert not [word for word in tab(f"westward watch {text}") if not word.startswith("--")]

    def test_not_a_word_where_something_is_wrong(self, ledger: Ledger) -> None:
        key = let_go(ledger).key
        assert tab("westward watch ") == [key]
        assert tab("westward watch ", WESTWARD_LEDGER="nonsense://") == []
        for file in state_path().glob("ledger.sqlite*"):  # the log of its last writes too
            file.write_text("no database")
        assert tab("westward watch ") == []


class TestTemplates:
    def test_by_name(self) -> None:
        assert tab("westward submit ge") == ["gemm"]
        assert tab("westward plan all") == ["allreduce"]

    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("gemm si", ["size=", "size=1024"]),
            ("gemm size=512 dt", ["dtype=", "dtype=f32", "dtype=f64"]),
            ("gemm dtype=", ["f32", "f64"]),
            ("gemm dtype=f3", ["f32"]),
            ("gemm policy=g", ["greenest"]),
            ("gemm requeue=", ["true", "false"]),
            ("gemm nothing_like_it", []),
            ("nosuchtemplate si", []),
        ],
    )
    def test_their_keys_and_values(self, line: str, offered: list[str]) -> None:
        assert tab(f"westward submit {line}") == offered

    def test_the_keys_that_all_take_are_those_of_the_schema(self) -> None:
        assert list(complete._common_keys()) == common_keys()

    def test_every_template_can_be_read(self) -> None:
        for name in names("job"):
            assert dict(complete._values(name))


def test_sites_by_name() -> None:
    folder = config_dir() / "sites"
    folder.mkdir(parents=True)
    for name in ("east", "west"):
        (folder / f"{name}.yaml").write_text("name: anything")
    for line in ("submit gemm --site w", "route --site w", "site show w", "site check w"):
        assert tab(f"westward {line}") == ["west"], line


def test_it_loads_little(ledger: Ledger) -> None:
    """A user who presses TAB waits for it."""
    job = let_go(ledger)
    code = f"{PROGRAM.removesuffix('; main()')}; import westward.cli.complete as c; c.jobs('{job.key[:2]}'); from westward.cli import board, explain, jobs, logs; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    never = {
        "hydra",
        "omegaconf",
        "sqlalchemy",
        "numpy",
        "yaml",
        "fabric",
        "paramiko",
        "docker",
        "jinja2",
        "westward.jobs",
    }
    assert not never & set(done.stdout.split())


def test_completion_can_be_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--install-completion", "bash"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "_WESTWARD_COMPLETE" in (tmp_path / ".bash_completions" / "westward.sh").read_text()


def test_templates_of_the_user_s_own(tmp_path: Path) -> None:
    own = tmp_path / "own" / "job"
    own.mkdir(parents=True)
    head = "# @package _global_\n"
    (own / "train.yaml").write_text(f"{head}description: trains\ncommand: [train]\nepochs: 3\n")
    (own / "gemm.yaml").write_text(
        f"{head}defaults: [/shipped/job/gemm]\nsize: 77\ncolour: red\nchoices: {{colour: [red, blue]}}\n"
    )
    (own / "other.yaml").write_text("of: another program")
    environment = {"WESTWARD_CONF": str(tmp_path / "own")}
    assert tab("westward submit tra", **environment) == ["train"]
    assert tab("westward submit oth", **environment) == []
    assert tab("westward submit train ep", **environment) == ["epochs=", "epochs=3"]
    assert tab("westward submit gemm si", **environment) == ["size=", "size=77"]
    assert tab("westward submit gemm dtype=", **environment) == ["f32", "f64"], "as what it extends has it"
    assert tab("westward submit gemm colour=b", **environment) == ["blue"]


def test_sweeps_by_their_keys(ledger: Ledger) -> None:
    job = let_go(ledger)
    ledger.sweeps.add(Sweep("aaaabbbbcccc", "mine", None, (), None, ()), [], lambda db: None)
    assert tab("westward retry a") == ["aaaabbbbcccc"]
    assert set(tab("westward watch ")) == {job.key, "aaaabbbbcccc"}
