"""Getting into a lab: one command on a node, or a login shell there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import docker

from westward.errors import InputError, NotFound, Unreachable
from westward.lab import engine, terminal
from westward.lab.engine import CLUSTER, ROLE, Seen
from westward.lab.hosts import ADMIN, ROLE_HOST
from westward.lab.nodes import CONTROLLER, lab_user
from westward.lab.sites import site_name


def execute(where: str, argv: Sequence[str], *, lab: str | None = None, root: bool = False) -> int:
    """Run one command on a cluster's controller or on a node, its output passed on as it comes; its exit status.

    Args:
        where: a cluster (`west`: its controller) or a node (`west-n1`).
        lab: which lab, where several have a cluster or node of that name.
    """
    client = engine.connect()
    seen = find(client, where, lab)
    with engine.engine_errors(f"running '{argv[0]}' on '{seen.node}'"):
        user, home = _who(seen, root)
        created = client.api.exec_create(seen.id, list(argv), user=user, workdir=home)["Id"]
        for stdout, stderr in client.api.exec_start(created, stream=True, demux=True):
            for stream, chunk in ((sys.stdout, stdout), (sys.stderr, stderr)):
                if chunk:
                    stream.buffer.write(chunk)
                    stream.flush()
        return engine.exit_status(client.api.exec_inspect(created)["ExitCode"])


def shell(where: str, *, lab: str | None = None, root: bool = False) -> int:
    """An interactive login shell on a cluster's controller or on a node; its exit status.

    Raises:
        InputError: standard input is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError("a shell needs a terminal", f"for one command: westward lab exec {where} -- COMMAND")
    client = engine.connect()
    seen = find(client, where, lab)
    user, home = _who(seen, root)
    program = shutil.which("docker")
    if program:
        argv = [program, "exec", "-it", "-u", user, "-w", home, seen.id, "bash", "-l"]
        os.execv(program, argv)  # this process becomes it: keys, resizing and exit status are its own
    with engine.engine_errors(f"opening a shell on '{seen.node}'"):
        return terminal.interact(client, seen.id, ["bash", "-l"], user, home)


def find(client: docker.DockerClient, where: str, lab: str | None) -> Seen:
    """The running container that is meant by a cluster's or a node's name.

    Raises:
        NotFound: no lab has it.
        InputError: several have it, and `lab` does not say which.
        Unreachable: it is stopped.
    """
    ours = [
        seen
        for seen in engine.survey(client)
        if seen.lab and CLUSTER in seen.labels and (lab is None or seen.lab == lab)
    ]
    matching = [seen for seen in ours if where in (seen.node, *_doors(seen))]
    if len(matching) > 1:  # a bare name means the lab whose sites have bare names
        matching = [seen for seen in matching if seen.lab == seen.labels.get(engine.TOPOLOGY)] or matching
    if not matching:
        names = sorted({seen.node for seen in ours} | {seen.labels.get(CLUSTER, "") for seen in ours} - {""})
        if not names:
            which = f"no lab '{lab}' is up" if lab else "no lab is up"
            raise NotFound(which, "bring one up: westward lab up east-west")
        raise NotFound(f"no lab has a cluster or node '{where}'", f"there are: {', '.join(names)}")
    if len(matching) > 1:
        labs = ", ".join(sorted(seen.lab for seen in matching))
        raise InputError(f"several labs have '{where}': {labs}", "say which with --lab")
    if not matching[0].running:
        raise Unreachable(
            f"node '{matching[0].node}' is stopped", f"start it: westward lab up {matching[0].labels[engine.TOPOLOGY]}"
        )
    return matching[0]


def _doors(seen: Seen) -> tuple[str, ...]:
    """The names of cluster and site stand for the controller, which is where a user of the cluster logs in."""
    if seen.labels.get(ROLE) != CONTROLLER:
        return ()
    cluster = seen.labels.get(CLUSTER, "")
    return cluster, site_name(seen.lab, seen.labels.get(engine.TOPOLOGY, ""), cluster)


def _who(seen: Seen, root: bool) -> tuple[str, str]:
    """The user to be, and where to begin."""
    if root:
        return "root", "/root"
    if seen.labels[ROLE] == ROLE_HOST:
        return ADMIN, f"/home/{ADMIN}"
    user = lab_user()
    return user.name, user.home
