"""The way to a site, measured: on this host and by a socket; over ssh the labs' tests do it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from westward.catalogue.reach import round_trip_s, writable
from westward.model.site import NativeDoor, RestDoor, ShellDoor


def rest(url: str) -> RestDoor:
    return RestDoor(url, "u17", Path("/nowhere"))


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        yield server.getsockname()[1]


def test_this_host_is_no_way_off() -> None:
    assert round_trip_s(ShellDoor()) == 0
    assert round_trip_s(NativeDoor()) == 0


def test_the_making_of_a_connection_is_measured(port: int, tmp_path: Path) -> None:
    for url in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}/"):
        measured = round_trip_s(rest(url))
        assert measured is not None
        assert 0 < measured < 1
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen(20)
        assert round_trip_s(rest(f"unix://{tmp_path / 's'}")) is not None


def test_what_cannot_be_measured_is_unknown(port: int, tmp_path: Path) -> None:
    assert round_trip_s(rest(f"unix://{tmp_path / 'nothing'}")) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = server.getsockname()[1]
    assert round_trip_s(rest(f"http://127.0.0.1:{gone}")) is None
    assert round_trip_s(ShellDoor("127.0.0.1", port=gone, known_hosts=tmp_path / "none")) is None


def test_a_directory_that_can_be_written_and_one_that_is_not_there(tmp_path: Path) -> None:
    assert writable(ShellDoor(), str(tmp_path)) is True
    assert writable(ShellDoor(), str(tmp_path / "a b'c")) is False


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert writable(ShellDoor(), str(tmp_path)) is False


def test_slurmrestd_cannot_tell_of_directories(tmp_path: Path) -> None:
    assert writable(rest("https://h"), str(tmp_path)) is None
