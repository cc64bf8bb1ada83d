"""Where things are kept, and who can read them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from westward.directories import private_dir, state_dir, write_private
from westward.errors import StorageError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_chosen_directory_is_made_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "new" / "state"))
    assert state_dir() == tmp_path / "new" / "state"
    assert mode(tmp_path / "new" / "state") == 0o700


def test_every_part_that_is_new_is_private(tmp_path: Path) -> None:
    private_dir(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WESTWARD_STATE_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir() == tmp_path / "westward"


def test_what_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/state") as caught:
        private_dir(tmp_path / "file" / "state")
    assert "WESTWARD_STATE_DIR" in caught.value.next_step


def test_a_private_file_is_written_whole_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("older and longer")
    file.chmod(0o644)
    write_private(file, "new")
    assert file.read_text() == "new"
    assert mode(file) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_private_file_that_is_new_replaces_none(tmp_path: Path) -> None:
    file = tmp_path / "site"
    write_private(file, "one", anew=True)
    assert mode(file) == 0o600
    with pytest.raises(FileExistsError):
        write_private(file, "two", anew=True)
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


def test_a_private_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/key"):
        write_private(tmp_path / "file" / "key", "x")
