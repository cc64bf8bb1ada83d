"""SQLite is for one host: a folder that other hosts may mount as well is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from westward.errors import StorageError
from westward.store.filesystem import refuse_network_filesystem

ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def mounts(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text("\n".join((ROOT, *lines)) + "\n", encoding="utf-8")
    return file


def line(place: str, kind: str, optional: str = "shared:2 ") -> str:
    return f"40 22 0:50 / {place} rw,relatime {optional}- {kind} server:/export rw,vers=4.2"


def refused(folder: str, table: Path) -> bool:
    try:
        refuse_network_filesystem(Path(folder), table)
    except StorageError:
        return True
    return False


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "ceph", "fuse.sshfs", "9p"])
def test_a_network_file_system_is_refused_with_both_ways_out(tmp_path: Path, kind: str) -> None:
    table = mounts(tmp_path, line("/home", kind))
    with pytest.raises(StorageError, match=rf"network file system \({kind}\)") as caught:
        refuse_network_filesystem(Path("/home/me/.local/state/westward"), table)
    assert "WESTWARD_STATE_DIR=" in caught.value.next_step
    assert "WESTWARD_LEDGER=postgresql://" in caught.value.next_step


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.mergerfs"])
def test_a_disk_of_this_host_is_not(tmp_path: Path, kind: str) -> None:
    assert not refused("/home/me", mounts(tmp_path, line("/home", kind)))


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    table = mounts(tmp_path, line("/home", "nfs4"), line("/home/me/local", "xfs"), line("/homely", "ext4"))
    assert refused("/home/me", table)
    assert not refused("/home/me/local/state", table)
    assert refused("/home/me/locally", table)
    assert not refused("/homely/me", table)


def test_whatever_their_order(tmp_path: Path) -> None:
    table = mounts(tmp_path, line("/home/me/local", "xfs"), line("/home", "nfs4"))
    assert not refused("/home/me/local/state", table)


def test_what_is_mounted_over_another_counts(tmp_path: Path) -> None:
    assert refused("/home/me", mounts(tmp_path, line("/home/me", "autofs"), line("/home/me", "nfs4")))
    assert not refused("/home/me", mounts(tmp_path, line("/home/me", "nfs4"), line("/home/me", "tmpfs")))


def test_an_automounter_that_has_mounted_nothing_is_no_network_file_system(tmp_path: Path) -> None:
    assert not refused("/home/me", mounts(tmp_path, line("/home", "autofs")))


@pytest.mark.parametrize(
    ("written", "place"),
    [("/my\\040files", "/my files"), ("/a\\011b", "/a\tb"), ("/back\\134slash", "/back\\slash"), ("/größe\\040训练", "/größe 训练")],
)  # fmt: skip
def test_spaces_and_the_like_are_read_as_the_kernel_writes_them(tmp_path: Path, written: str, place: str) -> None:
    assert refused(f"{place}/me", mounts(tmp_path, line(written, "nfs")))


def test_without_optional_fields(tmp_path: Path) -> None:
    assert refused("/home/me", mounts(tmp_path, line("/home", "nfs", optional="")))


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    assert refused(str(tmp_path / "link"), mounts(tmp_path, line(str(tmp_path / "there"), "nfs")))


def test_a_host_that_does_not_say_is_trusted(tmp_path: Path) -> None:
    assert not refused("/home/me", tmp_path / "nothing")


def test_this_host_s_own_table_can_be_read(tmp_path: Path) -> None:
    refuse_network_filesystem(tmp_path)
