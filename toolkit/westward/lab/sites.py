"""The site files that a lab leaves behind: one per cluster, with what is needed to reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from westward.catalogue.load import readable_sites
from westward.directories import private_dir, write_private
from westward.errors import InputError, Unsafe
from westward.lab.config import REST_PORT, SSH_PORT
from westward.lab.nodes import LabUser
from westward.lab.state import LabFolder
from westward.lab.topology import ClusterPlan, Topology

HOST = "127.0.0.1"
FACTS = Path(__file__).parent.parent / "conf" / "site"


def site_name(lab: str, topology: str, cluster: str) -> str:
    """The cluster's own name in the lab that is named as its topology; with the lab's name before it in any other."""
    return cluster if lab == topology else f"{lab}-{cluster}"


def refuse_taken_names(folder: LabFolder, topology: Topology) -> None:
    """Nothing is made of a lab whose sites would have the name of another: jobs are known by it, and would go to neither.

    Raises:
        Unsafe: a file that is not this lab's describes a site of such a name.
    """
    ours = {site_name(folder.lab, topology.name, plan.name) for plan in topology.clusters}
    for site, file in readable_sites():
        if site.name in ours and file.parent != folder.sites:
            raise Unsafe(
                f"the lab '{folder.lab}' would have a site '{site.name}', and {file} describes one of that name already",
                f"give the lab a name of its own: 'westward lab up {topology.name} --name N'; or, when the jobs of that site have ended, "
                "rename it ('name:' within that file, and the file)",
            )


def job_environment(directories: Sequence[str], user: LabUser, commit: str | None) -> dict[str, str]:
    """What a job in a lab needs to find its packages, to say of which commit they are, and to use Open MPI between containers."""
    return {
        **({"WESTWARD_GIT_SHA": commit} if commit else {}),
        "PYTHONPATH": ":".join(directories),
        # the packages are mounted read-only: what Python compiles of them is kept beside the user's files, for every node
        "PYTHONPYCACHEPREFIX": f"{user.home}/.cache/pycache",
        "NUMBA_CACHE_DIR": f"{user.home}/.cache/numba",
        # shared memory within a node, TCP between nodes; no search for networks that no container has
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": "self,sm,tcp",
        "OMPI_MCA_btl_tcp_if_include": "eth0",
        # reading another process's memory needs a capability that the nodes do not have
        "OMPI_MCA_smsc": "^cma",
        "PMIX_MCA_psec": "native",
    }


def doors(folder: LabFolder, plan: ClusterPlan, ports: Mapping[int, int], user: LabUser) -> list[dict[str, Any]]:
    """The ways into a cluster, as its site file lists them, in the order to try them.

    Args:
        ports: this host's port for each port of the controller that is published.
    """
    ways: list[dict[str, Any]] = []
    if REST_PORT in ports:
        token = str(folder.token(plan.name, user.name))
        ways.append(
            {"door": "rest", "url": f"http://{HOST}:{ports[REST_PORT]}", "user": user.name, "token_file": token}
        )
    if SSH_PORT in ports:
        ways.append(
            {
                "door": "shell",
                "host": HOST,
                "port": ports[SSH_PORT],
                "user": user.name,
                "identity_file": str(folder.ssh_key(plan.name, user.name)),
                "known_hosts": str(folder.known_hosts(plan.name)),
            }
        )
    return ways


def url(door: Mapping[str, Any]) -> str:
    """Where a door is, in one word."""
    return str(door["url"]) if door["door"] == "rest" else f"ssh://{door['user']}@{door['host']}:{door['port']}"


def write_site(
    folder: LabFolder,
    topology: Topology,
    plan: ClusterPlan,
    ways: Sequence[Mapping[str, Any]],
    user: LabUser,
    environment: Mapping[str, str],
) -> Path:
    """Write the cluster's site file, mode 600, whole or not at all; its path."""
    name = site_name(folder.lab, topology.name, plan.name)
    content: dict[str, Any] = {
        **_facts(plan.facts),
        "name": name,
        "cluster": plan.name,
        "access": {
            "doors": [dict(way) for way in ways],
            "files": {"/shared": str(folder.shared(plan.name))},
        },
        "root": user.home,
        "account": plan.accounts[0],
        "mpi": plan.release.mpi,
        "environment": dict(environment),
    }
    path = private_dir(folder.sites) / f"{name}.yaml"
    write_private(
        path, "# Written by westward lab up.\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    )
    return path


def _facts(name: str) -> dict[str, Any]:
    path = FACTS / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"'{path}' is missing: the facts of a cluster of this topology")
    loaded = yaml.safe_load(path.read_text())
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: expected a mapping")
    return loaded
