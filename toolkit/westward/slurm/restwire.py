"""Kept connections to one HTTP/1.1 server over TCP, TLS or a unix socket.

A request is sent in one piece, and llhttp reads the answer: the standard library's client takes five times as long over both, and sends
a request in two pieces, each of which wakes the server.

It asks no proxy and no .netrc of the environment and follows no redirect: the token goes to the cluster alone.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 5
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_PIECE = 65536
_HEAD_BYTES = 65536


class NotConnected(OSError):
    """Nobody answers there, or TLS cannot agree: the request was not sent."""


class AnswerLost(OSError):
    """The request was sent, in part or in full, and no whole answer came back.

    Attributes:
        stale: it went over a connection that had been idle, and not one byte came back: the usual cause is that the server had closed it.
    """

    def __init__(self, message: str, *, stale: bool) -> None:
        super().__init__(message)
        self.stale = stale


class Wire:
    """Any number of threads may ask at once; each has a connection for itself while it asks.

    Raises:
        ValueError: the address is none of http://HOST[:PORT], https://HOST[:PORT] and unix:///PATH.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._unix = parts.path if parts.scheme == "unix" else None
        self._host, self._port = parts.hostname or "localhost", parts.port or (443 if parts.scheme == "https" else 80)
        self._name = parts.netloc.rpartition("@")[2] or "localhost"
        self._prefix = "" if self._unix else parts.path.rstrip("/")
        # the system's certificates, a site's own CA among them
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: deque[_Connection] = deque()
        good = parts.path.strip("/") and not parts.netloc if parts.scheme == "unix" else parts.hostname
        if parts.scheme not in ("http", "https", "unix") or not good or not _HOST.fullmatch(self._host):
            raise ValueError(f"'{url}' is not of the form http://HOST:PORT, https://HOST:PORT or unix:///PATH")

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> tuple[int, bytes]:
        """One request and its whole answer: status and body. `timeout_s` is the longest silence while waiting for it.

        Raises:
            NotConnected: nothing was sent.
            AnswerLost: it may have been carried out.
        """
        text = self._text(method, target, headers, body)
        connection, used = self._take()
        try:
            status, content = connection.ask(text, timeout_s)
        except (OSError, _Broken) as error:
            connection.close()
            silent = isinstance(error, ConnectionError) and not connection.heard
            raise AnswerLost(_said(error), stale=used and silent) from error
        except BaseException:
            connection.close()  # interrupted in the middle: what comes over it next would be the answer to this request
            raise
        if connection.ends:
            connection.close()
        else:
            self._idle.append(connection)
        return status, content

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _text(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        lines = [f"{method} {self._prefix}{target} HTTP/1.1", f"Host: {self._name}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None or method == "POST":
            lines.append(f"Content-Length: {len(body or b'')}")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line of a request holds a line break")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")

    def _take(self) -> tuple[_Connection, bool]:
        """A connection, and whether it has been used before."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(), False
            # an idle connection has nothing to say: one that can be read was closed by the other side
            if not _readable(connection.sock):
                return connection, True
            connection.close()

    def _connect(self) -> _Connection:
        try:
            return _Connection(self._open())
        except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode is a UnicodeError
            raise NotConnected(_said(error)) from error

    def _open(self) -> socket.socket:
        if self._unix is not None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(CONNECT_TIMEOUT_S)
            try:
                made.connect(self._unix)
            except BaseException:
                made.close()
                raise
            return made
        made = socket.create_connection((self._host, self._port), CONNECT_TIMEOUT_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made if self._tls is None else self._tls.wrap_socket(made, server_hostname=self._host)


class _Broken(Exception):
    """What came is no whole answer of an HTTP server."""


class _Connection:
    """One connection, on which one answer is awaited at a time.

    Attributes:
        heard: whether anything has come since the last request.
        ends: it cannot be used again: the server closes it after the answer, or has said more than that.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = False
        self.ends = False

    def close(self) -> None:
        with suppress(OSError):
            self.sock.close()

    def ask(self, text: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        if self.sock.gettimeout() != timeout_s:
            self.sock.settimeout(timeout_s)
        self.heard = False
        self.sock.sendall(text)
        answer = _Answer()
        while not answer.whole:
            piece = self.sock.recv(_PIECE)
            self.heard = self.heard or bool(piece)
            answer.take(piece)
        self.ends = answer.last
        return answer.status, b"".join(answer.body)


class _Answer:
    """An answer as it comes. Provisional ones (1xx) before it are passed over.

    Attributes:
        whole: all of it has come.
        last: nothing more can be asked on its connection.
    """

    def __init__(self) -> None:
        self.status = 0
        self.body: list[bytes] = []
        self.whole = self.last = False
        self._parser = httptools.HttpResponseParser(self)
        self._head_bytes: int | None = 0  # so far; None once there is all of it
        self._told_where_it_ends = False

    def take(self, piece: bytes) -> None:
        """The next piece; an empty one is the connection's end."""
        if not piece:
            if self._head_bytes is not None or self._told_where_it_ends:
                raise ConnectionResetError("the connection was closed before the answer had come")
            self.whole = self.last = True
            return
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            if self.whole:  # slurmrestd 26.05 says more after an answer with which it closes the connection
                self.last = True
                return
            raise _Broken(f"no answer of an HTTP server ({error})") from error
        if self._head_bytes is not None:
            self._head_bytes += len(piece)
            if self._head_bytes > _HEAD_BYTES:
                raise _Broken("no answer of an HTTP server (its head does not end)")

    # --- what the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.last = self.whole  # more than was asked for

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._told_where_it_ends |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        if not self.whole and self._parser.get_status_code() >= 200:
            self.status = self._parser.get_status_code()
            self._head_bytes = None

    def on_body(self, piece: bytes) -> None:
        if not self.whole:
            self.body.append(piece)

    def on_message_complete(self) -> None:
        if self._head_bytes is None and not self.whole:
            self.whole, self.last = True, not self._parser.should_keep_alive()


def _readable(sock: socket.socket) -> bool:
    watched = select.poll()
    watched.register(sock, select.POLLIN)
    return bool(watched.poll(0))


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
