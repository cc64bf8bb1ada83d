"""What Slurm's commands print of limits -> model: `scontrol show partition`, `sacctmgr show qos` and `show assoc`, `scontrol show assoc_mgr`. Pure.

The limits are slurmdbd's, as sacctmgr gives them; what counts against them, and the limits of whole accounts, are slurmctld's own (assoc_mgr).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from westward.errors import QuantityError
from westward.model.limits import Cap, Charge, Limits, Qos, Rules
from westward.model.units import parse_walltime
from westward.slurm.clustertext import config, line_pairs, natural, script_bytes
from westward.slurm.text import NOTHING, size

MIB = 1024**2
# sacctmgr's columns, and what they are called here
QOS_CAPS = {
    "grptres": "GrpTRES", "grptresmins": "GrpTRESMins", "grptresrunmins": "GrpTRESRunMins", "grpjobs": "GrpJobs",
    "grpsubmit": "GrpSubmitJobs", "grpwall": "GrpWall", "maxtres": "MaxTRESPerJob", "maxtrespernode": "MaxTRESPerNode",
    "maxtresmins": "MaxTRESMinsPerJob", "maxwall": "MaxWall", "maxtrespu": "MaxTRESPerUser", "maxjobspu": "MaxJobsPerUser",
    "maxsubmitpu": "MaxSubmitJobsPerUser", "maxtrespa": "MaxTRESPerAccount", "maxjobspa": "MaxJobsPerAccount",
    "maxsubmitpa": "MaxSubmitJobsPerAccount", "maxtresrunminspu": "MaxTRESRunMinsPerUser", "mintres": "MinTRESPerJob",
}  # fmt: skip
CHARGE_CAPS = {
    "maxjobs": "MaxJobs", "maxsubmitjobs": "MaxSubmitJobs", "maxwall": "MaxWall", "maxtres": "MaxTRESPerJob",
    "maxtrespernode": "MaxTRESPerNode", "maxtresmins": "MaxTRESMinsPerJob",
}  # fmt: skip
QOS_FORMAT = ",".join(("name", "flags", *QOS_CAPS))
CHARGE_FORMAT = ",".join(("account", "partition", "qos", "defaultqos", *CHARGE_CAPS))
# the same in `scontrol show assoc_mgr`: these have what is used beside them
_COUNTED = {
    name: name
    for name in (
        "GrpJobs", "GrpSubmitJobs", "GrpWall", "GrpTRES", "GrpTRESMins", "GrpTRESRunMins", "MaxJobs", "MaxSubmitJobs",
    )
} | {
    "MaxJobsPU": "MaxJobsPerUser", "MaxSubmitJobsPU": "MaxSubmitJobsPerUser", "MaxTRESPU": "MaxTRESPerUser",
    "MaxTRESRunMinsPU": "MaxTRESRunMinsPerUser", "MaxJobsPA": "MaxJobsPerAccount", "MaxSubmitJobsPA": "MaxSubmitJobsPerAccount",
    "MaxTRESPA": "MaxTRESPerAccount",
}  # fmt: skip
# limits that hold for every job by itself: nothing counts against them
OF_EACH_JOB = frozenset({"MaxWall", "MaxTRESPerJob", "MaxTRESPerNode", "MaxTRESMinsPerJob", "MinTRESPerJob"})
_OF_SOMEBODY = ("PerUser", "PerAccount")
_TIMES = frozenset({"MaxWall", "GrpWall"})
_VALUE = re.compile(r"(?P<value>[^()]*)\((?P<used>[\d.]+)\)")
_SECTION = re.compile(r"(?P<name>\S+?)(?:\(\d+\))?=\{(?P<inner>[^}]*)\}")


def rules(text: str) -> dict[str, Rules]:
    """`scontrol -o show partition`."""
    found = (line_pairs(line) for line in text.splitlines() if line.startswith("PartitionName="))
    return {each["PartitionName"]: _rules(each) for each in found}


def _rules(of: Mapping[str, str]) -> Rules:
    def number(key: str) -> int | None:
        return int(of[key]) if of.get(key, "").isdecimal() else None

    def names(key: str) -> tuple[str, ...]:
        return tuple(filter(None, of.get(key, "").split(","))) if of.get(key) not in ("ALL", *NOTHING) else ()

    qos = of.get("QoS", "")
    return Rules(
        name=of["PartitionName"],
        state=of.get("State", ""),
        max_walltime_s=_seconds(of.get("MaxTime", "")),
        min_nodes=number("MinNodes") or 0,
        max_nodes=number("MaxNodes"),
        max_cpus_per_node=number("MaxCPUsPerNode"),
        max_mem_per_node_mib=number("MaxMemPerNode") or None,
        mem_per_node_mib=number("DefMemPerNode") or None,
        mem_per_cpu_mib=number("DefMemPerCPU") or None,
        allow_accounts=names("AllowAccounts"),
        deny_accounts=names("DenyAccounts"),
        allow_qos=names("AllowQos"),
        deny_qos=names("DenyQos"),
        allow_groups=names("AllowGroups"),
        qos="" if qos in NOTHING else qos,
    )


def _seconds(text: str) -> int | None:
    try:
        return parse_walltime(text)
    except QuantityError:  # UNLIMITED, INFINITE, nothing
        return None


@dataclass(frozen=True, slots=True)
class Counted:
    """What slurmctld has counted, by whose limit it is, its name and its TRES; and the accounts as a whole."""

    used: Mapping[tuple[str, str, str], float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    accounts: tuple[Charge, ...] = ()
    told: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def of(self, whose: str, name: str, tres: str) -> float | None:
        """What counts; None where it cannot be told. Of somebody who has no job there slurmctld has no record: that is nothing."""
        if name in OF_EACH_JOB or whose not in self.seen:
            return None
        unmarked = name.endswith(_OF_SOMEBODY) and name not in self.told.get(whose, ())
        nothing = 0.0 if unmarked and not self._tells(whose, name) else None
        return self.used.get((whose, name, tres), nothing)

    def _tells(self, whose: str, name: str) -> bool:
        """Whether it has any record of that user, or account, there: 22.05 leaves some limits out of it."""
        kind = next(kind for kind in _OF_SOMEBODY if name.endswith(kind))
        return any(other.endswith(kind) for other in self.told.get(whose, ()))


def counted(text: str, user: str) -> Counted:
    """`scontrol -o show assoc_mgr flags=qos,assoc users=USER`."""
    used: dict[tuple[str, str, str], float] = {}
    seen: set[str] = set()
    accounts: list[Charge] = []
    names = {user, *re.findall(rf"\bUserName={re.escape(user)}\((\d+)\)", text)}  # 22.05 has the number in its place
    for line in text.splitlines():
        if line.startswith("QOS="):
            whose = f"qos {line[4:].partition('(')[0]}"
            seen.add(whose)
            common, _, parts = line.partition(" Account Limits=")
            of_accounts, _, of_users = parts.partition(" User Limits=")
            _note(used, whose, line_pairs(common))
            for section in _SECTION.finditer(of_users):
                if section["name"] in names:
                    _note(used, whose, line_pairs(section["inner"]))
            for section in _SECTION.finditer(of_accounts):
                _note(used, f"{whose} of {section['name']}", line_pairs(section["inner"]))
                seen.add(f"{whose} of {section['name']}")
        elif line.startswith("ClusterName="):
            of = line_pairs(line)
            name = of.get("UserName", "").partition("(")[0]
            if name not in ("", user):
                continue
            whose = whose_charge(of["Account"], name, of.get("Partition", ""))
            seen.add(whose)
            caps = _note(used, whose, of)
            parent = of.get("ParentAccount", "").partition("(")[0]
            accounts.append(Charge(of["Account"], name, of.get("Partition", ""), parent, caps=tuple(caps)))
    told: dict[str, set[str]] = {}
    for whose, name, _ in used:
        told.setdefault(whose, set()).add(name)
    return Counted(used, frozenset(seen), tuple(accounts), {whose: frozenset(names) for whose, names in told.items()})


def whose_charge(account: str, user: str, partition: str) -> str:
    """By what name an association's counts go."""
    return f"charge {account}/{user}/{partition}"


def _note(used: dict[tuple[str, str, str], float], whose: str, of: Mapping[str, str]) -> list[Cap]:
    """Write down what counts against each limit; the group limits that are set."""
    caps = []
    for key, name in _COUNTED.items():
        for tres, value, count in _counts(of.get(key, "")):
            used[whose, name, tres] = count
            if name.startswith("Grp") and value is not None:
                caps.append(Cap(name, value, tres, count))
    return caps


def _counts(text: str) -> Iterator[tuple[str, int | None, float]]:
    """(TRES, limit, what is used) of "5(2)", "N(0.07)" and "cpu=N(4),gres/gpu=6(2)"."""
    for item in filter(None, text.split(",")):
        tres, equals, told = item.partition("=")
        match = _VALUE.fullmatch(told if equals else tres)
        if match:
            limit = int(match["value"]) if match["value"].isdecimal() else None
            yield (tres if equals else ""), limit, float(match["used"])


def qos(text: str, known: Counted, account: str = "") -> dict[str, Qos]:
    """`sacctmgr -n -P show qos format=QOS_FORMAT`, with what is known to count; `account` is the one whose share is meant."""
    found = {}
    for fields in _rows(text, QOS_FORMAT):
        whose = f"qos {fields['name']}"
        flags = frozenset(filter(None, fields["flags"].split(",")))
        told = _caps(fields, QOS_CAPS)
        caps = tuple(_with_count(cap, whose, known, account) for cap in told)
        found[fields["name"]] = Qos(fields["name"], caps, flags)
    return found


def _with_count(cap: Cap, whose: str, known: Counted, account: str) -> Cap:
    of_account = f"{whose} of {account}"
    if cap.name.endswith("PerAccount") and of_account in known.seen:
        whose = of_account
    return Cap(cap.name, cap.value, cap.tres, known.of(whose, cap.name, cap.tres))


def charges(text: str, user: str, known: Counted) -> tuple[Charge, ...]:
    """`sacctmgr -n -P show assoc user=USER format=CHARGE_FORMAT`: the user's own, and with them the accounts that slurmctld knows."""
    own = []
    told = {(each.account, each.user, each.partition): each for each in known.accounts}
    for fields in _rows(text, CHARGE_FORMAT):
        account, partition = fields["account"], fields["partition"]
        whose = whose_charge(account, user, partition)
        record = told.pop((account, user, partition), None)
        caps = [
            Cap(cap.name, cap.value, cap.tres, known.of(whose, cap.name, cap.tres))
            for cap in _caps(fields, CHARGE_CAPS)
        ]
        own.append(
            Charge(
                account,
                user,
                partition,
                account,
                tuple(filter(None, fields["qos"].split(","))),
                fields["defaultqos"] or None,
                (*caps, *(record.caps if record else ())),
            )
        )
    return (*own, *(each for each in told.values() if not each.user))


def _rows(text: str, columns: str) -> Iterator[dict[str, str]]:
    names = columns.split(",")
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) == len(names) and fields[0]:
            yield dict(zip(names, fields, strict=True))


def _caps(fields: Mapping[str, str], columns: Mapping[str, str]) -> Iterator[Cap]:
    for column, name in columns.items():
        text = fields[column]
        if "=" in text:
            for item in text.split(","):
                tres, _, value = item.partition("=")
                yield Cap(name, _amount(tres, value), tres)
        elif name in _TIMES and (seconds := _seconds(text)) is not None:
            yield Cap(name, seconds // 60)
        elif text.isdecimal() and name not in _TIMES:
            yield Cap(name, int(text))


def _amount(tres: str, text: str) -> int:
    """A count; of memory MiB, which is also what a number without a unit means there."""
    count = size(text)
    return count // MIB if tres == "mem" and not text.isdecimal() else count


def limits(
    user: str,
    default: str,
    partition: str,
    settings: str,
    of_qos: str,
    assoc: str,
    groups: str,
    assoc_mgr: str | None,
    unread: str = "",
) -> Limits:
    """All of it. `assoc_mgr` None: slurmctld does not show what it has counted. `unread`: why the accounting could not be asked."""
    told = config(settings)
    known = counted(assoc_mgr, user) if assoc_mgr is not None else Counted()
    keeps = told.get("AccountingStorageType", "").endswith("slurmdbd")
    words = told.get("AccountingStorageEnforce", "none")
    if not unread and keeps and not known.seen:
        unread = "what counts against the limits, and the limits of whole accounts, cannot be read there"
    return Limits(
        user=user,
        partitions=rules(partition),
        qos=qos(of_qos, known, default),
        charges=charges(assoc, user, known),
        default_account=default or None,
        default_partition=next(
            (line_pairs(line)["PartitionName"] for line in partition.splitlines() if " Default=YES" in line), None
        ),
        groups=tuple(groups.split()),
        enforced=frozenset() if words == "none" else frozenset(words.split(",")),
        refuses_beyond_partition=told.get("EnforcePartLimits", "NO") != "NO",
        mem_per_node_mib=_mib(told.get("DefMemPerNode", "")),
        mem_per_cpu_mib=_mib(told.get("DefMemPerCPU", "")),
        max_array_size=natural(told.get("MaxArraySize", "")),
        max_script_bytes=script_bytes(told.get("SchedulerParameters", "").split(",")),
        notes=(unread,) if unread else (),
    )


def _mib(text: str) -> int | None:
    return int(text) or None if text.isdecimal() else None
