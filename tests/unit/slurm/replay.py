"""A slurmrestd that replays what real ones (Slurm 24.11.5 and 26.05.5) answered; the answers are in tests/data/slurm-*."""

from __future__ import annotations

import base64
import json
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "data"
OLD, NEW = "slurm-24.11", "slurm-26.05"


@dataclass(frozen=True)
class Answer:
    """What is answered.

    `cut` closes the connection after the request was read, `short` sends less than was announced, `stall_s` waits before answering,
    `then_close` closes the connection after the answer without having said so.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    cut: bool = False
    short: bool = False
    stall_s: float = 0
    then_close: bool = False


def captured(name: str, release: str = OLD) -> Answer:
    """An answer of a real slurmrestd of that release."""
    told = json.loads((DATA / release / f"{name}.json").read_text())
    body = told["body"] if isinstance(told["body"], str) else json.dumps(told["body"])
    return Answer(told["status"], body.encode(), told["content_type"])


def body_of(name: str, release: str = OLD) -> Any:
    return json.loads(captured(name, release).body)


def content(name: str, release: str = OLD, **changed: Any) -> Answer:
    """A real answer, with some of its content changed."""
    return Answer(200, json.dumps(body_of(name, release) | changed).encode())


def token(**claims: Any) -> str:
    """A JWT with these claims that nobody signed."""
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{part}.signature"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


Reply = Answer | Callable[[Request], Answer]


@dataclass
class Slurmrestd:
    """Answers by the beginning of "METHOD path"; the longest one that fits counts. `versions` are those it has.

    `connections` counts how often somebody connected.
    """

    url: str
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    versions: tuple[str, ...] = ("v0.0.42", "v0.0.41")
    release: str = OLD
    connections: int = 0

    def on(self, start: str, reply: Reply | str) -> Slurmrestd:
        self.replies[start] = captured(reply, self.release) if isinstance(reply, str) else reply
        return self

    def asked(self, start: str) -> list[Request]:
        return [request for request in self.requests if f"{request.method} {request.path}".startswith(start)]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        _, api, version, *rest = request.path.split("/")
        if version not in self.versions:
            return captured("version_unknown")
        line = f"{request.method} {api}/{'/'.join(rest)}"
        known = {"GET slurm/ping/": captured("ping"), **self.replies}
        fitting = [start for start in known if line.startswith(start)]
        if not fitting:
            return captured("version_unknown")
        reply = known[max(fitting, key=len)]
        return reply if isinstance(reply, Answer) else reply(request)


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def _handler(made: Slurmrestd) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            self.disable_nagle_algorithm = self.request.family != socket.AF_UNIX
            super().setup()
            made.connections += 1

        def reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            answer = made.answer(Request(self.command, self.path, dict(self.headers), body))
            time.sleep(answer.stall_s)
            if answer.cut:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                return
            self.close_connection |= answer.short or answer.then_close
            with suppress(ConnectionError):  # a client that has given up
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[:-20] if answer.short else answer.body)

        do_GET = do_POST = do_DELETE = reply

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(path: Path | None = None, certificate: Path | None = None) -> Iterator[Slurmrestd]:
    """A slurmrestd on a port of this host, with TLS where there is a certificate, or at a unix socket."""
    made = Slurmrestd("")
    handler = _handler(made)
    with _UnixServer(str(path), handler) if path else ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        made.url = f"unix://{path}" if path else f"http://127.0.0.1:{server.server_address[1]}"
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            # the handshake belongs to the thread of its connection, and a client that breaks it off to itself
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
            made.url = made.url.replace("http:", "https:")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield made
        server.shutdown()
