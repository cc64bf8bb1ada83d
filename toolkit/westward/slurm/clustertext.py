"""What Slurm's commands print of a cluster itself -> model: nodes, partitions, settings, accounts. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from westward.errors import QuantityError
from westward.model.site import Association, Node, Partition
from westward.model.tres import parse_gpus
from westward.model.units import parse_walltime
from westward.slurm.text import NOTHING, SEPARATOR, moment, or_empty

MIB = 1024**2


def line_pairs(line: str) -> dict[str, str]:
    """Key=value of a line of scontrol's -o. Of a key that comes twice the first counts: free text stands at the end of a line."""
    found: dict[str, str] = {}
    marks = list(re.finditer(r"(?:^|(?<=\s))([A-Za-z][A-Za-z0-9_/:]*)=", line))
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        found.setdefault(mark[1], line[mark.end() : following.start() if following else None].strip())
    return found


def nodes(text: str) -> tuple[Node, ...]:
    """`scontrol -d -o show node`."""
    return tuple(_node(pairs, line) for line, pairs in node_lines(text))


def node_lines(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each node's line of the same, with its keys and values as Slurm has them."""
    for line in text.splitlines():
        if "NodeName" in (pairs := line_pairs(line)):
            yield line, pairs


def node_pairs(text: str) -> dict[str, dict[str, str]]:
    """Those of each node by its name."""
    return {pairs["NodeName"]: pairs for _, pairs in node_lines(text)}


def _node(pairs: Mapping[str, str], line: str) -> Node:
    return Node(
        name=pairs["NodeName"],
        states=node_states(pairs),
        partitions=tuple(filter(None, pairs.get("Partitions", "").split(","))),
        cpus=int(pairs.get("CPUEfctv") or pairs.get("CPUTot") or 0),
        cpus_used=int(pairs.get("CPUAlloc") or 0),
        mem_bytes=int(pairs.get("RealMemory") or 0) * MIB,
        mem_used_bytes=int(pairs.get("AllocMem") or 0) * MIB,
        accelerators=parse_gpus(or_empty(pairs.get("Gres", ""))),
        accelerators_used=parse_gpus(or_empty(pairs.get("GresUsed", ""))),
        reason=node_reason(line),
    )


_SIGNS = {"*": "NOT_RESPONDING", "~": "POWERED_DOWN", "#": "POWERING_UP", "%": "POWERING_DOWN", "$": "MAINTENANCE"}


def node_states(pairs: Mapping[str, str]) -> tuple[str, ...]:
    """A node's states, with the signs at the end of one as words, as the newer versions write them: "IDLE*" is IDLE and NOT_RESPONDING."""
    state = pairs.get("State", "")
    for sign, word in _SIGNS.items():
        state = state.replace(sign, f"+{word}")
    return tuple(filter(None, state.upper().split("+")))


def node_reason(line: str) -> str:
    """Why a node is out of service: free text that may look like more pairs, and ends at the last '[user@time]'."""
    told = re.search(r"\sReason=(.*)\s\[[^\s\]]+@[^\s\]]+\]", line) or re.search(r"\sReason=(.*)$", line)
    reason = told[1].strip() if told else ""
    return "" if reason == "none" else reason


def partitions(text: str) -> tuple[Partition, ...]:
    """`scontrol -o show partition`."""
    return tuple(
        Partition(
            name=pairs["PartitionName"],
            up=pairs.get("State") == "UP",
            max_walltime_s=_limit(pairs.get("MaxTime", "")),
            max_nodes=int(pairs["MaxNodes"]) if pairs.get("MaxNodes", "").isdecimal() else None,
            default=pairs.get("Default") == "YES",
        )
        for line in text.splitlines()
        if "PartitionName" in (pairs := line_pairs(line))
    )


def _limit(text: str) -> int | None:
    try:
        return parse_walltime(text)
    except QuantityError:  # UNLIMITED, INFINITE
        return None


def running_ends(text: str) -> dict[str, datetime]:
    """When the running jobs of each node end at the latest, from lines of "hosts SEPARATOR end" """
    ends: dict[str, datetime] = {}
    for line in text.splitlines():
        hosts, _, told = line.partition(SEPARATOR)
        end = moment(told)
        for name in host_names(hosts) if end else ():
            assert end is not None
            ends[name] = max(end, ends.get(name, end))
    return ends


def host_names(text: str) -> list[str]:
    """The names in Slurm's host list expression: "n[1-3,08-10],login" and several brackets in one name."""
    names: list[str] = []
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text if text not in NOTHING else ""):
        pieces = re.split(r"\[([^\]]*)\]", item)
        choices = [[piece] if number % 2 == 0 else _numbers(piece) for number, piece in enumerate(pieces)]
        names += ["".join(words) for words in itertools.product(*choices)]
    return names


def _numbers(text: str) -> list[str]:
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            found.append(part)
    return found


def config(text: str) -> dict[str, str]:
    """`scontrol show config`: what stands before and behind the first " = "."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition(" = ")
        if equals:
            found.setdefault(name.strip(), value.strip())
    return found


def associations(text: str) -> tuple[Association, ...]:
    """`sacctmgr -n -P show assoc … format=account,partition,qos,defaultqos`."""
    found = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) == 4 and fields[0]:
            found.append(
                Association(fields[0], fields[1] or None, tuple(filter(None, fields[2].split(","))), fields[3] or None)
            )
    return tuple(found)


def script_bytes(parameters: Iterable[str]) -> int | None:
    """max_script_size among SchedulerParameters."""
    said = (word.partition("=") for word in parameters)
    return next((natural(value) for name, _, value in said if name.strip().lower() == "max_script_size"), None)


def natural(text: str) -> int | None:
    """A number from 0 up; None for any other text."""
    return int(text) if text.isdecimal() else None


def mpi_types(text: str) -> tuple[str, ...]:
    """What `srun --mpi=list` offers; its headings and its lists of versions are left out."""
    found = []
    for line in text.splitlines():
        word = line.strip().removeprefix("srun:").strip()
        if re.fullmatch(r"[a-z][\w-]*", word) and word != "none":
            found.append(word)
    return tuple(found)


def backlog(text: str) -> int | None:
    """sdiag's count of messages that wait for slurmdbd; None where it tells of none."""
    match = re.search(r"DBD Agent queue size:\s*(\d+)", text)
    return int(match[1]) if match else None
