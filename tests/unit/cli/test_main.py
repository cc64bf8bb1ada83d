"""What every command says after it has ended, however it ended: whether anybody acts for the jobs that wait."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from unit.cli.test_jobs import WAITS, ledger, westward
from unit.store.test_ledger import add, let_go
from westward.cli import main
from westward.federation.presence import LEASE
from westward.store.ledger import Job, Ledger

__all__ = ["ledger"]


@pytest.fixture
def doubtful(ledger: Ledger) -> Job:
    """A submission that nobody settles: its site is not described here."""
    job = add(ledger)
    ledger.attempt([job.key])
    with ledger.keep([job.key]):
        pass
    return job


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["jobs", "--json"], 0),
        (["site", "list"], 0),
        (["plan", "gemm"], 2),  # no site is described
        (["cancel", "zzzz"], 2),
        (["jobs", "--nonsense"], 2),
    ],
)
def test_each_command_says_who_is_missing_and_then_only_once(doubtful: Job, words: list[str], code: int) -> None:
    done = westward(*words)
    assert done.returncode == code
    assert done.stderr.count(WAITS) == 1
    assert WAITS not in done.stdout
    assert done.stderr.splitlines()[-1].startswith(WAITS), "an error comes first"


@pytest.mark.parametrize("words", [["templates"], ["agent", "status"], ["jobs", "--help"], []])
def test_what_has_nothing_to_do_with_jobs_says_nothing(doubtful: Job, words: list[str]) -> None:
    assert WAITS not in westward(*words).stderr


def test_nothing_is_said_while_an_agent_runs(doubtful: Job, ledger: Ledger) -> None:
    assert ledger.take_lease(LEASE, timedelta(minutes=5))
    assert WAITS not in westward("site", "list").stderr


def test_nothing_is_said_where_nothing_waits(ledger: Ledger) -> None:
    let_go(ledger)
    assert westward("site", "list").stderr == ""


def test_no_ledger_is_begun_for_it(tmp_path: Path) -> None:
    assert westward("templates").returncode == 0
    assert westward("plan", "nonsense").returncode == 2
    assert not list(tmp_path.rglob("ledger*"))


def test_a_broken_ledger_is_no_second_error(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    for file in (tmp_path / "state").glob("ledger*"):
        file.write_bytes(b"no database" * 1000)
    assert westward("site", "list").stderr == ""
    broken = westward("jobs")
    assert broken.returncode == 4
    assert broken.stderr.count("error: ") == 1


def test_nor_is_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_LEDGER", "mysql://x")
    assert westward("site", "list").stderr == ""


def test_ctrl_c_ends_it_at_once(
    doubtful: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "app", interrupted)
    monkeypatch.setattr(sys, "argv", ["westward", "jobs"])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 130
    assert WAITS not in capsys.readouterr().err


def test_it_costs_no_more_than_the_ledger(ledger: Ledger) -> None:
    """Hydra, Docker and the like are loaded by the commands that need them, not by what is said after any of them."""
    let_go(ledger)
    code = "import sys; from westward.cli import main; main._tell_waiting(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"hydra", "docker", "fabric", "paramiko", "matplotlib", "numpy"} & set(done.stdout.split())
