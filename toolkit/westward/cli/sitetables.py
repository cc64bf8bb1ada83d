"""What `westward site` prints of sites, their doors and partitions. Nothing here asks anybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from westward.catalogue import reach, survey
from westward.catalogue.survey import Answer, Refusal
from westward.cli import show
from westward.model.site import ClusterState, Observed, Site
from westward.model.units import format_duration, format_walltime

SEEN_S = 2.0  # clocks are compared to about a second


def tell_added(site: Site, answers: Sequence[Answer], unknown: Sequence[str], more: Mapping[str, str]) -> None:
    seen = site.observed
    doors = ", ".join(f"{answer.door} ({_away(answer)})" for answer in answers)
    show.out.print(
        f"[bold]{escape(site.name)}[/]: cluster {cell(site.cluster)}, Slurm {cell(answers[0].state.version)}, by {cell(doors)}",
        soft_wrap=True,
    )
    show.out.print(partitions_table(answers[0].state, survey.observe(answers)))
    accounts = ", ".join(dict.fromkeys(each.account for each in seen.accounts)) if seen else ""
    facts = {
        "you are": answers[0].account.user,
        "jobs write to": site.root,
        "account": f"{site.account or 'none named'}{f' (of {accounts})' if accounts else ''}",
        "MPI": site.mpi or _no_mpi(answers),
        "clock": _skew(answers),
        "unknown": ", ".join(unknown) or "nothing",
        **more,
    }
    for label, fact in facts.items():
        show.out.print(f"  {label:14} {cell(fact)}", soft_wrap=True)
    # a template of ours would need westward_bench there
    show.out.print(Text(f"next:  westward submit command 'command=[hostname]' --site {site.name}"), soft_wrap=True)


def _skew(answers: Sequence[Answer]) -> str:
    skews = [answer.clock_skew_s for answer in answers if answer.clock_skew_s is not None]
    if not skews:
        return "cannot be seen by these doors"
    if abs(skews[0]) < SEEN_S:
        return "agrees"
    return f"{format_duration(abs(skews[0]))} {'ahead of' if skews[0] > 0 else 'behind'} this host's"


def _no_mpi(answers: Sequence[Answer]) -> str:
    known = next((answer.account.mpi for answer in answers if answer.account.mpi), ())
    has = f"it has no PMIx, only {', '.join(known)}" if known else "these doors cannot tell"
    return f"unknown: {has}; MPI jobs need 'mpi:' in the description, as its MPI library was built"


def _away(answer: Answer) -> str:
    return "here" if reach.is_here(answer.door) else f"{_milliseconds(answer)} away"


def _milliseconds(answer: Answer) -> str:
    if reach.is_here(answer.door):
        return "-"
    return f"{answer.rtt_s * 1000:.1f} ms" if answer.rtt_s is not None else "?"


def tell_refusals(said: Sequence[Answer | Refusal], where: str) -> None:
    for each in said:
        if isinstance(each, Refusal):
            show.err.print(
                Text.assemble((f"{where}: ", "yellow"), f"{each.door}: {show.printable(str(each.error))}"),
                soft_wrap=True,
            )
            if each.error.next_step:
                show.err.print(f"  next:  {escape(show.printable(each.error.next_step))}", soft_wrap=True)


def show_description(site: Site, unknown: Sequence[str]) -> None:
    facts = {
        "cluster": site.cluster,
        "region, place": f"{site.region}, {site.place}",
        "jobs write to": site.root,
        "account, QOS": f"{site.account or 'your default'}, {site.qos or 'your default'}",
        "MPI": site.mpi or "unknown",
        "round trip": ", ".join(f"{link.rtt_ms.value:g} ms from {region}" for region, link in site.links.items())
        or "unknown",
        "unknown": ", ".join(unknown) or "nothing: price, power and carbon are all described",
    }
    show.out.print(Text(site.name, style="bold"))
    for label, fact in facts.items():
        show.out.print(f"  {label:14} {cell(fact)}", soft_wrap=True)
    show.out.print()


def doors_table(title: str, checked: Sequence[tuple[Site, Sequence[Answer | Refusal]]]) -> Table:
    made = show.table(
        title, "site", "door", "answers", "round trip", "Slurm", "user", "clock", numbers=("answers", "round trip")
    )
    for site, said in checked:
        for each in said:
            if isinstance(each, Refusal):
                cells = ["no", "-", "-", "-", "-"]
            else:
                skew = each.clock_skew_s
                cells = [
                    f"in {format_duration(each.seconds)}",
                    _milliseconds(each),
                    each.state.version,
                    each.account.user,
                    _skew([each]) if skew is not None else "?",
                ]
            made.add_row(
                *map(cell, [site.name, str(each.door), *cells]), style="red" if isinstance(each, Refusal) else ""
            )
    return made


def partitions_table(state: ClusterState, seen: Observed) -> Table:
    made = show.table(
        "",
        "partition",
        "nodes",
        "now",
        "CPUs used",
        "accelerators used",
        "time limit",
        "nodes of a job",
        numbers=("nodes", "CPUs used"),
    )
    defaults = {partition.name for partition in seen.partitions if partition.default}
    for partition in state.partitions:
        nodes = [node for node in state.nodes if partition.name in node.partitions]
        limit = partition.max_walltime_s
        cells = [
            partition.name + ("*" if partition.name in defaults else ""),
            str(len(nodes)),
            _nodes_now(state, partition.name) if partition.up else "partition is not up",
            f"{sum(node.cpus_used for node in nodes)}/{sum(node.cpus for node in nodes)}",
            ", ".join(f"{chip} {used}/{total}" for chip, (used, total) in _chips(state, partition.name).items()) or "-",
            format_walltime(limit) if limit is not None else "none",
            str(partition.max_nodes) if partition.max_nodes is not None else "no limit",
        ]
        made.add_row(*map(cell, cells))
    return made


def _nodes_now(state: ClusterState, partition: str) -> str:
    """How many nodes are idle, in use, and out, with the reason of the first that is out."""
    nodes = [node for node in state.nodes if partition in node.partitions]
    out = [node for node in nodes if not node.usable]
    kinds = Counter("out" if not node.usable else "idle" if not node.cpus_used else "in use" for node in nodes)
    said = ", ".join(f"{kinds[kind]} {kind}" for kind in ("idle", "in use", "out") if kinds[kind]) or "none"
    why = f" ({out[0].name}: {out[0].reason})" if out and out[0].reason else ""
    return said + why


def _chips(state: ClusterState, partition: str) -> dict[str, tuple[int, int]]:
    """Accelerators of a partition by chip: in use, and all."""
    nodes = [node for node in state.nodes if partition in node.partitions]
    names = sorted({chip for node in nodes for chip in node.accelerators})
    return {
        chip: (
            sum(node.accelerators_used.get(chip, 0) for node in nodes),
            sum(node.accelerators.get(chip, 0) for node in nodes),
        )
        for chip in names
    }


def accounts_table(answer: Answer) -> Table:
    account = answer.account
    made = show.table(f"accounts of '{show.printable(account.user)}'", "account", "partition", "QOS", "default QOS")
    for each in account.associations:
        star = "*" if each.account == account.default_account else ""
        made.add_row(
            *map(
                cell,
                [each.account + star, each.partition or "all", ", ".join(each.qos) or "-", each.default_qos or "-"],
            )
        )
    if not account.associations:
        made.add_row("none: this cluster keeps no accounts, or does not tell them", "", "", "")
    return made


def facts(site: Site, unknown: Sequence[str]) -> dict[str, Any]:
    """A description for --json."""
    return {**asdict(site), "doors": [str(door) for door in site.doors], "unknown": unknown}


def door_facts(each: Answer | Refusal) -> dict[str, Any]:
    if isinstance(each, Refusal):
        return {"door": str(each.door), "answers": False, "problem": str(each.error), "next_step": each.error.next_step}
    return {
        "door": str(each.door),
        "answers": True,
        "seconds": round(each.seconds, 3),
        "rtt_ms": round(each.rtt_s * 1000, 2) if each.rtt_s is not None else None,
        "slurm": each.state.version,
        "user": each.account.user,
        "clock_skew_s": round(each.clock_skew_s, 2) if each.clock_skew_s is not None else None,
    }


def live_facts(answers: Sequence[Answer]) -> dict[str, Any]:
    if not answers:
        return {"live": None}
    return {"live": {"state": asdict(answers[0].state), "account": asdict(answers[0].account)}}


def cell(text: str) -> str:
    """Whatever a cluster or a file says, on one line, as it is."""
    return "\n".join(escape(show.printable(line)) for line in text.split("\n"))
