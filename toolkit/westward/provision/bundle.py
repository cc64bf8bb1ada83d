"""One file that installs Westward and its playbooks where there is no network: python -m westward.provision.bundle [--out FILE] [--image FILE]…

It is a tar archive with every Python package as a wheel, a list of them with their hashes, the playbooks, and the Apptainer images that were
named; and `install`, which needs nothing but Python and its venv. Packages of the distribution are not in it: hosts without internet have a
mirror (`slurm_apt_mirror`).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from westward import __version__, process
from westward.errors import InputError, WestwardError

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = "[provision,postgres,bench]"
TIMEOUT_S = 1800
SUMS = "SHA256SUMS"
REQUIREMENTS = "requirements.txt"


def make(out: Path | None = None, images: Sequence[Path] = ()) -> Path:
    """Make the bundle of this checkout, for machines like this one; the file.

    Raises:
        InputError: this is no checkout, or an image is no file.
        Unreachable, CommandFailed, RanTooLong: pip could not get or build a package; the message has its words.
    """
    if not (ROOT / "setup.cfg").is_file() or not (ROOT / "ansible" / "site.yml").is_file():
        raise InputError(f"'{ROOT}' is no checkout of Westward", "make the bundle with ./run bundle in a checkout")
    for image in images:
        if not image.is_file():
            raise InputError(f"there is no image '{image}'", "name a file, such as one of 'apptainer build'")
    name = bundle_name()
    out = out or Path(f"{name}.tar")
    with tempfile.TemporaryDirectory(prefix="westward-bundle-") as work:
        top = Path(work) / name
        _checkout(Path(work) / "source")
        _wheels(Path(work) / "source", top / "wheels")
        (top / REQUIREMENTS).write_text("".join(_requirements(top / "wheels")))
        for part in ("ansible", "slurm/conf"):  # beside each other, as the roles look for the templates
            shutil.copytree(Path(work) / "source" / part, top / part, symlinks=True)
        for image in images:
            (top / "images").mkdir(exist_ok=True)
            shutil.copyfile(image, top / "images" / image.name)
        install = Path(__file__).with_name("install.sh").read_text()
        (top / "install").write_text(install.replace("@PYTHON@", _python()))
        (top / "install").chmod(0o755)
        (top / SUMS).write_text("".join(f"{_sha256(path)}  {path.relative_to(top)}\n" for path in _all(top)))
        _pack(top, out)
    return out


def bundle_name() -> str:
    """What it is called, and the directory in it."""
    return f"westward-{__version__}-{_python()}-{sysconfig.get_platform()}"


def _python() -> str:
    """Wheels with compiled parts are for one Python: cp311."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def _checkout(folder: Path) -> None:
    """What belongs to the checkout: no leftovers of a build, and no inventory that somebody keeps in it."""
    listed = process.run(["git", "-C", str(ROOT), "ls-files", "-z"], timeout_s=60).stdout
    for name in filter(None, listed.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target, follow_symlinks=False)


def _wheels(source: Path, folder: Path) -> None:
    """Every package in the version that is tested; what PyPI has as source only is built here."""
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--wheel-dir", str(folder)]
    process.run([*argv, "--constraint", str(source / "constraints.txt"), f"{source}{EXTRAS}"], timeout_s=TIMEOUT_S)


def _requirements(wheels: Path) -> Iterator[str]:
    for wheel in sorted(wheels.iterdir()):
        package, version, *_ = wheel.name.split("-")
        yield f"{package.replace('_', '-')}=={version} --hash=sha256:{_sha256(wheel)}\n"


def _all(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _pack(top: Path, out: Path) -> None:
    """Whole or not at all, and the same bytes for the same files. Not compressed: wheels are already."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    half = out.with_name(f"{out.name}.{os.getpid()}")
    try:
        with tarfile.open(half, "w") as archive:
            for path in _all(top):
                archive.add(path, f"{top.name}/{path.relative_to(top)}", filter=plain)
        half.replace(out)
    finally:
        half.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./run bundle", description="one file that installs Westward where there is no network"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the file to write; otherwise named after version, Python and machine"
    )
    parser.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an Apptainer image to take along; as often as wanted",
    )
    options = parser.parse_args()
    try:
        made = make(options.out, options.image)
    except (WestwardError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, WestwardError) and error.next_step:
            print(f"next:  {error.next_step}", file=sys.stderr)
        return error.exit_code if isinstance(error, WestwardError) else 4
    print(f"{made}: {made.stat().st_size / 1e6:.0f} MB for Python {_python()} on {sysconfig.get_platform()}")
    print(f"where it is to be: tar xf {made.name} && {bundle_name()}/install DIRECTORY")
    return 0


if __name__ == "__main__":
    sys.exit(main())
