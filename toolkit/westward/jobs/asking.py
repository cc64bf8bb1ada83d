"""What a job asks of a cluster, in the cluster's terms: of a template's job all of it, of a batch script what its options say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from westward.errors import QuantityError
from westward.model.batchscript import BatchScript
from westward.model.decision import Offer
from westward.model.job import JobSpec
from westward.model.limits import Limits
from westward.model.resources import Resources
from westward.model.site import Site
from westward.model.tres import KINDS, chip_kind, chip_type
from westward.model.units import parse_memory, whole_minutes_s

MIB = 1024**2
# what a job gets of these is not known where it does not say so
_UNSAID = frozenset({"cpu", "mem", "billing", "energy", "vmem", "pages", "fs/disk"})
# stands for every GRES
_GRES = "gres"
# options of sbatch by which a job gets as many nodes and GRES as it takes,
_SPREADS = frozenset(["gpus", "gpus-per-task", "gpus-per-socket", "tres-per-task"])
# all the GRES of its nodes too,
_OPEN_GRES = _SPREADS | {"exclusive"}
# and another number of CPUs than its tasks ask for
_OPEN_CPUS = _OPEN_GRES | {
    "cpus-per-gpu", "cores-per-socket", "sockets-per-node", "threads-per-core", "extra-node-info", "hint", "ntasks-per-core",
    "ntasks-per-socket", "ntasks-per-gpu", "core-spec", "thread-spec",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job asks of a cluster, in the cluster's terms; None where that is not known.

    Attributes:
        partition: empty where that is not known.
        account, qos: None where the cluster's default counts.
        tres: on all nodes together, memory in MiB; without those of which it is not known how much the job gets.
        unknown: TRES that are not asked for by a number; "gres" stands for every GRES that is not in `tres`.
        tasks: jobs that the cluster counts: one, or as many as an array has tasks. What one takes is in `tres`.
    """

    partition: str
    account: str | None
    qos: str | None
    nodes: int | None
    cpus_per_node: int | None
    mem_per_node_mib: int | None
    minutes: int | None
    tres: Mapping[str, int]
    tasks: int = 1
    unknown: frozenset[str] = _UNSAID

    def on_a_node(self, tres: str) -> int | None:
        """The same on one node; None where it is not known."""
        count = self.count(tres)
        return None if count is None or self.nodes is None else -(-count // self.nodes)

    def count(self, tres: str) -> int | None:
        """How much of a TRES; None where it is not known."""
        if tres in self.tres:
            return self.tres[tres]
        return None if tres in self.unknown or tres.partition("/")[0] in self.unknown else 0


def asked(spec: JobSpec, offer: Offer, site: Site, limits: Limits) -> Asked:
    """What a job would ask of the site of an offer; `limits` say what it gets there where it does not say so itself."""
    if spec.script is not None:
        return _by_script(spec, spec.script, offer, site, limits)
    resources = spec.resources.at(offer.granted)
    nodes, cpus = resources.nodes, resources.cpus_per_node
    mem = -(-resources.mem_bytes // MIB) if resources.mem_bytes else _default_mem(limits, offer.partition, cpus)
    tres = {"node": nodes}
    if "exclusive" not in spec.options:  # otherwise it gets all that its nodes have
        tres |= {"cpu": nodes * cpus} | ({"mem": nodes * mem} if mem is not None else {})
    if resources.accelerators and offer.chip:
        tres |= _gres(offer.chip, resources.accelerator_count)
    return Asked(
        partition=offer.partition,
        account=site.account_for(spec.account),
        qos=site.qos_for(spec.qos),
        nodes=nodes,
        cpus_per_node=cpus,
        mem_per_node_mib=mem,
        minutes=whole_minutes_s(resources.walltime_s) // 60,
        tres=tres,
        tasks=spec.array.tasks if spec.array else 1,
    )


def _gres(chip: str, count: int) -> dict[str, int]:
    kind = f"gres/{chip_kind(chip)}"
    return {kind: count, f"{kind}:{chip_type(chip)}": count}


def _default_mem(limits: Limits, partition: str, cpus: int | None) -> int | None:
    rules = limits.partitions.get(partition)
    for of in (rules, limits) if rules else (limits,):
        if of.mem_per_node_mib:
            return of.mem_per_node_mib
        if of.mem_per_cpu_mib:
            return None if cpus is None else of.mem_per_cpu_mib * cpus
    return None


def _by_script(spec: JobSpec, script: BatchScript, offer: Offer, site: Site, limits: Limits) -> Asked:
    """What sbatch(1) makes of a script's options, as far as nothing that is decided at the start has a say in it."""
    options = script.options
    partition = script.value("partition") or offer.partition or limits.default_partition or ""
    nodes, tasks = _nodes(script), _tasks(script)
    cpus = tasks * spec.resources.cpus_per_task if tasks and not _OPEN_CPUS & options.keys() else None
    cpus_per_node = _share(cpus, nodes)
    mem = _mem(spec.resources, script, _default_mem(limits, partition, cpus_per_node), cpus_per_node)
    tres, unknown = {"node": nodes, "cpu": cpus, "mem": mem * nodes if mem and nodes else None}, set(_UNSAID)
    chips = spec.resources.accelerators
    of_kind = (script.value("gres") or KINDS[0]).partition(":")[0] in KINDS
    if chips and chips.chip != "any" and of_kind and nodes and not _OPEN_GRES & options.keys():
        tres |= _gres(chips.chip, chips.count * nodes)
    elif chips or _OPEN_GRES & options.keys() or "gres" in options:
        unknown.add(_GRES)
    return Asked(
        partition=partition,
        account=spec.account or site.account,
        qos=spec.qos or site.qos,
        nodes=nodes,
        cpus_per_node=cpus_per_node,
        mem_per_node_mib=mem,
        minutes=_minutes(spec.resources, script),
        tres={name: count for name, count in tres.items() if count is not None},
        tasks=spec.array.tasks if spec.array else 1,
        unknown=frozenset(unknown | {name for name, count in tres.items() if count is None}),
    )


def _nodes(script: BatchScript) -> int | None:
    """How many nodes it gets; None where that is a range, or as many as its tasks take."""
    said = script.value("nodes")
    if said is not None:
        return int(said) if said.isdecimal() else None
    alone = script.value("ntasks") in (None, "1") and not _SPREADS & script.options.keys()
    return 1 if alone else None


def _tasks(script: BatchScript) -> int | None:
    """How many tasks it has: --ntasks, or --ntasks-per-node (or one) on each node."""
    total, per_node, nodes = script.value("ntasks"), script.value("ntasks-per-node"), _nodes(script)
    if total is not None:
        return int(total) if total.isdecimal() else None
    if nodes is None or not (per_node or "1").isdecimal():
        return None
    return nodes * int(per_node or 1)


def _share(count: int | None, nodes: int | None) -> int | None:
    """What is on each node, where it can only be spread evenly."""
    return count // nodes if count is not None and nodes and count % nodes == 0 else None


def _mem(resources: Resources, script: BatchScript, default: int | None, cpus: int | None) -> int | None:
    """MiB on each node."""
    if script.value("mem") is not None:  # 0 is all that a node has
        return -(-resources.mem_bytes // MIB) if resources.mem_bytes else None
    per_cpu = script.value("mem-per-cpu")
    if per_cpu is not None:
        try:
            return -(-parse_memory(per_cpu) // MIB) * cpus if cpus is not None else None
        except QuantityError:
            return None
    return None if {"mem-per-gpu", "exclusive"} & script.options.keys() else default


def _minutes(resources: Resources, script: BatchScript) -> int | None:
    """The time limit; None for that of the partition, and for none at all."""
    if (script.value("time") or "UNLIMITED").upper() in ("UNLIMITED", "INFINITE", "0"):
        return None
    return whole_minutes_s(resources.walltime_s) // 60
