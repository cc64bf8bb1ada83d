"""What the keys of sacctmgr(1) mean: how each is written, when two values are the same, and how one is set."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Meaning = object  # of a value: equal where Slurm treats two texts alike


def _count(text: str) -> Meaning:
    return None if int(text) == -1 else int(text)


def _factor(text: str) -> Meaning:
    return None if float(text) == -1 else float(text)


def _fairshare(text: str) -> Meaning:
    return "parent" if text.lower() == "parent" else int(text)


def duration_s(text: str) -> int | None:
    """Seconds of MIN, MIN:SEC, HOUR:MIN:SEC, DAY-HOUR[:MIN[:SEC]]; None for no limit. ValueError for anything else."""
    if text.lower() in ("-1", "unlimited", "infinite"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"{text!r} is no time such as 90, 12:00:00 or 1-00:00:00")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:
        numbers = [0, *numbers]  # minutes come first
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def duration_text(seconds: int) -> str:
    """As sacctmgr prints it: [D-]HH:MM:SS."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _minutes(text: str) -> Meaning:
    seconds = duration_s(text)
    return None if seconds is None else -(-seconds // 60)  # Slurm rounds up


def _grace(text: str) -> Meaning:
    """Seconds; set as a number of them, shown as HH:MM:SS."""
    return max(int(text), 0) if ":" not in text else duration_s(text)


def _amount(name: str, text: str) -> int:
    """A number of TRES, in MiB where it is memory or a burst buffer: 10G of mem is 10240."""
    match = re.fullmatch(r"(-1|\d+(?:\.\d+)?)([kmgtp]?)b?", text.lower())
    if match is None:
        raise ValueError(f"{name}={text} is no number")
    power = " kmgtp".index(match[2] or " ")
    if power and (name == "mem" or name.startswith("bb/")):
        power -= 2
    return round(float(match[1]) * 1024.0**power)


def tres(text: str) -> dict[str, int]:
    """NAME=NUMBER,... by name; without those that are -1, no limit. ValueError where it reads otherwise."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, number = part.strip().rpartition("=")
        if not equals or not name or name[-1] in "+-":
            raise ValueError(f"{part!r} is not TRES=NUMBER")
        found[name.lower()] = _amount(name.lower(), number)
    return {name: number for name, number in found.items() if number != -1}


def _tres(text: str) -> Meaning:
    return frozenset(tres(text).items())


def names(text: str) -> frozenset[str]:
    """A list's names in lower case, in no order; none of the words that say there are none."""
    parts = (part.strip().lower() for part in text.split(","))
    return frozenset(part for part in parts if part not in ("", "none", "-1", "cluster", "off", "nousersarecoords"))


def _name(text: str) -> Meaning:
    return None if text == "-1" else text.lower()


def _text(text: str) -> Meaning:
    """Slurm keeps descriptions in lower case, quotes as backticks."""
    return re.sub("[\"']", "`", text).lower()


def _level(text: str) -> Meaning:
    levels = {"none": "None", "operator": "Operator", "admin": "Administrator", "administrator": "Administrator"}
    if text.lower() not in levels:
        raise ValueError(f"{text!r} is none of None, Operator, Administrator")
    return levels[text.lower()]


@dataclass(frozen=True)
class Key:
    """One key: how it is shown (`name`), how else it may be written, how sacctmgr takes it, and what it is where nobody set it."""

    name: str
    read: Callable[[str], Meaning]
    aliases: tuple[str, ...] = ()
    option: str = ""
    unset: str = ""
    reset: str = "-1"

    def meaning(self, text: str) -> Meaning:
        """Of a text of the database or the variables. ValueError where it has none."""
        text = text.strip() or self.unset
        return self.read(text) if text or self.read in (_tres, names) else None

    @property
    def is_time(self) -> bool:
        return self.read in (_minutes, duration_s)

    def is_unset(self, text: str) -> bool:
        return self.meaning(text) == self.meaning("")

    def settings(self, before: str, after: str) -> str:
        """OPTION=VALUE that makes the one into the other."""
        option = self.option or self.name
        if self.read is _tres:  # what is not named in it stays as it is
            old, new = tres(before), tres(after)
            changed = {name: number for name, number in new.items() if old.get(name) != number}
            parts = {**changed, **dict.fromkeys(sorted(set(old) - set(new)), -1)}
            return f"{option}=" + ",".join(f"{name}={number}" for name, number in parts.items())
        if self.is_unset(after):
            return f"{option}={self.reset}"
        meaning = self.meaning(after)
        if self.read is _minutes and isinstance(meaning, int):
            return f"{option}={duration_text(meaning * 60)}"
        if self.read in (_grace, _count):
            return f"{option}={meaning}"
        return f"{option}={','.join(map(str.strip, after.split(','))) if self.read is names else after}"


def _keyed(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


def _plain(read: Callable[[str], Meaning], *spelled: str) -> list[Key]:
    """Keys of one kind; each word is a name, and after slashes its other spellings."""
    return [Key(first, read, tuple(others)) for first, *others in (word.split("/") for word in spelled)]


DESCRIPTION = Key("Description", _text)
ACCOUNT_KEYS = _keyed(
    DESCRIPTION,
    Key("Organization", _text),
    Key("Flags", names, reset="NoUsersAreCoords"),
    Key("Parent", _name, unset="root", reset="root"),
)
USER_KEYS = _keyed(Key("AdminLevel", _level, unset="None", reset="None"), Key("DefaultAccount", _name))
ASSOCIATION_KEYS = _keyed(
    Key("Fairshare", _fairshare, ("Share", "Shares"), unset="1", reset="1"),
    Key("QOS", names, ("QosLevel",), reset=""),
    Key("DefaultQOS", _name),
    *_plain(_count, "Priority", "GrpJobs", "GrpJobsAccrue", "GrpSubmitJobs/GrpSubmit"),
    *_plain(_count, "MaxJobs", "MaxJobsAccrue", "MaxSubmitJobs/MaxSubmit"),
    *_plain(_minutes, "GrpWall", "MaxWall/MaxWallDurationPerJob"),
    *_plain(
        _tres, "GrpTRES", "GrpTRESMins", "GrpTRESRunMins", "MaxTRES/MaxTRESPJ/MaxTRESPerJob", "MaxTRESPerNode/MaxTRESPN"
    ),
    *_plain(_tres, "MaxTRESMins/MaxTRESMinsPJ/MaxTRESMinsPerJob"),
)
QOS_KEYS = _keyed(
    Key("Priority", _count, unset="0", reset="0"),
    Key("Flags", names),
    Key("Preempt", names, reset=""),
    Key("PreemptMode", names, reset="cluster"),
    Key("PreemptExemptTime", duration_s),
    Key("GraceTime", _grace, unset="0", reset="0"),
    Key("UsageFactor", _factor, unset="1"),
    *_plain(_factor, "UsageThreshold", "LimitFactor"),
    Key("MinPrioThreshold", _count, option="MinPrioThres"),  # sacctmgr does not know its own word in full
    *_plain(_count, "GrpJobs", "GrpJobsAccrue", "GrpSubmitJobs/GrpSubmit"),
    *_plain(_count, "MaxJobsAccruePerAccount/MaxJobsAccruePA", "MaxJobsAccruePerUser/MaxJobsAccruePU"),
    *_plain(_count, "MaxJobsPerAccount/MaxJobsPA", "MaxJobsPerUser/MaxJobsPU/MaxJobs"),
    *_plain(_count, "MaxSubmitJobsPerAccount/MaxSubmitJobsPA", "MaxSubmitJobsPerUser/MaxSubmitJobsPU/MaxSubmitJobs"),
    *_plain(_minutes, "GrpWall", "MaxWall/MaxWallDurationPerJob"),
    *_plain(_tres, "GrpTRES", "GrpTRESMins", "GrpTRESRunMins", "MinTRES/MinTRESPerJob"),
    *_plain(_tres, "MaxTRESPerJob/MaxTRES/MaxTRESPJ", "MaxTRESPerNode/MaxTRESPN", "MaxTRESPerUser/MaxTRESPU"),
    *_plain(_tres, "MaxTRESPerAccount/MaxTRESPA", "MaxTRESMinsPerJob/MaxTRESMins/MaxTRESMinsPJ"),
    Key(
        "MaxTRESRunMinsPerAccount", _tres, ("MaxTRESRunMinsPA",), "MaxTRESRunMinsPA"
    ),  # 22.05 takes the short words alone
    Key("MaxTRESRunMinsPerUser", _tres, ("MaxTRESRunMinsPU",), "MaxTRESRunMinsPU"),
    DESCRIPTION,  # last, since it may hold the separator
)
KEYS = {
    "qos": QOS_KEYS,
    "account": {**ACCOUNT_KEYS, **ASSOCIATION_KEYS},
    "user": USER_KEYS,
    "association": ASSOCIATION_KEYS,
}
KEPT = {("account", "root"), ("user", "root"), ("qos", "normal")}
