"""The node images: there already, or built from `containers/node/` on a base that is there, pulled, or made with debootstrap."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, ImageNotFound

from westward import process
from westward.errors import Unreachable, WestwardError
from westward.lab.engine import LABEL, connect, engine_errors
from westward.lab.progress import Say
from westward.lab.release import DEFAULT, RELEASES, Release
from westward.lab.wheelhouse import ensure_wheelhouse

FOLDER = Path(__file__).parent.parent / "_data" / "containers" / "node"
PYSLURM_FOLDER = FOLDER.parent / "pyslurm"
REPOSITORY = "westward-node"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BOOTSTRAP_SCRIPTS = Path("/usr/share/debootstrap/scripts")
DEBOOTSTRAP_NEEDED = 10
DEFAULT_MIRROR = "http://deb.debian.org/debian"
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY")


def node_image_tag(release: Release = DEFAULT) -> str:
    """The tag of the image that the present files in `containers/` make of that release."""
    plain = _plain_tag(release)
    return f"{plain}-pyslurm-{_digest(PYSLURM_FOLDER)}" if release.pyslurm else plain


def _plain_tag(release: Release) -> str:
    return f"{REPOSITORY}:{release.slurm}-{_digest(FOLDER, json.dumps(_arguments(release)))}"


def ensure_node_image(client: docker.DockerClient, say: Say, release: Release = DEFAULT) -> str:
    """The tag of the node image of that release, built where it is missing.

    Raises:
        Unreachable: no base image can be had, or the build could not reach a package mirror.
    """
    tag, plain = node_image_tag(release), _plain_tag(release)
    if _present(client, tag):
        return tag
    if not _present(client, plain):
        base = ensure_base(client, say, release)
        say("building (packages are downloaded once; about 40 s)")
        build(client, FOLDER, plain, {"BASE": base, **_arguments(release)}, say)
    if release.pyslurm:
        wheelhouse = ensure_wheelhouse(PYSLURM_FOLDER / "requirements.txt", "pyslurm", say)
        say("building pyslurm (experimental; about 90 s)")
        build(client, PYSLURM_FOLDER, tag, {"BASE": plain}, say, wheelhouse)
    return tag


def ensure_service_image(client: docker.DockerClient, name: str, say: Say, release: Release = DEFAULT) -> str:
    """The tag of the image that `containers/<name>/` makes on that release's base, built where it is missing.

    Raises:
        Unreachable: no base image can be had, or the build could not reach a package mirror.
    """
    folder = FOLDER.parent / name
    expires = {"INDEX_EXPIRES": "1"} if release.index_expires else {}
    tag = f"westward-{name}:{release.suite}-{_digest(folder)}"
    if not _present(client, tag):
        base = ensure_base(client, say, release)
        say("building (packages are downloaded once; about 30 s)")
        build(client, folder, tag, {"BASE": base, **expires}, say)
    return tag


def ensure_base(client: docker.DockerClient, say: Say, release: Release = DEFAULT) -> str:
    """A Debian base image: one that is there, else pulled, else made with debootstrap."""
    base, refused = _present_or_pulled(client, say, release)
    if base:
        return base
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        missing = "debootstrap is not installed" if os.geteuid() == 0 else "debootstrap needs root"
        raise Unreachable(
            f"no base image: {release.public_base} cannot be pulled ({refused}), and {missing}",
            "let the engine reach an image registry, or, as root: 'apt install debootstrap' and run the same command as root once",
        )
    say(f"{release.public_base} cannot be pulled: making {release.own_base} with debootstrap (about 30 s)")
    _bootstrap(client, release)
    return release.own_base


def _present_or_pulled(client: docker.DockerClient, say: Say, release: Release) -> tuple[str, str]:
    """A base image that is there or was pulled just now; else no name, and why it could not be pulled."""
    for base in (release.public_base, release.own_base):
        if _present(client, base):
            return base, ""
    say(f"pulling {release.public_base}")
    try:
        client.images.pull(release.public_base)
    except (DockerException, OSError) as error:
        return "", str(error).strip().splitlines()[-1][:200]
    return release.public_base, ""


def _bootstrap(client: docker.DockerClient, release: Release) -> None:
    with tempfile.TemporaryDirectory(prefix="westward-base-") as folder:
        root, packed = Path(folder) / "root", Path(folder) / "root.tar"
        signed = ["--force-check-gpg", f"--keyring={KEYRING}"]  # a mirror is read over plain http
        # a debootstrap that is older than the suite makes it as it makes sid
        script = [] if (BOOTSTRAP_SCRIPTS / release.suite).exists() else [str(BOOTSTRAP_SCRIPTS / "sid")]
        argv = ["debootstrap", "--variant=minbase", *signed, release.suite, str(root), host_mirror(), *script]
        process.run(argv, timeout_s=900)
        process.run(
            ["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-cf", str(packed), "."], timeout_s=300
        )
        repository, tag = release.own_base.split(":")
        with engine_errors(f"importing {release.own_base}"):
            client.api.import_image(str(packed), repository=repository, tag=tag)


def host_mirror(sources: Path = Path("/etc/apt")) -> str:
    """The Debian mirror that this machine's own apt uses: a machine behind a mirror of its site reaches no other."""
    for path in [*sorted(sources.glob("sources.list.d/*.sources")), sources / "sources.list"]:
        for line in path.read_text().splitlines() if path.is_file() else ():
            words = line.split()
            if words[:1] in (["URIs:"], ["deb"]):
                uri = next((word for word in words[1:] if "://" in word), "")
                if uri.rstrip("/").endswith("/debian"):
                    return uri
    return DEFAULT_MIRROR


def _arguments(release: Release) -> dict[str, str]:
    """What the Dockerfile is told of a release."""
    return {"PACKAGES": " ".join(release.packages), "INDEX_EXPIRES": "1" if release.index_expires else ""}


def build(
    client: docker.DockerClient,
    source: Path,
    tag: str,
    arguments: dict[str, str],
    say: Say,
    wheelhouse: Path | None = None,
) -> None:
    """Build the image `tag` from the Dockerfile in `source`, with the wheelhouse beside it.

    Raises:
        WestwardError: a step failed; the message has the end of what it said.
    """
    arguments = {**arguments, **{name: os.environ[name] for name in PROXIES if name in os.environ}}
    with tempfile.TemporaryDirectory(prefix="westward-image-") as folder:
        # a copy: the sources may be links into a checkout, or change while they are read
        context = Path(folder) / source.name
        shutil.copytree(source, context, ignore=shutil.ignore_patterns("__pycache__"))
        if wheelhouse:
            shutil.copytree(wheelhouse, context / "wheelhouse")
        said: list[str] = []
        with engine_errors(f"building the image {tag}"):
            for event in client.api.build(
                path=str(context),
                tag=tag,
                buildargs=arguments,
                network_mode="host",
                rm=True,
                forcerm=True,
                decode=True,
                labels={LABEL + "image": source.name},
            ):
                if "error" in event:
                    raise WestwardError(f"the image {tag} did not build: {event['error']}\n" + "\n".join(said[-15:]))
                for line in str(event.get("stream", "")).splitlines():
                    said.append(line)
                    if worth_showing(line):
                        say(line.strip()[:100])


def worth_showing(line: str) -> bool:
    """Is this line of a build log one that a waiting person wants to see?"""
    return line.startswith(("Step ", "Need to get ", "Fetched ", "Setting up slurm", "Setting up mariadb", "E: "))


def _present(client: docker.DockerClient, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    except APIError as error:
        raise Unreachable(f"asking for the image {name}: {error.explanation or error}") from error
    return True


def _digest(folder: Path, *more: str) -> str:
    """Twelve hex digits of the files in a folder, of this kind of machine, and of whatever else decides what is built."""
    digest = hashlib.sha256("\0".join((platform.machine(), *more)).encode())
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def main() -> int:
    """`python -m westward.lab.images at-hand | make [RELEASE...]`, for ./run: are base images there, or can be pulled? Make them as root."""
    client = connect()
    releases = [RELEASES[name] for name in sys.argv[2:]] or [DEFAULT]
    missing = [
        release
        for release in releases
        if not (_present(client, node_image_tag(release)) or _present_or_pulled(client, print, release)[0])
    ]
    if sys.argv[1] == "at-hand":
        return DEBOOTSTRAP_NEEDED if missing else 0
    for release in missing:
        print(f"making {release.own_base} with debootstrap (about 30 s)", flush=True)
        _bootstrap(client, release)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WestwardError as error:
        print(f"error: {error}\nnext:  {error.next_step}", file=sys.stderr)
        sys.exit(error.exit_code)
