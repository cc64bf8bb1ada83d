"""How long a plan takes on a cluster of 1,000 nodes: python -m westward.perf.plan prints JSON.

The files of two such configurations are read, compared and classed here, and the second one is tried on a controller: a bare host of Debian 13
with slurmctld 24.11 installed, by ssh. What a plan does beside that, asking hosts for their facts, grows with the hosts and not with the files.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from westward.errors import WestwardError
from westward.lab import hosts
from westward.lab.progress import quiet
from westward.lab.teardown import down
from westward.perf.meter import against, machine, median, print_report, tell
from westward.process import Completed
from westward.provision.hosts import Hands, Managed, read_inventory
from westward.provision.planning import RunningJob, changes_of
from westward.provision.trial import Trial, try_out
from westward.slurm.confcluster import of_texts
from westward.slurm.confcompare import compare

NODES = 1000
RUNNING = 2000  # jobs, each on one node
RUNS = 5
RELEASE = (24, 11)
AIM_S = 5.0
INSTALL_LIMIT_S = 600.0
INSTALL = """set -eu
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install slurmctld slurm-client
"""


def configuration(changed: bool) -> dict[str, str]:
    """The files of a cluster with a node group a rack, before a change and after: of one key, of a rack's devices, and with 10 more nodes."""
    racks = range(0, NODES, 40)
    nodes = [
        f"NodeName=n[{first + 1}-{first + 40}] CPUs=128 RealMemory=1000000 Gres=gpu:h100:{4 if changed and not first else 8}"
        for first in racks
    ]
    devices = [
        f"NodeName=n[{first + 1}-{first + 40}] Name=gpu Type=h100 File=/dev/nvidia[0-{3 if changed and not first else 7}]"
        for first in racks
    ]
    leaves = [f"SwitchName=leaf{first} Nodes=n[{first + 1}-{first + 40}]" for first in racks]
    settings = [
        "ClusterName=perf",
        "SlurmctldHost=ctl",
        "SlurmUser=slurm",
        "AuthType=auth/slurm",
        "CredType=cred/slurm",
        "StateSaveLocation=/var/lib/slurm/slurmctld",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "GresTypes=gpu",
        "TopologyPlugin=topology/tree",
        f"KillWait={60 if changed else 30}",
    ]
    more = [f"NodeName=n[{NODES + 1}-{NODES + 10}] CPUs=128 RealMemory=1000000"] if changed else []
    partitions = [f"PartitionName=p{first} Nodes=n[{first + 1}-{first + 40}]" for first in racks]
    return {
        "slurm.conf": "\n".join([*settings, *nodes, *more, *partitions, ""]),
        "gres.conf": "\n".join([*devices, ""]),
        "topology.conf": "\n".join([*leaves, "SwitchName=spine Switches=" + ",".join(f"leaf{n}" for n in racks), ""]),
    }


def compared() -> tuple[float, int]:
    """Seconds to read, compare and class the change, and how many differences there are."""
    jobs = [
        RunningJob(str(n), "RUNNING", frozenset(["p0"]), frozenset([f"n{n % NODES + 1}"]), True) for n in range(RUNNING)
    ]
    before, after = configuration(changed=False), configuration(changed=True)
    began = time.perf_counter()
    found = compare(of_texts(before, RELEASE), of_texts(after, RELEASE))
    changes = changes_of(found, RELEASE, jobs)
    return time.perf_counter() - began, len(changes)


def tried(hands: Hands, site: Managed) -> tuple[float, Trial]:
    """Seconds of a trial, the way there and back included."""
    files = configuration(changed=True)
    began = time.perf_counter()
    trial = try_out(hands, site.controller, files, of_texts(files, RELEASE), "/var/lib/slurm/slurmctld")
    return time.perf_counter() - began, trial


def on_a_controller(name: str, folder: Path) -> list[tuple[float, Trial]]:
    """The trials, on a host of a lab of their own."""
    inventory = folder / "groups.yml"
    inventory.write_text("all: {children: {slurm_controller: {hosts: {ctl: }}}}\n")
    try:
        lab = hosts.up("bare", name)
        site = read_inventory([lab.inventory, inventory])
        with Hands() as hands:
            tell("installing slurmctld")
            done = hands.run(site.controller, ("sh", "-s"), stdin=INSTALL, timeout_s=INSTALL_LIMIT_S)
            if not isinstance(done, Completed) or done.status:
                raise WestwardError(f"slurmctld cannot be installed: {done}")
            return [tried(hands, site) for _ in range(RUNS)]
    finally:
        down(name, quiet)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m westward.perf.plan", description=__doc__).parse_args()
    before = machine()
    comparisons = [compared() for _ in range(RUNS)]
    with tempfile.TemporaryDirectory(prefix="westward-perf-") as folder:
        trials = on_a_controller(f"perf-plan-{os.getpid()}", Path(folder))
    last = trials[-1][1]
    if not last.passed:
        raise WestwardError(f"the trial did not pass: {'; '.join(last.log) or last.missing}")
    compare_s, trial_s = median([seconds for seconds, _ in comparisons]), median([seconds for seconds, _ in trials])
    found: dict[str, Any] = {
        "nodes": NODES,
        "jobs": RUNNING,
        "differences": comparisons[-1][1],
        "compare_and_classify_s": compare_s,
        "trial_s": trial_s,
        "trial_s_all": [round(seconds, 3) for seconds, _ in trials],
        "both": against(round(compare_s + trial_s, 3), AIM_S, "lower"),
    }
    print_report(
        "plan", "a change of a cluster of 1,000 nodes: compared, classed and tried", "s", "lower", before, **found
    )


if __name__ == "__main__":
    main()
