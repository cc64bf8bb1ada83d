"""What a job left behind: a missing or a bad output is never a success."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unit.federation.worlds import site as a_site
from westward.errors import InputError, StorageError, Unreachable, Unsafe
from westward.jobs import gathering
from westward.jobs.collect import collect, copy_outputs, open_log
from westward.jobs.gathering import results_dir
from westward.model.job import JobState, JobStatus, Submission
from westward.model.result import JobResult
from westward.model.site import Site
from westward.slurm.files import SiteFiles
from westward.store.ledger import Intent, Job, Ledger

Ended = Callable[..., Job]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "VISIBLE_WITHIN_S", 0.0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "mount" / "me").mkdir(parents=True)
    return replace(a_site("west"), files={"/shared": tmp_path / "mount"}, root="/shared/me")


@pytest.fixture
def directory(tmp_path: Path, site: Site) -> Path:
    """The job's own directory, as it is seen here."""
    made = tmp_path / "mount" / "me" / "job~aaaaaaaaaaaa"
    made.mkdir()
    return made


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Ended]:
    ledger = Ledger()

    def ended(
        state: JobState = JobState.COMPLETED,
        outputs: tuple[str, ...] = ("result.json",),
        array: str | None = None,
        stdout: str = "/shared/me/job~aaaaaaaaaaaa.out",
        **more: Any,
    ) -> Job:
        key = "a" * 12
        submission = Submission(
            name=f"job~{key}", partition="gpu", account=None, qos=None, nodes=1, ntasks=1, ntasks_per_node=1,
            cpus_per_task=1, mem_per_node_mib=None, gres=None, walltime_s=60, root="/shared/me",
            directory=f"/shared/me/job~{key}", stdout=stdout, environment={}, script="",
        )  # fmt: skip
        ledger.add([Intent(key, "job", "gemm", "west", replace(submission, array=array), outputs, {})])
        ledger.handles({key: 7})
        ledger.released([key])
        ledger.seen({key: JobStatus(7, submission.name, state, **more)}, ended={key} if state.final else ())
        return ledger.get(key)

    yield ended
    ledger.close()


def write(directory: Path, content: Any) -> None:
    (directory / "result.json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_completed_with_a_good_record_is_a_success(ended: Ended, site: Site, directory: Path) -> None:
    write(directory, {"status": "ok", "rows": [1]})
    result = collect(ended(), site)
    assert result.ok
    assert result.problem == ""
    assert result.record == {"status": "ok", "rows": [1]}
    assert result.files["result.json"].parent == results_dir("a" * 12)


def test_completed_without_its_output_is_no_success(ended: Ended, site: Site, directory: Path) -> None:
    result = collect(ended(), site)
    assert not result.ok
    assert result.problem == "it ended COMPLETED but left no result.json"
    assert result.record is None


def test_completed_without_even_a_directory_is_no_success(ended: Ended, site: Site) -> None:
    assert not collect(ended(), site).ok


def test_a_job_that_promised_nothing_needs_nothing(ended: Ended, site: Site) -> None:
    assert collect(ended(outputs=()), site).ok


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.COMPLETED])
def test_every_other_end_is_a_problem_though_the_record_is_good(
    ended: Ended, site: Site, directory: Path, state: JobState
) -> None:
    write(directory, {"status": "ok"})
    result = collect(ended(state), site)
    assert not result.ok
    assert str(state) in result.problem


def test_a_failure_says_exit_code_and_reason(ended: Ended, site: Site, directory: Path) -> None:
    result = collect(ended(JobState.FAILED, exit_code=3, reason="NonZeroExitCode"), site)
    assert result.problem == "ended FAILED with exit code 3: NonZeroExitCode"


def test_a_benchmark_that_says_it_failed_has_failed(ended: Ended, site: Site, directory: Path) -> None:
    write(directory, {"status": "failed", "message": "3 of 1024 values were wrong"})
    result = collect(ended(), site)
    assert not result.ok
    assert result.problem == "3 of 1024 values were wrong"
    assert result.record is not None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "no JSON",
        "[]",
        "null",
        '"ok"',
        "{}",
        '{"status": "fine"}',
        '{"status": null}',
        "[" * 200_000,
        "9" * 10_000,
    ],
    ids=lambda content: content[:12],
)
def test_a_record_that_does_not_say_ok_is_no_success(ended: Ended, site: Site, directory: Path, content: str) -> None:
    write(directory, content)
    result = collect(ended(), site)
    assert not result.ok
    assert result.problem


def test_a_record_that_is_no_text_is_no_success(ended: Ended, site: Site, directory: Path) -> None:
    (directory / "result.json").write_bytes(b"\xff\xfe{}")
    assert "result.json" in collect(ended(), site).problem


def test_a_link_is_not_followed(ended: Ended, site: Site, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"status": "ok"}')
    (directory / "result.json").symlink_to(tmp_path / "other.json")
    result = collect(ended(), site)
    assert not result.ok
    assert "result.json could not be fetched" in result.problem


@pytest.mark.parametrize("name", ["..", ".", "../other/result.json", "/etc/hostname", "a/..", ""])
def test_an_output_elsewhere_is_no_success(ended: Ended, site: Site, directory: Path, name: str) -> None:
    assert not collect(ended(outputs=(name,)), site).ok


def test_outputs_of_one_name_in_two_directories_are_two(ended: Ended, site: Site, directory: Path) -> None:
    for rank in ("0", "1"):
        (directory / rank).mkdir()
    (directory / "0" / "log.txt").write_text("of rank 0")
    result = collect(ended(outputs=("0/log.txt", "1/log.txt")), site)
    assert not result.ok, "1/log.txt is missing"
    (directory / "1" / "log.txt").write_text("of rank 1")
    result = replace(result, files=collect(replace_outputs(result.key), site).files)
    assert [result.files[name].read_text() for name in ("0/log.txt", "1/log.txt")] == ["of rank 0", "of rank 1"]


def replace_outputs(key: str) -> Job:
    return Ledger().get(key)


def test_what_was_fetched_stays_when_the_site_is_gone(ended: Ended, site: Site, directory: Path) -> None:
    write(directory, {"status": "ok"})
    job = ended()
    collect(job, site)
    (directory / "result.json").unlink()
    assert collect(job, site).ok


def test_a_file_that_the_network_shows_a_moment_later_is_waited_for(
    ended: Ended, site: Site, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "VISIBLE_WITHIN_S", 5.0)
    threading.Timer(0.3, write, (directory, {"status": "ok"})).start()
    started = time.monotonic()
    assert collect(ended(), site).ok
    assert time.monotonic() - started < 3


class TestAway:
    """A site that does not answer neither makes nor breaks a success: what it would have said is not known."""

    def test_its_outputs_may_come_later(self, ended: Ended, site: Site, directory: Path, tmp_path: Path) -> None:
        write(directory, {"status": "ok"})
        job = ended()
        (tmp_path / "mount").rename(tmp_path / "gone")
        result = collect(job, site)
        assert (result.ok, result.problem) == (False, "")
        assert isinstance(result.away, Unreachable)
        (tmp_path / "gone").rename(tmp_path / "mount")
        assert collect(job, site).ok

    def test_a_site_that_is_no_longer_described(self, ended: Ended) -> None:
        result = collect(ended(), None)
        assert (result.ok, result.problem) == (False, "")
        assert result.away is not None
        assert "put its description back" in result.away.next_step

    def test_what_failed_has_failed_all_the_same(self, ended: Ended) -> None:
        assert collect(ended(JobState.FAILED), None).problem == "ended FAILED"

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What is asked for at a site whose connection is lost at a.txt."""
        asked: list[str] = []
        fetch = SiteFiles.fetch

        def until_it_is_lost(self: SiteFiles, path: str, target: Path) -> None:
            asked.append(path.rpartition("/")[2])
            if path.endswith("a.txt"):
                raise Unreachable("site 'west': the connection was lost")
            fetch(self, path, target)

        monkeypatch.setattr(SiteFiles, "fetch", until_it_is_lost)
        return asked

    def test_a_missing_output_is_a_failure_though_another_cannot_be_asked_for(
        self, ended: Ended, site: Site, asked: list[str]
    ) -> None:
        result = collect(ended(outputs=("missing.txt", "a.txt")), site)
        assert result.problem == "it ended COMPLETED but left no missing.txt"

    def test_it_is_not_asked_again_for_each_of_many(self, ended: Ended, site: Site, asked: list[str]) -> None:
        assert collect(ended(outputs=("a.txt",), array="0-99"), site).away is not None
        assert asked == ["a.txt"]


def test_the_log_is_read_where_the_job_wrote_it(ended: Ended, site: Site, directory: Path) -> None:
    job = ended()
    with pytest.raises(FileNotFoundError), open_log(job, site):
        pass
    directory.with_name(f"{directory.name}.out").write_bytes(b"hello\n\xff")
    with open_log(job, site) as log:
        assert log.read() == b"hello\n\xff"


class TestArray:
    """Each task has a directory and a log of its own."""

    def test_every_task_must_leave_its_outputs(self, ended: Ended, site: Site, directory: Path) -> None:
        job = ended(array="0,2-3%1")
        for task in (0, 2):
            (directory / str(task)).mkdir()
            write(directory / str(task), {"status": "ok", "task": task})
        result = collect(job, site)
        assert not result.ok
        assert result.problem == "task 3: it ended COMPLETED but left no result.json"
        (directory / "3").mkdir()
        write(directory / "3", {"status": "ok", "task": 3})
        result = collect(job, site)
        assert result.ok
        assert {name: json.loads(file.read_text())["task"] for name, file in result.files.items()} == {
            "0/result.json": 0, "2/result.json": 2, "3/result.json": 3,
        }  # fmt: skip

    def test_a_task_that_says_it_failed_has_failed(self, ended: Ended, site: Site, directory: Path) -> None:
        """Slurm knows nothing of it: each task ended with exit code 0."""
        job = ended(array="0-3")
        for task in range(4):
            (directory / str(task)).mkdir()
            good = {"status": "ok"} if task != 2 else {"status": "failed", "message": "3 of 1024 values were wrong"}
            write(directory / str(task), good)
        result = collect(job, site)
        assert not result.ok
        assert result.problem == "task 2: 3 of 1024 values were wrong"

    def test_of_many_the_first_is_told_and_the_others_are_named(
        self, ended: Ended, site: Site, directory: Path
    ) -> None:
        job = ended(array="0-19")
        for task in range(20):
            (directory / str(task)).mkdir()
            write(directory / str(task), "{" if task == 3 else {"status": "failed" if task > 4 else "ok"})
        said = collect(job, site).problem
        assert said.startswith("task 3: result.json cannot be read")
        assert said.endswith(" (and 15 more of its tasks: 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, ...)")

    def test_the_log_of_one_task(self, ended: Ended, site: Site, directory: Path) -> None:
        job = ended(array="0-3", stdout="/shared/me/job~aaaaaaaaaaaa.%a.out")
        directory.with_name(f"{directory.name}.2.out").write_bytes(b"two")
        with open_log(job, site, task=2) as log:
            assert log.read() == b"two"

    def test_which_task_must_be_said_of_an_array_and_only_of_one(
        self, ended: Ended, site: Site, directory: Path
    ) -> None:
        with pytest.raises(InputError, match="is an array") as caught, open_log(ended(array="0-3"), site):
            pass
        assert "--task 0" in caught.value.next_step


def test_a_job_that_is_no_array_has_no_tasks(ended: Ended, site: Site, directory: Path) -> None:
    with pytest.raises(InputError, match="is no array"), open_log(ended(), site, task=0):
        pass


class TestCopies:
    """Where the user wants them, and nothing of his is lost."""

    @pytest.fixture
    def result(self, ended: Ended, site: Site, directory: Path) -> JobResult:
        (directory / "sub").mkdir()
        (directory / "a.txt").write_text("a")
        (directory / "sub" / "b.txt").write_text("b")
        return collect(ended(outputs=("a.txt", "sub/b.txt", "missing.txt")), site)

    def test_what_there_is_under_its_names(self, result: JobResult, tmp_path: Path) -> None:
        there = tmp_path / "new" / "here"
        assert copy_outputs(result, there) == [there / "a.txt", there / "sub" / "b.txt"]
        assert ((there / "a.txt").read_text(), (there / "sub" / "b.txt").read_text()) == ("a", "b")

    def test_nothing_is_overwritten_and_then_nothing_is_copied(self, result: JobResult, tmp_path: Path) -> None:
        (tmp_path / "here" / "sub").mkdir(parents=True)
        (tmp_path / "here" / "sub" / "b.txt").symlink_to("nowhere")
        with pytest.raises(Unsafe, match=r"b.txt' would be overwritten; nothing was copied"):
            copy_outputs(result, tmp_path / "here")
        assert not (tmp_path / "here" / "a.txt").exists()
        copy_outputs(result, tmp_path / "here", force=True)
        assert not (tmp_path / "here" / "sub" / "b.txt").is_symlink()
        assert [path.name for path in (tmp_path / "here").iterdir()] in (["a.txt", "sub"], ["sub", "a.txt"])

    def test_a_place_that_cannot_be_written(self, result: JobResult, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="cannot write"):
            copy_outputs(result, tmp_path / "file" / "here")
