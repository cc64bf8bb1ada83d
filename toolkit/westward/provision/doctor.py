"""What is wrong with a cluster: all checks, over what its hosts and daemons said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from westward.provision import clusterchecks, hostchecks, netchecks, nodechecks
from westward.provision.clusterfacts import Facts
from westward.provision.finding import BAD, Finding

Check = Callable[[Facts], list[Finding]]
CHECKS: tuple[Check, ...] = (
    hostchecks.reached,
    hostchecks.clock,
    hostchecks.keys,
    hostchecks.versions,
    hostchecks.services,
    clusterchecks.controllers,
    clusterchecks.database,
    netchecks.ports,
    netchecks.addresses,
    netchecks.node_names,
    hostchecks.disks,
    clusterchecks.nodes,
    clusterchecks.accelerators,
    nodechecks.cgroups,
    nodechecks.mpi,
    nodechecks.apptainer,
    clusterchecks.jobs,
)


def diagnose(facts: Facts) -> list[Finding]:
    """Every check's findings, in the order in which one would look."""
    return [finding for check in CHECKS for finding in check(facts)]


def exit_code(facts: Facts, findings: Sequence[Finding]) -> int:
    """0 where nothing failed, 1 where something did or is not known, 4 where a host gave no answer. A warning alone is 0."""
    return 4 if facts.silent else 1 if any(one.verdict in BAD for one in findings) else 0
