"""The ledger: what it keeps, who may move a job on, and what a broken file says."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from westward.errors import InputError, NotFound, StorageError
from westward.model.job import JobState, JobStatus, Submission, new_key
from westward.store.ledger import Job, Ledger, Phase

NAMES = ["allreduce", 'it\'s "mine"', "two\nlines", "$(touch x)", "训练", "", "x" * 300]


def submission(name: str = "job~aaaaaaaaaaaa") -> Submission:
    return Submission(
        name=name, partition="gpu", account="research", qos=None, nodes=2, ntasks=4, ntasks_per_node=2, cpus_per_task=1,
        mem_per_node_mib=1024, gres="gpu:h100:4", walltime_s=300, root="/shared/me", directory=f"/shared/me/{name}",
        stdout=f"/shared/me/{name}.out", environment={"A": "it's\n\"b\""}, script="#!/bin/bash\ntrue\n",
    )  # fmt: skip


def add(ledger: Ledger, key: str | None = None, name: str = "job") -> Job:
    key = key or new_key()
    return ledger.add(key, name, "gemm", "west", submission(f"job~{key}"), ["result.json"], {"policy": "cheapest"})


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


def python(code: str, **more: object) -> subprocess.Popen[str]:
    """Another process with the same ledger; it finds this file as the module `test_ledger`."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **more,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_a_job_reads_back_as_it_was_written(ledger: Ledger, name: str) -> None:
    before = datetime.now(UTC)
    key = new_key()
    add(ledger, key, name)
    ledger.close()
    job = Ledger().get(key)
    assert (job.name, job.template, job.site, job.phase, job.state) == (
        name, "gemm", "west", Phase.INTENT, JobState.PENDING,
    )  # fmt: skip
    assert job.submission == submission(f"job~{key}")
    assert job.outputs == ("result.json",)
    assert job.decision == {"policy": "cheapest"}
    assert before <= job.created_at <= datetime.now(UTC)
    assert (job.job_id, job.attempts, job.cancelled, job.ended_at) == (None, 0, False, None)


def test_a_life_step_by_step(ledger: Ledger) -> None:
    key = add(ledger).key
    ledger.attempt(key)
    assert (ledger.get(key).phase, ledger.get(key).attempts) == (Phase.SUBMITTING, 1)
    ledger.handle(key, 42)
    assert (ledger.get(key).phase, ledger.get(key).job_id) == (Phase.HELD, 42)
    ledger.released(key)
    started = datetime(2026, 1, 1, tzinfo=UTC)
    ledger.seen(key, JobStatus(42, "x", JobState.RUNNING, started_at=started))
    assert (ledger.get(key).phase, ledger.get(key).started_at) == (Phase.RELEASED, started)
    ended = JobStatus(42, "x", JobState.FAILED, "NonZeroExitCode", exit_code=3, started_at=started, ended_at=started)
    ledger.seen(key, ended)
    job = ledger.get(key)
    assert (job.phase, job.state, job.exit_code, job.reason) == (Phase.ENDED, JobState.FAILED, 3, "NonZeroExitCode")


def test_newest_first_and_by_phase(ledger: Ledger) -> None:
    keys = [add(ledger).key for _ in range(5)]
    ledger.refused(keys[2], "no")
    assert [job.key for job in ledger.jobs()] == keys[::-1]
    assert [job.key for job in ledger.jobs(limit=2)] == keys[:-3:-1]
    assert [job.key for job in ledger.jobs(phases=[Phase.REFUSED])] == [keys[2]]


def test_jobs_of_several_requests_are_searched_for_twins_until_no_more_can_come(ledger: Ledger) -> None:
    once, twice = add(ledger).key, add(ledger).key
    ledger.attempt(once)
    for _ in range(2):
        ledger.attempt(twice)
    for key in (once, twice):
        ledger.handle(key, 1)
        ledger.released(key)
    soon, long = timedelta(seconds=0), timedelta(minutes=30)
    assert [job.key for job in ledger.perhaps_twins(long)] == [twice]
    ledger.searched_for_twins(twice)
    assert [job.key for job in ledger.perhaps_twins(long)] == [twice], "one could still come"
    assert ledger.perhaps_twins(soon) == []


def test_jobs_of_a_site_that_is_no_more_are_lost(ledger: Ledger) -> None:
    going, ended = add(ledger).key, add(ledger).key
    ledger.refused(ended, "no")
    site = ledger.get(going).site
    assert ledger.abandon(["elsewhere"], "gone") == 0
    assert ledger.abandon([site], "its lab was taken down") == 1
    assert (ledger.get(going).state, ledger.get(going).reason) == (JobState.LOST, "its lab was taken down")
    assert ledger.get(ended).phase is Phase.REFUSED


def test_a_ledger_of_another_version_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    Ledger(f"sqlite:///{file}").close()
    connection = sqlite3.connect(file)
    connection.execute("UPDATE schema SET version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="another version") as caught:
        Ledger(f"sqlite:///{file}")
    assert "move the file away" in caught.value.next_step


class TestFind:
    @pytest.fixture(autouse=True)
    def jobs(self, ledger: Ledger) -> None:
        for key in ("abcdefghijkl", "abczzzzzzzzz", "qrstuvwxyz23"):
            add(ledger, key)

    @pytest.mark.parametrize("text", ["abcdefghijkl", "abcd", "ABCD", "job~abcdefghijkl", "two words~abcd"])
    def test_by_key_by_its_beginning_and_by_the_name_at_the_cluster(self, ledger: Ledger, text: str) -> None:
        assert ledger.find(text).key == "abcdefghijkl"

    def test_several_are_listed(self, ledger: Ledger) -> None:
        with pytest.raises(InputError, match=r"abcdefghijkl.*abczzzzzzzzz"):
            ledger.find("abc")

    @pytest.mark.parametrize(
        "text", ["", "~", "job~", "nothing", "%", "_", "abc%", "abcdefghijk_", "' OR 1=1 --", "\0"]
    )
    def test_nothing_else_is_found(self, ledger: Ledger, text: str) -> None:
        with pytest.raises(NotFound) as caught:
            ledger.find(text)
        assert "westward jobs" in caught.value.next_step

    def test_a_byte_that_is_no_text_is_not_found_either(self, ledger: Ledger) -> None:
        with pytest.raises(InputError):
            ledger.find("\udcff")


HOLDER = """
import sys
from westward.store.ledger import Ledger
with Ledger().claim(sys.argv[1] if len(sys.argv) > 1 else {key!r}) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


class TestClaim:
    def test_one_process_at_a_time(self, ledger: Ledger) -> None:
        key = add(ledger).key
        with ledger.claim(key):
            pass  # what `add` left us goes with the first claim
        holder = python(HOLDER.format(key=key))
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with ledger.claim(key) as mine:
            assert not mine
        holder.communicate("\n", timeout=20)
        with ledger.claim(key) as mine:
            assert mine

    @pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "not reaped yet"])
    def test_a_killed_holder_s_claim_is_taken_over(self, ledger: Ledger, reaped: bool) -> None:
        key = add(ledger).key
        with ledger.claim(key):
            pass
        holder = python(HOLDER.format(key=key))
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        holder.send_signal(signal.SIGKILL)
        if reaped:
            holder.wait()
        else:
            os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        try:
            with ledger.claim(key) as mine:
                assert mine
        finally:
            holder.communicate()

    def test_a_refused_claim_leaves_the_holder_s_alone(self, ledger: Ledger) -> None:
        key = add(ledger).key
        with ledger.claim(key):
            pass
        holder = python(HOLDER.format(key=key))
        assert holder.stdout is not None
        holder.stdout.readline()
        for _ in range(2):
            with ledger.claim(key) as mine:
                assert not mine
        holder.communicate("\n", timeout=20)

    def test_the_process_that_wrote_the_intent_holds_it(self, ledger: Ledger) -> None:
        """Between intent and submission nobody else may take the job up."""
        key = add(ledger).key
        other = python(HOLDER.format(key=key))
        assert other.communicate("\n", timeout=20)[0] == "False\n"


def test_two_processes_adding_at_once_lose_nothing(ledger: Ledger) -> None:
    code = "import test_ledger as t; ledger = t.Ledger(); print(*[t.add(ledger).key for _ in range(50)])"
    writers = [python(code) for _ in range(2)]
    said = [writer.communicate(timeout=50) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    added = {key for out, _ in said for key in out.split()}
    assert len(added) == 100
    assert {job.key for job in ledger.jobs()} == added


def test_only_its_owner_can_read_it(ledger: Ledger, file: Path) -> None:
    add(ledger)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    for part in file.parent.iterdir():
        assert stat.S_IMODE(part.stat().st_mode) == 0o600, part


class TestBroken:
    def test_a_damaged_file_is_named_with_a_next_step(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700)
        file.write_bytes(b"this is no database, and long enough to be seen as none\n" * 100)
        with pytest.raises(StorageError) as caught:
            Ledger().jobs()
        assert str(file) in str(caught.value)
        assert caught.value.next_step

    def test_a_file_that_cannot_be_written_is_named_with_a_next_step(self, ledger: Ledger, file: Path) -> None:
        key = add(ledger).key
        ledger.close()
        read_only = Ledger.__new__(Ledger)
        with pytest.raises(StorageError) as caught:
            read_only.__init__(f"sqlite:///file:{file}?mode=ro&uri=true")  # type: ignore[misc]
            read_only.attempt(key)
        assert "ledger.sqlite" in str(caught.value)
        assert caught.value.next_step
        assert Ledger().get(key).phase is Phase.INTENT

    def test_a_directory_in_its_place_is_named_with_a_next_step(self, file: Path) -> None:
        file.mkdir(parents=True)
        with pytest.raises(StorageError) as caught:
            Ledger()
        assert str(file) in str(caught.value)
        assert caught.value.next_step

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have a file of somebody else")
    def test_a_file_of_somebody_else_is_named_with_a_next_step(self) -> None:
        """What is left when somebody ran `sudo westward` once: root's ledger in the user's own directory."""
        nobody = 65534
        code = (
            "import os, sys\nfrom westward.errors import StorageError\nfrom westward.store.ledger import Ledger\n"
            "Ledger('sqlite://').jobs()\n"  # everything is loaded before this process gives up its rights
            f"os.setgid({nobody}); os.setuid({nobody})\n"
            "try: Ledger(f'sqlite:///{sys.stdin.readline().strip()}')\n"
            "except StorageError as error: print(error, '|', error.next_step)"
        )
        with tempfile.TemporaryDirectory(prefix="westward-test-", dir="/tmp") as place:
            file = Path(place) / "ledger.sqlite"
            Ledger(f"sqlite:///{file}").close()
            os.chown(place, nobody, nobody)
            out, err = python(code).communicate(f"{file}\n", timeout=20)
        assert "ledger.sqlite" in out, err
        assert out.partition("|")[2].strip()

    def test_a_write_that_fails_keeps_what_was_there_and_says_so(self, ledger: Ledger, file: Path) -> None:
        """A full disk, played by a limit on file sizes: the system call that fails is the same."""
        kept = add(ledger).key
        ledger.close()
        code = (
            "import test_ledger as t\nledger = t.Ledger()\n"
            "try:\n  while True: t.add(ledger, name='x' * 10_000)\n"
            "except t.StorageError as error: print(error, '|', error.next_step)"
        )
        full = (200_000, 200_000)
        writer = python(code, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full))
        out, err = writer.communicate(timeout=30)
        assert str(file) in out, err
        assert out.partition("|")[2].strip()
        again = Ledger()
        assert again.get(kept).phase is Phase.INTENT
        with sqlite3.connect(file) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
