"""A running cluster, read from one of its hosts: its configuration files and its accounting. No password leaves it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from westward.errors import InputError, SiteRefused, Unreachable, WestwardError
from westward.process import Completed
from westward.provision.nodegroups import NOT_YET_HOSTS
from westward.slurm.commands import AT_ONCE, Commands, Request
from westward.slurm.conf import Conf, Settings, parse
from westward.slurm.confcluster import KINDS, Configuration, of_confs
from westward.slurm.confmeaning import Release, release_of

ETC = "/etc/slurm"  # where the roles write
BESIDE = ("slurm.conf", "gres.conf", "cgroup.conf", "topology.conf")
CONFIGLESS = "/run/slurm/conf"  # where slurmd and sackd keep what slurmctld sends them
TIMEOUT_S = 60.0
# what stands for each password: an expression that a vault fills in
SECRETS = {
    "StoragePass": "{{vault_slurm_storage_pass}}",
    "JobCompPass": "{{vault_slurm_jobcomp_pass}}",
    "AccountingStoragePass": "{{vault_slurm_accounting_storage_pass}}",
}
# beside slurm.conf, and not written by the roles
_UNMANAGED = re.compile(r".*\.(conf|lua|yaml)|plugstack\.conf\.d")
_MANAGED = frozenset([*KINDS, "topology.yaml", "fake_gpus.conf"])


@dataclass(frozen=True)
class Reading:
    """What a cluster said of itself.

    Attributes:
        version: Slurm's, as `24.11.5`.
        config: what `scontrol show config` printed.
        sources: by file, where its content came from.
        accounting: what sacctmgr printed for each query; None where there is no accounting.
        notes: what its owner should know, each a sentence.
    """

    version: str
    cluster: str
    configuration: Configuration
    config: str = field(repr=False)
    sources: Mapping[str, str]
    accounting: Mapping[str, str] | None = field(repr=False)
    notes: tuple[str, ...] = ()


def read_cluster(commands: Commands, queries: Mapping[str, Sequence[str]], sudo: bool = False) -> Reading:
    """Read the cluster of that host.

    Args:
        queries: what to ask sacctmgr, by name.
        sudo: read files with `sudo -n`, for those that the user may not read.

    Raises:
        Unreachable: the host, or slurmctld, does not answer.
        InputError: a file cannot be read as Slurm would read it, or this user may not read it.
    """
    return _Host(commands, sudo).read(queries)


def without_secrets(conf: Conf) -> Conf:
    """The same with a stand-in for each password; munge's socket, which may stand in the place of one, is none."""
    settings = dict(conf.settings)
    stand_ins = Settings(SECRETS)
    for key, value in settings.items():
        if key in stand_ins and value and not value.startswith("/"):
            settings[key] = stand_ins[key]
    return replace(conf, settings=Settings(settings))


def _value(config: str, key: str) -> str:
    """One value of `scontrol show config`; empty where there is none."""
    match = re.search(rf"^{re.escape(key)}\s*= ?(.*)$", config, re.MULTILINE)
    return match[1].strip() if match else ""


def _at_hand(configuration: Configuration) -> set[str]:
    """The nodes that slurmctld shows: of those that are not there yet it shows some, or none, by release."""
    return {
        node for node, settings in configuration.nodes.items() if settings.get("State", "").upper() not in NOT_YET_HOSTS
    }


class _Host:
    """The host, with what it has told so far."""

    def __init__(self, commands: Commands, sudo: bool) -> None:
        self._commands, self._sudo = commands, ("sudo", "-n") if sudo else ()
        self._denied: dict[str, str] = {}
        self.notes: list[str] = []
        self.sources: dict[str, str] = {}

    def read(self, queries: Mapping[str, Sequence[str]]) -> Reading:
        config, nodes = self._shown(("scontrol", "show", "config"), ("scontrol", "-a", "-o", "show", "node"))
        version = _value(config, "SLURM_VERSION")
        configuration = self._files(_value(config, "SLURM_CONF"), release_of(version))
        self._compare_with_running(config, nodes, configuration)
        accounting = None
        if _value(config, "AccountingStorageType").endswith("slurmdbd"):
            accounting = self._accounting(queries)
        cluster = configuration.settings.get("ClusterName", "")
        return Reading(version, cluster, configuration, config, self.sources, accounting, tuple(self.notes))

    def _shown(self, *argvs: tuple[str, ...]) -> list[str]:
        answers = self._ask(argvs)
        for argv, answer in zip(argvs, answers, strict=True):
            if answer.status:
                raise Unreachable(
                    f"'{' '.join(argv)}' fails there: {answer.complaint}",
                    "is it a host of a cluster, and does slurmctld run?",
                )
        return [answer.stdout for answer in answers]

    def _files(self, path: str, release: Release) -> Configuration:
        """slurm.conf where scontrol has it, or where slurmd and sackd keep it, and the files beside it."""
        etc = posixpath.dirname(path)
        folder = next((each for each in (etc, CONFIGLESS) if self._text(f"{each}/slurm.conf") is not None), None)
        if folder is None:
            why = self._denied.get(path, "it is not there")
            raise InputError(f"'{path}' cannot be read there: {why}", "name the controller, or add --sudo")
        parsed = {name: found for name in BESIDE if (found := self._file(folder, name))}
        # this one is never sent to other hosts
        if found := self._file(etc, "slurmdbd.conf"):
            parsed["slurmdbd.conf"] = found
        topology = self._text(f"{folder}/topology.yaml") or ""
        if topology:
            self.sources["topology.yaml"] = f"{folder}/topology.yaml"
        self._tell_denied(f"{etc}/slurmdbd.conf")
        self._tell_others(folder)
        return of_confs(parsed, topology, release)

    def _tell_denied(self, dbd: str) -> None:
        """
        Raises:
            InputError: a file that the roles would write anew is there and was not read.
        """
        for path, why in self._denied.items():
            if path != dbd:
                raise InputError(f"'{path}' is there and cannot be read: {why}", "add --sudo")
            self.notes.append(f"{path} is there and could not be read ({why}); --sudo reads it")

    def _tell_others(self, folder: str) -> None:
        if folder not in (ETC, CONFIGLESS):
            self.notes.append(f"its files are in {folder}, and the roles write to {ETC}")
        listed = self._ask([(*self._sudo, "ls", "-1", folder)])[0].stdout.split("\n")
        others = sorted(
            name for name in listed if _UNMANAGED.fullmatch(name) and name not in _MANAGED and not self._included(name)
        )
        if others:
            self.notes.append(f"also in {folder}, and left alone by the roles: {', '.join(others)}")

    def _included(self, name: str) -> bool:
        return any(posixpath.basename(path) == name for paths in self.sources.values() for path in paths.split(", "))

    def _file(self, folder: str, name: str) -> Conf | None:
        """A file with those that it includes; None where it is not there, or may not be read."""
        path = posixpath.join(folder, name)
        if self._text(path) is None:
            return None
        found = without_secrets(parse(path, self._must_read, KINDS[name]))
        self.sources[name] = ", ".join(found.files)
        return found

    def _must_read(self, path: str) -> str:
        text = self._text(path)
        if text is None:
            raise InputError(
                f"'{path}', which is included, cannot be read: {self._denied.get(path, 'it is not there')}",
                "read it with --sudo",
            )
        return text

    def _text(self, path: str) -> str | None:
        answer = self._ask([(*self._sudo, "cat", path)])[0]
        if not answer.status:
            return answer.stdout
        if "No such file" not in answer.stderr:
            self._denied[path] = answer.complaint.rpartition(": ")[2]
        return None

    def _compare_with_running(self, config: str, nodes: str, configuration: Configuration) -> None:
        if _value(config, "HASH_VAL").startswith("Different"):
            self.notes.append(
                "the files here are not those that slurmctld runs with (HASH_VAL): somebody changed them without 'scontrol reconfigure'"
            )
        known = set(re.findall(r"^NodeName=(\S+)", nodes, re.MULTILINE))
        for names, what in (
            (known - configuration.nodes.keys(), "slurmctld has nodes that no file names (dynamic ones?)"),
            (_at_hand(configuration) - known, "nodes of the files that slurmctld does not show"),
        ):
            if names:
                self.notes.append(f"{what}: {', '.join(sorted(names))}")

    def _accounting(self, queries: Mapping[str, Sequence[str]]) -> Mapping[str, str] | None:
        answers = self._ask([("sacctmgr", "-nP", *query) for query in queries.values()])
        failed = next((answer for answer in answers if answer.status), None)
        if failed is not None:
            self.notes.append(f"the accounting could not be read, so there is no slurm_accounts: {failed.complaint}")
            return None
        self.sources["accounting"] = "sacctmgr"
        return {name: answer.stdout for name, answer in zip(queries, answers, strict=True)}

    def _ask(self, argvs: Sequence[tuple[str, ...]]) -> list[Completed]:
        found = []
        for answer in self._commands.each(
            [Request(argv) for argv in argvs], at_once=AT_ONCE, timeout_s=TIMEOUT_S, repeat=True
        ):
            if isinstance(answer, WestwardError):
                raise answer
            if answer.status == 127:
                raise SiteRefused(
                    f"'{answer.argv[0]}' is not installed there: {answer.complaint}",
                    "name a host where Slurm's commands are",
                )
            found.append(answer)
        return found
