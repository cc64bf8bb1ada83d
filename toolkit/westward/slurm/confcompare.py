"""Two configurations of a cluster compared by what they mean to Slurm, not by how they are written.

The order of nodes, the notation of a host list, DEFAULT lines, the case of keys, units, lists whose order says nothing, renamed keys, and a
default that is written out make no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from westward.slurm.conf import Conf, Line, Settings
from westward.slurm.confcluster import Configuration, GresLine
from westward.slurm.confmeaning import Meaning, Release, defaults, gres, meaning, renamed, spelled
from westward.slurm.hostlist import expand, fold

_FILE_LISTS = ("File", "MultipleFiles")
_LAYOUT = ("Boards", "Sockets", "SocketsPerBoard", "CoresPerSocket", "ThreadsPerCore", "CPUs")
_OWN_LINES = ("NodeName", "PartitionName", "DownNodes", "SlurmctldHost")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two configurations say otherwise.

    Attributes:
        where: the file.
        about: what the line is about, `NodeName=n[1-4]`; empty for a key of the whole file.
        what: the key; empty where the whole line is on one side alone.
        before: what stands there; None where nothing does.
        after: in the same way.
    """

    where: str
    about: str
    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        place = " ".join(part for part in (self.where, self.about, self.what) if part)
        return f"{place}: {_shown(self.before)} -> {_shown(self.after)}"


def _shown(text: str | None) -> str:
    return "(not set)" if text is None else text or "(empty)"


def compare(before: Configuration, after: Configuration) -> list[Difference]:
    """Every difference, file by file. slurmdbd.conf is compared where both know it."""
    found = [
        *compare_settings("slurm.conf", "slurm.conf", "", before.settings, after.settings, after.release),
        *_compare_controllers(before, after),
        *_compare_nodes(before, after),
        *_compare_partitions(before, after),
        *_compare_lines("slurm.conf", _others(before.slurm), _others(after.slurm), after.release),
        *_compare_devices(before, after),
        *compare_settings(
            "cgroup.conf", "cgroup.conf", "", before.cgroup.settings, after.cgroup.settings, after.release
        ),
    ]
    if before.dbd is not None and after.dbd is not None:
        found += compare_settings(
            "slurmdbd.conf", "slurmdbd.conf", "", before.dbd.settings, after.dbd.settings, after.release
        )
    return [*found, *_compare_topology(before, after)]


def compare_settings(
    where: str, table: str, about: str, before: Settings, after: Settings, release: Release
) -> Iterator[Difference]:
    """Key by key; what one side leaves out is the default of that release."""
    default = defaults(table, release)
    for key in dict.fromkeys([*before, *(key for key in after if key not in before)]):
        one, other = before.get(key), after.get(key)
        if _meant(key, one, default) != _meant(key, other, default):
            yield Difference(where, about, spelled(key), one, other)


def _meant(key: str, text: str | None, default: Settings) -> Meaning:
    found = meaning(key, text)
    return meaning(key, default.get(key)) if found is None else found


def _compare_controllers(before: Configuration, after: Configuration) -> Iterator[Difference]:
    if before.controllers != after.controllers:
        yield Difference("slurm.conf", "", "SlurmctldHost", *(_hosts(one) for one in (before, after)))


def _hosts(conf: Configuration) -> str | None:
    return ",".join(name if name == address else f"{name}({address})" for name, address in conf.controllers) or None


def _others(conf: Conf) -> list[Line]:
    return [line for line in conf.lines if line.kind not in _OWN_LINES]


def _compare_lines(where: str, before: Iterable[Line], after: Iterable[Line], release: Release) -> Iterator[Difference]:
    """Lines by their name, each key by key."""
    old, new = ({(line.kind, line.name): line.settings for line in lines} for lines in (before, after))
    for kind, name in dict.fromkeys([*old, *new]):
        one, other = old.get((kind, name)), new.get((kind, name))
        about = f"{kind}={name}"
        if one is None or other is None:
            yield Difference(where, about, "", _as_line(one), _as_line(other))
        else:
            yield from compare_settings(where, kind, about, _in_order(one), _in_order(other), release)


def _in_order(settings: Settings) -> Settings:
    """Host lists in one notation."""
    lists = {key: fold(expand(settings[key])) for key in settings if key.lower() in ("nodes", "switches")}
    return Settings({**settings, **lists}) if lists else settings


def _as_line(settings: Settings | None) -> str | None:
    return None if settings is None else " ".join(f"{key}={value}" for key, value in settings.items())


# --- nodes -----------------------------------------------------------------------------------------------------------------


def _compare_nodes(before: Configuration, after: Configuration) -> Iterator[Difference]:
    """Nodes of which the same is to be said are named together."""
    same: dict[tuple[str, str | None, str | None], list[str]] = {}
    compared: dict[tuple[Settings | None, Settings | None], list[tuple[str, str | None, str | None]]] = {}
    for node in dict.fromkeys([*before.nodes, *after.nodes]):
        pair = (before.nodes.get(node), after.nodes.get(node))
        if pair not in compared:
            compared[pair] = list(_of_node(*pair, after.release))
        for said in compared[pair]:
            same.setdefault(said, []).append(node)
    for (what, one, other), nodes in same.items():
        yield Difference("slurm.conf", f"NodeName={fold(nodes)}", what, one, other)


def _of_node(
    before: Settings | None, after: Settings | None, release: Release
) -> Iterator[tuple[str, str | None, str | None]]:
    if before is None or after is None:
        yield "", _as_line(before), _as_line(after)
        return
    if _layout(before) != _layout(after):
        yield "CPUs", _layout_text(before), _layout_text(after)
    found = compare_settings("", "NodeName", "", before.without(*_LAYOUT), after.without(*_LAYOUT), release)
    yield from ((each.what, each.before, each.after) for each in found)


@cache
def _layout(settings: Settings) -> tuple[float, ...]:
    """Boards, sockets, cores, threads and CPUs, as slurmctld works out those that are left out."""
    told = {key: meaning(key, settings[key]) for key in _LAYOUT if key in settings}
    numbers = {key: float(number) for key, number in told.items() if isinstance(number, int | float)}
    boards, cores, threads = (numbers.get(key, 1.0) for key in ("Boards", "CoresPerSocket", "ThreadsPerCore"))
    sockets = numbers.get("Sockets", numbers.get("SocketsPerBoard", 0.0) * boards)
    cpus = numbers.get("CPUs")
    if not sockets:
        sockets = max(1.0, (cpus or 1.0) // (cores * threads))
    return boards, sockets, cores, threads, sockets * cores * threads if cpus is None else cpus


def _layout_text(settings: Settings) -> str | None:
    return _as_line(Settings({key: settings[key] for key in _LAYOUT if key in settings})) or None


# --- partitions ------------------------------------------------------------------------------------------------------------


def _compare_partitions(before: Configuration, after: Configuration) -> Iterator[Difference]:
    old, new = _partitions(before), _partitions(after)
    for name in dict.fromkeys([*old, *new]):
        about = f"PartitionName={name}"
        if name not in old or name not in new:
            yield Difference("slurm.conf", about, "", _as_line(old.get(name)), _as_line(new.get(name)))
            continue
        one, other = old[name], new[name]
        if before.members(one.get("Nodes", "")) != after.members(other.get("Nodes", "")):
            yield Difference("slurm.conf", about, "Nodes", one.get("Nodes"), other.get("Nodes"))
        yield from compare_settings(
            "slurm.conf", "PartitionName", about, one.without("Nodes"), other.without("Nodes"), after.release
        )


def _partitions(conf: Configuration) -> Mapping[str, Settings]:
    return {line.name: renamed("PartitionName", line.settings) for line in conf.slurm.of("PartitionName")}


# --- gres.conf -------------------------------------------------------------------------------------------------------------


def _compare_devices(before: Configuration, after: Configuration) -> Iterator[Difference]:
    """Node by node, since a line may name nodes, or mean all of them; only of nodes that both have."""
    same: dict[tuple[str | None, str | None], list[str]] = {}
    for node in before.nodes:
        if node in after.nodes:
            one, other = _devices(before, node), _devices(after, node)
            if one != other:
                same.setdefault((_devices_text(before, node), _devices_text(after, node)), []).append(node)
    for (text, other_text), nodes in same.items():
        yield Difference("gres.conf", f"NodeName={fold(nodes)}", "", text, other_text)


def _devices(conf: Configuration, node: str) -> tuple[Hashable, frozenset[tuple[Hashable, int]]]:
    """How they are detected, and each device with how often it is there."""
    found: Counter[Hashable] = Counter()
    for line in conf.devices(node):
        for device in _of_line(line):
            found[device] += 1
    detect = _detection(conf, node) if gres(conf.nodes[node].get("Gres", "")) else None
    return detect, frozenset(found.items())


def _detection(conf: Configuration, node: str) -> str | None:
    own = [line.settings["AutoDetect"] for line in conf.devices(node) if "AutoDetect" in line.settings]
    detect = (own[-1] if own else conf.autodetect or "off").lower()
    return None if detect == "off" else detect


def _of_line(line: GresLine) -> Iterable[Hashable]:
    """A device for each file; one with a count where there are none."""
    if line.name is None:
        return
    rest = line.settings.without(*_FILE_LISTS, "Count", "Cores", "AutoDetect")
    common = (
        line.name,
        _cores(line.settings.get("Cores")),
        frozenset((key.lower(), meaning(key, text)) for key, text in rest.items()),
    )
    if "File" in line.settings:
        for file in expand(line.settings["File"]):
            yield (*common, file)
    elif "MultipleFiles" in line.settings:
        yield (*common, frozenset(expand(line.settings["MultipleFiles"])))
    elif not (set(line.settings) <= {"AutoDetect"}):
        yield (*common, meaning("RealMemory", line.settings.get("Count", "1")))


def _cores(text: str | None) -> frozenset[str] | None:
    return frozenset(expand(f"[{text}]")) if text else None


def _devices_text(conf: Configuration, node: str) -> str | None:
    lines = [f"AutoDetect={conf.autodetect}"] if conf.autodetect else []
    for line in conf.devices(node):
        lines.append(
            " ".join(part for part in (f"Name={line.name}" if line.name else "", _as_line(line.settings)) if part)
        )
    return "; ".join(lines) or None


# --- topology --------------------------------------------------------------------------------------------------------------


def _compare_topology(before: Configuration, after: Configuration) -> Iterator[Difference]:
    old, new = before.topology, after.topology
    yield from compare_settings("topology.conf", "topology.conf", "", old.settings, new.settings, after.release)
    yield from _compare_lines("topology.conf", _wires(old), _wires(new), after.release)


def _wires(conf: Conf) -> list[Line]:
    """LinkSpeed is not used by Slurm: topology.conf(5)."""
    return [Line(line.kind, line.name, line.settings.without("LinkSpeed")) for line in conf.lines]
