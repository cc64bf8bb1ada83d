"""What values mean, and what holds where nothing is said."""

from __future__ import annotations

import re

import pytest

from unit.slurm.fakes import VERSIONS, said
from westward.errors import InputError
from westward.slurm.conf import Settings
from westward.slurm.confmeaning import defaults, meaning, release_of, renamed


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("MaxTime", "1-0", "24:00:00"),
        ("MaxTime", "60", "1:00:00"),
        ("MaxTime", "90:00", "1:30:00"),
        ("maxtime", "INFINITE", "unlimited"),
        ("GraceTime", "60", "00:01:00"),
        ("RealMemory", "8k", "8192"),
        ("PriorityWeightAge", "1K", "1024"),
        ("Default", "YES", "yes"),
        ("State", "UP", "up"),
        ("SlurmctldDebug", "3", "info"),
        ("SchedulerParameters", "a=1,b", "b,a=1"),
        ("AllowAccounts", "x,y", "y,x"),
        ("AccountingStorageEnforce", "limits", "associations,limits"),
        ("PrologFlags", "X11", "contain,alloc,x11"),
        ("Gres", "gpu:a:1,gpu:a:1", "gpu:a:2"),
        ("Gres", "gpu:a:2(S:0-1)", "gpu:a:2"),
        ("TRESBillingWeights", "CPU=1.0,Mem=0.25G", "mem=0.25G,cpu=1"),
        ("AccountingStorageTRES", "gres/gpu", "cpu,gres/gpu,mem"),
        ("AllocNodes", "n[1-2]", "n2,n1"),
        ("PurgeJobAfter", "2", "2month"),
        ("PurgeJobAfter", "48hours", "2days"),
        ("TopologyPlugin", "topology/none", "topology/default"),
        ("TaskPlugin", "task/none", ""),
        ("MpiDefault", "none", "NONE"),
    ],
)
def test_two_texts_that_mean_the_same(key: str, one: str, other: str) -> None:
    assert meaning(key, one) == meaning(key, other)


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("MaxTime", "1-0", "1"),
        ("TaskPlugin", "task/cgroup,task/affinity", "task/affinity,task/cgroup"),
        ("Gres", "gpu:a:1", "gpu:b:1"),
        ("Prolog", "/a", "/A"),
        ("SchedulerParameters", "a=1", "a=2"),
        ("KeyOfTomorrow", "yes", "YES"),
        ("DefMemPerCPU", "0", "100"),
    ],
)
def test_two_texts_that_do_not(key: str, one: str, other: str) -> None:
    assert meaning(key, one) != meaning(key, other)


@pytest.mark.parametrize("text", ["", "  ", None])
def test_what_is_empty_says_nothing(text: str | None) -> None:
    assert meaning("SchedulerParameters", text) is None


def test_a_value_that_is_none_of_its_kind_is_a_text() -> None:
    assert meaning("MaxTime", "Soon") == meaning("MaxTime", "soon")
    assert meaning("RealMemory", "lots") == "lots"


def test_defaults_are_those_of_the_release() -> None:
    old, new, between = (defaults("slurm.conf", release) for release in ((22, 5), (24, 11), (23, 2)))
    assert (old["SelectType"], new["SelectType"], between["SelectType"]) == (
        "select/linear",
        "select/cons_tres",
        "select/linear",
    )
    assert "MpiDefault" in old and "MpiDefault" not in new
    assert defaults("PartitionName", (26, 5))["OverSubscribe"] == "NO"
    assert not defaults("NodeSet", (26, 5))


def test_renamed_keys_have_their_present_names() -> None:
    found = renamed("PartitionName", Settings({"shared": "NO", "Priority": "5", "PriorityTier": "7"}))
    assert dict(found) == {"PriorityTier": "7", "OverSubscribe": "NO", "PriorityJobFactor": "5"}
    assert dict(renamed("NodeName", Settings({"Procs": "4"}))) == {"CPUs": "4"}


def test_releases() -> None:
    assert (release_of("24.11.5"), release_of("slurm 22.05.8-4")) == ((24, 11), (22, 5))
    with pytest.raises(InputError, match="'unknown' is no version of Slurm"):
        release_of("unknown")


# what a build, the host, another key or the manual decides; sacctmgr 26.05 does not show the database of slurmdbd
CHOSEN = (
    "AccountingStoragePort AuthType CgroupPlugin CommitDelay CredType MaxDBDMsgs MailProg PluginDir SlurmctldPidFile SlurmdPidFile"
    " StorageLoc StoragePort"
)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("about", "file", "pair", "at_least"),
    [
        ("slurm.conf", "minimal_config", r"^(\S+)\s*= ?(.*)$", 60),
        ("slurmdbd.conf", "dbd_config", r"^(\S+)\s*= ?(.*)$", 8),
        ("PartitionName", "minimal_partition", r"(\S+)=(\S*)", 15),
        ("NodeName", "minimal_node", r"(\S+)=(\S*)", 4),
    ],
)
def test_what_daemons_with_nothing_configured_show_is_the_default(
    version: str, about: str, file: str, pair: str, at_least: int
) -> None:
    """Units and user ids that scontrol adds are taken off."""
    default = defaults(about, release_of(version))
    checked = set()
    for key, text in re.findall(pair, said(version, file), re.MULTILINE):
        if key in default and key not in CHOSEN.split():
            plain = re.sub(r"(\(\d+\)| (sec|secs|min|usec|nodes/min|percent))$", "", text.strip())
            assert meaning(key, plain) == meaning(key, default[key]), key
            checked.add(key)
    assert len(checked) >= at_least
