"""What a value of Slurm's configuration means: equal for two texts that Slurm treats alike. And what holds where nobody says anything.

Which kind of value a key has is from slurm.conf(5), cgroup.conf(5), slurmdbd.conf(5) of 22.05 to 26.05; a key that is not here is a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from pathlib import Path

from westward.errors import InputError
from westward.slurm.conf import Settings
from westward.slurm.hostlist import expand
from westward.yamlfile import open_yaml

Release = tuple[int, int]
Meaning = Hashable

_NUMBER = re.compile(r"(-?(?:0x[0-9a-f]+|\d+(?:\.\d+)?))([kmgtp]?)i?b?%?", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_PURGE = re.compile(r"(\d+)\s*(h|d|m|hours?|days?|months?)?", re.IGNORECASE)
_ENDLESS = ("unlimited", "infinite", "-1", "none", "n/a")
_YES, _NO = ("yes", "up", "true", "1"), ("no", "down", "false", "0")
_LEVELS = ("quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5")
# TRES that are counted whatever AccountingStorageTRES says
_ALWAYS_COUNTED = frozenset(["cpu", "mem", "energy", "node", "billing", "fs/disk", "vmem", "pages"])
# a word that brings others along: PrologFlags and AccountingStorageEnforce of slurm.conf(5)
_IMPLIED = {
    "contain": ("alloc",),
    "nohold": ("alloc",),
    "x11": ("alloc", "contain"),
    "runinjob": ("alloc", "contain"),
    "limits": ("associations",),
    "qos": ("associations",),
    "wckeys": ("associations",),
    "safe": ("associations", "limits"),
}


def _text(text: str) -> Meaning:
    return text


def _word(text: str) -> Meaning:
    return text.lower()


def _flag(text: str) -> Meaning:
    lower = text.lower()
    return True if lower in _YES else False if lower in _NO else lower


def _number(text: str) -> Meaning:
    """With k, m, g as factors of 1024: RealMemory=8k is 8192."""
    if text.lower() in _ENDLESS:
        return math.inf
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text.lower()
    number = int(match[1], 16) if "0x" in match[1].lower() else float(match[1])
    return float(number * 1024 ** " kmgtp".index(match[2].lower() or " "))


def _minutes(text: str) -> Meaning:
    """Seconds of a time limit, whose number alone is minutes."""
    return _time(text, 60)


def _seconds(text: str) -> Meaning:
    """Seconds of a time whose number alone is seconds."""
    return _time(text, 1)


def _time(text: str, unit_s: int) -> Meaning:
    if text.lower() in _ENDLESS:
        return math.inf
    match = _TIME.fullmatch(text)
    if match is None:
        return text.lower()
    days, *rest = match.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is None and len(parts) == 1:
        return parts[0] * unit_s
    if days is None and len(parts) == 2:
        parts = [0, *parts]  # minutes:seconds
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _purge(text: str) -> Meaning:
    """Hours; a number alone is months (of 30 days, to compare with): slurmdbd.conf(5)."""
    match = _PURGE.fullmatch(text)
    if match is None:
        return text.lower()
    hours = {"h": 1, "d": 24, "m": 720}[(match[2] or "m")[0].lower()]
    return None if int(match[1]) == 0 else int(match[1]) * hours


def _plugin(text: str) -> Meaning:
    """`KIND/none` is the same as naming none."""
    lower = text.lower()
    return None if lower == "none" or lower.endswith("/none") else lower


def _topology(text: str) -> Meaning:
    """none until 23.02, default until 24.11, flat after: one plugin."""
    return None if text.lower() in ("topology/none", "topology/default", "topology/flat") else text.lower()


def _plugins(text: str) -> Meaning:
    """Several, in their order, which is that of their calls."""
    return tuple(found for part in text.split(",") if (found := _plugin(part.strip())) is not None)


def _level(text: str) -> Meaning:
    return _LEVELS[int(text)] if text.isdigit() and int(text) < len(_LEVELS) else text.lower()


def _words(text: str) -> Meaning:
    """A list in no order, in any case; without the words that say there is none."""
    found = {part.strip().lower() for part in text.split(",")} - {"", "none", "(null)"}
    return frozenset(found.union(*(_IMPLIED.get(word, ()) for word in found)))


def _names(text: str) -> Meaning:
    """A list in no order, of names whose case counts; ALL is everybody."""
    found = frozenset(part.strip() for part in text.split(",") if part.strip())
    return "ALL" if {name.upper() for name in found} == {"ALL"} else found


def _options(text: str) -> Meaning:
    """NAME=VALUE and words, in no order; values keep their case."""
    found = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        found.add((name.strip().lower(), value.strip() if equals else None))
    return frozenset(found - {("none", None), ("(null)", None)})


def _amounts(text: str) -> Meaning:
    """NAME=NUMBER in no order: TRESBillingWeights."""
    found = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    return frozenset((name.lower(), _number(number)) for name, _, number in found)


def _tres(text: str) -> Meaning:
    return frozenset(part.strip().lower() for part in text.split(",") if part.strip()) | _ALWAYS_COUNTED


def _hosts(text: str) -> Meaning:
    return "ALL" if text.upper() == "ALL" else frozenset(expand(text))


def gres(text: str) -> dict[tuple[str, str, str], float]:
    """`gpu:h100:4,shard:8` as name, type and further words -> count; the same one twice is added up, as slurmctld does."""
    found: dict[tuple[str, str, str], float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, *rest = re.sub(r"\([^)]*\)", "", part).split(":")
        count = 1.0
        if rest and isinstance(number := _number(rest[-1]), float) and rest[-1][0].isdigit():
            count = number
            rest.pop()
        words = [word for word in rest if word.lower() == "no_consume"]
        kinds = [word for word in rest if word.lower() != "no_consume"]
        key = (name, ":".join(kinds), ",".join(words).lower())
        found[key] = found.get(key, 0.0) + count
    return {key: count for key, count in found.items() if key[0].lower() != "(null)"}


def _gres(text: str) -> Meaning:
    return frozenset(gres(text).items())


_KINDS: Mapping[Callable[[str], Meaning], str] = {
    _flag: """AllowSpecResourcesUsage DisableRootJobs PriorityFavorSmall TrackWCKey UsePAM KillOnBadExit JobRequeue JobFileAppend
        EnforcePartLimits GroupUpdateForce PropagatePrioProcess Default ExclusiveUser ExclusiveTopo Hidden LLN PowerDownOnIdle ReqResv RootOnly
        CgroupAutomount CgroupJobIdPaths ConstrainCores ConstrainDevices ConstrainKmemSpace ConstrainRAMSpace ConstrainSwapSpace EnableControllers
        IgnoreSystemd IgnoreSystemdOnFailure SignalChildrenProcesses AllowNoDefAcct AllResourcesAbsolute ArchiveEvents ArchiveJobs ArchiveJobEnv
        ArchiveJobScript ArchiveResvs ArchiveSteps ArchiveSuspend ArchiveTXN ArchiveUsage CommitDelay DisableArchiveCommands DisableCoordDBD
        DisableRollups TrackSlurmctldDown""",
    _number: """AcctGatherNodeFreq BatchStartTimeout CompleteWait DefCpuPerGPU DefMemPerCPU DefMemPerGPU DefMemPerNode EioTimeout EpilogMsgTime
        FairShareDampeningFactor FirstJobId GetEnvTimeout GroupUpdateTime HealthCheckInterval HealthCheckTimeout InactiveLimit JobCompPort KillWait
        MaxArraySize MaxBatchRequeue MaxDBDMsgs MaxJobCount MaxJobId MaxMemPerCPU MaxMemPerNode MaxNodeCount MaxStepCount MaxTasksPerNode
        MessageTimeout MinJobAge OverTimeLimit PriorityWeightAge PriorityWeightAssoc PriorityWeightFairshare PriorityWeightJobSize
        PriorityWeightPartition PriorityWeightQOS PrologEpilogTimeout ResumeRate ResumeTimeout ResvOverRun ReturnToService SchedulerTimeSlice
        SlurmctldPort SlurmctldTimeout SlurmdPort SlurmdTimeout SlurmSchedLogLevel SuspendRate SuspendTime SuspendTimeout TCPTimeout TreeWidth
        UnkillableStepTimeout VSizeFactor WaitTime AccountingStoragePort MaxCPUsPerNode MaxCPUsPerSocket MaxNodes MinNodes PriorityJobFactor
        PriorityTier RealMemory TmpDisk Weight Port Boards Sockets SocketsPerBoard CoresPerSocket ThreadsPerCore CPUs CoreSpecCount MemSpecLimit
        AllowedRAMSpace AllowedSwapSpace MaxRAMPercent MaxSwapPercent MaxKmemPercent MinRAMSpace MinKmemSpace MemorySwappiness SystemdTimeout
        StoragePort DbdPort MaxPurgeLimit MaxQueryTimeRange""",
    _minutes: "MaxTime DefaultTime PriorityDecayHalfLife PriorityMaxAge PriorityCalcPeriod PreemptExemptTime",
    _seconds: "GraceTime",
    _purge: """PurgeEventAfter PurgeJobAfter PurgeJobEnvAfter PurgeJobScriptAfter PurgeResvAfter PurgeStepAfter PurgeSuspendAfter PurgeTXNAfter
        PurgeUsageAfter""",
    _level: "SlurmctldDebug SlurmdDebug SlurmctldSyslogDebug SlurmdSyslogDebug DebugLevel DebugLevelSyslog",
    _plugin: """AccountingStorageType AcctGatherEnergyType AcctGatherFilesystemType AcctGatherInterconnectType AcctGatherProfileType AuthType
        BurstBufferType CoreSpecPlugin CredType ExtSensorsType HashPlugin JobAcctGatherType JobCompType JobContainerType LaunchType MCSPlugin
        MpiDefault NamespaceType PowerPlugin PreemptType PriorityType ProctrackType RoutePlugin SchedulerType SelectType SwitchType StorageType
        TLSType CgroupPlugin AuthAltTypes""",
    _plugins: "TaskPlugin JobSubmitPlugins CliFilterPlugins NodeFeaturesPlugins PrEpPlugins",
    _topology: "TopologyPlugin",
    _word: "State OverSubscribe SchedulerRootFilter LogTimeFormat PriorityUsageResetPeriod CpuFreqDef GpuFreqDef ClusterName",
    _words: """AccountingStorageEnforce AccountingStoreFlags CpuFreqGovernors DebugFlags DependencyParameters FederationParameters HealthCheckNodeState
        JobAcctGatherParams PreemptMode PriorityFlags PrivateData PrologFlags PropagateResourceLimits PropagateResourceLimitsExcept
        ReconfigFlags SelectTypeParameters TopologyParam TaskPluginParam SuspendExcStates Flags""",
    _options: """AccountingStorageParameters AuthInfo AuthAltParameters BcastParameters CommunicationParameters JobAcctGatherFrequency JobCompParams
        LaunchParameters MCSParameters MpiParams Parameters PreemptParameters PrEpParameters PriorityParameters SchedulerParameters ScronParameters
        SlurmctldParameters SlurmdParameters SwitchParameters X11Parameters StorageParameters JobDefaults PowerParameters""",
    _names: """AllowAccounts AllowGroups AllowQos DenyAccounts DenyQos Feature GresTypes Licenses SuspendExcParts BcastExclude Alternate
        RequeueExit RequeueExitHold""",
    _amounts: "TRESBillingWeights PriorityWeightTRES",
    _tres: "AccountingStorageTRES",
    _hosts: "AllocNodes",
    _text: "SlurmUser StateSaveLocation SlurmdSpoolDir StorageUser StorageLoc StoragePass JobCompPass AccountingStoragePass",
    _gres: "Gres",
}
_READ = {key.lower(): read for read, keys in _KINDS.items() for key in keys.split()}
# what nobody sets and what is empty are the same
_EMPTY: Meaning = None

# keys that were renamed, by what their line is about; slurmctld still takes the old word (tried on 22.05 and 24.11)
_RENAMED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "PartitionName": {"shared": ("OverSubscribe",), "priority": ("PriorityTier", "PriorityJobFactor")},
    "NodeName": {"procs": ("CPUs",), "features": ("Feature",)},
    "Gres": {"cpus": ("Cores",)},
    "slurm.conf": {"cryptotype": ("CredType",), "defaultstoragetype": ("AccountingStorageType",)},
}
_TABLES = ("slurm.conf", "PartitionName", "NodeName", "cgroup.conf", "slurmdbd.conf")


@cache
def meaning(key: str, text: str | None) -> Meaning:
    """Of a value of that key; None where it says nothing."""
    if text is None or not text.strip():
        return _EMPTY
    found = _READ.get(key.lower(), _text)(text.strip())
    return _EMPTY if found in (frozenset(), ()) else found


def renamed(about: str, settings: Settings) -> Settings:
    """The same with each key in its present name; what is already there under it is left.

    Args:
        about: `slurm.conf`, or what begins the line: `NodeName`, `PartitionName`, `Gres`.
    """
    table = _RENAMED.get(about, {})
    if not any(key.lower() in table for key in settings):
        return settings
    found: dict[str, str] = {key: text for key, text in settings.items() if key.lower() not in table}
    for key, text in settings.items():
        for name in table.get(key.lower(), ()):
            if name not in Settings(found):
                found[name] = text
    return Settings(found)


def defaults(about: str, release: Release) -> Settings:
    """What holds in that release where a key is not set; keys are left out of which that is not known."""
    return _tables(release).get(about, Settings())


def release_of(version: str) -> Release:
    """(24, 11) of `24.11.5`.

    Raises:
        InputError: it is no version of Slurm.
    """
    match = re.match(r"\D*(\d{2})\.(\d{2})\b", version)
    if match is None:
        raise InputError(f"'{version}' is no version of Slurm")
    return int(match[1]), int(match[2])


@cache
def _tables(release: Release) -> Mapping[str, Settings]:
    reader = open_yaml(Path(__file__).with_name("defaults.yaml"))
    found = {}
    for about in _TABLES:
        section = reader.section(about)
        values = {key: _of_release(section.take(key, object), release) for key in section.names()}
        found[about] = Settings({key: text for key, text in values.items() if text is not None})
    return found


def _of_release(told: object, release: Release) -> str | None:
    """A text of every release, or that of the newest release named that is not newer than this one."""
    if not isinstance(told, dict):
        return str(told)
    known = sorted((release_of(str(version)), text) for version, text in told.items())
    fitting = [text for since, text in known if since <= release] or [known[0][1]]
    return None if fitting[-1] is None else str(fitting[-1])


_SPELLED = {key.lower(): key for keys in _KINDS.values() for key in keys.split()}


def spelled(key: str) -> str:
    """A key as the manuals spell it, where it is known."""
    return _SPELLED.get(key.lower(), key)


def is_list(key: str) -> bool:
    """Whether its values are lists with commas whose order says nothing."""
    return _READ.get(key.lower()) in (_words, _options, _names, _amounts, _tres)
