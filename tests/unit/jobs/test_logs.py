"""A log is read on from where one was, whatever becomes of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from unit.jobs.test_scripts import a_script
from unit.jobs.world import World, decision, submit
from westward.errors import InputError
from westward.jobs import logs
from westward.jobs.logs import Log, stderr_path, stdout_path
from westward.slurm.files import MountedFiles


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.out"


@pytest.fixture
def files(tmp_path: Path) -> MountedFiles:
    return MountedFiles("west", {"/there": tmp_path})


@pytest.fixture
def log(files: MountedFiles) -> Log:
    return Log(files, "/there/job.out")


def new(log: Log) -> bytes:
    return b"".join(log.more())


class TestReadingOn:
    def test_only_what_was_written_since(self, log: Log, file: Path) -> None:
        file.write_bytes(b"one\n")
        assert new(log) == b"one\n"
        assert new(log) == b""
        with file.open("ab") as more:
            more.write(b"two\nthr")
        assert new(log) == b"two\nthr"
        with file.open("ab") as more:
            more.write(b"ee\n\xff")
        assert new(log) == b"ee\n\xff"

    def test_a_file_is_never_read_again(self, log: Log, file: Path, files: MountedFiles) -> None:
        file.write_bytes(b"x" * 1_000_000)
        assert len(new(log)) == 1_000_000
        read = []
        part = files.part
        files.part = lambda path, start, most: read.append(start) or part(path, start, most)  # type: ignore[method-assign, func-returns-value]
        assert new(log) == b""
        assert read == [1_000_000 - 256]

    def test_one_that_is_not_there_yet(self, log: Log, file: Path) -> None:
        with pytest.raises(FileNotFoundError):
            new(log)
        file.write_bytes(b"one\n")
        assert new(log) == b"one\n"

    def test_a_long_one_comes_in_parts(self, log: Log, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs, "WINDOW", 10)
        text = bytes(range(35))
        file.write_bytes(text)
        pieces = list(log.more())
        assert (b"".join(pieces), len(pieces)) == (text, 4)


class TestAnotherFile:
    """A job that is put back starts anew in the same file; a log may be rotated."""

    def test_cut_short(self, log: Log, file: Path) -> None:
        file.write_bytes(b"the first attempt\n")
        new(log)
        file.write_bytes(b"second\n")
        assert new(log) == b"second\n"

    def test_cut_short_and_grown_longer_than_before(self, log: Log, file: Path) -> None:
        file.write_bytes(b"first\n")
        new(log)
        file.write_bytes(b"the second attempt, at length\n")
        assert new(log) == b"the second attempt, at length\n"

    def test_emptied(self, log: Log, file: Path) -> None:
        file.write_bytes(b"first\n")
        new(log)
        file.write_bytes(b"")
        assert new(log) == b""
        file.write_bytes(b"first\nsecond\n")
        assert new(log) == b"first\nsecond\n"

    def test_moved_away_and_begun_anew(self, log: Log, file: Path) -> None:
        file.write_bytes(b"first\n")
        new(log)
        file.rename(file.with_suffix(".1"))
        with pytest.raises(FileNotFoundError):
            new(log)
        file.write_bytes(b"first\n")
        assert new(log) == b"first\n"

    def test_one_that_is_appended_to_goes_on(self, log: Log, file: Path) -> None:
        file.write_bytes(b"first\n")
        new(log)
        file.write_bytes(b"first\nagain\n")
        assert new(log) == b"again\n"


class TestTheLastLines:
    @pytest.mark.parametrize(
        ("text", "lines", "last"),
        [
            (b"a\nb\nc\n", 2, b"b\nc\n"),
            (b"a\nb\nc", 2, b"b\nc"),
            (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
            (b"a\nb\nc\n", 9, b"a\nb\nc\n"),
            (b"a\nb\nc\n", 0, b""),
            (b"\n\n\n", 2, b"\n\n"),
            (b"", 5, b""),
            (b"a", 1, b"a"),
        ],
    )
    def test_of_a_short_one(self, files: MountedFiles, file: Path, text: bytes, lines: int, last: bytes) -> None:
        file.write_bytes(text)
        assert new(Log(files, "/there/job.out", lines)) == last

    def test_of_one_that_is_longer_than_a_block(self, files: MountedFiles, file: Path) -> None:
        written = [b"line %d" % number for number in range(50_000)]
        file.write_bytes(b"\n".join(written) + b"\n")
        for lines in (1, 7_000, 20_000):
            assert new(Log(files, "/there/job.out", lines)) == b"\n".join(written[-lines:]) + b"\n"

    def test_what_comes_later_comes_in_full(self, files: MountedFiles, file: Path) -> None:
        file.write_bytes(b"a\nb\n")
        log = Log(files, "/there/job.out", 1)
        assert new(log) == b"b\n"
        with file.open("ab") as more:
            more.write(b"c\nd\ne\n")
        assert new(log) == b"c\nd\ne\n"

    def test_of_one_that_was_not_there_all_is_new(self, files: MountedFiles, file: Path) -> None:
        log = Log(files, "/there/job.out", 1)
        with pytest.raises(FileNotFoundError):
            new(log)
        file.write_bytes(b"a\nb\n")
        assert new(log) == b"a\nb\n"


class TestWhereItsStderrGoes:
    def test_beside_its_stdout(self, world: World) -> None:
        assert stderr_path(submit(world)) is None
        assert stderr_path(world.jobs().submit(a_script(), decision())) is None

    def test_to_a_file_of_its_own(self, world: World) -> None:
        job = world.jobs().submit(a_script("-o o-%j.txt", "-e e-%j.txt"), decision())
        assert stderr_path(job) == f"{job.submission.directory}/e-1.txt"
        assert stdout_path(job) == f"{job.submission.directory}/o-1.txt"

    def test_to_one_below_the_root_for_a_template_s(self, world: World) -> None:
        job = submit(world, options={"error": "errors/%x.txt"})
        assert stderr_path(job) == f"{job.submission.root}/errors/{job.submission.name}.txt"

    def test_of_a_task(self, world: World) -> None:
        job = world.jobs().submit(a_script("-a 1-2", "-e /shared/e-%A_%a"), decision())
        assert stderr_path(job, 2) == "/shared/e-1_2"
        with pytest.raises(InputError, match="is an array"):
            stderr_path(job)

    @pytest.mark.parametrize("line", ["-e /dev/null", "-e slurm-%j.out"])
    def test_nowhere_else(self, world: World, line: str) -> None:
        assert stderr_path(world.jobs().submit(a_script(line), decision())) is None
