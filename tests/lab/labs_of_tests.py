"""Labs that the tests bring up, kill and take down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import docker

from westward.lab import cluster, engine, teardown
from westward.lab.cluster import Lab
from westward.lab.progress import quiet


@dataclass
class Labs:
    """Brings labs up as a library and as a user would, and remembers their names."""

    state: Path
    client: docker.DockerClient
    names: list[str] = field(default_factory=list)

    def name(self, short: str) -> str:
        name = f"lt{os.getpid()}-{short}"
        if name not in self.names:
            self.names.append(name)
        return name

    def up(self, short: str, topology: str = "east-west") -> Lab:
        return cluster.up(topology, self.name(short))

    def down(self, short: str) -> teardown.Removed:
        return teardown.down(self.name(short), quiet)

    def start(self, short: str) -> subprocess.Popen[bytes]:
        """`westward lab up` in a process of its own."""
        script = f"from westward.lab.cluster import up; up('east-west', {self.name(short)!r})"
        return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)

    def kill_when(self, short: str, moment: Callable[[], bool]) -> None:
        """SIGKILL to an `up`, as soon as `moment` is there."""
        process = self.start(short)
        until = time.monotonic() + 60
        while not moment():
            assert time.monotonic() < until
            assert process.poll() is None, "up ended before it could be killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def containers(self, short: str) -> list[engine.Seen]:
        return [seen for seen in engine.survey(self.client) if seen.name.startswith(self.name(short) + ".")]

    def left(self, short: str) -> list[str]:
        """Everything on the engine and on disk that bears the lab's name."""
        name = self.name(short)
        found = [seen.name for seen in self.containers(short)]
        found += [str(network.name) for network in self.client.networks.list() if name in str(network.name)]
        found += [str(volume.name) for volume in self.client.volumes.list(filters={"label": f"{engine.LAB}={name}"})]
        return found + [str(path) for path in self.state.rglob("*") if name in str(path)]

    def run(self, short: str, node: str, *argv: str, user: str = "researcher") -> engine.Answer:
        return engine.execute(self.client, f"{self.name(short)}.{node}", argv, user=user)
