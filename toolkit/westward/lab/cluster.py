"""Bringing a lab up. Whatever state it is found in, it ends ready for use or with an error that names what failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import docker

from westward.directories import write_private
from westward.errors import Unreachable, Unsafe, WestwardError
from westward.lab import engine, nodes, readiness
from westward.lab.config import REST_PORT
from westward.lab.engine import LAB, OWNER, TOPOLOGY, Seen
from westward.lab.images import ensure_node_image
from westward.lab.nodes import CONTROLLER, LabUser, NodePlan
from westward.lab.nodetree import NodeTree, bench_commit, ensure_tree
from westward.lab.progress import Progress, quiet
from westward.lab.sites import job_environment, write_site
from westward.lab.state import LabFolder, Record
from westward.lab.teardown import of_lab, refuse_if_foreign, remove_engine_objects, remove_half_made
from westward.lab.topology import Topology, load_topology

READY_WITHIN_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is ready.

    Attributes:
        outcome: what `up` had to do: made, started, repaired or unchanged.
        sites: the site file of each cluster.
        urls: slurmrestd of each cluster.
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
        progress: called from several threads with a subject (the lab, `image`, `packages`, a cluster) and what it is at.

    Raises:
        NotFound: no such topology.
        Unreachable: no engine, no image, or a cluster that was not ready in time.
        Unsafe: the name is taken by somebody else's lab or container.
    """
    plan = load_topology(topology)
    lab = name or topology
    folder = LabFolder(lab)
    client = engine.connect()
    with folder.locked(lambda: progress(lab, "another process is working on this lab: waiting")):
        return _Builder(client, folder, plan, progress).up()


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
        tree, image = self._materials()
        record = self.folder.read()
        spec = nodes.spec_digest(self.topology, image, tree.mounts)
        names = {node.container for node in self.nodes}
        complete = record is not None and record.ready and bool(networks) and {seen.name for seen in found} == names
        if record and complete:
            outdated = record.spec != spec
            try:
                outcome, reports = self._resume(found, tree)
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
            record = Record(self.folder.lab, self.topology.name, False, image, spec)
            self.folder.write(record)
            outcome, outdated = "made", False
            self._make(image, spec, tree)
            reports = self._wait(tree)
        sites, urls = self._hand_over(reports, tree)
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
        other = next(
            (seen.labels.get(TOPOLOGY) for seen in found if seen.labels.get(TOPOLOGY) != self.topology.name), None
        )
        if other:
            raise Unsafe(
                f"the lab '{lab}' is there with the topology '{other}', not '{self.topology.name}'",
                f"take it down ('westward lab down {lab}') or choose another --name",
            )
        return found, networks

    def _materials(self) -> tuple[NodeTree, str]:
        """The nodes' packages and image, made at the same time where they are missing."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            tree = pool.submit(ensure_tree, lambda text: self.progress("packages", text))
            image = ensure_node_image(self.client, lambda text: self.progress("image", text))
            made = tree.result()
        self._lap("image and packages")
        return made, image

    def _make(self, image: str, spec: str, tree: NodeTree) -> None:
        """Network, secrets, shared directories, and every container, started."""
        lab, owner = self.folder.lab, self.folder.owner
        self.progress(lab, f"making {len(self.nodes)} nodes")
        with engine.engine_errors(f"making the network '{self.network}'"):
            self.client.networks.create(
                self.network, driver="bridge", labels={LAB: lab, OWNER: owner, TOPOLOGY: self.topology.name}
            )
        keys = {plan.name: self.folder.secrets(plan.name, anew=True) for plan in self.topology.clusters}
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
                image=image,
                network=self.network,
                labels=nodes.labels(node, self.topology.name, owner, spec),
                volumes={str(shared[cluster]): {"bind": "/shared", "mode": "rw"}, **tree.mounts},
            )
            engine.put_files(self.client, container, nodes.files(node, keys[cluster], self.user))
            self._start(container, node.container)

        self._each(one, self.nodes)
        self._lap("nodes started")

    def _resume(self, found: Sequence[Seen], tree: NodeTree) -> tuple[str, dict[str, readiness.Report]]:
        """A lab that was ready once: nothing to do, or start what stopped, or start again what is not well."""
        stopped = [seen for seen in found if not seen.running]
        if stopped:
            self.progress(self.folder.lab, f"starting {', '.join(seen.node for seen in stopped)}")
            self._each(lambda seen: self._start(seen.id, seen.name), stopped)
            return "started", self._wait(tree)
        reports = self._check(tree)
        if all(report.healthy for report in reports.values()):
            return "unchanged", reports
        ill = [seen for seen in found if _ill(seen, reports[seen.labels[engine.CLUSTER]])]
        self.progress(self.folder.lab, f"starting again: {', '.join(seen.node for seen in ill)}")
        self._each(self._restart, ill)
        return "repaired", self._wait(tree)

    def _check(self, tree: NodeTree) -> dict[str, readiness.Report]:
        controllers = [node for node in self.nodes if node.role == CONTROLLER]
        with ThreadPoolExecutor(max_workers=len(controllers)) as pool:
            reports = pool.map(lambda node: readiness.check(self.client, node.container, tree.on_node), controllers)
            found = {node.cluster.name: report for node, report in zip(controllers, reports, strict=True)}
        self._lap("checked")
        return found

    def _wait(self, tree: NodeTree) -> dict[str, readiness.Report]:
        """Wait for all clusters at once; the first failure ends the waiting for the others."""
        deadline, given_up = time.monotonic() + READY_WITHIN_S, threading.Event()

        def one(cluster: str) -> readiness.Report:
            of_cluster = [node for node in self.nodes if node.cluster.name == cluster]
            report = readiness.wait_until_ready(
                self.client, of_cluster, tree.on_node, deadline, given_up, lambda text: self.progress(cluster, text)
            )
            self.seconds[f"{cluster}: job completed"] = round(time.monotonic() - self.began, 3)
            self.progress(cluster, "a job has completed")
            return report

        with ThreadPoolExecutor(max_workers=len(self.topology.clusters)) as pool:
            waiting: dict[str, Future[readiness.Report]] = {
                plan.name: pool.submit(one, plan.name) for plan in self.topology.clusters
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
        self, reports: dict[str, readiness.Report], tree: NodeTree
    ) -> tuple[dict[str, Path], dict[str, str]]:
        """Tokens and site files: what a user of the lab is given."""
        ports = {seen.name: seen.published.get(REST_PORT) for seen in engine.survey(self.client)}
        environment = job_environment(tree.on_node, self.user, bench_commit())
        sites, urls = {}, {}
        for plan in self.topology.clusters:
            port = ports[f"{self.folder.lab}.{plan.controller}"]
            if port is None:
                raise Unreachable(f"node '{plan.controller}': the engine published no port for slurmrestd")
            write_private(self.folder.token(plan.name, self.user.name), reports[plan.name].token + "\n")
            sites[plan.name] = write_site(self.folder, self.topology, plan, port, self.user, environment)
            urls[plan.name] = f"http://127.0.0.1:{port}"
        return sites, urls

    def _start(self, container: str, name: str) -> None:
        with engine.engine_errors(f"starting '{name}'"):
            self.client.api.start(container)

    def _restart(self, seen: Seen) -> None:
        with engine.engine_errors(f"starting '{seen.name}' again"):
            self.client.api.restart(seen.id, timeout=10)

    def _each(self, work: Callable[[T], None], things: Sequence[T]) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(things))) as pool:
            for future in [pool.submit(work, thing) for thing in things]:
                future.result()

    def _lap(self, phase: str) -> None:
        self.seconds[phase] = round(time.monotonic() - self.began, 3)


def _ill(seen: Seen, report: readiness.Report) -> bool:
    """Has this container to be started again? All of a cluster where the packages' mount went stale."""
    if report.missing:
        return True
    if seen.labels.get(engine.ROLE) == CONTROLLER:
        return bool(report.silent) or not report.token
    return seen.node in report.down or not report.nodes
