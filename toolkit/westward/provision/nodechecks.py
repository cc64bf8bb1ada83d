"""Checks of what jobs meet on the nodes, confinement, MPI, containers: each a pure function from what was found out to findings."""

from __future__ import annotations

from collections.abc import Iterator

from westward.provision.clusterfacts import Facts
from westward.provision.finding import Finding, Verdict, with_the_rest
from westward.provision.hostfacts import Look
from westward.provision.hosts import COMPUTE, LOGIN
from westward.slurm.hostlist import fold


def cgroups(facts: Facts) -> list[Finding]:
    """Whether what Slurm is to confine jobs with is there."""
    config = facts.config
    looks = facts.of(COMPUTE)
    if not config:
        return [Finding("cgroup", "slurmctld", Verdict.UNKNOWN, "the configuration is not known")]
    if "cgroup" not in config.get("ProctrackType", "") + config.get("TaskPlugin", "") + config.get(
        "JobAcctGatherType", ""
    ):
        return (
            [Finding("cgroup", fold(looks), Verdict.OK, "not used: neither ProctrackType nor TaskPlugin names cgroup")]
            if looks
            else []
        )
    plugin = config.get("CgroupPlugin", "autodetect").lower()
    needed = {"cpuset": "ConstrainCores", "memory": "ConstrainRAMSpace", "devices": "ConstrainDevices"}
    wanted = {name for name, key in needed.items() if config.get(key, "no").lower() in ("yes", "true")}
    bad = [finding for host, look in looks.items() for finding in _cgroup(host, look, plugin, wanted, config)]
    kinds = {f"v{look.cgroup}" for look in looks.values() if look.cgroup}
    told = f"cgroup {' and '.join(sorted(kinds))}, CgroupPlugin={plugin}, confines {', '.join(sorted(wanted)) or 'nothing'}"
    return with_the_rest("cgroup", bad, looks, told)


def _cgroup(host: str, look: Look, plugin: str, wanted: set[str], config: dict[str, str]) -> Iterator[Finding]:
    if look.cgroup is None:
        yield Finding(
            "cgroup",
            host,
            Verdict.UNKNOWN,
            "its hierarchy could not be looked at",
            f"ls {config.get('CgroupMountpoint', '/sys/fs/cgroup')}",
        )
        return
    asked = {"cgroup/v1": 1, "cgroup/v2": 2}.get(plugin)
    if asked is not None and asked != look.cgroup:
        yield Finding(
            "cgroup",
            host,
            Verdict.FAILED,
            f"CgroupPlugin={plugin}, and the host has v{look.cgroup}",
            "set 'CgroupPlugin: autodetect' in slurm_cgroup_config",
        )
    # with v2 devices are fenced by a BPF program, which needs no controller
    missing = {name for name in wanted if name not in look.controllers and not (look.cgroup == 2 and name == "devices")}
    if missing:
        told = f"v{look.cgroup} has no controller for {', '.join(sorted(missing))}, and cgroup.conf asks for it"
        yield Finding(
            "cgroup",
            host,
            Verdict.FAILED,
            told,
            "turn it on at the kernel's command line (cgroup_enable=memory), or do without it in slurm_cgroup_config",
        )
    if look.cgroup == 1 and look.release and look.release >= (25, 5):
        yield Finding(
            "cgroup",
            host,
            Verdict.WARNING,
            "cgroup v1 is deprecated from Slurm 25.05 on",
            "systemd.unified_cgroup_hierarchy=1 at the kernel's command line",
        )


def mpi(facts: Facts) -> list[Finding]:
    """Whether the MPI that jobs get by default is there where they are launched and run."""
    wanted = facts.config.get("MpiDefault", "")
    looks = facts.of(COMPUTE, LOGIN)
    if not facts.config:
        return [Finding("mpi", "slurmctld", Verdict.UNKNOWN, "the configuration is not known")]
    bad = []
    for host, look in looks.items():
        if look.mpi is None:
            bad.append(
                Finding("mpi", host, Verdict.UNKNOWN, "'srun --mpi=list' says nothing", "srun --mpi=list on {where}")
            )
        elif wanted not in ("none", "(null)", "") and wanted not in look.mpi:
            told = f"MpiDefault={wanted}, and srun there knows {', '.join(look.mpi) or 'none'}"
            bad.append(
                Finding(
                    "mpi",
                    host,
                    Verdict.FAILED,
                    told,
                    f"install its plugin, or say another 'MpiDefault' in slurm_config (known: {', '.join(look.mpi)})",
                )
            )
    offered = sorted({kind for look in looks.values() for kind in look.mpi or ()})
    return with_the_rest("mpi", bad, looks, f"MpiDefault={wanted or 'none'}; srun offers {', '.join(offered)}")


def apptainer(facts: Facts) -> list[Finding]:
    """Whether Apptainer is there, where the inventory asks for it."""
    if not facts.site.variables.get("apptainer_install"):
        return []
    looks = facts.of(COMPUTE, LOGIN)
    step = "ansible-playbook ... site.yml --tags apptainer"
    bad = [
        Finding("apptainer", host, Verdict.FAILED, "it is not installed", step)
        for host, look in looks.items()
        if not look.apptainer
    ]
    found = sorted({look.apptainer for look in looks.values() if look.apptainer})
    return with_the_rest("apptainer", bad, looks, ", ".join(found))
