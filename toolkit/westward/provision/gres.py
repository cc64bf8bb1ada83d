"""The accelerators of each node as four parties have them: the inventory, Slurm's files, slurmd there, and slurmctld. And why they differ. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from westward.errors import InputError
from westward.provision import gresseen
from westward.provision.clusterfacts import Facts
from westward.provision.gresseen import Counts, Seen, fits, is_renamed, slices, written
from westward.provision.hosts import Host
from westward.slurm.confcluster import Configuration
from westward.slurm.hostlist import expand, fold

PLAY = "ansible-playbook ... site.yml"
BY_COUNT = ("shard", "mps")
# from which slurmctld takes a changed count up without a restart: reconfigure, as the playbook does
_INVALID = ("INVALID_REG", "INVAL")
_TOO_LOW = re.compile(r"gres/\S+ count (?:reported lower|too low)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """What differs, as a sentence, and what to do about it."""

    found: str
    fix: str


@dataclass(frozen=True)
class NodeGres:
    """What is known of a node's resources. None is what could not be asked.

    Attributes:
        group: its node group in the inventory.
        inventory: what the variables say; None where its group says it in native words.
        configured: what slurm.conf says.
        filed: what gres.conf says device by device; None where devices are detected.
        detect: how they are detected.
        missing: device files that gres.conf names, and are not there.
        seen: what `slurmd -G` prints there.
        registered: what slurmctld has, with the node's state and the reason of it.
        other_files: configuration files that are not those of the controller.
        silent: why the host gave no answer.
    """

    node: str
    group: str = ""
    inventory: Counts | None = None
    configured: Counts | None = None
    filed: Counts | None = None
    detect: str | None = None
    missing: tuple[str, ...] = ()
    seen: Seen | None = None
    registered: Counts | None = None
    state: str = ""
    reason: str = ""
    other_files: tuple[str, ...] = ()
    silent: str = ""
    mismatches: tuple[Mismatch, ...] = field(default=())


def compare(facts: Facts) -> list[NodeGres]:
    """Each compute host of the inventory, with what differs."""
    rows = (_row(facts, node, host) for node, host in facts.site.nodes().items())
    return [replace(row, mismatches=tuple(explain(row))) for row in rows]


def _row(facts: Facts, node: str, host: Host) -> NodeGres:
    look, told = facts.looks.get(host.name), facts.nodes.get(node)
    conf = facts.configuration
    known = conf is not None and node in conf.nodes
    group = _group(facts, host)
    return NodeGres(
        node=node,
        group=str((group or {}).get("name", "")),
        inventory=wanted(group),
        configured=gresseen.counts(conf.nodes[node].get("Gres", "")) if conf is not None and known else None,
        filed=filed(conf, node) if conf is not None and known else None,
        detect=detection(conf, node) if conf is not None and known else None,
        missing=tuple(path for path, there in (look.files or {}).items() if not there) if look else (),
        seen=gresseen.parse(look.gres) if look and look.gres is not None else None,
        registered=gresseen.counts(told.get("Gres", "")) if told else None,
        state=told.get("State", "") if told else "",
        reason=re.sub(r"\s*\[\S+@\S+\]$", "", told.get("Reason", "")) if told else "",
        other_files=_other_files(facts, host),
        silent=facts.silent.get(host.name, ""),
    )


def _group(facts: Facts, host: Host) -> Mapping[str, Any] | None:
    groups: Sequence[Mapping[str, Any]] = facts.site.variables.get("slurm_nodegroups") or ()
    return next((group for group in groups if group["name"] in host.groups), None)


def wanted(group: Mapping[str, Any] | None) -> Counts | None:
    """What the variables of a node group say that each node has."""
    if group is None:
        return None
    native = {str(key).lower(): value for key, value in (group.get("parameters") or {}).items()}
    if "gres" in native:
        return gresseen.counts(str(native["gres"]))
    found: Counter[tuple[str, str]] = Counter()
    for chips in group.get("accelerators") or ():
        found["gpu", str(chips.get("type") or "").lower()] += int(chips["count"])
        if chips.get("slicing") in BY_COUNT:
            found[chips["slicing"], ""] += int(chips["slices"])
    return dict(found)


def detection(conf: Configuration, node: str) -> str | None:
    """The AutoDetect that holds for a node; None for none."""
    own = [line.settings["AutoDetect"] for line in conf.devices(node) if "AutoDetect" in line.settings]
    found = (own[-1] if own else conf.autodetect or "off").lower()
    return None if found == "off" else found


def filed(conf: Configuration, node: str) -> Counts | None:
    """The devices that gres.conf names; None where it names none of that kind."""
    found: Counter[tuple[str, str]] = Counter()
    for line in conf.devices(node):
        if line.name is None:
            continue
        settings, number = line.settings, 1
        try:
            if "File" in settings:
                number = len(expand(settings["File"]))
            elif "Count" in settings:
                number = gresseen.counts(f"{line.name}:{settings['Count']}").get((line.name.lower(), ""), 1)
        except InputError:
            return None
        found[line.name.lower(), settings.get("Type", "").lower()] += number
    return dict(found) or None


def _other_files(facts: Facts, host: Host) -> tuple[str, ...]:
    look = facts.looks.get(host.name)
    own = next((facts.digests[name] for name in facts.digests), None)
    if look is None or look.digests is None or own is None:
        return ()
    return tuple(
        name for name, digest in look.digests.items() if name != "cgroup.conf" and own.get(name, digest) != digest
    )


# --- why they differ ---------------------------------------------------------------------------------------------------------


def explain(row: NodeGres) -> Iterator[Mismatch]:
    """Each difference, with what to do about it."""
    if row.silent:
        return
    yield from _inventory(row)
    yield from _files(row)
    if row.missing:
        yield from _missing(row)
    else:
        yield from _devices(row)
    yield from _registration(row)


def _inventory(row: NodeGres) -> Iterator[Mismatch]:
    if row.inventory is not None and row.configured is not None and row.inventory != row.configured:
        yield Mismatch(
            f"the inventory says {written(row.inventory)}, and slurm.conf {written(row.configured)}",
            f"run '{PLAY}' where the inventory is right, or correct 'accelerators' of node group '{row.group}' in it",
        )


def _files(row: NodeGres) -> Iterator[Mismatch]:
    if row.other_files:
        yield Mismatch(
            f"slurmd on {row.node} has another {' and '.join(row.other_files)} than slurmctld",
            f"run 'scontrol reconfigure' (nodes without configless: '{PLAY}' first), then 'systemctl restart slurmd' on {row.node}",
        )
    if row.detect is None and row.filed is not None and row.configured is not None:
        for (name, kind), count in row.configured.items():
            has = row.filed.get((name, kind), 0)
            if name == "gpu" and has < count:
                yield Mismatch(
                    f"slurm.conf says {_of(name, kind, count)}, and gres.conf names {has} such {_plural(has)}",
                    f"correct 'count' or 'files' of node group '{row.group}' in the inventory, then run '{PLAY}'",
                )


def _missing(row: NodeGres) -> Iterator[Mismatch]:
    several = len(row.missing) > 1
    yield Mismatch(
        f"{', '.join(row.missing)} {'are' if several else 'is'} not there, and gres.conf names {'them' if several else 'it'}: slurmd does not start without {'them' if several else 'it'}",
        f"bring the {_plural(len(row.missing))} back (driver loaded? 'nvidia-smi -L', 'dmesg'), then 'systemctl restart slurmd' on {row.node};"
        f" if {'they are' if several else 'it is'} gone for good, lower 'count' and 'files' of node group '{row.group}' and run '{PLAY}'",
    )


def _devices(row: NodeGres) -> Iterator[Mismatch]:
    """What slurmd finds, against what is configured for it."""
    if row.configured is None:
        return
    if row.seen is None or row.seen.ended:
        if row.configured:
            why = f": {row.seen.ended}" if row.seen else ""
            yield Mismatch(
                f"slurmd on {row.node} did not say what it finds{why}",
                f"look at slurmd's log on {row.node}, and at what 'westward site doctor' says of its daemon and key",
            )
        return
    given, rest = gresseen.allotted(row.configured, row.seen.counts)
    for (name, kind), count in row.configured.items():
        has = given[name, kind]
        if has < count:
            others = Counter({one: number for (other, one), number in rest.items() if other == name})
            yield _fewer(row, name, kind, count, has, row.seen.strangers + others)
        elif has > count:
            yield _more(row, name, kind, count, has)
    if not any(name == "gpu" for name, _ in row.configured):
        yield from (_more(row, name, kind, 0, count) for (name, kind), count in rest.items() if name == "gpu")


def _fewer(row: NodeGres, name: str, kind: str, count: int, has: int, strangers: Counter[str]) -> Mismatch:
    renamed = next((one for one in strangers if is_renamed(kind, one)), None)
    if renamed is not None:
        profile = _profile(renamed)
        return Mismatch(
            f"the driver calls the MIG profile '{kind}' now '{profile}': the same slices, by another name",
            f"say 'type: {profile}' for '{kind}' in node group '{row.group}' and run '{PLAY}': configuration first, then slurmd",
        )
    others = [one for one in strangers if one and not fits(kind, one)]
    if others and kind:
        told = ", ".join(f"{strangers[one]} {one}" for one in others)
        return Mismatch(
            f"slurmd finds {told}, and the configured type '{kind}' is no part of that name",
            f"say 'type: {_short(others[0])}' in node group '{row.group}' (any part of '{others[0]}' will do) and run '{PLAY}'",
        )
    what = _of(name, kind, count)
    if slices(kind):
        return Mismatch(
            f"{row.node} has {has} MIG {'slice' if has == 1 else 'slices'} '{kind}', and {count} are configured",
            f"make the slices again ('nvidia-smi mig'), or shrink in this order: 'count: {has}' in node group '{row.group}' and '{PLAY}',"
            " which changes the configuration first and starts slurmd after it",
        )
    why = f"; it says: {row.seen.complaints[0]}" if row.seen and row.seen.complaints else ""
    return Mismatch(
        f"slurm.conf says {what}, and slurmd finds {has}{why}",
        f"bring the missing {_plural(count - has)} back, or say 'count: {has}' in node group '{row.group}' and run '{PLAY}'",
    )


def _more(row: NodeGres, name: str, kind: str, count: int, has: int) -> Mismatch:
    return Mismatch(
        f"slurmd finds {_of(name, kind, has)}, and slurm.conf says {count}: {has - count} of them are given to no job",
        f"say 'count: {has}' in node group '{row.group}' and run '{PLAY}'",
    )


def _registration(row: NodeGres) -> Iterator[Mismatch]:
    """What slurmctld made of it."""
    if row.registered is None:
        yield Mismatch(f"slurmctld knows no node {row.node}", f"run '{PLAY}', or look whether slurmctld runs")
        return
    if row.configured is not None and row.registered != row.configured:
        yield Mismatch(
            f"slurmctld runs with {written(row.registered)}, and its slurm.conf says {written(row.configured)}",
            "somebody changed the file and did not tell slurmctld: run 'scontrol reconfigure'",
        )
    if any(word in row.state for word in _INVALID) or _TOO_LOW.search(row.reason):
        yield Mismatch(
            f"slurmctld takes no job for {row.node}: {row.state}, reason '{row.reason}'",
            f"when the rest is mended: 'systemctl restart slurmd' on {row.node}, then 'scontrol update NodeName={row.node} State=RESUME'",
        )


def _of(name: str, kind: str, count: int) -> str:
    return written({(name, kind): count})


def _plural(count: int) -> str:
    return "device" if count == 1 else "devices"


def _profile(detected: str) -> str:
    match = re.search(r"\d+g\.\d+gb\S*", detected)
    return match[0] if match else detected


def _short(detected: str) -> str:
    """The part of a detector's name that people use: a100 of nvidia_a100_sxm4_80gb."""
    profile = slices(detected)
    match = re.search(r"(?<![a-z0-9])([abhglv]b?\d{2,3}[a-z]?|mi\d{2,3}[ax]?|t4|p100|k80)(?![a-z0-9])", detected)
    return _profile(detected) if profile else match[1] if match else detected


def exit_code(rows: Sequence[NodeGres]) -> int:
    """0 the same everywhere, 1 something differs, 4 a host is silent."""
    return 4 if any(row.silent for row in rows) else 1 if any(row.mismatches for row in rows) else 0


def summary(rows: Sequence[NodeGres]) -> str:
    """Which nodes differ, in a few words."""
    return fold([row.node for row in rows if row.mismatches])
