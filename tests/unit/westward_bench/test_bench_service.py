"""A service in a job: where it answers, when it has failed, and that it ends in time."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from westward_bench import service
from westward_bench.record import Record
from westward_bench.service import limit_s

SERVE = 'exec python3 -m http.server "$PORT" > http.log 2>&1'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "westward_bench.service", "--output", "r.json", "--every", "1", *words]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def record() -> Record:
    return Record.from_json(Path("r.json").read_text())


def wait_for(path: str) -> str:
    until = time.monotonic() + 20
    while not Path(path).exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    return Path(path).read_text().strip()


def test_it_answers_where_it_says_and_ends_before_the_limit() -> None:
    Path("endpoint").write_text("of an earlier start")
    began = time.monotonic()
    running = start("--walltime", "00:00:08", "--margin", "3", "--health", "/", SERVE)
    while (endpoint := wait_for("endpoint")) == "of an earlier start":
        time.sleep(0.05)
    port = endpoint.rpartition(":")[2]
    assert urllib.request.urlopen(f"http://127.0.0.1:{port}/").status == 200
    assert f"serving at {endpoint}" in running.communicate(timeout=30)[0]
    assert running.returncode == 0 and 3 < time.monotonic() - began < 8
    row = record().rows[0]
    assert (row["endpoint"], row["failed"]) == (endpoint, 0) and isinstance(row["looks"], int) and row["looks"] > 1
    assert not Path("endpoint").exists(), "nobody is sent to where nobody answers"
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1)


def test_a_cancelled_job_ends_it_well() -> None:
    running = start("--walltime", "10:00:00", "--health", "/", SERVE)
    wait_for("endpoint")
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 0 and record().status == "ok"


@pytest.mark.parametrize(
    ("line", "words", "told"),
    [
        ("exit 3", [], "the service ended with 3 before it answered"),
        ("exec sleep 60", ["--ready-within", "1"], "the service did not answer within 1 s"),
        (f"timeout 2 {SERVE.removeprefix('exec ')}", [], "the service ended by itself with 124"),
        (
            f"({SERVE}) & sleep 2; kill -STOP $!; wait",
            ["--health", "/", "--failures", "1"],
            "the service did not answer 1 times running",
        ),
        (SERVE, ["--health", "/nowhere", "--ready-within", "1"], "the service did not answer within 1 s"),
    ],
)
def test_what_is_no_service_has_failed(line: str, words: list[str], told: str) -> None:
    running = start("--walltime", "00:10:00", *words, line)
    said = running.communicate(timeout=40)[0]
    assert running.returncode == 1, said
    assert record().message == told


def test_what_it_has_started_is_ended_with_it() -> None:
    running = start("--walltime", "10:00:00", f"sleep 1234 & echo $! > child; trap '' TERM; {SERVE}")
    wait_for("endpoint")
    child = int(wait_for("child"))
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=40)
    time.sleep(0.2)
    assert not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text().split()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("01:30", 90),
        ("01:00:00", 3600),
        ("1-12", 129600),
        ("1-00:30", 88200),
        ("2-01:01:01", 176461),
        ("90:00", 5400),
    ],
)
def test_limits_are_those_of_sbatch(text: str, seconds: int) -> None:
    assert limit_s(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "1-", "²"])
def test_what_is_no_limit_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        limit_s(text)


def test_a_margin_leaves_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        service.parse(["--walltime", "1", "--margin", "60", "x"])
    assert "expected less than the 60 s of --walltime" in capsys.readouterr().err
