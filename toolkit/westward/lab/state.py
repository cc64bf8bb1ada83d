"""What a lab keeps on the host: its lock, its record, its secrets, the clusters' shared directories, the site files."""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from westward.directories import private_dir, state_dir, write_private
from westward.errors import InputError, StorageError
from westward.lab.sshkeys import KeyPair, key_file

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a lab between two calls.

    Attributes:
        ready: False from before its first container is made until a job has run on every cluster; a lab that is found
            so was left half made.
    """

    lab: str
    topology: str
    ready: bool
    image: str
    spec: str


@dataclass(frozen=True, slots=True)
class ClusterSecrets:
    """What only the daemons of one cluster may know, and the key with which its user comes in by ssh.

    Attributes:
        slurm_key: shared by all its daemons; what auth/slurm or munge signs with.
        host_key: of its sshd.
        user_key: its public half is what that sshd accepts; the private half never leaves this host.
    """

    slurm_key: bytes = field(repr=False)
    jwt_key: bytes = field(repr=False)
    database_password: str = field(repr=False)
    host_key: KeyPair = field(repr=False)
    user_key: KeyPair = field(repr=False)


class LabFolder:
    """`labs/<lab>` in the state directory, which only its owner may enter."""

    def __init__(self, lab: str) -> None:
        if not NAME.fullmatch(lab):
            raise InputError(f"'{lab}' is no name for a lab: lower-case letters, digits and '-', at most 40")
        self.lab = lab
        self.root = labs_dir() / lab
        self.lock_file = labs_dir() / f".{lab}.lock"

    @property
    def owner(self) -> str:
        """What the containers of this lab are labelled with: the state directory that it belongs to."""
        return str(state_dir().resolve())

    @property
    def sites(self) -> Path:
        return self.root / "sites"

    def cluster(self, cluster: str) -> Path:
        return self.root / cluster

    def shared(self, cluster: str) -> Path:
        """The directory that every node of the cluster sees as /shared."""
        return self.root / cluster / "shared"

    def token(self, cluster: str, user: str) -> Path:
        return self.root / cluster / f"{user}.jwt"

    def ssh_key(self, cluster: str, user: str) -> Path:
        """The private key of the cluster's user."""
        return self.root / cluster / f"{user}.ssh-key"

    def known_hosts(self, cluster: str) -> Path:
        """The public key of the cluster's sshd, by the address at which this host reaches it."""
        return self.root / cluster / "known_hosts"

    def read(self) -> Record | None:
        """The record, or None where there is none or where it cannot be read: the lab is then made anew."""
        try:
            return Record(**json.loads((self.root / "lab.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, record: Record) -> None:
        private_dir(self.root)
        write_private(self.root / "lab.json", json.dumps(asdict(record), indent=1))

    def secrets(self, cluster: str, user: str, anew: bool) -> ClusterSecrets:
        """The cluster's secrets: random, in files of mode 600; `anew` replaces what is there."""
        folder = private_dir(self.cluster(cluster))
        return ClusterSecrets(
            slurm_key=_random_file(folder / "slurm.key", 1024, anew),
            jwt_key=_random_file(folder / "jwt.key", 64, anew),
            database_password=_random_file(folder / "database-password", 24, anew).hex(),
            host_key=key_file(folder / "ssh-host-key", anew),
            user_key=key_file(self.ssh_key(cluster, user), anew),
        )

    def make_shared(self, cluster: str, uid: int, gid: int, user: str) -> Path:
        """The shared directory with the user's own directory in it, both the user's."""
        shared = self.shared(cluster)
        private_dir(self.cluster(cluster))
        for folder in (shared, shared / user):
            if not folder.is_dir():
                folder.mkdir(mode=0o755)
                folder.chmod(0o755)
                if os.geteuid() == 0:
                    os.chown(folder, uid, gid)
        return shared

    def remove(self) -> None:
        """Remove all of it.

        Raises:
            PermissionError: a file in a shared directory belongs to a user of the nodes.
        """
        if self.root.exists():
            shutil.rmtree(self.root)

    @contextmanager
    def locked(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the lab's lock; `waiting` is called once where another process has it. It ends with the process that held it."""
        private_dir(labs_dir())
        descriptor = _lock(self.lock_file, waiting)
        try:
            yield
        finally:
            if not self.root.exists():  # nothing is left of the lab: nor of its lock
                self.lock_file.unlink(missing_ok=True)
                with suppress(OSError):
                    labs_dir().rmdir()
            os.close(descriptor)


def labs_dir() -> Path:
    return state_dir() / "labs"


def _lock(path: Path, waiting: Callable[[], None]) -> int:
    told = False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the last lab here was taken down in this moment
            private_dir(path.parent)
            continue
        except OSError as error:
            raise StorageError(f"cannot lock '{path}': {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            if not told:
                told = True
                waiting()
            time.sleep(WAIT_S)
        except FileNotFoundError:
            pass
        os.close(descriptor)  # held by another process, or removed by the one that held it


def _random_file(path: Path, count: int, anew: bool) -> bytes:
    """What the file holds: `count` random bytes, written where it is missing or `anew`."""
    if anew or not path.is_file():
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_bytes(count))
        draft.replace(path)
    return path.read_bytes()
