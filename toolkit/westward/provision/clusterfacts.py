"""Everything that the checks of a cluster look at, asked of its hosts in four rounds. What does not answer is noted, and stops nothing."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from westward.errors import WestwardError
from westward.process import Completed
from westward.provision import hostfacts, jobtrial
from westward.provision.hostfacts import Clock, Look
from westward.provision.hostprograms import ARGV, LOOK, program
from westward.provision.hosts import AT_ONCE, COMPUTE, CONTROLLER, DBD, LOGIN, Hands, Host, Managed
from westward.provision.jobtrial import Trial
from westward.provision.slurmctld import Slurmctld
from westward.slurm import clustertext
from westward.slurm.commands import Answer
from westward.slurm.confcluster import Configuration
from westward.slurm.hostlist import expand

LOOK_S, ASK_S = 90.0, 40.0
UNITS = ("slurmctld", "slurmdbd", "slurmd", "sackd", "slurmrestd", "munge", "mariadb")
QUESTIONS = {
    "config": ("scontrol", "show", "config"),
    # sudo keeps no variable: seconds since 1970 for whoever drained a node
    "nodes": ("env", "SLURM_TIME_FORMAT=%s", "scontrol", "-a", "-o", "show", "node"),
    "partitions": ("scontrol", "-a", "-o", "show", "partition"),
    "ping": ("scontrol", "ping"),
    "sdiag": ("sdiag",),
    "dbd": ("sacctmgr", "-nP", "show", "cluster", "format=cluster,controlhost,controlport"),
}
WITHOUT_SLURMCTLD = ("ping", "dbd")
PORTS = {"SlurmctldPort": 6817, "SlurmdPort": 6818, "AccountingStoragePort": 6819}
_ADDRESS = re.compile(r"[\d.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*")


@dataclass(frozen=True)
class Facts:
    """What was found out.

    Attributes:
        silent: hosts that gave no answer, with the reason.
        clocks: of those that answered.
        said: what Slurm's commands printed at the first controller that answered, by the names of QUESTIONS.
        refused: why one of them failed.
        config: `scontrol show config`; empty where slurmctld does not answer.
        nodes: `scontrol show node`, by node.
        configuration: the files of the controller; None where they could not be read, for the reason `unread`.
        trials: the jobs that were run; None where none was to be.
    """

    site: Managed
    looks: Mapping[str, Look] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    configuration: Configuration | None = None
    unread: str = ""
    trials: tuple[Trial, ...] | None = None

    @property
    def config(self) -> dict[str, str]:
        return clustertext.config(self.said.get("config", ""))

    @property
    def nodes(self) -> dict[str, dict[str, str]]:
        return clustertext.node_pairs(self.said.get("nodes", ""))

    @property
    def auth(self) -> str:
        """`slurm` or `munge`, as slurmctld has it, or else the inventory."""
        return self.config.get("AuthType", "").removeprefix("auth/") or str(
            self.site.variables.get("slurm_auth", "munge")
        )

    @property
    def digests(self) -> dict[str, Mapping[str, str]]:
        """Of the configuration at each controller that answered."""
        return {name: look.digests for name, look in self.of(CONTROLLER).items() if look.digests}

    def of(self, *groups: str) -> dict[str, Look]:
        """Those hosts of the groups that answered, by name; of all groups where none is named."""
        hosts = self.site.of(*groups) if groups else self.site.hosts.values()
        return {host.name: self.looks[host.name] for host in hosts if host.name in self.looks}


def ask(site: Managed, hands: Hands, *, jobs: bool = True, only_gres: bool = False) -> Facts:
    """Ask a cluster everything.

    Args:
        jobs: run a job on one node, and one on two.
        only_gres: look at the compute nodes alone.
    """
    said, refused = _cluster(site, hands)
    facts = Facts(site, said=said, refused=refused)
    configuration, unread = _configuration(site, hands)
    facts = replace(facts, configuration=configuration, unread=unread)
    hosts = site.of(COMPUTE, CONTROLLER) if only_gres else list(site.hosts.values())
    looks, silent = _looks(facts, hands, hosts)
    facts = replace(facts, looks=looks, silent=silent)
    if only_gres:
        return facts
    facts = replace(facts, clocks=_clocks(hands, [site.hosts[name] for name in looks]))
    return replace(facts, trials=_trials(facts, hands)) if jobs else facts


def _cluster(site: Managed, hands: Hands) -> tuple[dict[str, str], dict[str, str]]:
    """What the commands of Slurm say at the first controller that can be reached; and why one of them says nothing."""
    why = "no host is in slurm_controller"
    for controller in site.of(CONTROLLER):
        try:
            return _asked(partial(hands.run, controller, timeout_s=ASK_S, repeat=True))
        except WestwardError as error:
            why = str(error)
    return {}, dict.fromkeys(QUESTIONS, why)


def _asked(run: Callable[[tuple[str, ...]], Answer]) -> tuple[dict[str, str], dict[str, str]]:
    """The questions one after another; where slurmctld does not tell its configuration, those to it are left out.

    Raises:
        WestwardError: the host gives no answer.
    """
    said: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, argv in QUESTIONS.items():
        if "config" in refused and name not in WITHOUT_SLURMCTLD:
            refused[name] = refused["config"]
            continue
        answer = run(("timeout", str(int(ASK_S) - 10), *argv))
        if isinstance(answer, WestwardError):
            raise answer
        if answer.status and name != "ping":  # it fails where a backup does not answer
            refused[name] = answer.complaint
        else:
            said[name] = answer.stdout
    return said, refused


def _configuration(site: Managed, hands: Hands) -> tuple[Configuration | None, str]:
    try:
        return Slurmctld(site, hands).reading().configuration, ""
    except WestwardError as error:
        return None, str(error)


def _looks(facts: Facts, hands: Hands, hosts: Iterable[Host]) -> tuple[dict[str, Look], dict[str, str]]:
    question = _Question(facts, secrets.token_hex(16))
    answers = hands.each(hosts, ARGV, stdin=question.text, timeout_s=LOOK_S, repeat=True)
    looks: dict[str, Look] = {}
    silent: dict[str, str] = {}
    for name, answer in answers.items():
        try:
            looks[name] = hostfacts.parse(_output(answer))
        except WestwardError as error:
            silent[name] = str(error)
    return looks, silent


def _output(answer: Answer) -> str:
    """
    Raises:
        WestwardError: the host gave no answer, or would not run the program.
    """
    if isinstance(answer, WestwardError):
        raise answer
    if answer.status:
        raise WestwardError(answer.complaint)
    return answer.stdout


def _clocks(hands: Hands, hosts: list[Host]) -> dict[str, Clock]:
    """Asked over connections that are open: what is measured is one round trip."""

    def one(host: Host) -> Clock | None:
        began = time.time()
        answer = hands.run(host, ("date", "+%s.%N"), as_root=False, repeat=True)
        ended = time.time()
        if not isinstance(answer, Completed) or not re.fullmatch(r"\d+\.\d+\s*", answer.stdout):
            return None
        return Clock(float(answer.stdout) - (began + ended) / 2, (ended - began) / 2)

    if not hosts:
        return {}
    with ThreadPoolExecutor(min(AT_ONCE, len(hosts))) as pool:
        found = dict(zip((host.name for host in hosts), pool.map(one, hosts), strict=True))
    return {name: clock for name, clock in found.items() if clock is not None}


def _trials(facts: Facts, hands: Hands) -> tuple[Trial, ...]:
    """A job on one node and one on two, as root, from the first controller that answered."""
    controller = next((host for host in facts.site.of(CONTROLLER) if host.name in facts.looks), None)
    if controller is None or not facts.config:
        return ()
    start = partial(hands.run, controller, timeout_s=jobtrial.LIMIT_S)
    counts = [1, 2] if len(facts.nodes) > 1 else [1]
    return tuple(jobtrial.run(start, count, facts.config, facts.said.get("partitions", "")) for count in counts)


# --- what each host is asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Question:
    """For `hostprograms/look.py`: the same for all hosts, but for ports and devices."""

    facts: Facts
    salt: str

    def text(self, host: Host) -> str:
        facts, node = self.facts, host.node if COMPUTE in host.groups else ""
        return program(
            LOOK,
            {
                "units": list(UNITS),
                "keys": list(key_files(facts)),
                "salt": self.salt,
                "paths": list(directories(facts, host)),
                "names": list(names(facts)),
                "ports": list(targets(facts, host)),
                "cgroup_mountpoint": facts.config.get("CgroupMountpoint", "/sys/fs/cgroup"),
                "files": list(device_files(facts, node)) if node else [],
                "node": node,
            },
        )


def key_files(facts: Facts) -> dict[str, tuple[str, ...]]:
    """Each key with the groups of hosts that have to have it, the same on all; none for one that only some releases have."""
    jwt = re.search(r"jwt_key=([^,\s]+)", facts.config.get("AuthAltParameters", ""))
    own = "/etc/munge/munge.key" if facts.auth == "munge" else "/etc/slurm/slurm.key"
    return {own: (), **({jwt[1]: (CONTROLLER, DBD)} if jwt else {})}


def directories(facts: Facts, host: Host) -> list[str]:
    """Those whose free space counts on a host."""
    found = ["/var/log", "/tmp"]
    if CONTROLLER in host.groups and (state := facts.config.get("StateSaveLocation")):
        found.append(state)
    if COMPUTE in host.groups and (spool := facts.config.get("SlurmdSpoolDir")):
        found.append(
            spool.replace("%n", host.node).replace("%h", facts.nodes.get(host.node, {}).get("NodeHostName", host.node))
        )
    return found


def names(facts: Facts) -> dict[str, str | None]:
    """Each name of a host that Slurm uses, with the address that Slurm has for it; None where it has only the name."""
    found: dict[str, str | None] = {}
    for node, told in facts.nodes.items():
        if node in facts.site.nodes():
            address = told.get("NodeAddr", node)
            found[node if _ADDRESS.fullmatch(address) else address] = address if _ADDRESS.fullmatch(address) else None
    for name, address in facts.configuration.controllers if facts.configuration else ():
        found[name if _ADDRESS.fullmatch(address) else address] = address if _ADDRESS.fullmatch(address) else None
    for host in facts.site.of(DBD):
        found.setdefault(host.node, None)
    return found


def targets(facts: Facts, host: Host) -> list[str]:
    """HOST:PORT of the daemons that a host has to reach: every host the controllers, controllers and login nodes slurmdbd, controllers
    every slurmd, and each node the next one.
    """
    config = facts.config
    port = {key: int((config.get(key) or str(default)).split("-")[0]) for key, default in PORTS.items()}
    found = [f"{address}:{port['SlurmctldPort']}" for address in _controllers(facts)]
    storage = config.get("AccountingStorageHost", "")
    asks = CONTROLLER in host.groups or (LOGIN in host.groups and storage not in ("localhost", "127.0.0.1"))
    if config.get("AccountingStorageType", "").endswith("slurmdbd") and asks:
        found.append(f"{storage}:{port['AccountingStoragePort']}")
    nodes = [node for node in facts.nodes if node in facts.site.nodes()]
    asked = nodes if CONTROLLER in host.groups else []
    if COMPUTE in host.groups and host.node in nodes and len(nodes) > 1:
        asked = [nodes[(nodes.index(host.node) + 1) % len(nodes)]]
    for node in asked:
        told = facts.nodes[node]
        found.append(f"{told.get('NodeAddr', node)}:{told.get('Port', port['SlurmdPort'])}")
    return list(dict.fromkeys(found))


def _controllers(facts: Facts) -> list[str]:
    if facts.configuration is not None:
        return [address for _, address in facts.configuration.controllers]
    return [host.node for host in facts.site.of(CONTROLLER)]


def device_files(facts: Facts, node: str) -> list[str]:
    """The device files that gres.conf names for a node."""
    found: list[str] = []
    if facts.configuration is not None and node in facts.configuration.nodes:
        for line in facts.configuration.devices(node):
            found += expand(line.settings.get("File", "")) if "File" in line.settings else []
            found += line.settings.get("MultipleFiles", "").split(",") if "MultipleFiles" in line.settings else []
    return list(dict.fromkeys(filter(None, found)))
