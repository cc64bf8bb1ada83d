"""What the nodes import: Python packages and `westward_bench`, gathered on the host and mounted read-only. Nodes need no pip.

Two trees, each in a directory named by its digest: the packages (large, changes with `constraints.txt`) and the benchmark
sources (small, changes with every edit). Labs mount their parents, so that a new digest is seen by nodes that run already.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from westward import process
from westward.directories import cache_dir
from westward.errors import InputError, StorageError, WestwardError
from westward.lab.progress import Say

CONSTRAINTS = Path(__file__).parent.parent / "_data" / "constraints.txt"
# the `bench` extra and what it needs in turn: all of it by name, so that the pins alone say what a node gets
PACKAGES = ("llvmlite", "mpi4py", "numba", "numpy", "threadpoolctl")
PYTHON = "3.13"  # of the node image
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
ON_NODE = "/opt/westward"
LAYOUT = "1"  # part of the digests: raise it when the way a tree is made changes


@dataclass(frozen=True, slots=True)
class NodeTree:
    """The two trees on the host, and where the nodes see them."""

    packages: Path
    bench: Path

    @property
    def mounts(self) -> dict[str, dict[str, str]]:
        """What a container mounts, in the Docker SDK's form."""
        return {
            str(self.packages.parent): {"bind": f"{ON_NODE}/packages", "mode": "ro"},
            str(self.bench.parent): {"bind": f"{ON_NODE}/bench", "mode": "ro"},
        }

    @property
    def on_node(self) -> tuple[str, str]:
        """Their directories as a node sees them, in the order of PYTHONPATH."""
        return f"{ON_NODE}/bench/{self.bench.name}", f"{ON_NODE}/packages/{self.packages.name}"


def ensure_tree(say: Say) -> NodeTree:
    """Both trees, made where they are missing; two processes at once do no harm.

    Raises:
        InputError: `constraints.txt` or `westward_bench` is missing.
        WestwardError: pip could not get the packages.
    """
    return NodeTree(_ensure_packages(say), _ensure_bench())


def pins() -> tuple[str, ...]:
    """`name==version` of every package that the nodes need, from `constraints.txt`."""
    if not CONSTRAINTS.is_file():
        raise InputError(f"'{CONSTRAINTS}' is missing", "install Westward again")
    words = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE)
    pinned = {name.lower(): f"{name.lower()}=={version}" for name, version in words}
    missing = [name for name in PACKAGES if name not in pinned]
    if missing:
        raise InputError(f"{CONSTRAINTS}: no version for {', '.join(missing)}")
    return tuple(pinned[name] for name in PACKAGES)


def _ensure_packages(say: Say) -> Path:
    wanted = pins()
    text = "\n".join((LAYOUT, PYTHON, platform.machine(), *wanted))
    target = cache_dir() / "node-packages" / hashlib.sha256(text.encode()).hexdigest()[:12]
    if not target.is_dir():
        say(f"downloading {', '.join(wanted)}")
        make_whole(target, lambda draft: _pip(draft, wanted))
    return target


def _ensure_bench() -> Path:
    source = bench_source()
    files = [path for path in sorted(source.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    digest = hashlib.sha256(LAYOUT.encode())
    for path in files:
        digest.update(str(path.relative_to(source)).encode() + b"\0" + path.read_bytes() + b"\0")
    target = cache_dir() / "node-bench" / digest.hexdigest()[:12]
    if not target.is_dir():

        def copy(draft: Path) -> None:
            for path in files:
                place = draft / source.name / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)

        make_whole(target, copy)
    return target


def toolkit_mount() -> dict[str, dict[str, str]]:
    """What a container mounts to see this very Westward at `/opt/westward/toolkit`, in the Docker SDK's form."""
    package = Path(__file__).parent.parent.resolve()
    return {str(package): {"bind": f"{ON_NODE}/toolkit/{package.name}", "mode": "ro"}}


def bench_source() -> Path:
    """Where `westward_bench` is installed here."""
    spec = importlib.util.find_spec("westward_bench")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise InputError("the package 'westward_bench' is not installed here", "install Westward again")
    return Path(places[0])


def bench_commit() -> str | None:
    """The git commit of the benchmarks' source, with "-dirty" where they differ from it; None outside a checkout."""
    git = ["git", "-C", str(bench_source().resolve())]
    try:
        commit = process.run([*git, "rev-parse", "HEAD"], timeout_s=10).stdout.strip()
        changed = process.run([*git, "status", "--porcelain", "--", "."], timeout_s=10).stdout.strip()
    except WestwardError:
        return None
    return f"{commit}-dirty" if changed else commit


def _pip(draft: Path, wanted: tuple[str, ...]) -> None:
    platforms = [word for system in MANYLINUX for word in ("--platform", f"{system}_{platform.machine()}")]
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    argv += ["--target", str(draft), "--python-version", PYTHON, "--only-binary=:all:", *platforms]
    argv += ["--no-deps", *wanted]
    try:
        process.run(argv, timeout_s=900)
    except process.CommandFailed as error:
        raise WestwardError(
            f"the packages for the nodes could not be had: {error}",
            "see that 'pip download numpy' works here, and run again",
        ) from error


def make_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory beside `target`, then rename it: the tree is there whole or not at all, and anybody may read it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    except OSError as error:
        raise StorageError(f"cannot write to '{target.parent}': {error.strerror}", "set XDG_CACHE_HOME") from error
    try:
        fill(draft)
        _readable_by_all(draft)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _readable_by_all(root: Path) -> None:
    root.parent.chmod(0o755)
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
