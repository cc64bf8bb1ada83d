"""The points of a Hydra sweep: what a job of one runs, and what is taken of what it left."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime
from hydra.plugins.launcher import Launcher
from hydra.version import getbase
from omegaconf import DictConfig, OmegaConf

from unit.jobs.world import World, submit
from westward.faces import pointprogram, pointresult, points
from westward.faces.job import Job
from westward.faces.quoting import overrides_of, quoted
from westward.faces.sweeping import Point
from westward.jobs.jobconfig import COMMON
from westward.jobs.template import compose_job
from westward.model.job import Task
from westward.model.sweep import SweepPoint
from westward.slurm.files import MountedFiles
from westward.store.ledger import Ledger


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my app"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "config.yaml").write_text("lr: 0.1\nnote: plain\n")
    (folder / "train.py").write_text("")
    monkeypatch.chdir(folder)
    main = SimpleNamespace(__spec__=None, __file__="train.py")
    monkeypatch.setitem(sys.modules, "__main__", main)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "lr=1,2"])
    return folder


def composed(folder: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(folder / "conf"), version_base=None):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    assert isinstance(config, DictConfig)
    return config


def command(config: DictConfig, overrides: Sequence[str] = ("lr=1",), **launcher: Any) -> tuple[str, ...]:
    asked = {"python": None, "directory": None, **launcher}
    return pointprogram.command(config, asked, overrides, 3, "multirun/today")


def told(words: Sequence[str]) -> dict[str, Any]:
    found = json.loads(words[2])
    assert isinstance(found, dict)
    return found


def test_hydra_finds_the_launcher_and_its_config() -> None:
    found = [clazz.__module__ for clazz in Plugins.instance().discover(Launcher)]
    assert "hydra_plugins.westward_launcher.launcher" in found


def test_what_it_asks_for_are_keys_of_the_template() -> None:
    conf = OmegaConf.to_container(
        OmegaConf.structured(import_module("hydra_plugins.westward_launcher.config").WestwardLauncherConf)
    )
    assert isinstance(conf, dict)
    assert {str(key) for key in conf} - points._OWN <= COMMON
    asked = {**conf, "nodes": 2, "budget": {"money": 3.5}, "env": {"A": "x, y"}, "job": {"region": "ningxia"}}
    composed = compose_job("command", overrides_of(points._of_the_template({str(k): v for k, v in asked.items()})))
    assert (composed.spec.resources.nodes, composed.spec.env, composed.region) == (2, {"A": "x, y"}, "ningxia")


def test_a_point_is_the_application_with_its_overrides(application: Path) -> None:
    config = composed(application, "hydra/launcher=westward", "hydra.launcher.nodes=2", "+hydra.job.env_set.A=1")
    words = command(config, ["lr=1", "note='a, b'"])
    assert words[:2] == (sys.executable, ".westward/point.py")
    assert told(words)["script"] == str(application / "train.py") and told(words)["directory"] == str(application)
    assert words[3:] == (
        "+hydra.job.env_set.A=1",
        "lr=1",
        "note='a, b'",
        "hydra/launcher=westward",
        "hydra.mode=RUN",
        "hydra.job.num=3",
        f"hydra.sweep.dir={quoted('multirun/today')}",
    )


def test_where_the_application_lies_at_the_site(application: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "-cd", str(application / "more"), "-cn", "other"])
    found = told(command(composed(application), directory="/home/u17/app", python="python3"))
    assert (found["script"], found["directory"]) == ("/home/u17/app/train.py", "/home/u17/app")
    assert found["flags"] == ["--config-name=other", "--config-dir=/home/u17/app/more"]


def test_a_module_is_started_as_one(application: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = SimpleNamespace(__spec__=SimpleNamespace(name="pkg.train.__main__"), __file__="/x/pkg/train/__main__.py")
    monkeypatch.setitem(sys.modules, "__main__", main)  # type: ignore[arg-type]
    found = told(command(composed(application)))
    assert (found["script"], found["module"]) == (None, "pkg.train")


def test_the_program_reaches_the_job_to_the_byte(tmp_path: Path) -> None:
    subprocess.run(["bash", "-euc", pointprogram.written()], cwd=tmp_path, check=True)
    source = Path(sys.modules["westward"].__path__[0]).parent / "hydra_plugins" / "westward_launcher" / "_point.py"
    assert (tmp_path / ".westward" / "point.py").read_text() == source.read_text()


def test_the_program_runs_the_application_and_records_what_it_returned(application: Path, tmp_path: Path) -> None:
    (application / "train.py").write_text(
        "import hydra\n"
        "@hydra.main(version_base=None, config_path='conf', config_name='config')\n"
        "def main(cfg):\n    return {'lr': cfg.lr, 'note': cfg.note}\n"
        "if __name__ == '__main__':\n    main()\n"
    )
    words = command(composed(application), ["lr=7", "note='it\\'s'"])
    output = tmp_path / "out put"
    output.mkdir()
    script = f"{pointprogram.written()}\n{shlex.join(words)}"
    done = subprocess.run(["bash", "-euc", script], cwd=output, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((output / ".westward" / "point.json").read_text())
    assert record["return_value"] == {"lr": 7, "note": "it's"} and record["error"] is None
    assert {name for name, _ in record["files"]} >= {".hydra/config.yaml", "train.log"}


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "", "link"])
def test_a_job_writes_nothing_outside_the_points_directory(tmp_path: Path, name: str) -> None:
    there = tmp_path / "there" / "job"
    there.mkdir(parents=True)
    (tmp_path / "there" / "outside").write_text("secret")
    (there / "link").symlink_to(tmp_path / "there" / "outside")
    files = MountedFiles("west", {"/root": tmp_path / "there"})
    target = tmp_path / "target"
    assert not pointresult._copied(files, "/root/job", name, target)  # type: ignore[arg-type]
    assert not any(path.is_file() for path in [*target.rglob("*"), tmp_path / "outside"])


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"return_value": 1}'])
def test_a_record_that_is_none_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "point.json").write_text(text)
    assert pointresult._record(tmp_path / "point.json") is None
    assert pointresult._record(tmp_path / "absent.json") is None


def test_a_failed_point_raises_when_its_value_is_asked_for(
    application: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(Ledger(), Ledger)
    job = Job(world.jobs().cancel(submit(world)))
    point = Point(SweepPoint(0, "lr=1", ("lr=1",), 0, Task(()), job.key, None), job)
    returned = pointresult.returned(point, None, composed(application, "hydra.job.num=0"), 1, 0)
    with pytest.raises(pointresult.PointFailed, match="CANCELLED"):
        _ = returned.return_value
    assert "Error executing job with overrides" in capsys.readouterr().err


def test_an_application_of_hydras_may_call_westward(application: Path) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(application / "conf"), job_name="mine", version_base="1.2"):
        theirs, base = GlobalHydra.instance().hydra, getbase()
        assert compose_job("command", ["command=[date]", "policy=greenest"]).spec.command == ("date",)
        assert GlobalHydra.instance().hydra is theirs
        assert (getbase(), JobRuntime.instance().get("name")) == (base, "mine")
        assert compose("config", overrides=["lr=5"]).lr == 5
