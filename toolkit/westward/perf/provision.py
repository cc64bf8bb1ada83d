"""How long provisioning takes: python -m westward.perf.provision prints JSON.

Three bare hosts of Debian 13 (a controller with its database, two nodes), from the call of ansible-playbook to a job COMPLETED, with packages
in a local cache; and a second run, which changes nothing. The run before fills the cache. By ssh as it is, and with Mitogen.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from westward import process
from westward.errors import WestwardError
from westward.lab import engine, hosts
from westward.lab.progress import quiet
from westward.lab.teardown import down
from westward.perf.meter import machine, print_report, tell

ANSIBLE = Path(__file__).parent.parent / "_data" / "ansible"
LIMIT_S = 1200.0
GROUPS = {
    "slurm_controller": {"hosts": {"ctl": {}}},
    "slurm_dbd": {"hosts": {"ctl": {}}},
    "slurm_compute": {"children": {"h100": {"hosts": {"n1": {}, "n2": {}}}}},
}
CLUSTER = {
    "slurm_cluster_name": "perf",
    "slurm_auth": "slurm",
    "slurm_nodegroups": [
        {
            "name": "h100",
            "accelerators": [{"type": "h100", "count": 4, "files": "/dev/nvidia[0-3]"}],
            "parameters": {"CPUs": 2, "RealMemory": 2000},
        }
    ],
    "slurm_partitions": [{"name": "gpu", "nodegroups": ["h100"], "parameters": {"Default": "YES"}}],
    "slurm_config": {"SlurmdParameters": "config_overrides"},
}


def play(inventories: list[Path], mitogen: bool = False) -> dict[str, Any]:
    """One run of site.yml: its seconds, how many tasks a host had at most, and how many changed something."""
    environment = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg")}
    if mitogen:
        import ansible_mitogen

        plugins = Path(ansible_mitogen.__file__).parent / "plugins" / "strategy"
        environment |= {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}
    argv = [str(Path(sys.executable).parent / "ansible-playbook")]
    for inventory in inventories:
        argv += ["-i", str(inventory)]
    began = time.monotonic()
    done = process.run([*argv, str(ANSIBLE / "site.yml")], timeout_s=LIMIT_S, environment=environment)
    recap = re.findall(r": ok=(\d+)\s+changed=(\d+)", done.stdout)
    return {
        "seconds": round(time.monotonic() - began, 3),
        "tasks": max(int(ok) for ok, _ in recap),
        "changed": sum(int(changed) for _, changed in recap),
    }


def provision(name: str, inventory: Path) -> dict[str, Any]:
    """Bare hosts to a job, and again."""
    try:
        lab = hosts.up("bare", name)
        began = time.monotonic()
        first = play([lab.inventory, inventory])
        job = ["srun", "-N2", "--gres=gpu:h100:1", "hostname"]
        answer = engine.execute(engine.connect(), f"{name}.ctl", job)
        if answer.status:
            raise WestwardError(f"the first job failed: {answer.stderr}")
        to_job = time.monotonic() - began
        second = play([lab.inventory, inventory])
        third = play([lab.inventory, inventory], mitogen=True)
    finally:
        down(name, quiet)
    return {"first": first, "first_job_s": round(to_job, 3), "second": second, "second_mitogen": third}


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m westward.perf.provision", description=__doc__).parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="westward-perf-") as folder:
        inventory = Path(folder) / "inventory"
        (inventory / "group_vars" / "all").mkdir(parents=True)
        (inventory / "groups.yml").write_text(yaml.safe_dump({"all": {"children": GROUPS}}))
        (inventory / "group_vars" / "all" / "slurm.yml").write_text(yaml.safe_dump(CLUSTER))
        tell("filling the package cache")
        runs = [provision(f"perf-provision-{os.getpid()}-{number}", inventory) for number in range(2)]
    last = runs[-1]
    print_report(
        "provision",
        "three bare hosts to a job on both nodes, packages in a local cache",
        "s",
        "lower",
        before,
        first_job_s=last["first_job_s"],
        second_run_s=last["second"]["seconds"],
        second_run_s_per_task=round(last["second"]["seconds"] / last["second"]["tasks"], 3),
        second_run_mitogen_s=last["second_mitogen"]["seconds"],
        tasks=last["second"]["tasks"],
        second_run_changed=last["second"]["changed"],
        runs=runs,
    )


if __name__ == "__main__":
    main()
