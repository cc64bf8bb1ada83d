"""The JWT for one slurmrestd: from a file, or from a command that prints one. It is never shown, and never given to a program."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import shlex
import stat
import threading
import time
from pathlib import Path

from westward import process
from westward.directories import write_private
from westward.errors import AccessRefused, StorageError, WestwardError
from westward.model.site import RestDoor
from westward.model.units import format_duration

COMMAND_TIMEOUT_S = 60
# a command whose token is refused as well is not run again for so long: every request in flight would
COMMAND_PAUSE_S = 10
_NAMED = re.compile(r"SLURM_JWT=(?P<token>\S+)")

_log = logging.getLogger("westward")


class Token:
    """The token in use; any thread may ask.

    Raises (from every call):
        AccessRefused: there is none to be had.
        StorageError: others can read the file.
    """

    def __init__(self, site: str, door: RestDoor) -> None:
        self._site = site
        self._door = door
        self._lock = threading.Lock()
        self._text: str | None = None
        self._expires_at: float | None = None
        self._asked_at: float | None = None

    def current(self) -> str:
        """The token to send; a new one where the one in use says itself that it is over and another can be had."""
        with self._lock:
            if self._text is None or (self._expires_at is not None and self._expires_at <= time.time()):
                self._keep(self._another(self._text) or self._text or self._read())
            assert self._text is not None
            return self._text

    def after(self, refused: str) -> str | None:
        """The token to try after that one was refused; None where there is no other."""
        with self._lock:
            if self._text == refused:
                another = self._another(refused)
                if another is None:
                    return None
                self._keep(another)
            return self._text

    def next_step(self) -> str:
        """How a user comes by a new one."""
        if self._door.token_command:
            return f"run '{shlex.join(self._door.token_command)}' by hand and see what it says"
        return f"renew {self._door.token_file} ('scontrol token' prints one); for a lab: 'westward lab up'"

    def _keep(self, text: str) -> None:
        self._text, self._expires_at = text, expires_at(text)

    def _another(self, old: str | None) -> str | None:
        """A token that is not `old`: from the file, which somebody may have renewed, else from the command."""
        file, command = self._door.token_file, self._door.token_command
        if file is not None and (file.exists() or not command):
            found = self._read()
            over = expires_at(found)
            if found != old and not (command and over is not None and over <= time.time()):
                return found
        paused = self._asked_at is not None and time.monotonic() < self._asked_at + COMMAND_PAUSE_S
        if not command or paused:
            return None
        self._asked_at = time.monotonic()
        made = self._run()
        if file is not None:
            try:
                write_private(file, made + "\n")
            except StorageError as error:
                _log.warning("site '%s': the new token is kept in memory only: %s", self._site, error)
        return made

    def _run(self) -> str:
        argv = self._door.token_command
        try:
            done = process.run(argv, timeout_s=COMMAND_TIMEOUT_S, check=False)
        except WestwardError as error:
            raise AccessRefused(f"site '{self._site}': no token: {error}", self.next_step()) from error
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        named = [match["token"] for match in map(_NAMED.search, lines) if match]
        text = named[-1] if named else lines[-1] if lines else ""
        if done.status != 0 or not is_token(text):
            # what it printed may hold a secret, in whatever form: only its complaint is repeated
            ended = f"ended with status {done.status}" if done.status else "printed no token"
            raise AccessRefused(
                f"site '{self._site}': '{shlex.join(argv)}' {ended}: {done.complaint}", self.next_step()
            )
        return text

    def _read(self) -> str:
        file = self._door.token_file
        if file is None:
            raise AccessRefused(
                f"site '{self._site}': no token for {self._door}",
                self.next_step()
                if self._door.token_command
                else "name a token_file or a token_command in the site's description",
            )
        text, mode = _contents(self._site, file)
        if mode & 0o077:
            raise StorageError(
                f"site '{self._site}': others can read the token file '{file}' (mode {mode:o})", f"chmod 600 '{file}'"
            )
        text = text.strip().removeprefix("SLURM_JWT=")
        if not is_token(text):
            raise AccessRefused(f"site '{self._site}': '{file}' holds no token", self.next_step())
        return text


def _contents(site: str, file: Path) -> tuple[str, int]:
    """A file's text and mode, of the same file."""
    try:
        with file.open() as source:
            return source.read(), stat.S_IMODE(os.fstat(source.fileno()).st_mode)
    except UnicodeDecodeError as error:
        raise AccessRefused(f"site '{site}': '{file}' holds no token") from error
    except OSError as error:
        raise AccessRefused(
            f"site '{site}': cannot read the token file '{file}': {error.strerror}",
            "for a lab: 'westward lab up' writes it",
        ) from error


def is_token(text: str) -> bool:
    """Whether a text can be sent as a token at all: one printable ASCII word."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def expires_at(token: str) -> float | None:
    """When a token says that it is over, in seconds since the epoch; None where it does not say. The signature is not checked here."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, ValueError, TypeError, binascii.Error):
        return None


def token_problem(token: str) -> str:
    """What the token itself says, for an error message: " (expired 3 min ago)", or nothing."""
    over = expires_at(token)
    if over is None:
        return " (it is not a JWT with an expiry)"
    late = time.time() - over
    return f" (expired {format_duration(late)} ago)" if late > 0 else ""
