"""`hydra/launcher=westward` on real clusters, with an application that knows nothing of Westward."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import westward
from contract.clusters import Lab
from contract.clusters import westward as command_line
from westward.catalogue.load import known_sites
from westward.faces.pointprogram import RECORD
from westward.model.job import JobState

pytestmark = pytest.mark.lab
HERE = Path(__file__).parent
AT_SITE = "/shared/hydra application"
PACKAGES = "/shared/hydra-packages"
# what Hydra needs; all of it runs as pure Python on the nodes, whose Python is another one
PURE = ("antlr4", "hydra", "omegaconf", "packaging", "yaml")
LAUNCHER = (
    "hydra/launcher=westward",
    "hydra.launcher.python=python3",
    f"hydra.launcher.directory='{AT_SITE}'",
    f"+hydra.launcher.env.PYTHONPATH={PACKAGES}",
)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str
    sweep: Path

    def point(self, number: int) -> Path:
        return self.sweep / str(number)

    def jobs(self) -> list[tuple[westward.Job, int | None]]:
        """Of each point its job, and its task where that is an array."""
        told = re.findall(r"#\d+ : .* : job ([a-z2-7]{12})(?: task (\d+))? at", self.out)
        return [(westward.job(key), int(task) if task else None) for key, task in told]

    def sweep_key(self) -> str:
        (key,) = re.findall(r"sweep ([a-z2-7]{12}) : \d+ points?", self.out)
        assert isinstance(key, str)
        return key


@dataclass(frozen=True)
class Application:
    """The application as its user has it here: a copy lies at every site."""

    directory: Path

    def run(self, *words: str, program: tuple[str, ...] = ("train.py",), **environment: str) -> Ended:
        sweep = self.directory / "sweep"
        shutil.rmtree(sweep, ignore_errors=True)
        argv = [sys.executable, *program, "-m", *words, f"hydra.sweep.dir={sweep}"]
        done = subprocess.run(
            argv,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env={**os.environ, **environment},
        )
        return Ended(done.returncode, done.stdout, done.stderr, sweep)


@pytest.fixture(scope="module")
def application(clusters: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    here = tmp_path_factory.mktemp("hydra application")
    shutil.copytree(HERE / "hydra_application", here, dirs_exist_ok=True)
    for site in known_sites().values():
        shared = site.files["/shared"]
        shutil.copytree(HERE / "hydra_application", shared / Path(AT_SITE).name)
        for name in PURE:
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None
            ignored = shutil.ignore_patterns("__pycache__", "*.so")
            shutil.copytree(Path(spec.origin).parent, shared / Path(PACKAGES).name / name, ignore=ignored)
    yield Application(here)


def test_each_point_asks_for_its_own_resources_and_its_files_come_back(clusters: Lab, application: Application) -> None:
    note = 'it\'s "two", words\n$HOME'
    quoted = note.replace("'", "\\'")
    ended = application.run(
        *LAUNCHER, "lr=0.5,1", "model=small,big", "hydra.launcher.nodes=${model.nodes}", f"note='{quoted}'"
    )
    assert ended.status == 0, ended
    points = [(lr, model) for lr in ("0.5", "1") for model in ("small", "big")]
    for number, (lr, model) in enumerate(points):
        point = ended.point(number)
        config = yaml.safe_load((point / ".hydra" / "config.yaml").read_text())
        assert (config["lr"], config["model"]["layers"], config["note"]) == (
            float(lr),
            {"small": 2, "big": 12}[model],
            note,
        )
        hydra = yaml.safe_load((point / ".hydra" / "hydra.yaml").read_text())["hydra"]
        assert (hydra["job"]["num"], hydra["job"]["name"], hydra["sweep"]["dir"]) == (number, "train", str(ended.sweep))
        assert yaml.safe_load((point / ".hydra" / "overrides.yaml").read_text())[:2] == [f"lr={lr}", f"model={model}"]
        assert (point / "weights" / "last.txt").read_text().split()[1] == {"small": "1", "big": "2"}[model]
        assert f"{number}: lr {lr}, " in (point / "train.log").read_text()
        job, task = ended.jobs()[number]
        assert (job.name, job.state) == ("train", JobState.COMPLETED)
        assert hydra["job"]["id"] == f"{job.status().slurm_job_id}_{task}"
    # those that ask for the same share an array
    assert [task for _, task in ended.jobs()] == [0, 0, 1, 1] and len({job for job, _ in ended.jobs()}) == 2
    assert (ended.sweep / "multirun.yaml").is_file()


def test_what_the_applications_own_config_says_of_the_launcher_counts(clusters: Lab, application: Application) -> None:
    ended = application.run(
        "-cn", "on_slurm", "model=small,big", f"hydra.launcher.site={clusters.site('west')}", "lr=1"
    )
    assert ended.status == 0, ended
    assert [(ended.point(number) / "weights" / "last.txt").read_text().split()[1] for number in (0, 1)] == ["1", "2"]
    assert {job.site for job, _ in ended.jobs()} == {clusters.site("west")}


def test_a_point_that_fails_stops_none_of_the_others(clusters: Lab, application: Application) -> None:
    ended = application.run(*LAUNCHER, "lr=1", "ends=badly,well,'at once'")
    assert ended.status == 1
    assert "Error executing job with overrides: ['lr=1', 'ends=badly']" in ended.err
    assert 'raise ValueError(f"lr {cfg.lr} leads nowhere")\nValueError: lr 1 leads nowhere\n' in ended.err
    assert "site-packages" not in ended.err  # its own frames alone
    ends = dict(re.findall(r"#(\d) : \S+ task \d at \S+ : (\w+)\n", ended.out))
    assert ends == {"0": "FAILED", "1": "COMPLETED", "2": "FAILED"}
    for number in range(3):  # what it wrote before it failed is here all the same
        assert "1: lr 1" in (ended.point(1) / "train.log").read_text()
        assert (ended.point(number) / ".hydra" / "config.yaml").is_file()


def test_a_module_of_a_package(clusters: Lab, application: Application) -> None:
    ended = application.run(*LAUNCHER, "lr=2", program=("-m", "train"))
    assert ended.status == 0, ended
    assert "0: lr 2, 2 layers" in (ended.point(0) / "train.log").read_text()


def test_it_returns_at_once_if_it_is_to(clusters: Lab, application: Application) -> None:
    ended = application.run(*LAUNCHER, "lr=1,2", "hydra.launcher.detach=true")
    assert ended.status == 0 and "detached: not waited for" in ended.out, ended
    points = westward.find_sweep(ended.sweep_key())
    assert {point.label for point in points.as_completed(60)} == {"lr=1", "lr=2"}
    assert [json.loads(point.fetched(RECORD).read_text())["return_value"] for point in points if point.result().ok] == [
        2,
        4,
    ]
    assert "1: lr 2, 2 layers" in points[1].logs()


def test_an_optimising_sweeper_gets_its_values_and_cannot_be_detached(clusters: Lab, application: Application) -> None:
    path = os.pathsep.join([str(HERE / "hydra_sweeper"), *sys.path[1:]])
    words = (*LAUNCHER, "hydra/sweeper=doubling", "hydra.sweeper.up_to=12")
    ended = application.run(*words, PYTHONPATH=path)
    assert ended.status == 0, ended
    assert json.loads((ended.sweep / "tried.json").read_text()) == [[2.0, 3.0], [6.0, 7.0], [14.0, 15.0]]
    assert "5: lr 7.5" in (ended.point(5) / "train.log").read_text()
    before = len(westward.list_jobs())
    refused = application.run(*words, "hydra.launcher.detach=true", PYTHONPATH=path)
    assert refused.status == 1
    assert "hydra.launcher.detach=true does not wait for the values that Doubling needs" in refused.err
    assert "Traceback" not in refused.err and len(westward.list_jobs()) == before


def test_what_is_too_big_or_no_json_stays_and_is_said(clusters: Lab, application: Application) -> None:
    ended = application.run(*LAUNCHER, "ends='with a logger'", "big_file_bytes=3000000", "hydra.launcher.fetch_mib=2")
    assert ended.status == 0, ended
    assert "it returned a Logger, which JSON cannot say: taken as None" in ended.out
    assert re.search(
        r"left at \S+, in /shared/researcher/train~\w{12}: big.bin \(hydra.launcher.fetch_mib\)", ended.out
    )
    assert (ended.point(0) / "train.log").is_file() and not (ended.point(0) / "big.bin").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("hydra.launcher.directory=/nowhere", "the directory '/nowhere' cannot be entered at this site"),
        ("hydra.launcher.env.PYTHONPATH=/nowhere", "/usr/bin/python3 cannot import Hydra here"),
        ("hydra.launcher.nodes=20", "point #0 (lr=1), and so none was submitted: no site can run this job:"),
        ("hydra.launcher.mem=lots", "point #0 (lr=1): 'lots' is not a memory size"),
        ("hydra.launcher.policy=best", "there is no policy 'best'"),
        ("hydra.launcher.site=nowhere", "there is no site 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_in_one_place(clusters: Lab, application: Application, word: str, said: str) -> None:
    ended = application.run(*LAUNCHER, "lr=1,2", word)
    assert ended.status == 1 and said in ended.err, ended
    assert "Traceback" not in ended.err


def test_the_command_line_knows_these_jobs(clusters: Lab, application: Application) -> None:
    ended = application.run(*LAUNCHER, "lr=4")
    ((job, task),) = ended.jobs()
    assert task is None and "0: lr 4, 2 layers" in command_line("logs", job.key).out
    assert command_line("results", job.key).status == 0
