"""The hosts of an inventory, as Ansible understands it, and programs run on many of them at once: a host that fails stops no other."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from westward import process
from westward.errors import InputError, WestwardError
from westward.model.site import ShellDoor
from westward.provision.ansiblecode import ANSIBLE
from westward.slurm.commands import Answer, Commands, Request
from westward.slurm.shell import commands_at

AT_ONCE = 16  # hosts
TIMEOUT_S = 60.0
_READ_TIMEOUT_S = 120.0
CONTROLLER, DBD, LOGIN, COMPUTE = GROUPS = ("slurm_controller", "slurm_dbd", "slurm_login", "slurm_compute")
_READING = {
    "ANSIBLE_STDOUT_CALLBACK": "minimal",
    "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    # otherwise it warns, and goes on without the hosts of an inventory that it cannot read
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
}
# what is asked of each host, and of the first controller for all
_OF_HOST = (
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_connection",
    "ansible_ssh_private_key_file",
    "ansible_ssh_common_args",
    "slurm_node_name",
)
_OF_SITE = (
    "slurm_cluster_name",
    "slurm_auth",
    "slurm_nodegroups",
    "slurm_partitions",
    "slurm_health",
    "apptainer_install",
)
_SSH_OPTIONS = ("userknownhostsfile", "stricthostkeychecking", "controlmaster", "controlpersist", "controlpath")


@dataclass(frozen=True, slots=True)
class Host:
    """A host of an inventory.

    Attributes:
        name: as the inventory has it.
        node: Slurm's name for it: NodeName, or the name of a controller.
        groups: those it is in.
        root: True where its user is root, so that nothing needs sudo.
    """

    name: str
    node: str
    groups: frozenset[str]
    door: ShellDoor
    root: bool = False


@dataclass(frozen=True)
class Managed:
    """A cluster that the playbooks manage.

    Attributes:
        inventories: the paths that Ansible is given with -i, in their order.
        hosts: those of the four groups, by name, in the inventory's order.
        variables: those of `slurm_cluster_name`, `slurm_auth`, `slurm_nodegroups`, `slurm_partitions`, `slurm_health`,
            `apptainer_install` that are set.
    """

    inventories: tuple[Path, ...]
    hosts: Mapping[str, Host]
    variables: Mapping[str, Any] = field(repr=False)

    @property
    def cluster(self) -> str:
        return str(self.variables.get("slurm_cluster_name", "cluster"))

    @property
    def controller(self) -> Host:
        return self.of(CONTROLLER)[0]

    def of(self, *groups: str) -> list[Host]:
        """The hosts of those groups, each once."""
        return [host for host in self.hosts.values() if host.groups.intersection(groups)]

    def nodes(self) -> dict[str, Host]:
        """The compute hosts, by the name that Slurm has for each."""
        return {host.node: host for host in self.of(COMPUTE)}


def read_inventory(paths: Sequence[Path]) -> Managed:
    """The hosts of an inventory: Ansible reads it, so whatever it understands is understood.

    Raises:
        InputError: one is not there, Ansible refuses it, or it has no host in `slurm_controller`.
        Unreachable: Ansible is not installed.
    """
    for path in paths:
        if not path.exists():
            raise InputError(
                f"there is no inventory '{path}'", "name its directory or file, as for ansible-playbook -i"
            )
    rows, site = _asked(paths)
    hosts = {}
    for told in rows:
        host = _host(told)
        if host.groups.intersection(GROUPS):
            hosts[host.name] = host
    return Managed(
        tuple(path.absolute() for path in paths), hosts, {key: value for key, value in site.items() if value}
    )


def _asked(paths: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The variables of each host, and of the site, as Ansible resolves them: no host is connected to."""
    of_host = ", ".join(f"'{name}': hostvars[host].{name} | default(none)" for name in _OF_HOST)
    of_site = ", ".join(f"'{name}': {name} | default(none)" for name in _OF_SITE)
    text = (
        "{% for host in groups.all %}{{ {'name': host, 'groups': hostvars[host].group_names, "
        + of_host
        + "} | to_json }}\n"
        "{% endfor %}{{ {" + of_site + "} | to_json }}"
    )
    argv = [
        "ansible",
        *chosen(paths),
        f"{CONTROLLER}[0]",
        "-m",
        "ansible.builtin.debug",
        "-a",
        json.dumps({"msg": text}),
    ]
    done = process.run(argv, timeout_s=_READ_TIMEOUT_S, environment=environment() | _READING, check=False)
    found = re.search(r"^\S+ \| SUCCESS => (\{.*^\})", done.stdout, re.MULTILINE | re.DOTALL)
    if found is None:
        where = ", ".join(f"'{path}'" for path in paths)
        said = (done.stderr + done.stdout).strip()  # the first of its complaints has the place
        if not said or f"pattern: {CONTROLLER}" in said or "No hosts matched" in said:
            raise InputError(f"{where}: no host is in the group {CONTROLLER}", f"name it in {CONTROLLER} of hosts.yml")
        raise InputError(f"{where}: Ansible does not understand it: {said[:500]}", "ansible-inventory --list -i ...")
    *rows, site = (json.loads(line) for line in json.loads(found[1])["msg"].splitlines())
    return rows, site


def chosen(inventories: Iterable[Path]) -> list[str]:
    """The arguments with which Ansible's programs are given inventories."""
    return [word for path in inventories for word in ("-i", str(path.absolute()))]


def environment() -> dict[str, str]:
    """Variables for Ansible's programs: the configuration beside the playbooks, unless ANSIBLE_CONFIG names one, and no colours."""
    config = os.environ.get("ANSIBLE_CONFIG", str(ANSIBLE / "ansible.cfg"))
    return {"ANSIBLE_CONFIG": config, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}


def _host(told: Mapping[str, Any]) -> Host:
    name, user = told["name"], told["ansible_user"]
    port, key = told["ansible_port"], told["ansible_ssh_private_key_file"]
    door = ShellDoor()
    if told["ansible_connection"] != "local":
        door = ShellDoor(
            host=told["ansible_host"] or name,
            user=user,
            port=int(port) if port else None,
            identity_file=Path(key).expanduser() if key else None,
            known_hosts=_known_hosts(name, told["ansible_ssh_common_args"] or ""),
        )
    return Host(name, told["slurm_node_name"] or name, frozenset(told["groups"]), door, user == "root")


def _known_hosts(host: str, arguments: str) -> Path | None:
    """The file of known host keys that Ansible's arguments for ssh name.

    Raises:
        InputError: they say something that only ssh's own configuration can say to us too.
    """
    found = None
    words = iter(shlex.split(arguments))
    for word in words:
        said = f"-o {next(words, '')}" if word == "-o" else word
        key, _, value = said.removeprefix("-o").lstrip().partition("=")
        if not said.startswith("-o") or key.lower() not in _SSH_OPTIONS:
            raise InputError(
                f"{host}: ansible_ssh_common_args says '{said}'",
                "write that into ~/.ssh/config, which Ansible and Westward both read",
            )
        if key.lower() == "userknownhostsfile":
            found = Path(value.strip('"')).expanduser()
    return found


# called, from several threads, when a host has ended: its name, and how
Told = Callable[[str, Answer], None]


class Hands:
    """Programs on the hosts of a cluster. As root by `sudo -n`, so the user there needs no password for it.

    A connection is opened for each host when it is first needed, and kept until the end of the `with` block.
    """

    def __init__(self, told: Told | None = None) -> None:
        self._told = told
        self._open: dict[str, Commands] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for commands in self._open.values():
            commands.close()
        self._open.clear()

    def each(
        self,
        hosts: Iterable[Host],
        argv: Sequence[str],
        *,
        stdin: str | Callable[[Host], str] = "",
        as_root: bool = True,
        timeout_s: float = TIMEOUT_S,
        repeat: bool = False,
    ) -> dict[str, Answer]:
        """Run a program on hosts, up to AT_ONCE of them at a time; by host, in their order, how it ended or why it did not run.

        Args:
            stdin: what it reads, such as a script for `sh -s`; or a function that gives it for each host. Secrets go here: every user
                of a host can read argv.
            repeat: it may run twice, so it is run again where a connection was lost.
        """
        todo = list(hosts)
        if not todo:
            return {}

        def one(host: Host) -> Answer:
            text = stdin if isinstance(stdin, str) else stdin(host)
            answer = self.run(host, argv, stdin=text, as_root=as_root, timeout_s=timeout_s, repeat=repeat)
            if self._told is not None:
                self._told(host.name, answer)
            return answer

        with ThreadPoolExecutor(min(AT_ONCE, len(todo))) as pool:
            return dict(zip((host.name for host in todo), pool.map(one, todo), strict=True))

    def run(
        self,
        host: Host,
        argv: Sequence[str],
        *,
        stdin: str = "",
        as_root: bool = True,
        timeout_s: float = TIMEOUT_S,
        repeat: bool = False,
    ) -> Answer:
        """The same on one host."""
        words = ("sudo", "-n", "--", *argv) if as_root and not host.root else tuple(argv)
        request = Request(words, stdin)
        try:
            return self.commands(host).each([request], at_once=1, timeout_s=timeout_s, repeat=repeat)[0]
        except WestwardError as error:
            return error

    def commands(self, host: Host) -> Commands:
        """The open connection to a host."""
        found = self._open.get(host.name)
        if found is None:
            # two threads never ask for the same host: `each` names each once
            found = self._open[host.name] = commands_at(host.door)
        return found
