"""Files of a site through mounts: what jobs wrote there is not trusted."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from unit.slurm.fakes import Sshd, serving
from westward.errors import StorageError, Unreachable, WestwardError
from westward.model.site import Power, Prices, ShellDoor, Site
from westward.process import Completed
from westward.slurm.client import InDoubt
from westward.slurm.commands import Request
from westward.slurm.files import MountedFiles, Part, RemoteFiles, open_files
from westward.slurm.remote import RemoteCommands

SECRET = b"a file of the user's own, outside of the site"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    made = tmp_path / "mount"
    (made / "me" / "job").mkdir(parents=True)
    (made / "me" / "job" / "result.json").write_bytes(b"{}")
    (tmp_path / "secret").write_bytes(SECRET)
    return made


@pytest.fixture
def files(mount: Path) -> MountedFiles:
    return MountedFiles("west", {"/shared": mount})


def test_a_file_is_read_through_its_mount(files: MountedFiles) -> None:
    with files.open("/shared/me/job/result.json") as file:
        assert file.read() == b"{}"


@pytest.mark.parametrize("path", ["/shared/me/job/other", "/shared/nobody/job/result.json", "/shared/me/job/a/b/c"])
def test_what_is_not_there_yet(files: MountedFiles, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.open(path)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/shared", "/sharedness/x", "/shared/../secret", "/shared/me/../../secret", "relative", "", "/"],
)
def test_what_no_mount_covers_is_never_read(files: MountedFiles, path: str) -> None:
    with pytest.raises(Unreachable, match="site 'west'") as caught:
        files.open(path)
    assert "access: files" in caught.value.next_step


def link_file(job: Path) -> None:
    (job / "result.json").unlink()
    (job / "result.json").symlink_to(job.parents[2] / "secret")


def link_directory(job: Path) -> None:
    (job / "result.json").unlink()
    (job.parents[2] / "elsewhere").mkdir()
    (job.parents[2] / "elsewhere" / "result.json").write_bytes(SECRET)
    job.rmdir()
    job.symlink_to(job.parents[2] / "elsewhere")


def a_directory(job: Path) -> None:
    (job / "result.json").unlink()
    (job / "result.json").mkdir()


def a_pipe(job: Path) -> None:
    (job / "result.json").unlink()
    os.mkfifo(job / "result.json")


@pytest.mark.parametrize("instead", [link_file, link_directory, a_directory, a_pipe], ids=lambda f: f.__name__)
def test_only_plain_files_under_plain_directories_are_read(
    files: MountedFiles, mount: Path, tmp_path: Path, instead: Callable[[Path], None]
) -> None:
    instead(mount / "me" / "job")
    with pytest.raises(StorageError, match="site 'west'"):
        files.open("/shared/me/job/result.json")
    with pytest.raises(StorageError):
        files.fetch("/shared/me/job/result.json", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_mount_that_is_away_is_not_the_job_s_fault(tmp_path: Path) -> None:
    with pytest.raises(WestwardError, match="gone"):
        MountedFiles("west", {"/shared": tmp_path / "gone"}).open("/shared/me/job/result.json")


def test_looking_again_and_again_uses_nothing_up(files: MountedFiles, mount: Path) -> None:
    """A watcher looks for the same missing file for hours."""
    (mount / "me" / "link").symlink_to(mount / "me" / "job")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/shared/nobody/job/result.json", "/shared/me/job/missing", "/shared/me/link/result.json"):
        for _ in range(20):
            with pytest.raises((FileNotFoundError, StorageError)):
                files.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_fetched_byte_by_byte(files: MountedFiles, mount: Path, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (mount / "me" / "job" / "result.json").write_bytes(content)
    (tmp_path / "target").write_bytes(b"an older one")
    files.fetch("/shared/me/job/result.json", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content


def test_a_file_is_fetched_whole_or_not_at_all(mount: Path, tmp_path: Path) -> None:
    """The disk fills up half-way; a limit on file sizes stands for that."""
    (mount / "me" / "job" / "result.json").write_bytes(b"x" * 1_000_000)
    kept = tmp_path / "kept"
    kept.mkdir()
    code = (
        "from pathlib import Path; from westward.slurm.files import *\n"
        f"try: MountedFiles('west', {{'/shared': Path({str(mount)!r})}}).fetch('/shared/me/job/result.json', Path({str(kept / 'target')!r}))\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        check=False,
    )
    assert "target" in done.stdout, done.stderr
    assert list(kept.iterdir()) == []


def test_a_target_that_cannot_be_written_is_named(files: MountedFiles, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing/target"):
        files.fetch("/shared/me/job/result.json", tmp_path / "missing" / "target")


# --- by ssh -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    with serving(key, os.environ["PATH"], tmp_path) as made:
        (tmp_path / "known_hosts").write_text(made.line())
        yield made


@pytest.fixture
def door(sshd: Sshd, tmp_path: Path) -> ShellDoor:
    return ShellDoor("127.0.0.1", "u17", sshd.port, tmp_path / "key", tmp_path / "known_hosts")


@pytest.fixture
def remote(door: ShellDoor, mount: Path) -> Iterator[RemoteFiles]:
    files = RemoteFiles("west", door, str(mount))
    yield files
    files.close()


def test_a_file_is_read_and_fetched_by_sftp(remote: RemoteFiles, mount: Path, tmp_path: Path) -> None:
    path = str(mount / "me" / "job" / "result.json")
    with remote.open(path) as file:
        assert file.read() == b"{}"
    content = os.urandom(3_000_000)
    Path(path).write_bytes(content)
    remote.fetch(path, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content


def test_what_is_not_there_yet_by_sftp(remote: RemoteFiles, mount: Path) -> None:
    with pytest.raises(FileNotFoundError):
        remote.open(str(mount / "me" / "job" / "other"))


@pytest.mark.parametrize("path", ["/etc/passwd", "{root}", "{root}/../secret", "{root}/me/../../secret", "relative"])
def test_what_lies_elsewhere_is_never_read_by_sftp(remote: RemoteFiles, mount: Path, path: str) -> None:
    with pytest.raises(Unreachable, match="site 'west'"):
        remote.open(path.format(root=mount))


@pytest.mark.parametrize("instead", [link_file, link_directory, a_directory, a_pipe], ids=lambda f: f.__name__)
def test_only_plain_files_are_read_by_sftp(
    remote: RemoteFiles, mount: Path, tmp_path: Path, instead: Callable[[Path], None]
) -> None:
    instead(mount / "me" / "job")
    with pytest.raises(StorageError, match="site 'west'"):
        remote.fetch(str(mount / "me" / "job" / "result.json"), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_root_behind_a_link_is_the_site_s_own_affair(door: ShellDoor, mount: Path, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(mount)
    files = RemoteFiles("west", door, str(tmp_path / "home"))
    with files.open(f"{tmp_path}/home/me/job/result.json") as file:
        assert file.read() == b"{}"
    files.close()


def test_files_are_read_on_a_new_connection(remote: RemoteFiles, mount: Path, sshd: Sshd) -> None:
    for _ in range(3):
        with remote.open(str(mount / "me" / "job" / "result.json")) as file:
            assert file.read() == b"{}"
        sshd.drop()


def test_a_dead_file_system_is_given_up_and_keeps_nobody_else_waiting(
    remote: RemoteFiles, door: ShellDoor, mount: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("westward.slurm.ssh.FILES_TIMEOUT_S", 1.0)
    path = str(mount / "me" / "job" / "result.json")
    with remote.open(path) as file:
        assert file.read() == b"{}"
    sshd.dead = "/dead/"
    with ThreadPoolExecutor(1) as pool, closing(RemoteCommands(door)) as commands:
        stuck = pool.submit(remote.open, str(mount / "me" / "dead" / "result.json"))
        began = time.monotonic()
        (answer,) = commands.each([Request(("echo", "alive"))], at_once=1, timeout_s=10, repeat=False)
        assert isinstance(answer, Completed) and answer.stdout == "alive\n"
        assert time.monotonic() - began < 0.9
        with pytest.raises(Unreachable, match=r"no answer in time.*may hang") as caught:
            stuck.result()
    assert not isinstance(caught.value, InDoubt) and "ls -l" in caught.value.next_step
    with remote.open(path) as file:  # over a channel of its own; what hangs is not waited for
        assert file.read() == b"{}"
    assert len(sshd.transports) == 1


def test_a_file_that_stops_coming_is_an_error_of_ours(
    remote: RemoteFiles, mount: Path, sshd: Sshd, tmp_path: Path
) -> None:
    path = mount / "me" / "job" / "result.json"
    path.write_bytes(os.urandom(3_000_000))
    with remote.open(str(path)) as file:
        assert len(file.read(10)) == 10
        sshd.drop()
        with pytest.raises(Unreachable, match="connection was lost"):
            file.read()
    with remote.open(str(path)) as file:
        assert file.seek(-4, os.SEEK_END) == 3_000_000 - 4
        assert file.read() == path.read_bytes()[-4:]


def test_a_host_that_begins_nothing_is_given_up(
    door: ShellDoor, mount: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("westward.slurm.ssh.START_TIMEOUT_S", 0.5)
    sshd.mute = True
    with closing(RemoteCommands(door)) as commands:
        (answer,) = commands.each([Request(("true",))], at_once=1, timeout_s=10, repeat=True)
    assert type(answer) is Unreachable and "starts no command within" in str(answer)
    assert "ssh u17@127.0.0.1 true" in answer.next_step


def test_a_mount_is_used_before_ssh(site: Site, door: ShellDoor, mount: Path, sshd: Sshd) -> None:
    with open_files(replace(site, root=str(mount), doors=(door,), files={"/mounted": mount})) as files:
        with files.open("/mounted/me/job/result.json") as file:
            assert file.read() == b"{}"
        assert not sshd.transports
        with files.open(f"{mount}/me/job/result.json") as file:
            assert file.read() == b"{}"
        assert sshd.transports


def test_the_files_of_this_host(site: Site, mount: Path) -> None:
    with (
        open_files(replace(site, root=str(mount), doors=(ShellDoor(),))) as files,
        files.open(f"{mount}/me/job/result.json") as file,
    ):
        assert file.read() == b"{}"


def test_a_site_with_no_way_to_its_files(site: Site) -> None:
    with open_files(site) as files, pytest.raises(Unreachable, match="mounted here") as caught:
        files.open("/shared/me/job/result.json")
    assert "shell door" in caught.value.next_step


@pytest.fixture
def site() -> Site:
    return Site("west", "west", "r", "p", (), {}, "/shared", Prices(), Power(), {})


@pytest.mark.parametrize("way", ["files", "remote"])
def test_a_part_of_a_file_and_how_long_the_whole_is(way: str, mount: Path, request: pytest.FixtureRequest) -> None:
    reads: MountedFiles | RemoteFiles = request.getfixturevalue(way)
    path = "/shared/me/job/log" if way == "files" else str(mount / "me" / "job" / "log")
    text = bytes(range(256)) * 4000
    (mount / "me" / "job" / "log").write_bytes(text)
    assert reads.part(path, 0, 10) == Part(text[:10], len(text))
    assert reads.part(path, 1000, 500_000) == Part(text[1000:501_000], len(text)), "in many requests at once"
    assert reads.part(path, len(text) - 3, 10) == Part(text[-3:], len(text))
    assert reads.part(path, len(text) + 3, 10) == Part(b"", len(text))
    (mount / "me" / "job" / "log").write_bytes(b"new")
    assert reads.part(path, 0, 10) == Part(b"new", 3)
    with pytest.raises(FileNotFoundError):
        reads.part(f"{path}.1", 0, 10)
