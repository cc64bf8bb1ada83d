"""What slurmd says of the generic resources it finds: `slurmd -G`, and its debug log, of every release and detector. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# a resource and its type, empty where it has none -> how many
Counts = Mapping[tuple[str, str], int]

_PRINTED = re.compile(r"\bGres Name=(?P<name>\S+) Type=(?P<type>\S+) Count=(?P<count>\d+)(?P<rest>.*)")
_LOGGED = re.compile(r"\bGRES\[(?P<name>\w+)\] Type:(?P<type>\S+) Count:(?P<count>\d+)(?P<rest>.*)")
_FILE = re.compile(r"\bFile[=:](\S+)")
_UNMATCHED = re.compile(r"is a substring of system device\s+[`'\"]([^`'\"]+)[`'\"]")
_DETECTED = re.compile(r"gpu/(\w+): \w+: (\d+) GPU system device")
_LEAD = re.compile(r"^(?:slurmd\S*: |\[[\d:T.-]+\] )*")
_COMPLAINT = re.compile(r"(error|fatal|warning|WARNING): (.*)")
# what they introduce is read from the lines behind them
_HEADS = ("Discarding the following", "The following autodetected")
_MIG = re.compile(r"(\d+)g\.(\d+)gb(\S*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Device:
    """One line: devices that are alike. `type` is empty, and `file` None, where there is none."""

    name: str
    type: str
    count: int
    file: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What slurmd found.

    Attributes:
        devices: what it registers.
        ignored: what is there, and it does not register since no configured type is a part of its own.
        unmatched: what the detector calls those, one for each device.
        detected: detector -> how many devices it found.
        ended: why it could not go on; empty where it could.
        complaints: that, and what it complains of that is about resources.
    """

    devices: tuple[Device, ...] = ()
    ignored: tuple[Device, ...] = ()
    unmatched: tuple[str, ...] = ()
    detected: Mapping[str, int] | None = None
    ended: str = ""
    complaints: tuple[str, ...] = ()

    @property
    def counts(self) -> Counts:
        return _counted(self.devices)

    @property
    def strangers(self) -> Counter[str]:
        """What is there and fits no configured type: the detector's name of each, where it told it -> how many."""
        if self.unmatched:
            return Counter(self.unmatched)
        return Counter({kind: count for (_, kind), count in _counted(self.ignored).items()})


def parse(text: str) -> Seen:
    """From what `slurmd -G` prints, or from the part of slurmd's log that it writes when it starts."""
    printed: list[Device] = []
    logged: list[Device] = []
    ignored: list[Device] = []
    passed_over = False
    for line in text.splitlines():
        if match := _PRINTED.search(line):
            printed.append(_device(match))
        elif match := _LOGGED.search(line):
            (ignored if passed_over else logged).append(_device(match))
        elif line.strip():
            passed_over = "GPUs are being ignored" in line or (passed_over and bool(_UNMATCHED.search(line)))
    final = printed or list(_merged(text, logged))
    return Seen(
        tuple(final),
        tuple(ignored),
        tuple(_UNMATCHED.findall(text)),
        {name: int(count) for name, count in _DETECTED.findall(text)},
        next(_said(text, "fatal"), ""),
        tuple(_complaints(text)),
    )


def counts(text: str) -> Counts:
    """Of `gpu:h100:4(S:0-1),shard:8`, as slurm.conf and scontrol write it."""
    found: Counter[tuple[str, str]] = Counter()
    for part in re.findall(r"(?:[^,(]|\([^)]*\))+", text if text != "(null)" else ""):
        words = re.sub(r"\([^)]*\)", "", part).strip().split(":")
        if not words[0]:
            continue
        number = words.pop() if len(words) > 1 and words[-1][:1].isdigit() and _number(words[-1]) is not None else "1"
        kinds = [word for word in words[1:] if word.lower() != "no_consume"]
        found[words[0].lower(), ":".join(kinds).lower()] += _number(number) or 0
    return dict(found)


def written(found: Counts) -> str:
    """As slurm.conf writes it."""
    return ",".join(":".join(filter(None, (name, kind, str(count)))) for (name, kind), count in found.items()) or "none"


def fits(configured: str, detected: str) -> bool:
    """Whether a configured type means what a detector found: it is a part of its name, in any case, with _ for each blank (gres.conf(5))."""
    return configured.lower().replace(" ", "_") in detected.lower().replace(" ", "_")


def allotted(configured: Counts, found: Counts) -> tuple[Counts, Counts]:
    """How many devices each configured type gets of those that were found, by Slurm's rule, the longest type first; and what is left."""
    rest = dict(found)
    given: dict[tuple[str, str], int] = {}
    for name, kind in sorted(configured, key=lambda key: -len(key[1])):
        exact = rest.pop((name, kind), None)
        named = [one for one in rest if one[0] == name and kind and fits(kind, one[1])] if exact is None else []
        given[name, kind] = exact if exact is not None else sum(rest.pop(one) for one in named)
    return given, rest


def slices(kind: str) -> tuple[int, int, str] | None:
    """Of a MIG profile such as `3g.40gb` in a type: its compute slices, its GB, what follows; None where there is none."""
    match = _MIG.search(kind)
    return (int(match[1]), int(match[2]), match[3].lower()) if match else None


def is_renamed(configured: str, detected: str) -> bool:
    """Whether both are one MIG profile that drivers call by different sizes: 3g.40gb is 3g.39gb with some."""
    one, other = slices(configured), slices(detected)
    if one is None or other is None or one == other:
        return False
    return one[0] == other[0] and one[2] == other[2] and abs(one[1] - other[1]) <= max(1, one[1] // 10)


def _number(text: str) -> int | None:
    match = re.fullmatch(r"(\d+)([kmgt]?)", text, re.IGNORECASE)
    return int(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ") if match else None


def _device(match: re.Match[str]) -> Device:
    file = _FILE.search(match["rest"])
    path = file[1] if file and file[1] != "(null)" else None
    kind = "" if match["type"] == "(null)" else match["type"].lower()
    return Device(match["name"].lower(), kind, int(match["count"]), path)


def _merged(text: str, logged: list[Device]) -> Iterator[Device]:
    """Of a log, those of the final list; without one, those that have a file, each once."""
    final = text.rpartition("Final merged gres.conf list")[2] if "Final merged gres.conf list" in text else None
    if final is not None:
        yield from (_device(match) for match in map(_LOGGED.search, final.splitlines()) if match)
        return
    yield from dict.fromkeys(device for device in logged if device.file)


def _counted(devices: tuple[Device, ...]) -> Counts:
    found: Counter[tuple[str, str]] = Counter()
    for device in devices:
        found[device.name, device.type] += device.count
    return dict(found)


def _complaints(text: str) -> list[str]:
    """What ended it first, then what is about resources; slurmd complains of more than that."""
    about = [one for one in _said(text, "error", "warning") if re.search("gres|gpu", one, re.IGNORECASE)]
    return [one for one in dict.fromkeys([*_said(text, "fatal"), *about]) if not one.startswith(_HEADS)]


def _said(text: str, *levels: str) -> Iterator[str]:
    for line in text.splitlines():
        match = _COMPLAINT.match(_LEAD.sub("", line))
        if match and match[1].lower() in levels and "GRES[" not in line:
            yield match[2].strip()
