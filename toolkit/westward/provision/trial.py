"""A configuration tried before it is installed: a slurmctld of the installed version starts on it, on the controller, where it reaches nothing.

It has a network of its own with nothing but the loopback interface, keys of its own, no accounting, and no program of the site.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from westward.errors import Unreachable, WestwardError
from westward.provision import trialhost
from westward.provision.hosts import Hands, Host
from westward.provision.nodegroups import NOT_YET_HOSTS
from westward.slurm.confcluster import Configuration

LIMIT_S = 90
# what is left out of slurm.conf in a trial, by what becomes of it
_PROGRAMS = """BurstBufferType BurstBufferParameters CliFilterPlugins Epilog EpilogSlurmctld HealthCheckInterval HealthCheckNodeState HealthCheckProgram
    JobSubmitPlugins MailDomain MailProg NodeFeaturesPlugins PlugStackConfig PrEpParameters PrEpPlugins Prolog PrologSlurmctld RebootProgram ResvEpilog
    ResvProlog SlurmctldPlugstack SlurmctldPrimaryOffProg SlurmctldPrimaryOnProg SrunEpilog SrunProlog TaskEpilog TaskProlog
    UnkillableStepProgram"""
_POWER = """PowerParameters PowerPlugin ResumeFailProgram ResumeProgram ResumeRate ResumeTimeout SuspendExcNodes SuspendExcParts SuspendExcStates
    SuspendProgram SuspendRate SuspendTime SuspendTimeout"""
_ELSEWHERE = """AccountingStorageBackupHost AccountingStorageEnforce AccountingStorageExternalHost AccountingStorageHost AccountingStorageParameters
    AccountingStoragePass AccountingStoragePort AccountingStorageTRES AccountingStorageType AccountingStorageUser AccountingStoreFlags AuthAltParameters AuthAltTypes
    AuthInfo CertgenParameters CertgenType CertmgrParameters CertmgrType FederationParameters JobCompHost JobCompLoc JobCompParams JobCompPass
    JobCompPort JobCompType JobCompUser MetricsParameters MetricsType PriorityWeightTRES TLSParameters TLSType"""
_PLACES = """BackupAddr BackupController ControlAddr ControlMachine SlurmSchedLogFile SlurmctldAddr SlurmctldDebug SlurmctldHost SlurmctldLogFile
    SlurmctldPidFile SlurmctldSyslogDebug SlurmdLogFile SlurmdPidFile SlurmdSpoolDir SlurmdSyslogDebug StateSaveLocation"""
_LEFT_OUT = frozenset(f"{_PROGRAMS} {_POWER} {_ELSEWHERE} {_PLACES}".lower().split())
# keys of which nobody has to know that they were others
_OWN = ("debug", "logfile", "pidfile")
_INSTEAD = f"""SlurmctldHost={trialhost.HOST}
StateSaveLocation={trialhost.RUN}/state
SlurmdSpoolDir={trialhost.RUN}/spool
SlurmctldPidFile={trialhost.RUN}/slurmctld.pid
SlurmdPidFile={trialhost.RUN}/slurmd.pid
SlurmctldDebug=info
SlurmctldSyslogDebug=quiet
MailProg=/bin/true
"""
_KEY = re.compile(r"\s*(\w+)\s*=")
_TOLD = re.compile(r"\b(error|fatal): ")
# of a partition; without accounting there are no TRES of GRES
_BILLING = re.compile(r"\s+(TRESBillingWeights)=(\"[^\"]*\"|\S+)", re.IGNORECASE)
# what a slurmctld says that finds no state and has no accounting
_NEW = re.compile(
    r"not stored|state file|state save|last_config_lite|No such file or directory|pidfile|job_state|Information may be lost"
)
_NEVER_READ = (
    "gres.conf (slurmd reads it)",
    "whether names and addresses are known",
    "whether nodes are as they are described",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a trial.

    Attributes:
        started: slurmctld started and answered.
        missing: nodes and partitions of the files that it does not show, as `NodeName=n1`.
        log: what it said that is an error.
        unchecked: keys and things of which the trial says nothing.
        interfaces: of the network that it had.
        seconds: from its first file to its last answer.
    """

    started: bool
    missing: tuple[str, ...]
    log: tuple[str, ...]
    unchecked: tuple[str, ...]
    interfaces: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return self.started and not self.missing


def try_out(hands: Hands, host: Host, files: Mapping[str, str], candidate: Configuration, state: str) -> Trial:
    """Start a slurmctld on those files, on a controller, in namespaces of its own; nothing is left there.

    Args:
        candidate: what the files say.
        state: where the slurmctld that runs there keeps its state.

    Raises:
        Unreachable: the host does not answer, or has no way to do this.
    """
    tried, unchecked = adjusted(files)
    script = f"{Path(trialhost.__file__).read_text()}\n\nmain({_given(tried, candidate, state)!r})\n"
    inside = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "python3", "-")
    argv = ("timeout", "--kill-after=2", str(LIMIT_S), *inside)
    answer = hands.run(host, argv, stdin=script, timeout_s=LIMIT_S + 10, repeat=True)
    if isinstance(answer, WestwardError):
        raise Unreachable(f"{host.name}: the trial could not be run: {answer}", answer.next_step)
    try:
        said = json.loads(answer.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Unreachable(
            f"{host.name}: the trial could not be run (status {answer.status}): {answer.complaint}",
            "it needs root, util-linux and Python 3 there",
        ) from error
    return Trial(
        said["started"],
        tuple(said["missing"]),
        complaints(said["log"]),
        unchecked,
        tuple(said["interfaces"]),
        said["seconds"],
    )


def adjusted(files: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The files as they are tried, every line in its place; and what the trial says nothing of."""
    left_out: dict[str, None] = {}
    lines = []
    for line in files["slurm.conf"].split("\n"):
        match = _KEY.match(line)
        if match is not None and match[1].lower() in _LEFT_OUT:
            left_out[match[1]] = None
            line = ""
        if match is not None and _BILLING.search(line):
            left_out["TRESBillingWeights"] = None
            line = _BILLING.sub("", line)
        lines.append(line)
    tried = {name: text for name, text in files.items() if name != "slurmdbd.conf"}
    tried["slurm.conf"] = "\n".join(lines) + "\n" + _INSTEAD
    told = [key for key in left_out if not key.lower().endswith(_OWN)]
    others = ["slurmdbd.conf"] if "slurmdbd.conf" in files else []
    return tried, (*told, *others, *_NEVER_READ)


def complaints(log: Iterable[str]) -> tuple[str, ...]:
    """The errors of a log without their time, each once; not that there was no state before."""
    found = (line[match.start() :] for line in log if (match := _TOLD.search(line)))
    return tuple(dict.fromkeys(line for line in found if not _NEW.search(line)))


def _given(files: Mapping[str, str], candidate: Configuration, state: str) -> dict[str, Any]:
    settings = candidate.settings
    at_hand = {name: told for name, told in candidate.nodes.items() if told.get("State", "").upper() != "FUTURE"}
    addresses = {told.get(key, name) for name, told in at_hand.items() for key in ("NodeAddr", "NodeHostname")}
    return {
        "files": dict(files),
        "user": settings.get("SlurmUser", "root"),
        "auth": settings.get("AuthType", "auth/munge"),
        "port": int(settings.get("SlurmctldPort", "6817").split("-")[0]),
        "names": sorted(name for name in addresses | at_hand.keys() if not re.fullmatch(r"[\d.]+|.*:.*", name)),
        "state": state,
        # by release slurmctld shows the others, or does not
        "nodes": [name for name, told in at_hand.items() if told.get("State", "").upper() not in NOT_YET_HOSTS],
        "partitions": [line.name for line in candidate.slurm.of("PartitionName")],
    }
