"""A managed cluster whose every host is this one: programs that stand for scontrol and squeue keep its nodes in files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from westward.model.site import ShellDoor
from westward.provision.hosts import Hands, Host, Managed
from westward.provision.slurmctld import Slurmctld

_SCONTROL = f"""#!{sys.executable}
import json, re, sys
from pathlib import Path
kept = Path(__file__).with_name("kept.json")
world = json.loads(kept.read_text())
words = sys.argv[1:]
def expand(text):
    numbers = re.findall(r"(\\d+)(?:-(\\d+))?", text)
    return ["n%d" % number for first, last in numbers for number in range(int(first), int(last or first) + 1)]
if words[0] == "update":
    given = dict(word.split("=", 1) for word in words[1:])
    if "PartitionName" in given:
        world["partitions"][given["PartitionName"]] = given["State"]
    for name in expand(given.get("NodeName", "")):
        node = world["nodes"][name]
        base = node["State"].split("+")[0]
        node["State"] = base + "+DRAIN" if given["State"] == "DRAIN" else "IDLE"
        node["Reason"] = given.get("Reason", "") if given["State"] == "DRAIN" else ""
    world["updates"].append(words[1:])
    kept.write_text(json.dumps(world))
elif words[-1] == "node":
    for name, node in world["nodes"].items():
        reason = f" Reason={{node['Reason']}} [root@1790000000]" if node["Reason"] else ""
        print(f"NodeName={{name}} Arch=x86_64 State={{node['State']}} OS=Linux SlurmdStartTime={{node['Started']}}  {{reason}}")
elif words[-1] == "partition":
    for name, state in world["partitions"].items():
        print(f"PartitionName={{name}} AllowGroups=ALL State={{state}} TotalCPUs=4")
else:
    print("RebootProgram           = " + str(Path(__file__).with_name("reboot")))
"""
_SQUEUE = f"""#!{sys.executable}
import json
from pathlib import Path
world = json.loads(Path(__file__).with_name("kept.json").read_text())
for node, jobs in world["jobs"].items():
    for job in jobs:
        print(f"{{job}}|ann|1790003600|{{node}}")
"""


@dataclass(frozen=True)
class ClusterHere:
    """Its files, and what a test needs of it."""

    folder: Path
    site: Managed

    def world(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "kept.json").read_text())
        return found

    def node(self, name: str, **changes: object) -> dict[str, str]:
        """What the controller has of a node, after these changes."""
        world = json.loads((self.folder / "kept.json").read_text())
        world["nodes"][name] |= changes
        (self.folder / "kept.json").write_text(json.dumps(world))
        found: dict[str, str] = world["nodes"][name]
        return found

    def jobs(self, **jobs: list[str]) -> None:
        world = json.loads((self.folder / "kept.json").read_text())
        (self.folder / "kept.json").write_text(json.dumps(world | {"jobs": jobs}))

    def partition(self, name: str, state: str | None = None) -> str:
        world = json.loads((self.folder / "kept.json").read_text())
        world["partitions"][name] = state or world["partitions"][name]
        (self.folder / "kept.json").write_text(json.dumps(world))
        found: str = world["partitions"][name]
        return found

    @property
    def updates(self) -> list[list[str]]:
        found: list[list[str]] = json.loads((self.folder / "kept.json").read_text())["updates"]
        return found

    def program(self, name: str, lines: str) -> Path:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{lines}\n")
        file.chmod(0o755)
        return file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterHere:
    folder = tmp_path / "bin"
    folder.mkdir()
    nodes = {name: {"State": "IDLE", "Reason": "", "Started": 1790000000} for name in ("n1", "n2", "n3")}
    world = {"nodes": nodes, "partitions": {"gpu": "UP", "low": "DOWN"}, "jobs": {}, "updates": []}
    (folder / "kept.json").write_text(json.dumps(world))
    for name, text in (("scontrol", _SCONTROL), ("squeue", _SQUEUE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    groups = {"ctl": {"slurm_controller"}, **{name: {"slurm_compute", "h100"} for name in nodes}}
    hosts = {name: Host(name, name, frozenset(of), ShellDoor(), root=True) for name, of in groups.items()}
    return ClusterHere(folder, Managed((), hosts, {"slurm_cluster_name": "here"}))


@pytest.fixture
def hands() -> Iterator[Hands]:
    with Hands() as made:
        yield made


@pytest.fixture
def slurmctld(here: ClusterHere, hands: Hands) -> Slurmctld:
    return Slurmctld(here.site, hands)
