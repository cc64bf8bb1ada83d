"""`westward site drain|resume|reboot|freeze|thaw`: nodes and partitions out of service, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from westward.cli import managed, show
from westward.errors import Unreachable, WestwardError
from westward.model.units import format_duration

if TYPE_CHECKING:
    from westward.provision.drains import Result
    from westward.provision.reboots import Reboot, Rebooter
    from westward.provision.slurmctld import JobHere

Nodes = Annotated[str, typer.Argument(metavar="NODES", help="Nodes, hosts or groups of the inventory, as n[1-8],h100.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="What others are to know.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="That jobs may take to end; for ever if not given.")
]
Partition = Annotated[str, typer.Argument(metavar="PARTITION", help="Slurm's name for it.")]


def drain(
    site: managed.SiteOrInventory,
    nodes: Nodes,
    reason: Reason,
    wait: Annotated[bool, typer.Option("--wait", help="Until no job is left on them.")] = False,
    timeout: Timeout = None,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Let no new job come to nodes; those that run there go on to their end.

    Slurm's reason becomes "westward: TEXT (YOU@HERE TIME)". A node that is out of service already is left with the reason that it has.
    Exit code 1 where jobs are still there after --timeout: the nodes stay drained.
    """
    from westward.provision import drains
    from westward.provision.hosts import Hands
    from westward.provision.slurmctld import Slurmctld

    made = drains.mark(reason)
    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        slurmctld = Slurmctld(cluster, hands)
        names = slurmctld.named(nodes)
        results = drains.drain(slurmctld, names, made)
        left: Mapping[str, list[JobHere]] = {}
        if not as_json:
            _tell(results)
        if wait:
            with _still_drained(site, lambda: drains.drained_with(slurmctld, names, made)), _waiting() as told:
                left = drains.wait(slurmctld, names, told, timeout)
    if as_json:
        jobs = {node: [asdict(job) for job in there] for node, there in left.items()}
        show.print_json({"nodes": [asdict(result) for result in results], "jobs": jobs})
    _raise_left(results, ())
    if left:
        raise WestwardError(f"after {format_duration(timeout or 0)} there are still jobs: {_jobs(left)}")


def resume(
    site: managed.SiteOrInventory,
    nodes: Nodes,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Put nodes back into service that 'westward site drain' took out, where the health check finds nothing wrong.

    A node that somebody else, or the health check, has taken out stays so, is named, and the exit code is 1. If you know better than who did that:
    scontrol update NodeName=NODE State=RESUME.
    """
    from westward.provision import drains
    from westward.provision.hosts import Hands
    from westward.provision.slurmctld import Slurmctld

    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        slurmctld = Slurmctld(cluster, hands)
        results = drains.resume(slurmctld, hands, cluster.nodes(), slurmctld.named(nodes))
    if as_json:
        show.print_json([asdict(result) for result in results])
    else:
        _tell(results)
    _raise_left(results, drains.LEFT)


def reboot(
    site: managed.SiteOrInventory,
    nodes: Nodes,
    batch: Annotated[
        str, typer.Option("--batch", metavar="N|P%", help="How many at a time, or which part of them.")
    ] = "10%",
    reason: Reason = "reboot",
    timeout: Timeout = None,
    back_within: Annotated[
        float, typer.Option("--back-within", metavar="SECONDS", help="That a node may take to come back.")
    ] = 900.0,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Reboot nodes in batches: drain, wait for the jobs, reboot, wait for slurmd and the health check, put back; then the next batch.

    Each node goes as soon as its jobs have ended. It is rebooted by ssh, with slurm.conf's RebootProgram. A node that somebody else has taken out of
    service is left alone; one that 'westward site drain' took out is rebooted and stays drained. When one does not come back the next batch is not
    begun, and the exit code is 1.
    """
    from westward.provision import drains, reboots
    from westward.provision.hosts import Hands
    from westward.provision.slurmctld import Slurmctld

    made = drains.mark(reason)
    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        slurmctld = Slurmctld(cluster, hands)
        names = slurmctld.named(nodes)
        todo = reboots.batches(names, batch)
        reboots.reachable(names, cluster.nodes())
        with _phases(len(names), as_json) as told:
            rebooter = reboots.Rebooter(
                slurmctld, hands, cluster.nodes(), jobs_within_s=timeout, back_within_s=back_within, told=told
            )
            with _still_drained(site, rebooter.drained_now):
                for one in todo:
                    if not rebooter.batch(one, made):
                        break
        untouched = [name for name in names if name not in rebooter.nodes]
        if as_json:
            facts = {"nodes": [_reboot_facts(node) for node in rebooter.nodes.values()], "untouched": untouched}
            show.print_json(facts)
        _raise_not_rebooted(site, rebooter, untouched)


def freeze(
    site: managed.SiteOrInventory,
    partition: Partition,
    closed: Annotated[bool, typer.Option("--closed", help="Take no new jobs either (INACTIVE).")] = False,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Let nothing start in a partition: what runs goes on, and new jobs are accepted and wait (DOWN).

    What it was is kept on the controller for 'thaw'. A reconfiguration or a restart of slurmctld gives it back what slurm.conf says, unless
    ReconfigFlags has KeepPartState. Exit code 5 where somebody else has taken it out of service.
    """
    from westward.provision import freezes
    from westward.provision.hosts import Hands
    from westward.provision.slurmctld import Slurmctld

    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        frozen, now = freezes.freeze(cluster, Slurmctld(cluster, hands), hands, partition, closed)
    if as_json:
        show.print_json(asdict(frozen) | {"changed": now})
        return
    when = "" if now else f" already, by {frozen.by} at {frozen.at}"
    show.out.print(f"{partition}: {frozen.state}{when}; 'westward site thaw' makes it {frozen.before}", soft_wrap=True)


def thaw(
    site: managed.SiteOrInventory,
    partition: Partition,
    inventory: managed.MoreInventories = None,
    as_json: show.AsJson = False,
) -> None:
    """Give a partition that 'westward site freeze' froze what it was before. Exit code 5 where somebody else has taken it out of service."""
    from westward.provision import freezes
    from westward.provision.hosts import Hands
    from westward.provision.slurmctld import Slurmctld

    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        frozen, done = freezes.thaw(cluster, Slurmctld(cluster, hands), hands, partition)
    if as_json:
        show.print_json({"partition": partition, "changed": done, "frozen": asdict(frozen) if frozen else None})
    elif done and frozen is not None:
        show.out.print(f"{partition}: {frozen.before}, as before {frozen.by} froze it at {frozen.at}", soft_wrap=True)
    else:
        show.out.print(f"{partition}: is in service" + (", by somebody else's hand" if frozen else ""))


_GOOD = ("drained", "resumed", "in service", "back in service")


def _tell(results: Sequence[Result]) -> None:
    for result in results:
        _line(result.node, result.outcome, result.detail)


def _line(node: str, word: str, detail: str) -> None:
    style = "green" if word in _GOOD else "yellow"
    show.out.print(
        Text.assemble(
            (f"{show.printable(node)}: ", "bold"), (word, style), f" ({show.printable(detail)})" if detail else ""
        ),
        soft_wrap=True,
    )


@contextmanager
def _waiting() -> Iterator[Any]:
    """What is waited for, on one line of a terminal; elsewhere a line when it changes."""
    said = ""

    def told(left: Mapping[str, list[JobHere]]) -> None:
        nonlocal said
        text = f"waiting for {_jobs(left)}" if left else "no job is left"
        if show.err.is_terminal:
            status.update(Text(show.printable(text)))
        elif text != said:
            show.err.print(show.printable(text), markup=False, soft_wrap=True)
        said = text

    if not show.err.is_terminal:
        yield told
        return
    with show.err.status("") as status:
        yield told


def _jobs(left: Mapping[str, list[JobHere]]) -> str:
    return "; ".join(
        f"{node}: {', '.join(f'{job.job_id} of {job.user}' for job in jobs) or 'clearing up'}"
        for node, jobs in left.items()
    )


@contextmanager
def _phases(total: int, as_json: bool) -> Iterator[Any]:
    """A line for each node and each step that it takes, and on a terminal how many are where."""
    seen: dict[str, tuple[str, str]] = {}

    def told(nodes: Mapping[str, Reboot]) -> None:
        for node in nodes.values():
            if seen.get(node.node) != (node.phase, node.detail):
                seen[node.node] = (node.phase, node.detail)
                if not as_json:
                    _line(node.node, node.phase, node.detail)
        count = Counter(node.phase for node in nodes.values())
        if show.err.is_terminal:
            status.update(Text(f"{total} nodes: " + ", ".join(f"{number} {phase}" for phase, number in count.items())))

    if not show.err.is_terminal:
        yield told
        return
    with show.err.status("") as status:
        yield told


def _reboot_facts(node: Reboot) -> dict[str, Any]:
    return {"node": node.node, "outcome": node.phase, "detail": node.detail}


@contextmanager
def _still_drained(site: str, names: Any) -> Iterator[None]:
    """When something ends this early, say what it leaves behind."""
    try:
        yield
    except (KeyboardInterrupt, WestwardError):
        try:
            left = names()
        except WestwardError as error:
            show.err.print(
                f"which nodes are drained now is not known: {show.printable(str(error))}", markup=False, soft_wrap=True
            )
        else:
            if left:
                show.err.print(f"still drained: {_take_back(site, left)}", markup=False, soft_wrap=True)
        raise


def _take_back(site: str, names: Sequence[str]) -> str:
    from westward.slurm.hostlist import fold

    return f"{fold(names)}; 'westward site resume {site} {fold(names)}' takes back what is fit"


def _raise_left(results: Sequence[Result], wrong: Sequence[str]) -> None:
    """
    Raises:
        Unreachable: a node does not answer; or WestwardError: not all was done.
    """
    from westward.provision.drains import Outcome

    left = [result for result in results if result.outcome in wrong or result.outcome is Outcome.REFUSED]
    if not left:
        return
    error = Unreachable if any(result.outcome is Outcome.SILENT for result in left) else WestwardError
    others = any(result.outcome is Outcome.OTHERS for result in left)
    raise error(
        f"{len(left)} of {len(results)} nodes are not back in service: "
        + "; ".join(f"{result.node}: {result.outcome}: {result.detail}" for result in left),
        "who took a node out gives it back; if you know better: scontrol update NodeName=NODE State=RESUME"
        if others
        else "mend that, and call 'westward site resume' again",
    )


def _raise_not_rebooted(site: str, rebooter: Rebooter, untouched: Sequence[str]) -> None:
    """
    Raises:
        WestwardError: not all nodes were rebooted.
    """
    from westward.provision.reboots import WELL
    from westward.slurm.hostlist import fold

    left = [node for node in rebooter.nodes.values() if node.phase not in WELL]
    if not left:
        return
    parts = [f"{node.node}: {node.phase}: {node.detail}" for node in left]
    if untouched:
        parts.append(f"so {fold(untouched)} were not begun")
    drained = rebooter.drained_now()
    raise WestwardError("; ".join(parts), f"still drained: {_take_back(site, drained)}" if drained else "")
