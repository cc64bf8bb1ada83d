"""Where Westward keeps things for this user: the XDG base directories, or what WESTWARD_STATE_DIR says.

Everything with a secret in it lives under the state directory, which only its owner may enter.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from westward.errors import InputError, StorageError


def state_dir() -> Path:
    """The ledger, the labs and collected results. Made on first use with mode 700.

    Raises:
        StorageError: it cannot be made or entered.
        InputError: the variable that names it holds a relative path.
    """
    return private_dir(state_path())


def state_path() -> Path:
    """Where the state directory is, or would be made."""
    return _named_by("WESTWARD_STATE_DIR") or (_named_by("XDG_STATE_HOME") or Path.home() / ".local/state") / "westward"


def config_home() -> Path:
    """Where the programs of this user keep what he writes for them."""
    return _named_by("XDG_CONFIG_HOME") or Path.home() / ".config"


def config_dir() -> Path:
    """What the user writes: `sites/*.yaml`. Not made until somebody writes there."""
    return config_home() / "westward"


def cache_dir() -> Path:
    """What can be made again: the tree of Python packages that the labs' nodes mount. World-readable, no secrets."""
    return (_named_by("XDG_CACHE_HOME") or Path.home() / ".cache") / "westward"


def _named_by(variable: str) -> Path | None:
    """The directory that a variable of the environment names; None where it is empty or not set.

    Raises:
        InputError: the path is relative. The agent runs in another directory than its user, and would open another ledger; the XDG
            specification calls such a path invalid.
    """
    text = os.environ.get(variable)
    if text and not os.path.isabs(text):
        raise InputError(
            f"{variable}={text} is a relative path, which names another directory wherever a command is run",
            f"write it from the root: export {variable}={shlex.quote(os.path.abspath(os.path.expanduser(text)))}",
        )
    return Path(text) if text else None


def private_dir(path: Path) -> Path:
    """`path`, made where missing, with mode 700 for the part that is new.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        for part in reversed([path, *path.parents]):
            if not part.is_dir():
                part.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        variable = "XDG_CONFIG_HOME" if path.is_relative_to(config_dir()) else "WESTWARD_STATE_DIR"
        raise StorageError(
            f"cannot make the directory '{path}': {error.strerror}", f"set {variable} to a directory of yours"
        ) from error
    return path


def write_private(path: Path, text: str, *, anew: bool = False) -> None:
    """Write a file that only its owner can read (mode 600), whole or not at all; `anew` replaces none.

    Raises:
        FileExistsError: it was to be written `anew`, and is there.
        StorageError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        if anew:
            os.link(draft, path)  # of two at once, one succeeds
            draft.unlink()
        else:
            os.replace(draft, path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        if anew and isinstance(error, FileExistsError):
            raise
        raise StorageError(f"cannot write '{path}': {error.strerror}") from error
