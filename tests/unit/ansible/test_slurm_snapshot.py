"""An archive of a directory in which somebody writes: of one moment, or none."""

from __future__ import annotations

import socket
import tarfile
from pathlib import Path

import pytest

from westward.provision.ansiblecode import load

snapshot = load("library/slurm_snapshot.py")
EVERYTHING = ["*", ".*"]


def test_everything_but_sockets_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "state"
    (root / "hash.1" / "job.17").mkdir(parents=True)
    (root / "hash.1" / "job.17" / "script").write_text("#!/bin/sh\n")
    (root / ".hidden").write_text("x")
    (root / "job_state").write_bytes(b"\0" * 5000)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket"))
        assert snapshot.archive(str(root), EVERYTHING, str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert sorted(tar.getnames()) == [".hidden", "hash.1", "hash.1/job.17", "hash.1/job.17/script", "job_state"]
    assert (tmp_path / "a.tar").stat().st_mode & 0o777 == 0o600


def test_only_what_matches(tmp_path: Path) -> None:
    (tmp_path / "etc" / "slurm").mkdir(parents=True)
    (tmp_path / "etc" / "slurm" / "slurm.conf").write_text("ClusterName=a\n")
    (tmp_path / "etc" / "shadow").write_text("secret")
    assert snapshot.archive(str(tmp_path / "etc"), ["slurm/*", "munge/munge.key"], str(tmp_path / "a.tar"))
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["slurm/slurm.conf"]


def test_what_was_written_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "state"
    root.mkdir()
    (root / "job_state").write_text("old")
    add = tarfile.TarFile.add

    def meanwhile(tar: tarfile.TarFile, *words: object, **more: object) -> None:
        add(tar, *words, **more)  # type: ignore[arg-type]
        (root / "job_state.new").write_text("new")
        (root / "job_state.new").replace(root / "job_state")

    monkeypatch.setattr(tarfile.TarFile, "add", meanwhile)
    assert not snapshot.archive(str(root), EVERYTHING, str(tmp_path / "a.tar"))


def test_what_went_away_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "state"
    root.mkdir()
    (root / "a").write_text("old")
    listing = snapshot.listing

    def meanwhile(*words: object) -> object:
        found = listing(*words)
        (root / "a").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(snapshot, "listing", meanwhile)
    assert not snapshot.archive(str(root), EVERYTHING, str(tmp_path / "a.tar"))
