"""`./run bundle`, and what it makes installed where there is no network."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_NETWORK = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    image = folder / "benchmarks.sif"
    image.write_bytes(b"an image")
    made = _run([str(ROOT / "run"), "bundle", "--out", "b.tar", "--image", str(image)], folder)
    assert made.returncode == 0, made.stderr
    assert "b.tar: " in made.stdout
    assert _run(["tar", "xf", "b.tar"], folder).returncode == 0
    (top,) = folder.glob("westward-*")
    return top


def test_it_installs_without_a_network_and_has_the_playbooks(unpacked: Path, tmp_path: Path) -> None:
    reach = "import socket; socket.create_connection(('1.1.1.1', 53), 5)"
    assert "Network is unreachable" in _run([*NO_NETWORK, "python3", "-c", reach], tmp_path).stderr
    done = _run([*NO_NETWORK, str(unpacked / "install"), "venv"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("westward ")
    commands = tmp_path / "venv" / "bin"
    listed = _run([*NO_NETWORK, str(commands / "westward"), "templates"], tmp_path)
    assert "allreduce" in listed.stdout, listed.stderr
    syntax = [str(commands / "ansible-playbook"), "-i", "inventories/example", "site.yml", "--syntax-check"]
    checked = _run([*NO_NETWORK, *syntax], unpacked / "ansible")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (unpacked / "slurm" / "conf" / "slurm.conf.j2").is_file()
    assert (unpacked / "images" / "benchmarks.sif").read_bytes() == b"an image"


def test_a_wheel_that_was_changed_on_the_way_is_refused(unpacked: Path, tmp_path: Path) -> None:
    wheel = next((unpacked / "wheels").glob("PyYAML-*.whl"), None) or next((unpacked / "wheels").glob("pyyaml-*.whl"))
    packed = wheel.read_bytes()
    wheel.write_bytes(packed[:-1] + b"x")
    try:
        done = _run([str(unpacked / "install"), "venv"], tmp_path)
    finally:
        wheel.write_bytes(packed)
    assert done.returncode == 4
    assert f"wheels/{wheel.name}: FAILED" in done.stderr
    assert "not what was packed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_image_that_is_not_there_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    done = _run([str(ROOT / "run"), "bundle", "--out", "b.tar", "--image", "none.sif"], tmp_path)
    assert done.returncode == 2
    assert "there is no image 'none.sif'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def _run(argv: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
