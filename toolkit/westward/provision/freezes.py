"""Partitions in which nothing starts for a while, and back to what they were: only what Westward has frozen is thawed."""

from __future__ import annotations

import getpass
import json
import re
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from westward.errors import InputError, Unsafe, WestwardError
from westward.process import CommandFailed
from westward.provision.hosts import Hands, Host, Managed
from westward.provision.slurmctld import Slurmctld

# on the first controller, so that whoever comes next knows
FOLDER = "/var/lib/westward/frozen"
# DOWN takes jobs and lets them wait; INACTIVE takes none. In both, what runs goes on and nothing starts (slurm.conf(5), State of a partition).
HOLDING, CLOSED = "DOWN", "INACTIVE"
_SAVE = 'umask 077; mkdir -p "$1" && cat >"$1/.$2.part" && mv "$1/.$2.part" "$1/$2"'
_READ = 'test ! -e "$1/$2" || cat "$1/$2"'


@dataclass(frozen=True, slots=True)
class Frozen:
    """A partition that Westward froze: what it was, what it was made, by whom and when."""

    partition: str
    before: str
    state: str
    by: str
    at: str


def freeze(site: Managed, slurmctld: Slurmctld, hands: Hands, partition: str, closed: bool) -> tuple[Frozen, bool]:
    """Let nothing start in a partition; whether it was frozen now, or was so already.

    Args:
        closed: it takes no new jobs either.

    Raises:
        InputError: there is no such partition.
        Unsafe: somebody else has taken it out of service.
    """
    state = _state(slurmctld, site, partition)
    before = _recorded(hands, site.controller, partition)
    if before is not None and before.state == state:
        return before, False
    if state != "UP":
        raise Unsafe(
            f"partition '{partition}' is {state} already, and not by 'westward site freeze': it is left as it is",
            "whoever did that takes it back with 'scontrol update'; then freeze it",
        )
    made = Frozen(
        partition,
        state,
        CLOSED if closed else HOLDING,
        f"{getpass.getuser()}@{socket.gethostname().partition('.')[0]}",
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )
    # first what it was, then what it is: if this ends in between, thaw finds it UP
    _shell(hands, site.controller, _SAVE, partition, json.dumps(asdict(made)) + "\n")
    slurmctld.update_partition(partition, made.state)
    return made, True


def thaw(site: Managed, slurmctld: Slurmctld, hands: Hands, partition: str) -> tuple[Frozen | None, bool]:
    """Give a partition back what it was; what was recorded of it, and whether anything was done.

    Raises:
        InputError: there is no such partition.
        Unsafe: it is out of service, and not by us.
    """
    state = _state(slurmctld, site, partition)
    before = _recorded(hands, site.controller, partition)
    mine = before is not None and before.state == state
    if not mine and state != "UP":
        raise Unsafe(
            f"partition '{partition}' is {state}, and not by 'westward site freeze': it is left as it is",
            f"if you know that it may be used again: scontrol update PartitionName={partition} State=UP",
        )
    if mine and before is not None:
        slurmctld.update_partition(partition, before.before)
    if before is not None:
        _shell(hands, site.controller, 'rm -f "$1/$2"', partition)
    return before, mine


def _state(slurmctld: Slurmctld, site: Managed, partition: str) -> str:
    known = slurmctld.partitions()
    if partition not in known or not re.fullmatch(r"[\w.+-]+", partition):
        raise InputError(
            f"'{partition}' is no partition of {site.cluster}", f"partitions: {', '.join(known) or 'none'}"
        )
    return known[partition]


def _recorded(hands: Hands, controller: Host, partition: str) -> Frozen | None:
    text = _shell(hands, controller, _READ, partition)
    try:
        return Frozen(**json.loads(text)) if text else None
    except (ValueError, TypeError) as error:
        raise WestwardError(
            f"{controller.name}: {FOLDER}/{partition} cannot be read: {error}", "remove it when you know what it was"
        ) from error


def _shell(hands: Hands, controller: Host, script: str, partition: str, stdin: str = "") -> str:
    """
    Raises:
        WestwardError: the controller does not answer, or it failed there.
    """
    done = hands.run(controller, ("sh", "-c", script, "sh", FOLDER, partition), stdin=stdin)
    if isinstance(done, WestwardError):
        raise done
    if done.status:
        raise CommandFailed(done)
    return done.stdout
