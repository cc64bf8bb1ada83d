"""The node image: there already, or built from `containers/node/` on a base that is there, pulled, or made with debootstrap."""

from __future__ import annotations

import hashlib
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

FOLDER = Path(__file__).parent.parent / "_data" / "containers" / "node"
REPOSITORY = "westward-node"
SLURM = "24.11"
SUITE = "trixie"
PUBLIC_BASE = f"debian:{SUITE}-slim"
OWN_BASE = f"westward-base:{SUITE}"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBOOTSTRAP_NEEDED = 10
DEFAULT_MIRROR = "http://deb.debian.org/debian"
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY")


def node_image_tag() -> str:
    """The tag of the image that the present files in `containers/node/` make."""
    return f"{REPOSITORY}:{SLURM}-{_digest(FOLDER)}"


def ensure_node_image(client: docker.DockerClient, say: Say) -> str:
    """The tag of the node image, built where it is missing.

    Raises:
        Unreachable: no base image can be had, or the build could not reach a package mirror.
    """
    tag = node_image_tag()
    if not _present(client, tag):
        base = ensure_base(client, say)
        say("building (packages are downloaded once; about 40 s)")
        _build(client, tag, base, say)
    return tag


def ensure_base(client: docker.DockerClient, say: Say) -> str:
    """A Debian base image: one that is there, else pulled, else made with debootstrap."""
    base, refused = _present_or_pulled(client, say)
    if base:
        return base
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        missing = "debootstrap is not installed" if os.geteuid() == 0 else "debootstrap needs root"
        raise Unreachable(
            f"no base image: {PUBLIC_BASE} cannot be pulled ({refused}), and {missing}",
            "let the engine reach an image registry, or, as root: 'apt install debootstrap' and run the same command as root once",
        )
    say(f"{PUBLIC_BASE} cannot be pulled: making {OWN_BASE} with debootstrap (about 30 s)")
    _bootstrap(client)
    return OWN_BASE


def _present_or_pulled(client: docker.DockerClient, say: Say) -> tuple[str, str]:
    """A base image that is there or was pulled just now; else no name, and why it could not be pulled."""
    for base in (PUBLIC_BASE, OWN_BASE):
        if _present(client, base):
            return base, ""
    say(f"pulling {PUBLIC_BASE}")
    try:
        client.images.pull(PUBLIC_BASE)
    except (DockerException, OSError) as error:
        return "", str(error).strip().splitlines()[-1][:200]
    return PUBLIC_BASE, ""


def _bootstrap(client: docker.DockerClient) -> None:
    with tempfile.TemporaryDirectory(prefix="westward-base-") as folder:
        root, packed = Path(folder) / "root", Path(folder) / "root.tar"
        signed = ["--force-check-gpg", f"--keyring={KEYRING}"]  # a mirror is read over plain http
        process.run(["debootstrap", "--variant=minbase", *signed, SUITE, str(root), host_mirror()], timeout_s=900)
        process.run(
            ["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-cf", str(packed), "."], timeout_s=300
        )
        repository, tag = OWN_BASE.split(":")
        with engine_errors(f"importing {OWN_BASE}"):
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


def _build(client: docker.DockerClient, tag: str, base: str, say: Say) -> None:
    arguments = {"BASE": base, **{name: os.environ[name] for name in PROXIES if name in os.environ}}
    with tempfile.TemporaryDirectory(prefix="westward-image-") as folder:
        # a copy: the sources may be links into a checkout, or change while they are read
        context = Path(folder) / "node"
        shutil.copytree(FOLDER, context, ignore=shutil.ignore_patterns("__pycache__"))
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
                labels={LABEL + "image": "node"},
            ):
                if "error" in event:
                    raise WestwardError(f"the node image did not build: {event['error']}\n" + "\n".join(said[-15:]))
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


def _digest(folder: Path) -> str:
    digest = hashlib.sha256(platform.machine().encode())
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def main() -> int:
    """`python -m westward.lab.images at-hand | make`, for ./run: is a base image there, or can be pulled? Make one as root."""
    client = connect()
    if sys.argv[1:] == ["make"]:
        _bootstrap(client)
        return 0
    at_hand = _present(client, node_image_tag()) or _present_or_pulled(client, print)[0]
    return 0 if at_hand else DEBOOTSTRAP_NEEDED


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WestwardError as error:
        print(f"error: {error}\nnext:  {error.next_step}", file=sys.stderr)
        sys.exit(error.exit_code)
