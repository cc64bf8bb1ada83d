"""Kept connections to one HTTP server over TCP, TLS or a unix socket: the standard library's client with a pool around it.

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
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

CONNECT_TIMEOUT_S = 5
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")


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
        self._host, self._port = parts.hostname or "localhost", parts.port
        self._prefix = "" if self._unix else parts.path.rstrip("/")
        # the system's certificates, a site's own CA among them
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: deque[HTTPConnection] = deque()
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
        connection, used = self._take()
        answered = False
        try:
            assert connection.sock is not None
            connection.sock.settimeout(timeout_s)
            connection.request(method, self._prefix + target, body, dict(headers))
            answer = connection.getresponse()
            answered = True
            content = answer.read()
        except (OSError, HTTPException) as error:
            connection.close()
            silent = isinstance(error, ConnectionError) and not answered  # RemoteDisconnected is one of them
            raise AnswerLost(_said(error), stale=used and silent) from error
        except BaseException:
            connection.close()  # interrupted in the middle: what comes over it next would be the answer to this request
            raise
        if answer.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return answer.status, content

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> tuple[HTTPConnection, bool]:
        """A connection, and whether it has been used before."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(), False
            # an idle connection has nothing to say: one that can be read was closed by the other side
            if connection.sock is not None and not _readable(connection.sock):
                return connection, True
            connection.close()

    def _connect(self) -> HTTPConnection:
        if self._tls is not None:
            made: HTTPConnection = HTTPSConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S, context=self._tls)
        else:
            made = HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        try:
            if self._unix is None:
                made.connect()
            else:
                made.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                made.sock.settimeout(CONNECT_TIMEOUT_S)
                made.sock.connect(self._unix)
        except (OSError, UnicodeError) as error:  # a name that IDNA cannot encode is a UnicodeError
            with suppress(OSError):
                made.close()
            raise NotConnected(_said(error)) from error
        return made


def _readable(sock: socket.socket) -> bool:
    watched = select.poll()
    watched.register(sock, select.POLLIN)
    return bool(watched.poll(0))


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
