"""How the database of the ledger is opened, and what a broken or wrong one says."""

from __future__ import annotations

import builtins
import os
import resource
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unit.store.test_ledger import add
from westward.errors import InputError, StorageError
from westward.store.database import has_password
from westward.store.ledger import Ledger, Phase

SECRET = "hunter2"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


def python(code: str, **more: Any) -> subprocess.Popen[str]:
    """Another process with the same ledger."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        **more,
    )


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
            read_only.cancel_wanted(key)
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
            "import unit.store.test_ledger as t\nfrom westward.errors import StorageError\nledger = t.Ledger()\n"
            "try:\n  while True: t.add(ledger, name='x' * 10_000)\n"
            "except StorageError as error: print(error, '|', error.next_step)"
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


class TestAddress:
    """WESTWARD_LEDGER."""

    @pytest.mark.parametrize(
        "url",
        [
            "nonsense",
            f"postgresql://me:{SECRET}@host:port/x",
            f"mysql://me:{SECRET}@host/x",
            f"oracle+nothing://me:{SECRET}@host/x",
            f"me:{SECRET}@host",
            "/home/me/ledger.sqlite",
        ],
    )
    def test_what_names_no_database_of_ours_says_the_form_and_no_secret(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("WESTWARD_LEDGER", url)
        with pytest.raises(InputError, match="WESTWARD_LEDGER is not the address") as caught:
            Ledger()
        assert "postgresql://USER@HOST/DATABASE" in caught.value.next_step
        assert SECRET not in f"{caught.value} {caught.value.next_step}"

    def test_a_driver_that_is_not_installed_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = builtins.__import__

        def without(name: str, *args: Any, **more: Any) -> Any:
            if name.startswith("psycopg"):
                raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
            return here(name, *args, **more)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(InputError, match=r"not installed here \(psycopg\)") as caught:
            Ledger(f"postgresql://me:{SECRET}@127.0.0.1/x")
        assert caught.value.next_step == "pip install 'westward[postgres]'"

    def test_a_database_that_nobody_serves_is_named_without_its_password(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            with pytest.raises(StorageError) as caught:
                Ledger(f"postgresql://me:{SECRET}@127.0.0.1:{port}/jobs")
        assert "the ledger '127.0.0.1/jobs' cannot be used" in str(caught.value)
        assert "answers and lets this user in" in caught.value.next_step
        assert SECRET not in f"{caught.value} {caught.value.next_step}"
        assert (caught.value.exit_code, caught.value.next_step.count("disk")) == (4, 0)

    @pytest.mark.parametrize(
        ("url", "has"),
        [
            (f"postgresql://me:{SECRET}@host/x", True),
            (f"postgresql://host/x?user=me&password={SECRET}", True),
            ("postgresql://me@host:5432/x?sslmode=require", False),
            ("postgresql:///x", False),
        ],
    )
    def test_a_password_in_it_is_seen(self, url: str, has: bool) -> None:
        assert has_password(url) is has

    def test_a_file_of_sqlite_on_a_network_file_system_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from westward.store import sqlite

        def refuse(folder: Path) -> None:
            raise StorageError(f"'{folder}' is on nfs")

        monkeypatch.setattr(sqlite, "refuse_network_filesystem", refuse)
        for url in (None, f"sqlite:///{tmp_path}/x.sqlite"):
            with pytest.raises(StorageError, match="is on nfs"):
                Ledger(url)
        Ledger("sqlite://").close()
