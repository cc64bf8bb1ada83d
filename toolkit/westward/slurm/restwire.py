"""Kept connections to one HTTP/1.1 server over TCP, TLS or a unix socket. What is on the wire and no more: the standard library's client
takes five times as long over a request, and sends it in two pieces, each of which wakes the server.

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

CONNECT_TIMEOUT_S = 5
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?")
_PIECE = 65536
_HEAD_BYTES = 65536
_NO_BODY = (204, 304)


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
        ends: the server closes it after the answer, or it is not known where that ends.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = False
        self.ends = False
        self._came = b""

    def close(self) -> None:
        with suppress(OSError):
            self.sock.close()

    def ask(self, text: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        if self.sock.gettimeout() != timeout_s:
            self.sock.settimeout(timeout_s)
        self.heard, status = False, 100
        self.sock.sendall(text)
        while 100 <= status < 200:
            status, fields = self._head()
        content = b"" if status in _NO_BODY else self._body(fields)
        self.ends = self.ends or bool(self._came)
        return status, content

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        """Status, and the header's fields by their names in lower case."""
        text = self._until(b"\r\n\r\n", _HEAD_BYTES)
        first, *lines = text.split(b"\r\n")
        match = _STATUS.fullmatch(first)
        if match is None:
            raise _Broken("no HTTP server answers there")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        told = fields.get(b"connection", b"").lower()
        self.ends = b"close" in told or (match[1] == b"0" and b"keep-alive" not in told)
        return int(match[2]), fields

    def _body(self, fields: Mapping[bytes, bytes]) -> bytes:
        coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
        if coding is not None:
            if coding.lower() != b"chunked":
                raise _Broken(f"an answer in an unknown transfer coding {coding!r}")
            return self._chunks()
        if length is None:
            return self._rest()
        if not _LENGTH.fullmatch(length):
            raise _Broken(f"an answer of the length {length!r}")
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        pieces = []
        while True:
            match = _CHUNK.fullmatch(self._until(b"\r\n", _HEAD_BYTES))
            if match is None:
                raise _Broken("a chunk of an answer has no length")
            piece = self._exactly(int(match[1], 16))
            if not piece:
                break
            pieces.append(piece)
            if self._exactly(2) != b"\r\n":
                raise _Broken("a chunk of an answer is longer than it says")
        while self._until(b"\r\n", _HEAD_BYTES):
            pass
        return b"".join(pieces)

    def _rest(self) -> bytes:
        """Everything until the server closes the connection."""
        self.ends = True
        pieces, self._came = [self._came], b""
        while piece := self.sock.recv(_PIECE):
            pieces.append(piece)
        return b"".join(pieces)

    def _exactly(self, count: int) -> bytes:
        pieces, missing = [self._came], count - len(self._came)
        while missing > 0:
            pieces.append(self._more())
            missing -= len(pieces[-1])
        came = b"".join(pieces)
        self._came = came[count:]
        return came[:count]

    def _until(self, end: bytes, most: int) -> bytes:
        """What comes before `end`, which is taken too."""
        while end not in self._came:
            if len(self._came) > most:
                raise _Broken("no HTTP server answers there")
            self._came += self._more()
        found, _, self._came = self._came.partition(end)
        return found

    def _more(self) -> bytes:
        piece = self.sock.recv(_PIECE)
        if not piece:
            raise ConnectionResetError("the connection was closed before the answer had come")
        self.heard = True
        return piece


def _readable(sock: socket.socket) -> bool:
    watched = select.poll()
    watched.register(sock, select.POLLIN)
    return bool(watched.poll(0))


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
