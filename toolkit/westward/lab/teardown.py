"""Taking a lab down: exactly what `up` made, found by its labels, whatever `up` was doing when it ended."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

from westward.errors import StorageError, Unsafe
from westward.lab import engine
from westward.lab.engine import LAB, OWNER, ROLE, LabNetwork, Seen
from westward.lab.progress import Progress
from westward.lab.state import LabFolder

SETTLED_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Removed:
    """What `down` took away."""

    lab: str
    containers: tuple[str, ...]
    networks: tuple[str, ...]
    volumes: tuple[str, ...]
    files: bool

    @property
    def anything(self) -> bool:
        return bool(self.containers or self.networks or self.volumes or self.files)


def down(lab: str, progress: Progress) -> Removed:
    """Remove a lab's containers, network, volumes and files. Harmless where there are none.

    Raises:
        Unsafe: the lab belongs to another state directory that still has it.
        StorageError: a file cannot be removed.
    """
    folder = LabFolder(lab)
    client = engine.connect()
    with folder.locked(lambda: progress(lab, "another process is working on this lab: waiting")):
        containers, networks = of_lab(client, lab)
        refuse_if_foreign(folder, containers, networks)
        progress(lab, "removing containers and network")
        record = folder.read()
        if record is None or not record.ready:
            containers, networks = remove_half_made(
                client, lab, anything=record is not None or bool(containers or networks)
            )
        else:
            remove_engine_objects(client, containers, networks)
        volumes = _remove_volumes(client, lab)
        had_files = folder.root.exists()
        _remove_files(client, folder, containers)
        return Removed(
            lab,
            tuple(seen.name for seen in containers),
            tuple(network.name for network in networks),
            volumes,
            had_files,
        )


def of_lab(client: docker.DockerClient, lab: str) -> tuple[list[Seen], list[LabNetwork]]:
    """The lab's containers and networks: those that have its label."""
    return [seen for seen in engine.survey(client) if seen.lab == lab], engine.lab_networks(client, lab)


def refuse_if_foreign(folder: LabFolder, containers: list[Seen], networks: list[LabNetwork]) -> None:
    """A lab whose owner's state directory still has it is not ours to touch; one that lost its owner is anybody's.

    Raises:
        Unsafe: it belongs to another state directory.
    """
    for labels in [thing.labels for thing in containers] + [thing.labels for thing in networks]:
        owner = labels.get(OWNER, "")
        if owner != folder.owner and _still_has(owner, folder.lab):
            raise Unsafe(
                f"a lab '{folder.lab}' is there already, and belongs to the state directory '{owner}'",
                "choose another --name, or use it with WESTWARD_STATE_DIR set to that directory",
            )


def _still_has(owner: str, lab: str) -> bool:
    """Has that directory the lab? A directory that we may not even look into counts as one that has."""
    try:
        (Path(owner) / "labs" / lab).lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def remove_engine_objects(client: docker.DockerClient, containers: list[Seen], networks: list[LabNetwork]) -> None:
    """Remove containers, all at once, then the networks they were in."""
    with ThreadPoolExecutor(max_workers=max(1, len(containers))) as pool:
        list(pool.map(lambda seen: engine.remove(client, seen), containers))
    for network in networks:
        with engine.engine_errors(f"removing the network '{network.name}'"):
            try:
                client.api.remove_network(network.id)
            except NotFound:
                continue
            except APIError as error:
                if error.status_code != 403:  # a container is just being put into it: the next round finds both
                    raise


def remove_half_made(
    client: docker.DockerClient, lab: str, anything: bool = True
) -> tuple[list[Seen], list[LabNetwork]]:
    """Remove what an `up` that was cut off has made, and what the engine is still making for it; all that was removed.

    The engine finishes what it was asked for, also when nobody waits for the answer any more.

    Args:
        anything: False where there is no trace of the lab, and nothing to wait for.
    """
    removed: dict[str, Seen] = {}
    networks: dict[str, LabNetwork] = {}
    quiet_since = time.monotonic()
    while anything and time.monotonic() - quiet_since < SETTLED_AFTER_S:
        found, found_networks = of_lab(client, lab)
        if found or found_networks:
            removed.update({seen.id: seen for seen in found})
            networks.update({network.id: network for network in found_networks})
            remove_engine_objects(client, found, found_networks)
            quiet_since = time.monotonic()
        time.sleep(0.1)
    return list(removed.values()), list(networks.values())


def _remove_volumes(client: docker.DockerClient, lab: str) -> tuple[str, ...]:
    with engine.engine_errors("removing volumes"):
        found = client.volumes.list(filters={"label": f"{LAB}={lab}"})
        for volume in found:
            volume.remove(force=True)
    return tuple(str(volume.name) for volume in found)


def _remove_files(client: docker.DockerClient, folder: LabFolder, containers: list[Seen]) -> None:
    """Remove the state directory's part. What root in a node wrote to /shared, only root in a container can remove."""
    try:
        folder.remove()
        return
    except PermissionError as error:
        if not containers:
            raise StorageError(
                f"cannot remove '{error.filename}': it belongs to another user", f"as root: rm -r '{folder.root}'"
            ) from error
    with engine.engine_errors("removing files of the nodes"):
        client.containers.run(
            containers[0].image,
            ["-mindepth", "1", "-delete"],
            entrypoint=["find", "/lab"],
            user="root",
            volumes={str(folder.root): {"bind": "/lab", "mode": "rw"}},
            labels={LAB: folder.lab, OWNER: folder.owner, ROLE: "cleaner"},
            network_mode="none",
            cap_drop=["ALL"],
            cap_add=["DAC_OVERRIDE", "FOWNER"],
            remove=True,
        )
    folder.remove()
