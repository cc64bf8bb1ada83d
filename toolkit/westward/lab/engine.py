"""The container engine: connecting, labels, files into a container, commands in it. All of the Docker SDK's errors end here."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from westward.errors import Unreachable, Unsafe

LABEL = "org.westward."
LAB = LABEL + "lab"
OWNER = LABEL + "owner"
TOPOLOGY = LABEL + "topology"
CLUSTER = LABEL + "cluster"
ROLE = LABEL + "role"
SPEC = LABEL + "spec"

START_ENGINE = "start it (as root: 'systemctl start docker'; on Debian or Ubuntu 'apt install docker.io' installs it), or set DOCKER_HOST"
KILLED = 137  # as a shell says it: 128 + SIGKILL
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class FileInNode:
    """A file to be put into a container before it starts."""

    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command in a container ended with."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A container as the engine has it now.

    Attributes:
        state: the engine's word: created, running, exited, ...
        published: the host's port for each port of the container that is reachable from the host.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    state: str
    image: str
    published: Mapping[int, int]

    @property
    def lab(self) -> str:
        """The lab it belongs to; empty for a container that is none of ours."""
        return self.labels.get(LAB, "")

    @property
    def node(self) -> str:
        """Its hostname."""
        return self.name.partition(".")[2]

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class LabNetwork:
    """A network with our label."""

    id: str
    name: str
    labels: Mapping[str, str]


def connect() -> docker.DockerClient:
    """A client of the engine that DOCKER_HOST names, or of the one on this machine.

    Raises:
        Unreachable: no engine answers there, or it is one that cannot run a lab: on another machine, or rootless.
    """
    client = _client()
    if not client.api.base_url.startswith("http+docker://"):
        raise Unreachable(
            f"the Docker engine at {client.api.base_url} is on another machine, and labs mount directories of this one",
            "unset DOCKER_HOST to use this machine's engine",
        )
    with engine_errors("asking the engine about itself"):
        options = " ".join(client.info().get("SecurityOptions") or ())
    if "rootless" in options or "userns" in options:
        raise Unreachable(
            "this Docker engine maps user ids (rootless, or userns-remap); a lab's nodes need device files and shared uids",
            "use an engine that runs as root, without userns-remap",
        )
    return client


def _client() -> docker.DockerClient:
    rootless = Path(os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")) / "docker.sock"
    environment = dict(os.environ)
    if "DOCKER_HOST" not in environment and not Path("/var/run/docker.sock").exists() and rootless.exists():
        environment["DOCKER_HOST"] = f"unix://{rootless}"
    try:
        return docker.from_env(version="auto", timeout=TIMEOUT_S, max_pool_size=32, environment=environment)
    except (DockerException, requests.RequestException) as error:
        if "Permission denied" in str(error):
            raise Unreachable(
                "the Docker engine refuses this user",
                "add the user to the group 'docker' and log in again, or run as root",
            ) from error
        raise Unreachable(f"no Docker engine answers ({error})", START_ENGINE) from error


@contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn the SDK's errors into ours; `doing` says what was tried, as in "making the network 'x'"."""
    try:
        yield
    except APIError as error:
        kind = Unsafe if error.status_code == 409 else Unreachable
        raise kind(f"{doing}: the Docker engine refused: {error.explanation or error}") from error
    except (DockerException, requests.RequestException) as error:
        raise Unreachable(f"{doing}: the Docker engine did not answer: {error}", START_ENGINE) from error


def survey(client: docker.DockerClient) -> list[Seen]:
    """Every container of the engine, ours or not, running or not, by name."""
    with engine_errors("listing containers"):
        return sorted((_seen(entry) for entry in client.api.containers(all=True)), key=lambda seen: seen.name)


def lab_networks(client: docker.DockerClient, lab: str | None = None) -> list[LabNetwork]:
    """The networks of one lab, or of all."""
    with engine_errors("listing networks"):
        found = client.api.networks(filters={"label": f"{LAB}={lab}" if lab else LAB})
    return [LabNetwork(entry["Id"], entry["Name"], entry["Labels"]) for entry in found]


def start(client: docker.DockerClient, container: str, name: str) -> None:
    """Start a container, by its id or name; `name` is what an error calls it. Harmless where it runs."""
    with engine_errors(f"starting '{name}'"):
        client.api.start(container)


def remove(client: docker.DockerClient, seen: Seen) -> None:
    """Remove a container with its anonymous volumes; one that is gone already, or is just going, is fine."""
    with engine_errors(f"removing the container '{seen.name}'"), suppress(NotFound):
        try:
            client.api.remove_container(seen.id, force=True, v=True)
        except APIError as error:
            if error.status_code != 409:
                raise


def put_files(client: docker.DockerClient, container: str, files: Sequence[FileInNode]) -> None:
    """Put files into a container, running or not, with owner and mode; their directories have to be there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(file.content), file.mode, file.uid, file.gid
            tar.addfile(entry, io.BytesIO(file.content))
    with engine_errors(f"putting files into '{container}'"):
        client.api.put_archive(container, "/", packed.getvalue())


def execute(client: docker.DockerClient, container: str, argv: Sequence[str], *, user: str = "root") -> Answer:
    """Run a command in a running container to its end."""
    with engine_errors(f"running '{argv[0]}' in '{container}'"):
        created = client.api.exec_create(container, list(argv), user=user)["Id"]
        stdout, stderr = client.api.exec_start(created, demux=True)
        status = client.api.exec_inspect(created)["ExitCode"]
    return Answer(exit_status(status), _text(stdout), _text(stderr))


def exit_status(status: int | None) -> int:
    """What the engine says of a command that ended; it says nothing where the container went away under it: killed."""
    return KILLED if status is None else int(status)


def last_lines(client: docker.DockerClient, container: str, path: str, count: int = 15) -> str:
    """The end of a file in a container, running or not; empty where there is no such file."""
    try:
        chunks, _ = client.api.get_archive(container, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            member = tar.extractfile(tar.getmembers()[0])
            text = _text(member.read() if member else b"")
    except (DockerException, requests.RequestException, tarfile.TarError):
        return ""
    return "\n".join(text.splitlines()[-count:])


def _seen(entry: dict[str, Any]) -> Seen:
    published = {port["PrivatePort"]: port["PublicPort"] for port in entry["Ports"] or () if port.get("PublicPort")}
    name = entry["Names"][0].lstrip("/") if entry["Names"] else entry["Id"][:12]
    return Seen(entry["Id"], name, entry["Labels"] or {}, entry["State"], entry["ImageID"], published)


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="replace")
