"""A proxy before slurmrestd that breaks requests in the ways gateways do, by a plan made from a seed, and counts what it broke."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

# what happens to one request
FAULTS = {
    "answer dropped": "carried out; the connection is cut before the answer",
    "answer truncated": "carried out; half of the answer, then the connection is cut",
    "late": "kept, while the client waits in vain; delivered seconds later",
    "408 after": "carried out; the client is told 408",
    "502 after": "carried out; the client is told 502",
    "502 before": "never delivered; the client is told 502",
    "cut before": "never delivered; the connection is cut",
}


@dataclass(frozen=True)
class Request:
    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def kind(self) -> str:
        """What it is for: submit, change (release, cancel), or look."""
        if self.method == "GET":
            return "look"
        return "submit" if self.path.endswith("/job/submit") else "change"


class Proxy:
    """Listens on a loopback port of its own, in a thread of its own.

    Args:
        rates: by kind of request, the share of them that is broken, by each fault as often as by any other.
        late_s: how long a late request is kept.

    Attributes:
        broken: (kind, fault) of each request that was broken; passed: the kinds of all others.
        too_late: late requests that were delivered when their client had given up.
    """

    def __init__(self, upstream: tuple[str, int], rates: Mapping[str, float], seed: int, late_s: float) -> None:
        self.upstream, self.rates, self.late_s = upstream, dict(rates), late_s
        self.random = random.Random(seed)
        self._packs: dict[str, list[str]] = {}
        self.broken: Counter[tuple[str, str]] = Counter()
        self.passed: Counter[str] = Counter()
        self.too_late: Counter[str] = Counter()
        self.on_the_way = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def mend(self) -> None:
        """From now on every request is passed on."""
        self.rates = {}

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**26))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                request = await _read(reader)
                if not await self._one(request, reader, writer):
                    break
        writer.close()

    def _next_fault(self, kind: str) -> str:
        """From a shuffled pack of all of them for each kind of request, so that none waits long for its turn."""
        pack = self._packs.setdefault(kind, [])
        if not pack:
            pack += self.random.sample(list(FAULTS), len(FAULTS))
        return pack.pop()

    async def _one(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Deal with one request; whether its connection lives on."""
        kind = request.kind
        if self.random.random() >= self.rates.get(kind, 0.0):
            self.passed[kind] += 1
            writer.write(await self._deliver(request))
            await writer.drain()
            return True
        fault = self._next_fault(kind)
        self.broken[kind, fault] += 1
        if fault == "late":
            self.on_the_way += 1
            await asyncio.sleep(self.late_s)
            self.too_late[kind] += reader.at_eof()
            try:
                await self._deliver(request)
            finally:
                self.on_the_way -= 1
            return False
        answer = b"" if fault.endswith("before") else await self._deliver(request)
        if fault == "answer truncated":
            writer.write(answer[: len(answer) // 2])
            await writer.drain()
        if fault[:3].isdigit():
            writer.write(f"HTTP/1.1 {fault[:3]} Broken\r\nContent-Length: 12\r\n\r\nTry again.\r\n".encode())
            await writer.drain()
            return True
        return False

    async def _deliver(self, request: Request) -> bytes:
        """The whole answer of slurmrestd, over a connection of its own."""
        reader, writer = await asyncio.open_connection(*self.upstream, limit=2**26)
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            answer = await _read(reader)
            return answer.head + answer.body
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    """A request or an answer: what slurmrestd and its clients send has a Content-Length, or no body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(value)
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))
        if name.lower() == b"content-length"
    ]
    return Request(head, await reader.readexactly(lengths[0]) if lengths else b"")
