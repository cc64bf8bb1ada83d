"""Bringing a lab up. Whatever state it is found in, it ends ready for use or with an error that names what failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import docker

from westward.directories import write_private
from westward.errors import Unreachable, Unsafe, WestwardError
from westward.jobs.side_by_side import side_by_side
from westward.lab import engine, nodes, readiness
from westward.lab.config import SSH_PORT
from westward.lab.engine import CLUSTER, LAB, OWNER, TOPOLOGY, Seen
from westward.lab.images import ensure_node_image
from westward.lab.nodes import CONTROLLER, LabUser, NodePlan
from westward.lab.nodetree import NodeTree, bench_commit, ensure_tree, toolkit_mount
from westward.lab.progress import Progress, quiet
from westward.lab.release import Release
from westward.lab.sites import doors, job_environment, refuse_taken_names, url, write_site
from westward.lab.sshkeys import known_host
from westward.lab.state import LabFolder, Record
from westward.lab.teardown import of_lab, refuse_if_foreign, remove_engine_objects, remove_half_made
from westward.lab.topology import ClusterPlan, Topology, load_topology

READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is ready.

    Attributes:
        outcome: what `up` had to do: made, started, repaired or unchanged.
        sites: the site file of each cluster.
        urls: the first door of each cluster: slurmrestd, or ssh where none is started.
        seconds: how long each phase took.
        outdated: it was made with another image or configuration than a new one would be.
    """

    name: str
    topology: str
    outcome: str
    sites: dict[str, Path]
    urls: dict[str, str]
    seconds: dict[str, float]
    outdated: bool


def up(topology: str, name: str | None = None, progress: Progress = quiet) -> Lab:
    """Bring a lab up, or find it up. Twice is harmless: a healthy one only gets new tokens.

    Args:
        progress: called from several threads with a subject (the lab, `image 24.11`, `packages`, a cluster) and what it is at.

    Raises:
        NotFound: no such topology.
        Unreachable: no engine, no image, or a cluster that was not ready in time.
        Unsafe: the name is taken by somebody else's lab or container, or that of a site by another description.
    """
    plan = load_topology(topology)
    lab = name or topology
    folder = LabFolder(lab)
    refuse_taken_names(folder, plan)
    client = engine.connect()
    with folder.locked(lambda: progress(lab, "another process is working on this lab: waiting")):
        return _Builder(client, folder, plan, progress).up()


@dataclass(frozen=True, slots=True)
class Materials:
    """What the nodes are made of.

    Attributes:
        images: by the suite of the release.
        tree: what the benchmarks import; None where no cluster runs any.
    """

    images: Mapping[str, str]
    tree: NodeTree | None

    def mounts(self, plan: ClusterPlan) -> dict[str, dict[str, str]]:
        """What the cluster's nodes mount of this host beside their shared directory, in the Docker SDK's form."""
        return {
            **(self.tree.mounts if self.tree and plan.benchmarks else {}),
            **(toolkit_mount() if plan.toolkit else {}),
        }

    def directories(self, plan: ClusterPlan) -> tuple[str, ...]:
        """The directories that its jobs import from, as its nodes see them."""
        return self.tree.on_node if self.tree and plan.benchmarks else ()


class _Builder:
    """One call of `up`, holding the lab's lock."""

    def __init__(self, client: docker.DockerClient, folder: LabFolder, topology: Topology, progress: Progress) -> None:
        self.client, self.folder, self.topology, self.progress = client, folder, topology, progress
        self.nodes = nodes.plan_nodes(folder.lab, topology)
        self.user: LabUser = nodes.lab_user()
        self.network = f"westward.{folder.lab}"
        self.seconds: dict[str, float] = {}
        self.began = time.monotonic()

    def up(self) -> Lab:
        found, networks = self._survey()
        materials = self._materials()
        record = self.folder.read()
        images = list(materials.images.values())
        mounts = {path for plan in self.topology.clusters for path in materials.mounts(plan)}
        spec = nodes.spec_digest(self.topology, images, mounts)
        names = {node.container for node in self.nodes}
        complete = record is not None and record.ready and bool(networks) and {seen.name for seen in found} == names
        if record and complete:
            outdated = record.spec != spec
            try:
                outcome, reports = self._resume(found, materials)
            except WestwardError as error:
                if outdated:
                    error.next_step = (
                        f"another version made this lab: 'westward lab down {self.folder.lab}', then up again"
                    )
                raise
        else:
            if record and record.ready:
                remove_engine_objects(self.client, found, networks)
            else:
                remove_half_made(self.client, self.folder.lab, anything=record is not None or bool(found or networks))
            record = Record(self.folder.lab, self.topology.name, False, ",".join(images), spec)
            self.folder.write(record)
            outcome, outdated = "made", False
            self._make(materials, spec)
            reports = self._wait(materials)
        sites, urls = self._hand_over(reports, materials)
        if not record.ready:
            self.folder.write(replace(record, ready=True))
        self._lap("handed over")
        self.progress(self.folder.lab, "ready")
        return Lab(self.folder.lab, self.topology.name, outcome, sites, urls, self.seconds, outdated)

    def _survey(self) -> tuple[list[Seen], list[engine.LabNetwork]]:
        """The lab's containers and networks.

        Raises:
            Unsafe: a name that we need belongs to something else.
        """
        lab = self.folder.lab
        everything = engine.survey(self.client)
        names = {node.container for node in self.nodes}
        for seen in everything:
            if seen.name in names and seen.lab != lab:
                raise Unsafe(
                    f"a container '{seen.name}' is there that is not of this lab", "choose another --name for the lab"
                )
        found, networks = of_lab(self.client, lab)
        refuse_if_foreign(self.folder, found, networks)
        found = [seen for seen in found if CLUSTER in seen.labels]  # beside them there may be services
        other = next(
            (seen.labels.get(TOPOLOGY) for seen in found if seen.labels.get(TOPOLOGY) != self.topology.name), None
        )
        if other:
            raise Unsafe(
                f"the lab '{lab}' is there with the topology '{other}', not '{self.topology.name}'",
                f"take it down ('westward lab down {lab}') or choose another --name",
            )
        return found, networks

    def _materials(self) -> Materials:
        """The nodes' packages and images, made at the same time where they are missing."""

        def one(release: Release) -> str:
            return ensure_node_image(self.client, lambda text: self.progress(f"image {release.slurm}", text), release)

        releases = self.topology.releases
        with ThreadPoolExecutor(max_workers=2) as pool:
            wanted = any(plan.benchmarks for plan in self.topology.clusters)
            tree = pool.submit(ensure_tree, lambda text: self.progress("packages", text)) if wanted else None
            images = dict(zip((release.suite for release in releases), pool.map(one, releases), strict=True))
            made = Materials(images, tree.result() if tree else None)
        self._lap("image and packages")
        return made

    def _make(self, materials: Materials, spec: str) -> None:
        """Network, secrets, shared directories, and every container, started."""
        lab, owner = self.folder.lab, self.folder.owner
        self.progress(lab, f"making {len(self.nodes)} nodes")
        with engine.engine_errors(f"making the network '{self.network}'"):
            self.client.networks.create(
                self.network, driver="bridge", labels={LAB: lab, OWNER: owner, TOPOLOGY: self.topology.name}
            )
        keys = {plan.name: self.folder.secrets(plan.name, self.user.name, anew=True) for plan in self.topology.clusters}
        shared = {
            plan.name: self.folder.make_shared(plan.name, self.user.uid, self.user.gid, self.user.name)
            for plan in self.topology.clusters
        }
        self._lap("network and secrets")

        def one(node: NodePlan) -> None:
            cluster = node.cluster.name
            container = nodes.create(
                self.client,
                node,
                image=materials.images[node.cluster.release.suite],
                network=self.network,
                labels=nodes.labels(node, self.topology.name, owner, spec),
                volumes={str(shared[cluster]): {"bind": "/shared", "mode": "rw"}, **materials.mounts(node.cluster)},
            )
            engine.put_files(self.client, container, nodes.files(node, keys[cluster], self.user))
            engine.start(self.client, container, node.container)

        side_by_side(one, self.nodes)
        self._lap("nodes started")

    def _resume(self, found: Sequence[Seen], materials: Materials) -> tuple[str, dict[str, readiness.Report]]:
        """A lab that was ready once: nothing to do, or start what stopped and start again what is not well."""
        stopped = [seen for seen in found if not seen.running]
        halted = {seen.labels[CLUSTER] for seen in stopped}
        reports = self._check([plan for plan in self.topology.clusters if plan.name not in halted], materials)
        if not stopped and all(report.healthy for report in reports.values()):
            return "unchanged", reports
        ill = [seen for seen in found if seen.labels[CLUSTER] in reports and _ill(seen, reports[seen.labels[CLUSTER]])]
        for what, seens in (("starting", stopped), ("starting again:", ill)):
            if seens:
                self.progress(self.folder.lab, f"{what} {', '.join(seen.node for seen in seens)}")
        side_by_side(lambda seen: engine.start(self.client, seen.id, seen.name), stopped)
        side_by_side(self._restart, ill)
        return "started" if stopped else "repaired", self._wait(materials)

    def _check(self, plans: Sequence[ClusterPlan], materials: Materials) -> dict[str, readiness.Report]:
        """The clusters as they are now, by name."""

        def one(plan: ClusterPlan) -> readiness.Report:
            controller = f"{self.folder.lab}.{plan.controller}"
            return readiness.check(self.client, controller, materials.directories(plan))

        with ThreadPoolExecutor(max_workers=max(1, len(plans))) as pool:
            found = dict(zip((plan.name for plan in plans), pool.map(one, plans), strict=True))
        self._lap("checked")
        return found

    def _wait(self, materials: Materials) -> dict[str, readiness.Report]:
        """Wait for all clusters at once; the first failure ends the waiting for the others."""
        deadline, given_up = time.monotonic() + READY_WITHIN_S, threading.Event()

        def one(plan: ClusterPlan) -> readiness.Report:
            of_cluster = [node for node in self.nodes if node.cluster.name == plan.name]
            report = readiness.wait_until_ready(
                self.client,
                of_cluster,
                materials.directories(plan),
                deadline,
                given_up,
                lambda text: self.progress(plan.name, text),
            )
            self.seconds[f"{plan.name}: job completed"] = round(time.monotonic() - self.began, 3)
            self.progress(plan.name, "a job has completed")
            return report

        with ThreadPoolExecutor(max_workers=len(self.topology.clusters)) as pool:
            waiting: dict[str, Future[readiness.Report]] = {
                plan.name: pool.submit(one, plan) for plan in self.topology.clusters
            }
            try:
                wait(waiting.values(), return_when=FIRST_EXCEPTION)
                for future in waiting.values():
                    if future.done() and isinstance(failure := future.exception(), WestwardError):
                        raise failure
            finally:
                given_up.set()
        self._lap("jobs completed")
        return {cluster: future.result() for cluster, future in waiting.items()}

    def _hand_over(
        self, reports: dict[str, readiness.Report], materials: Materials
    ) -> tuple[dict[str, Path], dict[str, str]]:
        """Tokens, known hosts and site files: what a user of the lab is given. The engine may give other ports after a restart."""
        published = {seen.name: seen.published for seen in engine.survey(self.client)}
        commit = bench_commit()
        sites, urls = {}, {}
        for plan in self.topology.clusters:
            ports = published[f"{self.folder.lab}.{plan.controller}"]
            token = reports[plan.name].token
            if token:
                write_private(self.folder.token(plan.name, self.user.name), token + "\n")
            if SSH_PORT in ports:
                key = self.folder.secrets(plan.name, self.user.name, anew=False).host_key
                write_private(self.folder.known_hosts(plan.name), known_host("127.0.0.1", ports[SSH_PORT], key))
            found = doors(self.folder, plan, ports, self.user)
            if not found:
                raise Unreachable(f"node '{plan.controller}': the engine published no port")
            directories = materials.directories(plan)
            environment = job_environment(directories, self.user, commit) if directories else {}
            sites[plan.name] = write_site(self.folder, self.topology, plan, found, self.user, environment)
            urls[plan.name] = url(found[0])
        return sites, urls

    def _restart(self, seen: Seen) -> None:
        with engine.engine_errors(f"starting '{seen.name}' again"):
            self.client.api.restart(seen.id, timeout=10)

    def _lap(self, phase: str) -> None:
        self.seconds[phase] = round(time.monotonic() - self.began, 3)


def _ill(seen: Seen, report: readiness.Report) -> bool:
    """Has this container to be started again? All of a cluster where the packages' mount went stale."""
    if report.missing:
        return True
    if seen.labels.get(engine.ROLE) == CONTROLLER:
        return bool(report.silent) or report.token == ""
    return seen.node in report.down or not report.nodes
