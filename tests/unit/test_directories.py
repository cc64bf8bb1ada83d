"""Where things are kept, and who can read them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from westward.directories import cache_dir, config_dir, private_dir, state_dir, state_path, write_private
from westward.errors import InputError, StorageError


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


def test_for_what_the_user_writes_it_is_another_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="file/westward") as caught:
        private_dir(config_dir() / "sites")
    assert caught.value.next_step == "set XDG_CONFIG_HOME to a directory of yours"


@pytest.mark.parametrize("path", ["state", "./state", "~/state"])
@pytest.mark.parametrize(
    ("variable", "directory"),
    [
        ("WESTWARD_STATE_DIR", state_dir),
        ("XDG_STATE_HOME", state_dir),
        ("XDG_CONFIG_HOME", config_dir),
        ("XDG_CACHE_HOME", cache_dir),
    ],
)
def test_a_relative_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, directory: Callable[[], Path], path: str
) -> None:
    """The agent runs in '/', and a systemd unit in the home directory: each would open a ledger of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WESTWARD_STATE_DIR", raising=False)
    monkeypatch.setenv(variable, path)
    with pytest.raises(InputError, match=rf"^{variable}={path} is a relative path") as caught:
        directory()
    assert caught.value.next_step.endswith(f"export {variable}={tmp_path / 'state'}")
    assert list(tmp_path.iterdir()) == []


def test_where_it_would_be_is_told_without_making_it(tmp_path: Path) -> None:
    assert state_path() == tmp_path / "state"
    assert not state_path().exists()


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
