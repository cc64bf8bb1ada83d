"""The wheel holds what the checkout holds, and works without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE_PACKAGES = sysconfig.get_paths()["purelib"]


def call(*argv: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clean checkout would hold: tracked files, and new ones that git does not ignore; links stay links."""
    made = tmp_path_factory.mktemp("tree")
    listed = call("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, made / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return made


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q")
    call(*pip, "--no-deps", "--no-build-isolation", "--no-cache-dir", "-w", str(out), ".", cwd=tree)
    (made,) = out.glob("westward-*.whl")
    return made


def expected(tree: Path) -> set[str]:
    """Every file of the packages and of what travels with them, by its place in the wheel."""
    places = {
        "toolkit/westward": "westward",
        "toolkit/hydra_plugins": "hydra_plugins",
        "benchmarks/westward_bench": "westward_bench",
    }
    carried = {
        "slurm": "westward/_data/slurm",
        "containers": "westward/_data/containers",
        "ansible": "westward/_data/ansible",
    }
    found = {"westward/_data/constraints.txt"}
    for top, place in (places | carried).items():
        for file in (tree / top).rglob("*"):
            if file.is_file() and not file.is_symlink() and "__pycache__" not in file.parts:
                found.add(f"{place}/{file.relative_to(tree / top)}")
    return found


def test_every_package_and_data_file_of_the_tree_is_in_it(tree: Path, wheel: Path) -> None:
    wanted = expected(tree)
    for part in (
        "westward/conf/job/",
        "westward/catalogue/accelerators.yaml",
        "westward/bench/report.html.j2",
        "westward/py.typed",
        "westward_bench/record.py",
        "hydra_plugins/westward_launcher/launcher.py",
        "westward/_data/slurm/jobs/",
        "westward/_data/containers/",
        "westward/_data/ansible/site.yml",
    ):
        assert any(name.startswith(part) for name in wanted), part
    assert sorted(wanted - set(zipfile.ZipFile(wheel).namelist())) == []


def test_nothing_else_is_in_it(tree: Path, wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(names - expected(tree)) == []


def test_it_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q")
    call(*pip, "--no-deps", "--no-cache-dir", "--target", str(target), str(wheel), cwd=tmp_path)
    # -S leaves .pth files unread, so that the checkout cannot be found; the dependencies come by their folder
    path = os.pathsep.join([str(target), SITE_PACKAGES])
    where = call(sys.executable, "-S", "-c", "import westward; print(westward.__file__)", cwd=tmp_path, PYTHONPATH=path)
    assert where.strip() == str(target / "westward" / "__init__.py")
    told = call(sys.executable, "-S", "-m", "westward.cli.main", "templates", "--json", cwd=tmp_path, PYTHONPATH=path)
    assert {"allreduce", "gemm"} <= {template["name"] for template in json.loads(told)}
    assert (target / "bin" / "westward").is_file()
    finds = "from hydra.core.plugins import Plugins; from hydra.plugins.launcher import Launcher; print(*Plugins.instance().discover(Launcher))"
    found = call(sys.executable, "-S", "-c", finds, cwd=tmp_path, PYTHONPATH=path)
    assert "hydra_plugins.westward_launcher.launcher.WestwardLauncher" in found
