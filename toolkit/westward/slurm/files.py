"""Files of a site, as far as they can be read here: today, file systems that this host mounts."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from westward.errors import StorageError, Unreachable


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
            draft = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                with draft.open("wb") as out:
                    shutil.copyfileobj(source, out)
                os.replace(draft, target)
            except OSError as error:
                draft.unlink(missing_ok=True)
                raise StorageError(f"cannot write '{target}': {error.strerror}") from error

    def _split(self, path: PurePosixPath) -> tuple[Path, PurePosixPath]:
        for there, here in self._mounts.items():
            if path.is_relative_to(there) and ".." not in path.parts and path != there:
                return here, path.relative_to(there)
        raise Unreachable(
            f"site '{self._site}': no directory mounted here holds '{path}'",
            "add it under 'access: files:' in the site's description",
        )
