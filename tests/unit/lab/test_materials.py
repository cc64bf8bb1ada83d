"""Image tag, mirror, node tree, locks and the reading of a node's log: what needs no engine."""

from __future__ import annotations

import configparser
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import paramiko
import pytest

from westward.errors import InputError, Unreachable
from westward.lab import engine, images, nodetree, sshkeys
from westward.lab.readiness import Report, unfinished
from westward.lab.release import RELEASES
from westward.lab.state import LabFolder, Record


def test_the_image_tag_changes_with_any_file_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "FOLDER", tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM x")
    first = images.node_image_tag()
    (tmp_path / "start.py").write_text("")
    second = images.node_image_tag()
    (tmp_path / "start.py").write_text("print()")
    assert len({first, second, images.node_image_tag()}) == 3
    assert first.startswith("westward-node:24.11-")


def test_each_release_has_an_image_of_its_own() -> None:
    tags = [images.node_image_tag(release) for release in RELEASES.values()]
    assert len(set(tags)) == len(tags)
    assert ["pyslurm" in tag for tag in tags] == [release.pyslurm for release in RELEASES.values()]
    assert images.node_image_tag() == images.node_image_tag(RELEASES["trixie"])


def test_a_changed_pin_of_pyslurm_makes_its_image_anew_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: images.node_image_tag(release) for name, release in RELEASES.items()}
    monkeypatch.setattr(images, "PYSLURM_FOLDER", tmp_path)
    (tmp_path / "requirements.txt").write_text("pyslurm==1\n")
    after = {name: images.node_image_tag(release) for name, release in RELEASES.items()}
    assert [name for name in RELEASES if after[name] != before[name]] == ["forky"]


def test_what_pyslurm_is_built_from_is_pinned_with_digests() -> None:
    lines = (images.PYSLURM_FOLDER / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert all(re.fullmatch(r"[a-z]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", pin) for pin in pins)


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://mirror.site/debian\n", "http://mirror.site/debian"),
        (
            "sources.list",
            "deb [signed-by=/x.gpg] https://mirror.site/debian/ trixie main\n",
            "https://mirror.site/debian/",
        ),
        ("sources.list.d/other.sources", "Types: deb\nURIs: https://packages.example/node\n", images.DEFAULT_MIRROR),
        ("sources.list", "# deb http://mirror.site/debian trixie main\n", images.DEFAULT_MIRROR),
    ],
)
def test_the_hosts_own_mirror_is_used(tmp_path: Path, name: str, text: str, mirror: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert images.host_mirror(tmp_path) == mirror


def test_the_nodes_get_what_the_bench_extra_names() -> None:
    listed = {pin.split("==")[0] for pin in nodetree.pins()}
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    extra = setup["options.extras_require"]["bench"].split("\n")
    assert listed >= {line.split()[0] for line in extra if line.strip()}


def test_a_changed_benchmark_makes_a_new_tree_and_an_unchanged_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "westward_bench"
    (source / "gemm").mkdir(parents=True)
    (source / "gemm" / "__init__.py").write_text("A = 1\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nodetree, "bench_source", lambda: source)
    old_umask = os.umask(0o077)
    try:
        first = nodetree._ensure_bench()
        (source / "__pycache__").mkdir()
        (source / "__pycache__" / "x.pyc").write_text("")
        assert nodetree._ensure_bench() == first
        (source / "gemm" / "__init__.py").write_text("A = 2\n")
        second = nodetree._ensure_bench()
    finally:
        os.umask(old_umask)
    assert second != first
    assert (second / "westward_bench" / "gemm" / "__init__.py").read_text() == "A = 2\n"
    assert stat.S_IMODE((second / "westward_bench" / "gemm" / "__init__.py").stat().st_mode) == 0o644
    assert stat.S_IMODE(second.stat().st_mode) == 0o755
    assert sorted(path.name for path in second.parent.iterdir()) == sorted([first.name, second.name])


def test_a_tree_that_could_not_be_filled_leaves_nothing(tmp_path: Path) -> None:
    def fail(draft: Path) -> None:
        (draft / "half").write_text("")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        nodetree.make_whole(tmp_path / "trees" / "abc", fail)
    assert list((tmp_path / "trees").iterdir()) == []


def test_no_engine_is_an_error_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(Unreachable) as raised:
        engine.connect()
    assert "docker" in raised.value.next_step


def test_a_record_is_read_back_and_a_damaged_one_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    folder = LabFolder("mine")
    record = Record("mine", "east-west", True, "image", "spec")
    folder.write(record)
    assert folder.read() == record
    assert stat.S_IMODE((folder.root / "lab.json").stat().st_mode) == 0o600
    (folder.root / "lab.json").write_text('{"lab": ')
    assert folder.read() is None


def test_secrets_are_random_private_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    folder = LabFolder("mine")
    first = folder.secrets("east", "me", anew=True)
    assert folder.secrets("east", "me", anew=False) == first
    assert folder.secrets("east", "me", anew=True) != first
    assert folder.secrets("west", "me", anew=False).jwt_key != folder.secrets("east", "me", anew=False).jwt_key
    files = [path for path in folder.root.rglob("*") if path.is_file()]
    assert len(files) == 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert first.database_password not in repr(first)
    assert first.user_key.private not in repr(first.user_key)


def test_an_ssh_key_is_one_that_others_can_read_with_its_public_half(tmp_path: Path) -> None:
    key = sshkeys.key_file(tmp_path / "key", anew=False)
    read = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"))
    assert key.public == f"{read.get_name()} {read.get_base64()}"
    (tmp_path / "known_hosts").write_text(sshkeys.known_host("127.0.0.1", 32801, key))
    assert paramiko.HostKeys(str(tmp_path / "known_hosts")).check("[127.0.0.1]:32801", read)


def test_one_waits_for_the_other_and_nothing_is_left_of_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with LabFolder("mine").locked(waiting.set):
            order.append("second")

    other = threading.Thread(target=second)
    with LabFolder("mine").locked(lambda: None):
        other.start()
        assert waiting.wait(5)
        order.append("first")
    other.join(5)
    assert order == ["first", "second"]
    assert not (tmp_path / "labs").exists()


def test_a_lock_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path))
    script = (
        "import os\nfrom westward.lab.state import LabFolder\nwith LabFolder('mine').locked(lambda: None): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    told: list[int] = []
    with LabFolder("mine").locked(lambda: told.append(1)):
        pass
    assert told == []


LOG = "0.1 mariadbd starting\n0.5 mariadbd ready\n0.5 slurmdbd starting\n"


def test_the_daemon_that_is_waited_for_is_named() -> None:
    assert unfinished(LOG) == "slurmdbd"
    assert unfinished(LOG + "0.6 slurmdbd ready\n0.7 node ready\n") == ""
    assert unfinished(LOG + "0.6 slurmdbd ready\n" + LOG) == "slurmdbd"


def test_a_drained_node_is_no_reason_to_start_it_again() -> None:
    well = Report(token="t", nodes={"n1": "idle", "n2": "drained"})
    assert well.healthy
    assert Report(token="t", nodes={"n1": "idle*", "n2": "down"}).down == ("n1", "n2")
    assert not Report(token="", nodes={"n1": "idle"}).healthy
    assert Report(token=None, nodes={"n1": "idle"}).healthy  # a cluster without slurmrestd needs none
    assert not Report(token="t", nodes={"n1": "idle"}, silent=("slurmrestd",)).healthy
    assert "t0ken" not in repr(Report(token="t0ken"))


def test_missing_pins_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# numba==1\nnumpy==2.4.6\nmpi4py==4.1.2\nthreadpoolctl==3.8.0\nllvmlite==0.50.0\n")
    monkeypatch.setattr(nodetree, "CONSTRAINTS", constraints)
    with pytest.raises(InputError, match="no version for numba"):
        nodetree.pins()
