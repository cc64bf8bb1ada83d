"""`westward agent`, as a user runs it: real processes on a real ledger."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from unit.store.test_ledger import intent, let_go
from westward.catalogue.sitefile import site_text
from westward.directories import config_dir
from westward.federation.presence import LEASE, alive
from westward.model.job import JobState
from westward.model.site import Door, Power, Prices, RestDoor, ShellDoor, Site
from westward.store.ledger import Ledger
from westward.store.owner import pid_here

WESTWARD = [sys.executable, "-m", "westward.cli.main"]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return Ledger()


@pytest.fixture(autouse=True)
def nobody_is_left(ledger: Ledger) -> Iterator[None]:
    """No agent outlives its test."""
    yield
    lease = ledger.lease(LEASE)
    if lease is not None and (pid := pid_here(lease.holder)) is not None and pid != os.getpid():
        os.kill(pid, signal.SIGKILL)


def westward(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*WESTWARD, *words], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def agent() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """An agent in the foreground, once it has its lease."""
    started: list[subprocess.Popen[str]] = []

    def start(**more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen([*WESTWARD, "agent", "run"], stderr=subprocess.PIPE, text=True, **more)
        started.append(process)
        until(lambda: alive(Ledger()))
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestStatus:
    def test_with_nothing_to_do(self) -> None:
        done = westward("agent", "status")
        assert (done.returncode, done.stderr) == (0, "")
        assert "no agent is running; westward agent start" in done.stdout
        assert "nothing waits for one" in done.stdout

    def test_what_waits_is_listed(self, ledger: Ledger) -> None:
        (held,) = ledger.add([intent()])
        ledger.handles({held.key: 7})
        said = westward("agent", "status").stdout
        assert held.key in said
        facts = json.loads(westward("agent", "status", "--json").stdout)
        assert (facts["alive"], facts["holder"], [job["key"] for job in facts["waiting"]]) == (False, None, [held.key])

    def test_one_that_was_killed_is_not_running(self, agent: Callable[..., subprocess.Popen[str]]) -> None:
        process = agent()
        facts = json.loads(westward("agent", "status", "--json").stdout)
        assert facts["alive"]
        assert f"/{process.pid}/" in facts["holder"]
        process.kill()
        process.wait()
        assert not json.loads(westward("agent", "status", "--json").stdout)["alive"]


class TestStartAndStop:
    def test_once_and_again(self, ledger: Ledger) -> None:
        started = westward("agent", "start")
        assert (started.returncode, started.stderr) == (0, "")
        assert "agent started (process " in started.stdout
        assert "agent.log" in started.stdout
        assert alive(ledger)
        assert "an agent is running already (process" in westward("agent", "start").stdout
        assert "an agent is running (process" in westward("agent", "status").stdout
        stopped = westward("agent", "stop")
        assert (stopped.returncode, stopped.stdout) == (0, "agent stopped\n")
        assert not alive(ledger)
        assert ledger.lease(LEASE) is None
        assert westward("agent", "stop").stdout == "no agent is running\n"

    def test_a_second_one_in_the_foreground_is_refused(self, agent: Callable[..., subprocess.Popen[str]]) -> None:
        agent()
        done = westward("agent", "run")
        assert done.returncode == 5
        assert "another agent acts on this ledger already (process" in done.stderr

    def test_one_of_another_host_is_stopped_there(self, ledger: Ledger) -> None:
        other = Ledger()
        other._owner = "login2/4711/1"
        other.take_lease(LEASE, timedelta(minutes=5))
        done = westward("agent", "stop")
        assert done.returncode == 5
        assert "runs on another host (process 4711 on login2" in done.stderr

    def test_one_that_cannot_start_says_why(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        Ledger().close()
        state = Path(os.environ["WESTWARD_STATE_DIR"])
        (state / "agent.log").mkdir()
        done = westward("agent", "start")
        assert done.returncode == 4
        assert "agent.log" in done.stderr

    def test_sigterm_ends_it_after_its_turn(self, agent: Callable[..., subprocess.Popen[str]], ledger: Ledger) -> None:
        process = agent()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, ledger.lease(LEASE)) == (0, None), said


def test_after_sigkill_the_next_one_takes_over(agent: Callable[..., subprocess.Popen[str]], ledger: Ledger) -> None:
    first = agent()
    first.kill()
    first.wait()
    assert ledger.lease(LEASE) is not None
    second = agent()
    lease = ledger.lease(LEASE)
    assert lease is not None
    assert pid_here(lease.holder) == second.pid


def test_it_survives_a_disk_that_is_full_for_a_while(
    agent: Callable[..., subprocess.Popen[str]], ledger: Ledger
) -> None:
    """Played by a limit on file sizes, which is lifted again."""
    made = let_go(ledger)  # at a site that is not described here, so each turn has something to write
    limit, none = 4096, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    process = agent()
    until(lambda: ledger.get(made.key).state is JobState.UNKNOWN)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    before = ledger.lease(LEASE)
    assert process.stderr is not None
    for line in process.stderr:
        if "cannot be used" in line:
            break
    assert process.poll() is None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, none)
    assert before is not None
    until(lambda: (lease := ledger.lease(LEASE)) is not None and lease.until > before.until)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)
    assert process.returncode == 0


def test_a_site_file_that_cannot_be_read_ends_nothing_and_is_told_once(
    agent: Callable[..., subprocess.Popen[str]], ledger: Ledger
) -> None:
    sites = config_dir() / "sites"
    sites.mkdir(parents=True)
    (sites / "east.yaml").write_text("place: 2026-02-30")
    process = agent()
    for number in (1, 2, 3):  # each new job wakes it for another turn
        let_go(ledger, number)
        until(lambda: {job.state for job in ledger.jobs()} == {JobState.UNKNOWN})
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert said.count("east.yaml") == 1, said


class TestInstall:
    def test_a_unit_that_systemd_takes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        odd = tmp_path / '50% of "it\'s" \\x'
        monkeypatch.setenv("WESTWARD_STATE_DIR", str(odd))
        done = westward("agent", "install")
        assert (done.returncode, done.stderr) == (0, "")
        assert "systemctl --user enable --now westward-agent.service" in done.stdout
        assert "loginctl enable-linger" in done.stdout
        unit = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user" / "westward-agent.service"
        text = unit.read_text()
        assert str(odd).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") in text
        assert 'run"\n' in text
        assert not odd.exists(), "nothing is begun here"
        if shutil.which("systemd-analyze"):
            checked = subprocess.run(
                ["systemd-analyze", "verify", "--user", str(unit)], capture_output=True, text=True, check=False,
                env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            )  # fmt: skip
            assert "westward-agent.service:" not in checked.stderr, checked.stderr

    def test_a_state_directory_that_depends_on_where_one_is_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WESTWARD_STATE_DIR", "state")
        for command in ("install", "start"):
            done = westward("agent", command)
            assert done.returncode == 2
            assert "WESTWARD_STATE_DIR=state is a relative path" in done.stderr
        assert not list(Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.service"))

    def test_it_enables_nothing_and_can_be_repeated(self) -> None:
        assert [westward("agent", "install").returncode for _ in range(2)] == [0, 0]

    def test_it_keeps_where_certificates_and_passwords_lie(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", "/etc/our ca.pem")
        monkeypatch.setenv("PGPASSFILE", "mine/pgpass")
        monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        unit = Path(os.environ["XDG_CONFIG_HOME"]) / "systemd" / "user" / "westward-agent.service"
        assert westward("agent", "install").returncode == 0
        text = unit.read_text()
        assert 'Environment="SSL_CERT_FILE=/etc/our ca.pem"\n' in text
        assert f'Environment="PGPASSFILE={tmp_path}/mine/pgpass"\n' in text, "the unit runs in another directory"
        assert "SSL_CERT_DIR" not in text and "SSH_AUTH_SOCK" not in text
        monkeypatch.setenv("SSL_CERT_DIR", "/etc/certs")
        assert westward("agent", "install").returncode == 0
        assert 'Environment="SSL_CERT_DIR=/etc/certs"\n' in unit.read_text()

    @pytest.mark.parametrize("url", ["postgresql://me:hunter2@host/x", "postgresql://host/x?password=hunter2"])
    def test_a_password_is_kept_out_of_it(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.setenv("WESTWARD_LEDGER", url)
        done = westward("agent", "install")
        assert done.returncode == 5
        assert "~/.pgpass" in done.stderr
        assert "hunter2" not in done.stderr + done.stdout
        assert not list(Path(os.environ["XDG_CONFIG_HOME"]).rglob("*.service"))


class TestBorrowedKeys:
    """What is said of an ssh-agent that ends with the login session."""

    @pytest.fixture(autouse=True)
    def sites(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
        rest = RestDoor("https://gate", "u17", Path("/home/me/token"))
        doors: dict[str, tuple[Door, ...]] = {
            "borrows": (rest, ShellDoor("login.a")),
            "named": (ShellDoor("login.b", identity_file=Path("/home/me/key")),),
            "renewed": (ShellDoor("login.c", renew_command=("sign",)),),
            "odd [red]": (ShellDoor("login.d"),),
            "here": (ShellDoor(),),
            "rest": (rest,),
        }
        folder = config_dir() / "sites"
        folder.mkdir(parents=True)
        for name, ways in doors.items():
            site = Site(name, name, "here", "there", ways, {}, "/home/u17", Prices(), Power(), {})
            (folder / f"{name}.yaml").write_text(site_text(site))

    @pytest.mark.parametrize("command", ["install", "start"])
    def test_the_sites_that_may_need_it_are_named(self, command: str) -> None:
        done = westward("agent", command)
        assert done.returncode == 0
        assert "after you log off these may refuse the agent: borrows, odd [red]; name a key" in done.stderr
        assert "identity_file" in done.stderr and "renew_command" in done.stderr

    @pytest.mark.parametrize("command", ["install", "start"])
    def test_nothing_is_said_where_there_is_none(self, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SSH_AUTH_SOCK")
        done = westward("agent", command)
        assert (done.returncode, done.stderr) == (0, "")

    def test_nor_where_every_site_has_a_key(self) -> None:
        for name in ("borrows", "odd [red]"):
            (config_dir() / "sites" / f"{name}.yaml").unlink()
        done = westward("agent", "install")
        assert (done.returncode, done.stderr) == (0, "")
