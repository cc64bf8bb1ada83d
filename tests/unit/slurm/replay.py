"""A slurmrestd that replays what a real one (Slurm 24.11.5) answered; the answers are in tests/data/slurm-24.11."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CAPTURED = Path(__file__).parents[2] / "data" / "slurm-24.11"


@dataclass(frozen=True)
class Answer:
    """What is answered. `cut` closes the connection after the request was read, `stall_s` waits before answering."""

    status: int
    body: bytes
    content_type: str = "application/json"
    cut: bool = False


def captured(name: str) -> Answer:
    """An answer of a real slurmrestd."""
    told = json.loads((CAPTURED / f"{name}.json").read_text())
    body = told["body"] if isinstance(told["body"], str) else json.dumps(told["body"])
    return Answer(told["status"], body.encode(), told["content_type"])


def body_of(name: str) -> Any:
    return json.loads(captured(name).body)


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
    """Answers by the beginning of "METHOD path"; the longest one that fits counts. `versions` are those it has."""

    url: str
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    versions: tuple[str, ...] = ("v0.0.42", "v0.0.41")

    def on(self, start: str, reply: Reply | str) -> Slurmrestd:
        self.replies[start] = captured(reply) if isinstance(reply, str) else reply
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


@contextmanager
def serving() -> Iterator[Slurmrestd]:
    """A slurmrestd on a port of this host."""
    made = Slurmrestd("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            answer = made.answer(Request(self.command, self.path, dict(self.headers), body))
            if answer.cut:
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_DELETE = reply

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield made
        server.shutdown()
