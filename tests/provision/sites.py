"""A fleet of bare hosts, and inventories that make a cluster of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import yaml

from westward.lab import engine
from westward.lab.hosts import HostsLab

ROOT = Path(__file__).parents[2]
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Release:
    """What differs between the releases of Debian, and of Slurm in them, on which the playbook is tried.

    Attributes:
        topology: the lab's bare hosts.
        auth: the newest way of authentication it has.
        rest: a version of the interface that its slurmrestd speaks; None where the roles have none.
        mpi: the package that an MPI program is made with, for the way this Slurm launches one.
        blocks: whether its Slurm has blocks of nodes (topology/block), and segments of jobs.
    """

    topology: str
    auth: str
    rest: str | None
    mpi: str
    blocks: bool = True


RELEASES = {
    "v2411": Release("bare", "slurm", "v0.0.41", "libopenmpi-dev"),
    "v2205": Release("bare-bookworm", "munge", None, "libopenmpi-dev", blocks=False),
    "v2605": Release("bare-forky", "slurm", "v0.0.43", "libmpich-dev"),
}


@dataclass(frozen=True, slots=True)
class Played:
    """What a run of a playbook ended with: its status, all it printed, and by host how many tasks changed something."""

    status: int
    text: str
    changed: Mapping[str, int]

    @property
    def why(self) -> str:
        """What it says of its failures."""
        return "\n\n".join(part for part in self.text.split("\n\n") if "fatal:" in part or "ERROR" in part)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The bare hosts of a lab."""

    lab: HostsLab
    client: docker.DockerClient

    def on(self, host: str, *argv: str) -> engine.Answer:
        """A command there, as root."""
        return engine.execute(self.client, f"{self.lab.name}.{host}", argv)

    def said(self, host: str, *argv: str) -> str:
        """What it prints; it has to succeed."""
        answer = self.on(host, *argv)
        assert answer.status == 0, (argv, answer.stdout, answer.stderr)
        return answer.stdout

    def until(self, host: str, argv: tuple[str, ...], wanted: str, within_s: float = 60.0) -> str:
        """What it prints as soon as `wanted` is in it."""
        end = time.monotonic() + within_s
        while wanted not in (text := self.on(host, *argv).stdout):
            assert time.monotonic() < end, f"{argv} on {host}: {text!r}, and no {wanted!r} within {within_s} s"
            time.sleep(0.5)
        return text

    def submitted(self, script: str, *options: str, user: str = "root") -> str:
        """The job that sbatch on the login node makes of a script of one line; its output goes nowhere."""
        argv = ("sbatch", "--parsable", "-D", "/", "-o", "/dev/null", *options, "--wrap", script)
        return self.said("login", "runuser", "-u", user, "--", *argv).strip()

    def play(self, inventory: Path, *arguments: str) -> Played:
        """`ansible-playbook site.yml`, as a sysadmin runs it."""
        argv = ["ansible-playbook", "-i", str(self.lab.inventory), "-i", str(inventory), "site.yml", *arguments]
        ran = subprocess.run(
            argv,
            cwd=ROOT / "ansible",
            env=os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        changed = {host: int(count) for host, count in RECAP.findall(ran.stdout)}
        return Played(ran.returncode, ran.stdout, changed)


NEW_TOKEN = "scontrol token username=admin"
# asks with the token that it reads, if it reads one; a ping would be answered whatever the token is
_ASK = """
import http.client, json, sys
token = sys.stdin.read().strip().removeprefix("SLURM_JWT=")
asked = http.client.HTTPConnection("127.0.0.1", 6820)
asked.request("GET", f"/slurm/{sys.argv[1]}/nodes/", headers={"X-SLURM-USER-TOKEN": token} if token else {})
answer = asked.getresponse()
told = answer.read()
print(json.dumps([answer.status, json.loads(told)["nodes"] if answer.status == 200 else []]))
"""


def nodes_by_rest(fleet: Fleet, release: Release, token: str) -> tuple[int, set[str]]:
    """What slurmrestd answers to who has the token that a command prints: its status, and the nodes."""
    ask = f"{token} | python3 -c '{_ASK}' {release.rest}"
    status, nodes = json.loads(fleet.said("ctl", "sh", "-c", ask))
    return status, {node["name"] for node in nodes}


def inventory(folder: Path, groups: Mapping[str, Any], variables: Mapping[str, Any]) -> Path:
    """An inventory that says which part of the cluster each host has, and the cluster's variables."""
    (folder / "group_vars" / "all").mkdir(parents=True, exist_ok=True)
    children = {name: _group(content) for name, content in groups.items()}
    (folder / "groups.yml").write_text(yaml.safe_dump({"all": {"children": children}}))
    (folder / "group_vars" / "all" / "slurm.yml").write_text(yaml.safe_dump(dict(variables)))
    return folder


def _group(content: Any) -> dict[str, Any]:
    if isinstance(content, dict):
        return {"children": {name: _group(hosts) for name, hosts in content.items()}}
    return {"hosts": dict.fromkeys(content)}


def addressed(fleet: Fleet, folder: Path) -> Path:
    """An inventory that reaches the hosts at their own addresses: the published ports of one that starts anew are others."""
    folder.mkdir(parents=True, exist_ok=True)
    given = yaml.safe_load(fleet.lab.inventory.read_text())["all"]
    key = next(line.split(" ", 1)[1] for line in _known_hosts(given).read_text().splitlines())
    hosts = {}
    for host in given["hosts"]:
        network = fleet.client.api.inspect_container(f"{fleet.lab.name}.{host}")["NetworkSettings"]["Networks"]
        hosts[host] = {"ansible_host": next(iter(network.values()))["IPAddress"], "ansible_port": 22}
    known = folder / "known_hosts"
    known.write_text("".join(f"{host['ansible_host']} {key}\n" for host in hosts.values()))
    variables = given["vars"] | {"ansible_ssh_common_args": f'-o UserKnownHostsFile="{known}"'}
    file = folder / "addresses.yml"
    file.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables}}))
    return file


def _known_hosts(given: Mapping[str, Any]) -> Path:
    return Path(str(given["vars"]["ansible_ssh_common_args"]).split("=", 1)[1].strip('"'))
