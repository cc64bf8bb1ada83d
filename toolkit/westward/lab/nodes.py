"""From a cluster's plan to its containers: who runs what, with which files, mounts and capabilities."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import docker

from westward.lab import engine
from westward.lab.config import REST_PORT, SSH_PORT, accounting, lab_values, render
from westward.lab.engine import FileInNode
from westward.lab.sshkeys import KeyPair
from westward.lab.state import ClusterSecrets
from westward.lab.topology import ClusterPlan, Topology

CONTROLLER = "controller"
COMPUTE = "compute"
# fixed in containers/node/Dockerfile; 64030 is Debian's own number for slurm
SLURM_UID = 64030
MYSQL_UID = 64040
MUNGE_UID = 64050

# start.py is root and becomes somebody else for each daemon (SETUID, SETGID), stops them (KILL), and writes where they own the
# directory (DAC_OVERRIDE, CHOWN, FOWNER); slurmd does the same for jobs. Only compute nodes make device files (MKNOD).
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
COMPUTE_CAPABILITIES = (*CAPABILITIES, "MKNOD")
SHM_SIZE = "512m"  # Open MPI's shared memory; the engine's default of 64 MB is too little for a few ranks


@dataclass(frozen=True, slots=True)
class LabUser:
    """The ordinary user of the lab, the same on every node."""

    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One container to be.

    Attributes:
        container: `<lab>.<node>`, the container's name; the node's name is its hostname.
    """

    lab: str
    cluster: ClusterPlan
    name: str
    role: str

    @property
    def container(self) -> str:
        return f"{self.lab}.{self.name}"


def lab_user() -> LabUser:
    """`researcher`: the uid of who runs this, so that files in /shared are theirs on the host too; 1000 for root."""
    root = os.geteuid() == 0
    return LabUser("researcher", 1000 if root else os.getuid(), 1000 if root else os.getgid(), "/shared/researcher")


def plan_nodes(lab: str, topology: Topology) -> tuple[NodePlan, ...]:
    """Every container of a lab, controllers first: they take the longest to start."""
    controllers = [NodePlan(lab, cluster, cluster.controller, CONTROLLER) for cluster in topology.clusters]
    compute = [NodePlan(lab, cluster, name, COMPUTE) for cluster in topology.clusters for name in cluster.compute_nodes]
    return (*controllers, *compute)


def spec_digest(topology: Topology, images: Sequence[str], mounts: Collection[str]) -> str:
    """Twelve hex digits that differ where a lab made now would differ from one made before."""
    rendered = [
        files(NodePlan("", plan, plan.controller, CONTROLLER), _NO_SECRETS, lab_user()) for plan in topology.clusters
    ]
    text = json.dumps([list(images), sorted(mounts), [[file.content.decode() for file in group] for group in rendered]])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def files(node: NodePlan, keys: ClusterSecrets, user: LabUser) -> tuple[FileInNode, ...]:
    """What is put into a node before it starts. The JWT key and the database password go to the controller alone."""
    values = lab_values(node.cluster, keys.database_password)
    given = [
        FileInNode(f"/etc/slurm/{name}", render(name, values).encode())
        for name in ("slurm.conf", "gres.conf", "cgroup.conf")
    ]
    given += [
        FileInNode("/etc/westward/node.json", _node_json(node, user).encode()),
        FileInNode("/etc/munge/munge.key", keys.slurm_key, 0o600, MUNGE_UID, MUNGE_UID)
        if node.cluster.release.munge
        else FileInNode("/etc/slurm/slurm.key", keys.slurm_key, 0o600, SLURM_UID, SLURM_UID),
    ]
    if node.role == CONTROLLER:
        if node.cluster.release.rest:
            given += [FileInNode("/etc/slurm/jwt.key", keys.jwt_key, 0o600, SLURM_UID, SLURM_UID)]
        given += [
            FileInNode("/etc/westward/ssh-host-key", keys.host_key.private.encode(), 0o600, user.uid, user.gid),
            FileInNode("/etc/westward/authorized_keys", f"{keys.user_key.public}\n".encode()),
            FileInNode(
                "/etc/slurm/slurmdbd.conf", render("slurmdbd.conf", values).encode(), 0o600, SLURM_UID, SLURM_UID
            ),
            FileInNode("/etc/westward/database.sql", _database_sql(keys).encode(), 0o600, MYSQL_UID, MYSQL_UID),
        ]
    return tuple(given)


def labels(node: NodePlan, topology: str, owner: str, spec: str) -> dict[str, str]:
    return {
        engine.LAB: node.lab,
        engine.OWNER: owner,
        engine.TOPOLOGY: topology,
        engine.CLUSTER: node.cluster.name,
        engine.ROLE: node.role,
        engine.SPEC: spec,
    }


def create(
    client: docker.DockerClient,
    node: NodePlan,
    *,
    image: str,
    network: str,
    labels: dict[str, str],
    volumes: dict[str, dict[str, str]],
) -> str:
    """Make a node's container, not started, in its lab's network under its own name; its id."""
    with engine.engine_errors(f"making the container '{node.container}'"):
        made = client.containers.create(
            image,
            name=node.container,
            hostname=node.name,
            network=network,
            networking_config={network: client.api.create_endpoint_config(aliases=[node.name])},
            labels=labels,
            volumes=volumes,
            cap_drop=["ALL"],
            cap_add=list(COMPUTE_CAPABILITIES if node.role == COMPUTE else CAPABILITIES),
            security_opt=["no-new-privileges:true"],
            shm_size=SHM_SIZE,
            ports={f"{port}/tcp": ("127.0.0.1", 0) for port in _published(node)},
        )
    return str(made.id)


_NO_SECRETS = ClusterSecrets(b"", b"", "", KeyPair("", ""), KeyPair("", ""))


def _published(node: NodePlan) -> tuple[int, ...]:
    """The ports of a node that this host can reach."""
    if node.role != CONTROLLER:
        return ()
    return (SSH_PORT, REST_PORT) if node.cluster.release.rest else (SSH_PORT,)


def _node_json(node: NodePlan, user: LabUser) -> str:
    plan = node.cluster
    return json.dumps(
        {
            "role": node.role,
            "controller": plan.controller,
            "nodes": plan.compute_nodes,
            "munge": plan.release.munge,
            "rest": plan.release.rest,
            "devices": plan.devices,
            "user": asdict(user),
            "accounting": accounting(plan),
        },
        indent=1,
    )


def _database_sql(keys: ClusterSecrets) -> str:
    """Run by MariaDB at every start: the password is always the one that slurmdbd.conf holds."""
    return (
        f"CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED BY '{keys.database_password}';\n"
        f"ALTER USER slurm@localhost IDENTIFIED BY '{keys.database_password}';\n"
        # made before slurmdbd looks for it: the client library of MariaDB 11.8.9 allows no columns in any answer ("maximum allowed
        # number of columns (=0)") on a connection that was refused once and tried again, which is how slurmdbd makes a missing one
        "CREATE DATABASE IF NOT EXISTS slurm_acct_db;\n"
        "GRANT ALL ON slurm_acct_db.* TO slurm@localhost;\n"
    )
