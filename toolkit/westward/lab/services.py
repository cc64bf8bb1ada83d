"""What tests need beside Slurm: a real PostgreSQL in a container of a lab, for as long as it is used."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker

from westward.directories import private_dir, write_private
from westward.errors import Unreachable
from westward.lab import engine
from westward.lab.engine import LAB, OWNER, ROLE, FileInNode
from westward.lab.images import ensure_service_image
from westward.lab.progress import Say
from westward.lab.sites import HOST
from westward.lab.state import LabFolder, labs_dir

POSTGRES = "postgres"
POSTGRES_PORT = 5432
# fixed in containers/postgres/Dockerfile
POSTGRES_UID = 64060
USER = DATABASE = "westward"
READY_WITHIN_S = 60.0


@contextmanager
def postgres(lab: str, say: Say = lambda text: None) -> Iterator[tuple[str, Path]]:
    """A PostgreSQL of that lab, whether the lab has clusters or not: its address without a password, and the file (libpq's `passfile`) that has it.

    Its container and files are gone at the end; `westward lab down LAB` removes what a killed process left.

    Raises:
        Unreachable: no engine, no image, or it did not start.
        Unsafe: the lab has one already.
    """
    folder, client = LabFolder(lab), engine.connect()
    image = ensure_service_image(client, POSTGRES, say)
    secret = secrets.token_urlsafe(24)
    container = _create(client, folder, image)
    try:
        engine.put_files(
            client,
            container,
            [FileInNode("/etc/westward/password", secret.encode(), 0o600, POSTGRES_UID, POSTGRES_UID)],
        )
        port = _start(client, container, f"{lab}.{POSTGRES}")
        passfile = private_dir(folder.root / POSTGRES) / "pgpass"
        write_private(passfile, f"{HOST}:{port}:*:{USER}:{secret}\n")
        yield f"postgresql://{USER}@{HOST}:{port}/{DATABASE}", passfile
    finally:
        with engine.engine_errors(f"removing '{lab}.{POSTGRES}'"):
            client.api.remove_container(container, force=True, v=True)
        _remove_files(folder)


def _create(client: docker.DockerClient, folder: LabFolder, image: str) -> str:
    """Its container, not started: it needs no capability at all."""
    name = f"{folder.lab}.{POSTGRES}"
    with engine.engine_errors(f"making the container '{name}'"):
        made = client.containers.create(
            image,
            name=name,
            hostname=POSTGRES,
            labels={LAB: folder.lab, OWNER: folder.owner, ROLE: POSTGRES},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            ports={f"{POSTGRES_PORT}/tcp": (HOST, 0)},
        )
    return str(made.id)


def _start(client: docker.DockerClient, container: str, name: str) -> int:
    """Start it and wait until it answers; this host's port."""
    engine.start(client, container, name)
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        seen = next(seen for seen in engine.survey(client) if seen.id == container)
        if seen.running and POSTGRES_PORT in seen.published:
            with suppress(Unreachable):  # it stopped in this moment: the next turn finds it so
                if not engine.execute(client, container, ["pg_isready", "-q", "-h", HOST], user=POSTGRES).status:
                    return seen.published[POSTGRES_PORT]
        if seen.state == "exited" or time.monotonic() > deadline:
            said = client.api.logs(container, tail=15).decode(errors="replace")
            raise Unreachable(f"'{name}': PostgreSQL did not start:\n{said}".rstrip())
        time.sleep(0.1)


def _remove_files(folder: LabFolder) -> None:
    """Remove the password, and the lab's directory where nothing else is in it."""
    (folder.root / POSTGRES / "pgpass").unlink(missing_ok=True)
    for directory in (folder.root / POSTGRES, folder.root, labs_dir()):
        with suppress(OSError):
            directory.rmdir()
