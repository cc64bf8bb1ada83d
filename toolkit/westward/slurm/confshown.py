"""A configuration as the running daemons show it, for where its files may not be read: from what scontrol prints.

It says what holds, not what was written: a key that has its default is left out, since nobody can tell whether it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from westward.slurm.clustertext import fields
from westward.slurm.conf import Conf, Line, Settings
from westward.slurm.confmeaning import Release, defaults, meaning

_PAIR = re.compile(r"(\S+)\s*= ?(.*)$")
_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:secs?|min|usec|nodes/min|percent|ms|MB|%)")
_NOTHING = ("", "(null)", "(null type)", "N/A", "n/a", "NONE", "Unknown", "65534")
# what is no key of slurm.conf, follows from others, or is a path that the build chose
_SHOWN_ONLY = frozenset(
    [
        "boot_time",
        "hash_val",
        "next_job_id",
        "slurm_conf",
        "slurm_version",
        "multiple_slurmd",
        "maxnodecount",
        "plugindir",
        "accountingstorageuser",
        "accountingstorageport",
        "jobcompuser",
        "jobcompport",
        "slurmctldaddr",
        "cgroupplugin",
        "srunportrange",
    ]
)
_NODE_KEYS = {
    "CPUTot": "CPUs",
    "Boards": "Boards",
    "Sockets": "Sockets",
    "CoresPerSocket": "CoresPerSocket",
    "ThreadsPerCore": "ThreadsPerCore",
    "RealMemory": "RealMemory",
    "TmpDisk": "TmpDisk",
    "Weight": "Weight",
    "AvailableFeatures": "Feature",
    "Gres": "Gres",
    "NodeAddr": "NodeAddr",
    "NodeHostName": "NodeHostname",
    "Port": "Port",
    "MemSpecLimit": "MemSpecLimit",
    "CoreSpecCount": "CoreSpecCount",
}
_PARTITION_SHOWN_ONLY = ("PartitionName", "TotalCPUs", "TotalNodes", "TRES", "NodeSets", "Exclusive")


def slurm_conf(config: str, nodes: str, partitions: str, release: Release) -> Conf:
    """What slurm.conf would say, from `scontrol show config`, `scontrol -o show node` and `scontrol -o show partition`."""
    settings = dict(_settings(config, "slurm.conf", release))
    hosts = [Line("SlurmctldHost", text) for text in controllers(config)]
    lines = [
        *(_node(found) for line in nodes.splitlines() if "NodeName" in (found := fields(line))),
        *(_partition(found, release) for line in partitions.splitlines() if "PartitionName" in (found := fields(line))),
    ]
    return Conf(
        Settings(settings), (*hosts, *lines), ("scontrol show config", "scontrol show node", "scontrol show partition")
    )


def cgroup_conf(config: str, release: Release) -> Conf:
    """What cgroup.conf would say, from `scontrol show config`."""
    return Conf(Settings(dict(_settings(_cgroup_part(config), "cgroup.conf", release))))


def value(config: str, key: str) -> str:
    """One value of `scontrol show config`; empty where there is none."""
    match = re.search(rf"^{re.escape(key)}\s*= ?(.*)$", config, re.MULTILINE)
    return match[1].strip() if match else ""


def controllers(config: str) -> list[str]:
    """The controllers as SlurmctldHost would have them, the primary one first."""
    return re.findall(r"^SlurmctldHost\[\d+\]\s*= (\S+)", config, re.MULTILINE)


def _cgroup_part(config: str) -> str:
    return re.split(r"\n\s*\n", config.partition("Cgroup Support Configuration:\n")[2])[0]


def _settings(text: str, about: str, release: Release) -> Iterator[tuple[str, str]]:
    default = defaults(about, release)
    for line in re.split(r"\n\s*\n", text.strip())[0].splitlines():
        match = _PAIR.fullmatch(line)
        if match and match[1].lower() not in _SHOWN_ONLY and not match[1].startswith("SlurmctldHost["):
            shown = _plain(match[2].strip())
            if shown not in _NOTHING and meaning(match[1], shown) != meaning(match[1], default.get(match[1])):
                yield match[1], shown


def _plain(text: str) -> str:
    """Without the unit and the user id that scontrol adds."""
    if unit := _UNIT.fullmatch(text):
        return unit[1].removesuffix(".0")
    return re.sub(r"\(\d+\)$", "", text)


def _node(found: Mapping[str, str]) -> Line:
    told = {key: re.sub(r"\(S:[^)]*\)", "", found[shown]) for shown, key in _NODE_KEYS.items() if shown in found}
    settings = {key: text for key, text in told.items() if text not in _NOTHING}
    state = found.get("State", "").upper()
    for word in ("CLOUD", "FUTURE"):
        if word in state:
            settings["State"] = word
    return Line("NodeName", found["NodeName"], Settings(settings))


def _partition(found: Mapping[str, str], release: Release) -> Line:
    default = defaults("PartitionName", release)
    settings = {
        key: text
        for key, text in found.items()
        if key not in _PARTITION_SHOWN_ONLY
        and text not in _NOTHING
        and meaning(key, text) != meaning(key, default.get(key, "UNLIMITED" if "Mem" in key else None))
        and (key, text) not in (("PreemptMode", "OFF"), ("DisableRootJobs", "NO"))
    }
    return Line("PartitionName", found["PartitionName"], Settings(settings))
