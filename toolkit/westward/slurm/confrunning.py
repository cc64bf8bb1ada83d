"""What slurmctld runs with, by `scontrol show config`, beside what its file says: what somebody wrote and nothing has taken up. Pure."""

from __future__ import annotations

import re

from westward.slurm.conf import Settings
from westward.slurm.confcluster import Configuration
from westward.slurm.confcompare import Difference, compare_settings
from westward.slurm.confmeaning import defaults

_PAIR = re.compile(r"^([A-Za-z0-9_]+)(?:\[\d+\])? *= ?(.*)$", re.MULTILINE)
_UNIT = re.compile(r" (sec|min|usec|nodes/min|percent)$")
_NOTHING = ("", "(null)", "(null type)", "n/a", "unknown")
# TRES that slurmctld adds where a GPU is counted
_ADDED_TRES = ("gres/gpumem", "gres/gpuutil")
# what slurmctld works out, or prints otherwise than anybody writes it: nothing can be told from these
_UNTOLD = frozenset(
    key.lower()
    for key in [
        "AccountingStorageUser",
        "BOOT_TIME",
        "CpuFreqDef",
        "HASH_VAL",
        "JobAcctGatherFrequency",
        "JobCompPass",
        "JobCompUser",
        "LogTimeFormat",
        "MaxDBDMsgs",
        "MaxNodeCount",
        "MULTIPLE_SLURMD",
        "NEXT_JOB_ID",
        "PluginDir",
        "PreemptMode",
        "PrologEpilogTimeout",
        "SlurmctldAddr",
        "SLURM_CONF",
        "SLURM_VERSION",
        "SlurmctldHost",
        "SlurmdPidFile",
        "SlurmctldPidFile",
        "TaskPluginParam",
    ]
)


def running(config: str) -> Settings:
    """The keys of slurm.conf that `scontrol show config` prints, with their values as that file would have them; no key that is not set."""
    found: dict[str, str] = {}
    head = config.split("\n\n", 1)[0]  # then come MPI's own, and how the controllers are
    for key, text in _PAIR.findall(head):
        value = _value(key, text.strip())
        if value.lower() not in _NOTHING:
            found[key] = f"{found[key]},{value}" if key in found else value
    return Settings(found).without(*_UNTOLD)


def _value(key: str, text: str) -> str:
    if key.endswith("User"):
        return re.sub(r"\(\d+\)$", "", text)
    if key == "AccountingStorageTRES":
        return ",".join(name for name in text.split(",") if name not in _ADDED_TRES)
    return _UNIT.sub("", text)


def not_taken_up(files: Configuration, config: str) -> list[Difference]:
    """Where slurmctld runs with something else than slurm.conf says; `before` is what it runs with.

    Args:
        config: what `scontrol show config` printed.
    """
    printed = frozenset(key.lower() for key, _ in _PAIR.findall(config)) - _UNTOLD
    known = {key.lower() for key in (*files.settings, *defaults("slurm.conf", files.release))}
    now = running(config)
    told = {key: text for key, text in now.items() if key.lower() in known}
    written = {key: text for key, text in files.settings.items() if key.lower() in printed}
    return list(compare_settings("slurm.conf", "slurm.conf", "", Settings(told), Settings(written), files.release))
