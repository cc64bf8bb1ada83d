"""Files of a site: through file systems that this host mounts, by SFTP, or on this host itself."""

from __future__ import annotations

import io
import os
import posixpath
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, Self, cast

from westward.errors import StorageError, Unreachable
from westward.model.site import ShellDoor, Site

if TYPE_CHECKING:
    from paramiko import SFTPFile

    from westward.slurm.ssh import Ssh

_PIECE = 1 << 20
# from this size on a part of a remote file is asked for in many requests at once
_FEW_REQUESTS = 1 << 16


class Part(NamedTuple):
    """A part of a file, and how long the whole is now."""

    data: bytes
    size: int


class Files(Protocol):
    """Files of a site that can be read here."""

    def open(self, path: str) -> IO[bytes]:
        """Open a file of the site for reading.

        Raises:
            FileNotFoundError: it is not there (yet).
            Unreachable: this way does not lead to that path.
            StorageError: it is not a plain file under plain directories, or cannot be read.
        """
        ...

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file of the site to `target`, whole or not at all. Raises as `open` does, and StorageError for a full disk here."""
        ...

    def part(self, path: str, start: int, most: int) -> Part:
        """At most that many bytes of a file from an offset on; fewer at its end, none beyond it. Raises as `open` does.

        The file is looked up anew each time: it may have been replaced, or cut short, since.
        """
        ...


def open_files(site: Site) -> SiteFiles:
    """The site's files, by the best way to each: a mount that holds it, else SFTP by the first ssh door, else this host's own files
    where a door is on this host. Nothing is opened yet."""
    ways: list[Files] = [MountedFiles(site.name, site.files)]
    shells = [door for door in site.doors if isinstance(door, ShellDoor)]
    remote = next((door for door in shells if door.host is not None), None)
    if remote is not None:
        ways.append(RemoteFiles(site.name, remote, site.root))
    elif shells:
        ways.append(MountedFiles(site.name, {site.root: Path(site.root)}))
    return SiteFiles(ways)


class SiteFiles:
    """Several ways to the files of a site, in the order to try them: the first that leads to a path is used for it."""

    def __init__(self, ways: list[Files]) -> None:
        self._ways = ways

    def open(self, path: str) -> IO[bytes]:
        return self._way(path).open(path)

    def fetch(self, path: str, target: Path) -> None:
        self._way(path).fetch(path, target)

    def part(self, path: str, start: int, most: int) -> Part:
        return self._way(path).part(path, start, most)

    def close(self) -> None:
        for way in self._ways:
            if isinstance(way, RemoteFiles):
                way.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _way(self, path: str) -> Files:
        for way in self._ways:
            if not isinstance(way, MountedFiles) or way.covers(path):
                return way
        return self._ways[0]


class MountedFiles:
    """Reads through local mounts, as {path at the site: path here}.

    What lies there was written by jobs, so no link of theirs is followed: a link named result.json must not make us read another file.
    """

    def __init__(self, site: str, mounts: Mapping[str, Path]) -> None:
        self._site = site
        self._mounts = {PurePosixPath(there): here for there, here in mounts.items()}

    def open(self, path: str) -> IO[bytes]:
        """Open a file of the site for reading.

        Raises:
            FileNotFoundError: it is not there (yet).
            Unreachable: no mount covers that path.
            StorageError: it is not a plain file under plain directories, or cannot be read.
        """
        mount, relative = self._split(PurePosixPath(path))
        try:
            directory = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Unreachable(
                f"site '{self._site}': its directory '{mount}' cannot be read here: {error.strerror}"
            ) from error
        try:
            for part in relative.parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = inner
            descriptor = os.open(relative.parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(f"site '{self._site}': cannot read '{path}': {error.strerror}") from error
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(f"site '{self._site}': '{path}' is not a plain file")
        return os.fdopen(descriptor, "rb")

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file of the site to `target`, whole or not at all. Raises as `open` does, and StorageError for a full disk here."""
        with self.open(path) as source:
            _write_whole(source, target)

    def part(self, path: str, start: int, most: int) -> Part:
        """At most that many bytes from an offset on. Raises as `open` does."""
        with self.open(path) as source:
            try:
                source.seek(start)
                return Part(source.read(most), os.fstat(source.fileno()).st_size)
            except OSError as error:  # a file of another host that was replaced while it was read is stale
                raise StorageError(f"site '{self._site}': cannot read '{path}': {error.strerror}") from error

    def covers(self, path: str) -> bool:
        """Whether a mount holds that path."""
        return self._find(PurePosixPath(path)) is not None

    def _split(self, path: PurePosixPath) -> tuple[Path, PurePosixPath]:
        found = self._find(path)
        if found is None:
            raise Unreachable(
                f"site '{self._site}': no directory mounted here holds '{path}'",
                "add it under 'access: files:' in the site's description, or give the site a shell door",
            )
        return found

    def _find(self, path: PurePosixPath) -> tuple[Path, PurePosixPath] | None:
        for there, here in self._mounts.items():
            if path.is_relative_to(there) and ".." not in path.parts and path != there:
                return here, path.relative_to(there)
        return None


class _Lost(Unreachable):
    """The connection ended while a file was looked at."""


class _Reading(io.RawIOBase):
    """A file by SFTP, whose errors are told as ours."""

    def __init__(self, file: SFTPFile, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._file = file
        self._errors = errors

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._errors():
            self._file.seek(offset, whence)
            return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class RemoteFiles:
    """Reads by SFTP what lies under the site's root. No link below it is followed, for the reason that `MountedFiles` has."""

    def __init__(self, site: str, door: ShellDoor, root: str) -> None:
        self._site = site
        self._door = door
        self._root = PurePosixPath(root)
        self._real_root: str | None = None
        self._ssh: Ssh | None = None

    def open(self, path: str) -> IO[bytes]:
        """Open a file of the site for reading. Raises as `MountedFiles.open` does, then and while it is read."""
        return io.BufferedReader(_Reading(self._open(path), lambda: self._errors(path)), _PIECE)

    def _open(self, path: str) -> SFTPFile:
        wanted = PurePosixPath(path)
        if not wanted.is_relative_to(self._root) or ".." in wanted.parts or wanted == self._root:
            raise Unreachable(f"site '{self._site}': '{path}' is not under '{self._root}', where its jobs write")
        try:
            return self._open_plain(path, wanted)
        except _Lost:  # nobody noticed that the kept connection had died; reading can be begun again
            return self._open_plain(path, wanted)

    def _open_plain(self, path: str, wanted: PurePosixPath) -> SFTPFile:
        with self._errors(path):
            sftp = self._connection().sftp()
            if self._real_root is None:
                self._real_root = sftp.normalize(str(self._root))
            plain = posixpath.join(self._real_root, str(wanted.relative_to(self._root)))
            found = sftp.lstat(plain)
            if sftp.normalize(plain) != plain or not stat.S_ISREG(found.st_mode or 0):
                raise StorageError(f"site '{self._site}': '{path}' is not a plain file under plain directories")
            return sftp.open(plain, "rb")

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file of the site to `target`, whole or not at all. Raises as `MountedFiles.fetch` does."""
        with self._open(path) as source, self._errors(path):
            source.prefetch()  # many reads in flight: not one round trip for each piece
            _write_whole(cast(IO[bytes], source), target)

    def part(self, path: str, start: int, most: int) -> Part:
        """At most that many bytes from an offset on. Raises as `MountedFiles.open` does."""
        with self._open(path) as source, self._errors(path):
            size = source.stat().st_size or 0
            wanted = max(0, min(most, size - start))
            source.seek(start)
            if wanted > _FEW_REQUESTS:
                source.prefetch(start + wanted)
            return Part(source.read(wanted), size)

    def close(self) -> None:
        if self._ssh is not None:
            from westward.slurm import ssh

            self._ssh = None
            ssh.unshare(self._door)

    def _connection(self) -> Ssh:
        from westward.slurm import ssh  # Fabric takes a while to load

        if self._ssh is None:
            self._ssh = ssh.share(self._door)
        return self._ssh

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        from paramiko import SSHException

        try:
            yield
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise StorageError(f"site '{self._site}': cannot read '{path}': permission denied") from error
        except TimeoutError as error:
            self._connection().forget_sftp()
            raise Unreachable(
                f"site '{self._site}': no answer in time while '{path}' was read: the file system there may hang",
                f"see whether 'ls -l {shlex.quote(posixpath.dirname(path))}' ends there, and tell the site's administrator; the jobs go on",
            ) from error
        except (SSHException, EOFError, ConnectionError) as error:
            raise _Lost(
                f"site '{self._site}': the connection was lost while '{path}' was read ({error or type(error).__name__})"
            ) from error
        except OSError as error:
            if error.errno is None and str(error) == "Socket is closed":
                raise _Lost(f"site '{self._site}': the connection was lost while '{path}' was read") from error
            raise StorageError(f"site '{self._site}': cannot read '{path}': {error.strerror or error}") from error


def _write_whole(source: IO[bytes], target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _writing(target):
            out = draft.open("wb", buffering=0)  # a buffer would be written once more on closing
        with out:
            while piece := memoryview(source.read(_PIECE)):
                while piece:
                    with _writing(target):
                        piece = piece[out.write(piece) :]
        with _writing(target):
            os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror}") from error
