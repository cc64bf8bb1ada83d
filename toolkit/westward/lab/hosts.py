"""Labs of bare hosts: Debian with systemd and sshd, nothing of Slurm. What provisioning is tried on.

They are reached as a sysadmin reaches his own: by ssh, as a user who may become root. An inventory says how.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import yaml

from westward.directories import cache_dir, private_dir, write_private
from westward.errors import Unreachable, Unsafe
from westward.jobs.side_by_side import side_by_side
from westward.lab import engine
from westward.lab.engine import CLUSTER, LAB, OWNER, ROLE, TOPOLOGY, FileInNode, Seen
from westward.lab.images import ensure_service_image
from westward.lab.progress import Progress, quiet
from westward.lab.release import RELEASES, Release
from westward.lab.sites import HOST
from westward.lab.sshkeys import key_file, known_host
from westward.lab.state import LabFolder, Record
from westward.lab.teardown import of_lab, refuse_if_foreign, remove_half_made

# a topology for each Debian release
BARE = {"bare": "trixie", "bare-bookworm": "bookworm", "bare-forky": "forky"}
HOSTS = ("ctl", "ctl2", "login", "n1", "n2")
COMPUTE = ("n1", "n2")
DEVICES = 4  # of each compute host: files that a GPU would have; no program can compute on them
ROLE_HOST = "host"
APT_CACHE = "apt-cache"
APT_CACHE_UID = 64070  # fixed in containers/apt-cache/Dockerfile
ADMIN = "admin"
SSH_PORT = 22
READY_WITHIN_S = 60.0
# where containers/host/start.sh leaves the hierarchies of cgroup v1 for slurmd, where systemd would not have them
CGROUPS_ASIDE = "/run/cgroup"

# systemd mounts what its units ask for, and slurmd the cgroups of its jobs (SYS_ADMIN); device files are made (MKNOD); slurmd gives steps
# a priority (SYS_NICE), and MPI ranks on one node read each other's memory (SYS_PTRACE); the trial of a configuration has a network of its
# own, whose loopback interface it brings up (NET_ADMIN); apt and sshd become other users; ping is setuid
CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PTRACE",
)


@dataclass(frozen=True, slots=True)
class HostsLab:
    """Bare hosts that are ready.

    Attributes:
        outcome: what `up` had to do: made, started or unchanged.
        inventory: an Ansible inventory of the hosts; which parts of a cluster each is to have, a second one says.
    """

    name: str
    topology: str
    outcome: str
    inventory: Path
    seconds: dict[str, float]


def up(topology: str, name: str | None = None, progress: Progress = quiet) -> HostsLab:
    """Bring bare hosts up, or find them up. Twice is harmless.

    Raises:
        Unreachable: no engine, no image, or a host that was not ready in time.
        Unsafe: the name is taken by somebody else's lab or container.
    """
    folder = LabFolder(name or topology)
    client = engine.connect()
    with folder.locked(lambda: progress(folder.lab, "another process is working on this lab: waiting")):
        return _Builder(client, folder, topology, progress).up()


class _Builder:
    """One call of `up`, holding the lab's lock."""

    def __init__(self, client: docker.DockerClient, folder: LabFolder, topology: str, progress: Progress) -> None:
        self.client, self.folder, self.topology, self.progress = client, folder, topology, progress
        self.release: Release = RELEASES[BARE[topology]]
        self.network = f"westward.{folder.lab}"
        self.files = folder.root / "hosts"
        self.began = time.monotonic()

    def up(self) -> HostsLab:
        found, networks = of_lab(self.client, self.folder.lab)
        refuse_if_foreign(self.folder, found, networks)
        record = self.folder.read()
        if record and record.topology != self.topology:
            raise Unsafe(
                f"the lab '{self.folder.lab}' is there with the topology '{record.topology}', not '{self.topology}'",
                f"take it down ('westward lab down {self.folder.lab}') or choose another --name",
            )
        names = {f"{self.folder.lab}.{host}" for host in (*HOSTS, APT_CACHE)}
        if record and record.ready and {seen.name for seen in found} == names:
            outcome = self._resume(found)
        else:
            remove_half_made(self.client, self.folder.lab, anything=record is not None or bool(found or networks))
            outcome = "made"
            self._make()
        self._wait()
        inventory = self._write_inventory()
        self.progress(self.folder.lab, "ready")
        return HostsLab(
            self.folder.lab, self.topology, outcome, inventory, {"ready": round(time.monotonic() - self.began, 3)}
        )

    def _resume(self, found: Sequence[Seen]) -> str:
        stopped = [seen for seen in found if not seen.running]
        side_by_side(lambda seen: engine.start(self.client, seen.id, seen.name), stopped)
        return "started" if stopped else "unchanged"

    def _make(self) -> None:
        lab, owner = self.folder.lab, self.folder.owner
        with ThreadPoolExecutor(max_workers=2) as pool:
            wanted = [
                pool.submit(ensure_service_image, self.client, "host", self._says("image"), self.release),
                pool.submit(ensure_service_image, self.client, APT_CACHE, self._says("image of the package cache")),
            ]
            host_image, cache_image = (future.result() for future in wanted)
        record = Record(lab, self.topology, False, host_image, self.release.suite)
        self.folder.write(record)
        self.progress(lab, f"making {len(HOSTS)} hosts")
        labels = {LAB: lab, OWNER: owner, TOPOLOGY: self.topology}
        with engine.engine_errors(f"making the network '{self.network}'"):
            self.client.networks.create(self.network, driver="bridge", labels=labels)
        private_dir(self.files)
        (self.files / "shared").mkdir(exist_ok=True)
        (self.files / "shared").chmod(0o777)
        self.host_key, self.admin_key = (key_file(self.files / name, True) for name in ("ssh-host-key", "ssh-key"))
        self._make_cache(cache_image, labels)
        side_by_side(lambda host: self._make_host(host, host_image, labels), HOSTS)
        self.folder.write(replace(record, ready=True))

    def _make_cache(self, image: str, labels: dict[str, str]) -> None:
        """The package cache; its files outlive the lab."""
        kept = cache_dir() / "apt" / self.topology
        kept.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(kept, APT_CACHE_UID, APT_CACHE_UID)
        else:
            kept.chmod(0o777)
        proxy = os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY")
        self._create(
            APT_CACHE,
            image,
            labels | {ROLE: APT_CACHE},
            command=[f"Proxy={proxy}"] if proxy else None,
            volumes={str(kept): {"bind": "/cache", "mode": "rw"}},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
        )
        engine.start(self.client, f"{self.folder.lab}.{APT_CACHE}", APT_CACHE)

    def _make_host(self, host: str, image: str, labels: dict[str, str]) -> None:
        devices = DEVICES if host in COMPUTE else 0
        self._create(
            host,
            image,
            # a lab's commands find a container by the cluster it belongs to: here the lab itself
            labels | {ROLE: ROLE_HOST, CLUSTER: self.folder.lab},
            volumes={str(self.files / "shared"): {"bind": "/shared", "mode": "rw"}},
            environment={"container": "docker", "WESTWARD_DEVICES": str(devices)},
            tmpfs={"/run": "", "/run/lock": "", "/tmp": "exec"},
            # its own groups at the root of each hierarchy: what systemd and slurmd make there is inside the container's, and goes with it
            cgroupns="private",
            # a rule for each: with one for all of them cgroup v1 could not take a single device away from a job
            device_cgroup_rules=[f"c 195:{minor} rwm" for minor in range(devices)],
            cap_drop=["ALL"],
            cap_add=list(CAPABILITIES),
            # the engine's filter refuses mounts even to who may mount
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            ports={f"{SSH_PORT}/tcp": (HOST, 0)},
            shm_size="512m",
        )
        name = f"{self.folder.lab}.{host}"
        engine.put_files(
            self.client,
            name,
            [
                FileInNode("/etc/ssh/ssh_host_ed25519_key", self.host_key.private.encode(), 0o600),
                FileInNode(
                    f"/home/{ADMIN}/.ssh/authorized_keys", f"{self.admin_key.public}\n".encode(), 0o600, 1000, 1000
                ),
            ],
        )
        engine.start(self.client, name, host)

    def _create(self, host: str, image: str, labels: dict[str, str], **more: Any) -> None:
        with engine.engine_errors(f"making the container '{self.folder.lab}.{host}'"):
            self.client.containers.create(
                image,
                name=f"{self.folder.lab}.{host}",
                hostname=host,
                network=self.network,
                networking_config={self.network: self.client.api.create_endpoint_config(aliases=[host])},
                labels=labels,
                **more,
            )

    def _wait(self) -> None:
        """Until systemd has started what it starts on every host.

        Raises:
            Unreachable: it has not on one of them; with the units that failed.
        """
        deadline = time.monotonic() + READY_WITHIN_S

        def one(host: str) -> None:
            name = f"{self.folder.lab}.{host}"
            while True:
                answer = engine.execute(self.client, name, ["systemctl", "is-system-running"])
                if answer.stdout.strip() == "running":
                    return
                if answer.stdout.strip() == "degraded" or time.monotonic() > deadline:
                    failed = engine.execute(self.client, name, ["systemctl", "--failed", "--plain", "--no-legend"])
                    raise Unreachable(
                        f"host '{host}': systemd says '{answer.stdout.strip()}': {failed.stdout.strip() or answer.stderr}",
                        f"westward lab exec {host} --root -- journalctl -n 50",
                    )
                time.sleep(0.1)

        side_by_side(one, HOSTS)

    def _write_inventory(self) -> Path:
        """How Ansible and ssh reach the hosts. The engine may give other ports after a restart."""
        published = {seen.node: seen.published for seen in engine.survey(self.client) if seen.lab == self.folder.lab}
        ports = {host: published[host][SSH_PORT] for host in HOSTS}
        key = key_file(self.files / "ssh-host-key", False)
        known = self.files / "known_hosts"
        write_private(known, "".join(known_host(HOST, port, key) for port in ports.values()))
        variables: dict[str, Any] = {
            "ansible_user": ADMIN,
            "ansible_ssh_private_key_file": str(self.files / "ssh-key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={json.dumps(str(known))}",
        }
        aside = ["test", "-d", CGROUPS_ASIDE]
        if engine.execute(self.client, f"{self.folder.lab}.{COMPUTE[0]}", aside).status == 0:
            variables["slurm_cgroup_config"] = {"CgroupPlugin": "cgroup/v1", "CgroupMountpoint": CGROUPS_ASIDE}
        inventory = {
            "all": {
                "hosts": {host: {"ansible_host": HOST, "ansible_port": port} for host, port in ports.items()},
                "vars": variables,
            }
        }
        path = self.files / "hosts.yml"
        write_private(path, yaml.safe_dump(inventory, sort_keys=False))
        return path

    def _says(self, subject: str) -> Callable[[str], None]:
        return lambda text: self.progress(subject, text)
