"""Slurm's commands at a host by ssh: a channel runs one `sh`, which reads from its stdin what to run and answers with a line after each.

So a hundred submissions cost the round trips of one, nothing but `sh` stands on a command line, and what was answered before a
connection breaks is known. Each request is one `{ ... }` group, which a shell runs only when it has read it to its end: half a
script can never be submitted.
"""

from __future__ import annotations

import re
import secrets
import shlex
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import paramiko

from westward.errors import InputError, Unreachable, WestwardError
from westward.model.site import ShellDoor
from westward.process import Completed
from westward.slurm import ssh
from westward.slurm.client import InDoubt
from westward.slurm.commands import AT_ONCE, Answer, Request

_PIECE = 65536


class RemoteCommands:
    """The commands of the host behind an ssh door."""

    def __init__(self, door: ShellDoor) -> None:
        self._door = door
        self._ssh = ssh.share(door)

    def close(self) -> None:
        ssh.unshare(self._door)

    def each(self, requests: Sequence[Request], *, at_once: int, timeout_s: float, repeat: bool) -> list[Answer]:
        answers = self._lanes(requests, min(at_once, AT_ONCE), timeout_s)
        again = [number for number, answer in enumerate(answers) if repeat and isinstance(answer, _Lost)]
        if again:
            late = self._lanes([requests[number] for number in again], min(at_once, AT_ONCE), timeout_s)
            for number, answer in zip(again, late, strict=True):
                answers[number] = answer
        return answers

    def _lanes(self, requests: Sequence[Request], lanes: int, timeout_s: float) -> list[Answer]:
        """Deal the requests out to channels, like cards."""
        lanes = min(lanes, len(requests))
        if lanes <= 1:
            return self._lane(requests, timeout_s) if requests else []
        answers: list[Answer] = [Unreachable("not asked")] * len(requests)
        with ThreadPoolExecutor(lanes) as pool:
            dealt = pool.map(lambda lane: self._lane(requests[lane::lanes], timeout_s), range(lanes))
            for lane, told in enumerate(dealt):
                answers[lane::lanes] = told
        return answers

    def _lane(self, requests: Sequence[Request], timeout_s: float) -> list[Answer]:
        token = secrets.token_hex(8)
        try:
            text = program(requests, token)
            with self._ssh.shell() as channel:
                heard = _Conversation(channel, token, text.encode(), len(requests), timeout_s)
                problem = heard.listen()
        except WestwardError as error:
            return [error] * len(requests)
        told = heard.answers(requests)
        return [*told, *[problem or Unreachable("no answer")] * (len(requests) - len(told))]


class _Lost(InDoubt):
    """The connection ended before the answer."""


def program(requests: Sequence[Request], token: str) -> str:
    """The text for `sh`. After each request it prints the token, the request's number and its exit status, on both outputs.

    Raises:
        InputError: a text holds a zero byte.
    """
    names = sorted({request.argv[0] for request in requests})
    lines = ["cd /", *(f"p{number}=$(command -v {shlex.quote(name)})" for number, name in enumerate(names))]
    # a login script may print what it likes before this
    lines += [f"printf '%s -1 0\\n' {token}", f"printf '%s -1 0\\n' {token} >&2"]
    for number, request in enumerate(requests):
        if "\0" in request.stdin or any("\0" in word for word in request.argv):
            raise InputError("a zero byte cannot be passed to a cluster")
        kept = [f'${{{name}+{name}="${name}"}}' for name in request.keep]
        given = [shlex.quote(f"{name}={value}") for name, value in request.variables.items()]
        command = f"${{p{names.index(request.argv[0])}:-{shlex.quote(request.argv[0])}}}"
        words = " ".join(["env -i", *kept, *given, f'"{command}"', shlex.join(request.argv[1:])])
        told = f"s=$?; printf '%s {number} %d\\n' {token} $s; printf '%s {number} %d\\n' {token} $s >&2"
        if request.folder:
            folder = shlex.quote(request.folder)
            missing = shlex.quote(f"sbatch: error: there is no directory {request.folder} there")
            words = f"cd -- {folder} 2>/dev/null || {{ printf '%s\\n' {missing} >&2; false; }} && {words}"
            told = f"{told}; cd /"
        lines.append(f"{{ {_fed(words, request.stdin, token)}{told}; }}")
    return "\n".join(lines) + "\n"


def _fed(words: str, stdin: str, token: str) -> str:
    """A command that reads this text, to the byte: a here-document ends with a line break, whatever the text does."""
    if not stdin:
        return f"{words} </dev/null; "
    if stdin.endswith("\n"):
        return f"{words} <<'{token}'\n{stdin}{token}\n"
    return f"printf %s {shlex.quote(stdin)} | {{ {words}; }}; "


class _Conversation:
    """One `sh` on a channel, heard to its end."""

    def __init__(self, channel: paramiko.Channel, token: str, text: bytes, expected: int, timeout_s: float) -> None:
        self._channel = channel
        self._text = text
        self._expected = expected
        self._timeout_s = timeout_s
        self._token = token
        self._mark = re.compile(rb"%s (-?\d+) (\d+)\n" % token.encode())
        self._said = bytearray()
        self._complaints = bytearray()

    def listen(self) -> WestwardError | None:
        """Send and read until the last answer; what went wrong where that did not come."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read_complaints)]
        for thread in threads:
            thread.start()
        problem = self._read()
        if problem is not None:
            self._channel.close()
        for thread in threads:
            thread.join(self._timeout_s)
        return problem

    def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """How the requests ended that were answered."""
        said, complaints = self._frames(self._said), self._frames(self._complaints)
        return [
            Completed(request.argv, status, text, complaints[number][1] if number < len(complaints) else "")
            for number, (request, (status, text)) in enumerate(zip(requests, said, strict=False))
        ]

    def _frames(self, heard: bytearray) -> list[tuple[int, str]]:
        """Exit status and text of each answered request; what stands before the first mark is none of theirs."""
        pieces = self._mark.split(bytes(heard))
        return [
            (int(status), text.decode(errors="replace"))
            for text, status in zip(pieces[3::3], pieces[5::3], strict=False)
        ]

    def _read(self) -> WestwardError | None:
        answered, deadline, searched = -1, time.monotonic() + self._timeout_s, 0
        while answered < self._expected - 1:
            self._channel.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                piece = self._channel.recv(_PIECE)
            except TimeoutError:
                return InDoubt(f"no answer within {self._timeout_s:g} s")
            if not piece:
                return self._ended()
            self._said += piece
            for mark in self._mark.finditer(self._said, searched):
                answered, searched = int(mark[1]), mark.end()
                deadline = time.monotonic() + self._timeout_s
            searched = max(searched, len(self._said) - len(self._token) - 24)
        return None

    def _ended(self) -> WestwardError:
        """Why the channel ended too early."""
        self._channel.status_event.wait(1.0)
        if self._channel.exit_status < 0:
            return _Lost("the connection was lost before the answer came")
        if self._mark.search(self._said):
            return InDoubt(f"the remote shell ended with status {self._channel.exit_status} before it had answered")
        said = (self._complaints + self._said).decode(errors="replace").strip()
        return Unreachable(
            f"the login there runs no command (status {self._channel.exit_status}): {said[-300:] or 'it says nothing'}"
        )

    def _write(self) -> None:
        left = memoryview(self._text)
        try:
            while left and not self._channel.closed:
                try:
                    left = left[self._channel.send(bytes(left[:_PIECE])) :]
                except TimeoutError:  # the reader decides when it has been too long
                    continue
            self._channel.shutdown_write()
        except OSError:  # the reader sees that the channel has ended, and says so
            pass

    def _read_complaints(self) -> None:
        while not self._channel.closed:
            try:
                piece = self._channel.recv_stderr(_PIECE)
            except TimeoutError:
                continue
            if not piece:
                return
            self._complaints += piece
