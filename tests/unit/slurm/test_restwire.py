"""Answers on the wire, in every form that a server or a gateway may give them, and cut in every place."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from westward.slurm.restwire import AnswerLost, Wire

WHOLE = {
    "a length": (b"HTTP/1.1 200 OK\r\ncontent-length:  2 \r\nX: y:z\r\n\r\n{}", 200, b"{}"),
    "no body at all": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "an empty one": (b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", 500, b""),
    "chunks": (
        b"HTTP/1.1 502 Bad\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
        502,
        b"abc0123456789",
    ),
    "a word before it": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        200,
        b"{}",
    ),
}
BROKEN = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "another version": b"HTTP/2 200\r\n\r\n",
    "no number": b"HTTP/1.1 OK\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk that goes on": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000,
}


class Server:
    """Answers each request with the next of `answers`, a byte list each; closes the connection where that ends in None."""

    def __init__(self) -> None:
        self.answers: list[list[bytes | None]] = []
        self.heard: list[bytes] = []
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        # shutdown ends an accept that waits; after a bare close it would go on, and may take a later test's connection.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while request := connection.recv(65536):
                self.heard.append(request)
                for piece in self.answers.pop(0):
                    if piece is None:
                        return
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


Ask = Callable[[], tuple[int, bytes]]


@pytest.fixture
def ask(server: Server) -> Iterator[Ask]:
    wire = Wire(f"{server.url}/prefix/")
    yield lambda: wire.request("POST", "/x", {"Name": "value"}, b"{}", 5)
    wire.close()


@pytest.mark.parametrize("form", WHOLE)
def test_an_answer_is_read_however_it_comes_and_the_connection_kept(server: Server, ask: Ask, form: str) -> None:
    text, status, body = WHOLE[form]
    server.answers = [[text], [bytes([byte]) for byte in text], [text]]
    assert [ask(), ask(), ask()] == [(status, body)] * 3
    assert server.connections == 1


def test_a_request_is_one_piece(server: Server, ask: Ask) -> None:
    server.answers = [[WHOLE["a length"][0]]]
    ask()
    host = server.url.removeprefix("http://")
    assert server.heard == [
        f"POST /prefix/x HTTP/1.1\r\nHost: {host}\r\nName: value\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    ]


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nall of it", b"all of it"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\0\0 no HTTP", b"{}"),
    ],
    ids=[
        "until the end",
        "an old server",
        "it says so",
        "more than an answer",
        "more after the last",
        "anything after it",
    ],
)
def test_a_connection_that_ends_is_not_used_again(server: Server, ask: Ask, text: bytes, body: bytes) -> None:
    server.answers = [[text, None], [text, None]]
    assert [ask(), ask()] == [(200, body)] * 2
    assert server.connections == 2


@pytest.mark.parametrize("form", BROKEN)
def test_what_is_no_answer_is_an_answer_lost(server: Server, ask: Ask, form: str) -> None:
    server.answers = [[BROKEN[form], None]]
    with pytest.raises(AnswerLost) as caught:
        ask()
    assert not caught.value.stale


@pytest.mark.parametrize("form", ["a length", "chunks", "a word before it"])
def test_an_answer_cut_anywhere_is_lost(server: Server, ask: Ask, form: str) -> None:
    text = WHOLE[form][0]
    for length in range(len(text)):
        server.answers = [[text[:length], None]]
        with pytest.raises(AnswerLost) as caught:
            ask()
        assert not caught.value.stale, "the connection was new"


def test_a_kept_connection_that_was_closed_meanwhile_is_told(server: Server, ask: Ask) -> None:
    text = WHOLE["a length"][0]
    for cut, stale in ((0, True), (1, False)):
        server.answers = [[text], [text[:cut], None]]
        ask()
        with pytest.raises(AnswerLost) as caught:
            ask()
        assert caught.value.stale is stale


@pytest.mark.parametrize("broken", ["a\r\nb", "a\nb", "a\rb"])
def test_a_line_break_in_a_field_sends_nothing(server: Server, broken: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        Wire(server.url).request("GET", "/", {"Name": broken}, None, 5)
    assert server.connections == 0
