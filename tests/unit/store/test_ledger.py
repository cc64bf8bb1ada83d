"""The ledger: what it keeps, who may move a job on, and what anybody may say of it. Runs on every kind of database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from unit.store.databases import Fresh
from westward.errors import InputError, NotFound
from westward.model.job import After, Dependency, JobState, JobStatus, Submission, new_key
from westward.store.ledger import Intent, Job, Ledger, Phase, Watched

NAMES = ["allreduce", 'it\'s "mine"', "two\nlines", "$(touch x)", "训练", "", "x" * 300]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def submission(name: str = "job~aaaaaaaaaaaa") -> Submission:
    return Submission(
        name=name, partition="gpu", account="research", qos=None, nodes=2, ntasks=4, ntasks_per_node=2, cpus_per_task=1,
        mem_per_node_mib=1024, gres="gpu:h100:4", walltime_s=300, root="/shared/me", directory=f"/shared/me/{name}",
        stdout=f"/shared/me/{name}.out", environment={"A": "it's\n\"b\""}, script="#!/bin/bash\ntrue\n", array="0-9%2",
        dependency="afterok:1", begin_at=1_700_000_000, requeue=True, options={"exclusive": None, "constraint": "a&b"},
    )  # fmt: skip


def intent(key: str | None = None, name: str = "job", site: str = "west", **more: Any) -> Intent:
    key = key or new_key()
    return Intent(key, name, "gemm", site, submission(f"job~{key}"), ("result.json",), {"policy": "cheapest"}, **more)


def add(ledger: Ledger, key: str | None = None, name: str = "job", site: str = "west") -> Job:
    return ledger.add([intent(key, name, site)])[0]


def let_go(ledger: Ledger, job_id: int = 42, **more: Any) -> Job:
    made = add(ledger, **more)
    ledger.attempt([made.key])
    ledger.handles({made.key: job_id})
    ledger.released([made.key])
    return ledger.get(made.key)


@pytest.fixture
def ledger(database: Fresh, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("WESTWARD_LEDGER", database.url)
    return database.ledger()


def python(code: str) -> subprocess.Popen[str]:
    """Another process with the same ledger."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_a_job_reads_back_as_it_was_written(ledger: Ledger, name: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=0.001)
    wanted = intent(name=name, waits_for=(Dependency(After.ANY, "b" * 12), Dependency(After.START, "c" * 12)))
    (made,) = ledger.add([wanted])
    ledger.close()
    job = ledger.get(wanted.key)
    assert job == made
    assert (job.name, job.template, job.site, job.phase, job.state) == (
        name, "gemm", "west", Phase.INTENT, JobState.PENDING,
    )  # fmt: skip
    assert job.submission == wanted.submission
    assert job.outputs == ("result.json",)
    assert job.decision == {"policy": "cheapest"}
    assert job.waits_for == wanted.waits_for
    assert before <= job.created_at <= datetime.now(UTC)
    assert (job.job_id, job.attempts, job.cancelled, job.ended_at, job.tasks) == (None, 0, False, None, {})


def test_a_life_step_by_step(ledger: Ledger) -> None:
    key = add(ledger).key
    assert ledger.attempt([key]) == {key}
    assert (ledger.get(key).phase, ledger.get(key).attempts) == (Phase.SUBMITTING, 1)
    assert ledger.handles({key: 2**32 - 1}) == {key}, "the id of a job in a federation of Slurm's own"
    assert (ledger.get(key).phase, ledger.get(key).job_id) == (Phase.HELD, 2**32 - 1)
    assert ledger.released([key]) == {key}
    running = JobStatus(42, "x", JobState.RUNNING, started_at=NOON, restarts=1, tasks={JobState.RUNNING: 3})
    ledger.seen({key: running}, ended=set())
    job = ledger.get(key)
    assert (job.phase, job.started_at, job.restarts, job.tasks) == (Phase.RELEASED, NOON, 1, {JobState.RUNNING: 3})
    ended = JobStatus(
        42, "x", JobState.FAILED, "NonZeroExitCode", exit_code=3, signal=9, started_at=NOON, ended_at=NOON
    )
    ledger.seen({key: ended}, ended={key})
    job = ledger.get(key)
    assert (job.phase, job.state, job.reason) == (Phase.ENDED, JobState.FAILED, "NonZeroExitCode")
    assert (job.exit_code, job.signal, job.ended_at) == (3, 9, NOON)


def test_each_of_many_gets_its_own(ledger: Ledger) -> None:
    keys = [job.key for job in ledger.add([intent() for _ in range(5)])]
    ledger.attempt(keys[:4])
    ledger.handles({keys[0]: 7, keys[1]: 8})
    ledger.refused({keys[2]: "no account", keys[3]: "no partition"})
    assert [(job.phase, job.job_id, job.reason) for job in ledger.get_many(keys)] == [
        (Phase.HELD, 7, ""), (Phase.HELD, 8, ""), (Phase.REFUSED, None, "no account"), (Phase.REFUSED, None, "no partition"),
        (Phase.INTENT, None, ""),
    ]  # fmt: skip
    assert ledger.unsettled() == {"west": [keys[0], keys[1], keys[4]]}


def test_newest_first_and_by_phase(ledger: Ledger) -> None:
    keys = [add(ledger).key for _ in range(5)]
    ledger.refused({keys[2]: "no"})
    assert [job.key for job in ledger.jobs()] == keys[::-1]
    assert [job.key for job in ledger.jobs(limit=2)] == keys[:-3:-1]
    assert [job.key for job in ledger.jobs(phases=[Phase.REFUSED])] == [keys[2]]


def test_jobs_that_were_added_together_keep_their_order(ledger: Ledger) -> None:
    keys = [job.key for job in ledger.add([intent() for _ in range(50)])]
    assert ledger.unsettled() == {"west": keys}
    assert [job.key for job in ledger.jobs()] == keys[::-1]


def test_a_wish_to_cancel_stops_the_record_of_the_release(ledger: Ledger) -> None:
    keys = [job.key for job in ledger.add([intent() for _ in range(2)])]
    ledger.handles(dict.fromkeys(keys, 1))
    ledger.cancel_wanted(keys[0])
    assert ledger.mine(keys) == {keys[0]: True, keys[1]: False}
    assert ledger.released(keys) == {keys[1]}
    assert [job.phase for job in ledger.get_many(keys)] == [Phase.HELD, Phase.RELEASED]
    assert ledger.released(keys[:1], wanted=False) == {keys[0]}


def test_a_job_that_was_let_go_is_no_longer_in_doubt(ledger: Ledger) -> None:
    doubtful, gone = add(ledger).key, let_go(ledger).key
    ledger.doubtful({doubtful: "no answer", gone: "no answer"})
    assert [job.reason for job in ledger.get_many([doubtful, gone])] == ["no answer", ""]


def test_jobs_of_several_requests_are_searched_for_twins_until_no_more_can_come(ledger: Ledger) -> None:
    once, twice = add(ledger).key, add(ledger).key
    ledger.attempt([once, twice])
    ledger.attempt([twice])
    ledger.handles({once: 1, twice: 2})
    ledger.released([once, twice])
    soon, long = timedelta(seconds=0), timedelta(minutes=30)
    due = {"west": [(twice, f"job~{twice}", 2)]}
    assert ledger.perhaps_twins(long) == ledger.perhaps_twins(long, thorough=False) == due
    ledger.searched_for_twins([twice])
    assert ledger.perhaps_twins(long) == due, "one could still come"
    assert ledger.perhaps_twins(long, thorough=False) == {}, "but not so soon again"
    assert ledger.perhaps_twins(soon) == {}


def test_jobs_of_a_site_that_is_no_more_are_lost(ledger: Ledger) -> None:
    going, ended = add(ledger).key, add(ledger).key
    ledger.refused({ended: "no"})
    ledger.site_silent("west", "nobody answers")
    assert ledger.abandon(["elsewhere"], "gone") == 0
    assert ledger.abandon(["west"], "its lab was taken down") == 1
    assert (ledger.get(going).state, ledger.get(going).reason) == (JobState.LOST, "its lab was taken down")
    assert ledger.get(ended).phase is Phase.REFUSED
    assert let_go(ledger).state is JobState.PENDING, "a new site of that name has said nothing yet"


def test_what_a_poll_needs(ledger: Ledger) -> None:
    made, other = let_go(ledger, 7), let_go(ledger, 8, site="east")
    add(ledger)
    ledger.seen({made.key: JobStatus(7, "x", JobState.PENDING, "Priority")}, ended=set())
    found = ledger.watched()
    assert {site: [job.key for job in jobs] for site, jobs in found.items()} == {
        "west": [made.key],
        "east": [other.key],
    }
    (watched,) = found["west"]
    assert isinstance(watched, Watched)
    assert watched[1:5] == (7, f"job~{made.key}", JobState.PENDING, "Priority")
    assert ledger.watched([other.key]).keys() == {"east"}
    assert ledger.watched([]) == {}


def test_more_keys_than_one_statement_takes(ledger: Ledger) -> None:
    made = let_go(ledger)
    keys = [made.key, *(f"{i:012d}" for i in range(40_000))]
    assert ledger.watched(keys).keys() == {"west"}
    assert ledger.mine(keys) == {made.key: False}
    with ledger.claim(keys) as mine:
        assert mine == [made.key]


def test_counts_with_the_silent_ones_as_unknown(ledger: Ledger) -> None:
    for _ in range(3):
        let_go(ledger)
    let_go(ledger, site="east")
    add(ledger)
    assert ledger.counts() == {(Phase.RELEASED, JobState.PENDING): 4, (Phase.INTENT, JobState.PENDING): 1}
    ledger.site_silent("west", "nobody answers")
    assert ledger.counts() == {
        (Phase.RELEASED, JobState.UNKNOWN): 3,
        (Phase.RELEASED, JobState.PENDING): 1,
        (Phase.INTENT, JobState.PENDING): 1,
    }
    ledger.site_answered("west")
    assert ledger.counts()[Phase.RELEASED, JobState.PENDING] == 4


def test_the_pulse_changes_with_what_there_is_to_do(ledger: Ledger) -> None:
    seen = [ledger.pulse()]
    key = add(ledger).key
    seen.append(ledger.pulse())
    ledger.handles({key: 1})
    assert ledger.pulse() == seen[-1]
    ledger.released([key])
    seen.append(ledger.pulse())
    ledger.seen({key: JobStatus(1, "x", JobState.RUNNING)}, ended=set())
    assert ledger.pulse() == seen[-1]
    assert len(set(seen)) == 3


class TestSites:
    def test_silence_tells_since_when_and_why_until_it_ends(self, ledger: Ledger) -> None:
        made = let_go(ledger)
        ledger.site_answered("west")
        seen_at = ledger.get(made.key).seen_at
        for why in ("nobody answers", "still nobody"):
            ledger.site_silent("west", why)
            job = ledger.get(made.key)
            assert (job.state, job.reason, job.seen_at) == (JobState.UNKNOWN, why, seen_at)
        ledger.site_answered("west")
        job = ledger.get(made.key)
        assert (job.state, job.reason) == (JobState.PENDING, "")
        assert job.seen_at is not None
        assert seen_at is not None
        assert job.seen_at >= seen_at

    def test_a_site_may_be_silent_from_the_first(self, ledger: Ledger) -> None:
        made = let_go(ledger)
        ledger.site_silent("west", "nobody answers")
        assert ledger.get(made.key).state is JobState.UNKNOWN
        assert ledger.get(made.key).seen_at == made.seen_at


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
        "text",
        ["", "~", "job~", "nothing", "%", "_", "abc%", "abcdefghijk_", "abcdefghijklm", "' OR 1=1 --", "\0", "größe"],
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
with Ledger().claim([{key!r}]) as mine:
    print(mine == [{key!r}], flush=True)
    sys.stdin.readline()
"""


class TestClaim:
    def test_one_process_at_a_time(self, ledger: Ledger) -> None:
        key = add(ledger).key
        with ledger.claim([key]):
            pass  # what `add` left us goes with the first claim
        holder = python(HOLDER.format(key=key))
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with ledger.claim([key]) as mine:
            assert not mine
        holder.communicate("\n", timeout=20)
        with ledger.claim([key]) as mine:
            assert mine

    @pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "not reaped yet"])
    def test_a_killed_holder_s_claim_is_taken_over(self, ledger: Ledger, reaped: bool) -> None:
        key = add(ledger).key
        with ledger.claim([key]):
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
            with ledger.claim([key]) as mine:
                assert mine
        finally:
            holder.communicate()

    def test_a_refused_claim_leaves_the_holder_s_alone(self, ledger: Ledger) -> None:
        key = add(ledger).key
        with ledger.claim([key]):
            pass
        holder = python(HOLDER.format(key=key))
        assert holder.stdout is not None
        holder.stdout.readline()
        for _ in range(2):
            with ledger.claim([key]) as mine:
                assert not mine
        holder.communicate("\n", timeout=20)

    def test_the_process_that_wrote_the_intent_holds_it(self, ledger: Ledger) -> None:
        """Between intent and submission nobody else may take the job up."""
        key = add(ledger).key
        other = python(HOLDER.format(key=key))
        assert other.communicate("\n", timeout=20)[0] == "False\n"


def test_two_processes_adding_at_once_lose_nothing(ledger: Ledger) -> None:
    code = "import unit.store.test_ledger as t; ledger = t.Ledger(); print(*[t.add(ledger).key for _ in range(50)])"
    writers = [python(code) for _ in range(2)]
    said = [writer.communicate(timeout=50) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    added = {key for out, _ in said for key in out.split()}
    assert len(added) == 100
    assert {job.key for job in ledger.jobs()} == added
