"""A user's limits by Slurm's commands: which ones are asked, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from westward.errors import QuantityError, Unreachable
from westward.model.limits import Limits
from westward.process import Completed
from westward.slurm import clustertext, limittext
from westward.slurm.looking import unaccounted


def read(site: str, user: str, ask: Callable[..., Sequence[Completed]], perhaps: Callable[..., str]) -> Limits:
    """
    Args:
        ask: runs commands that only read, all of which have to end well.
        perhaps: what one command prints; empty where it does not end well.

    Raises:
        Unreachable: the cluster describes its limits in a form that is not known here; and what `ask` raises.
    """
    partition, settings, groups = ask(
        ["scontrol", "-o", "show", "partition"], ["scontrol", "show", "config"], ["id", "-Gn"]
    )
    told = clustertext.config(settings.stdout)
    default = of_qos = assoc = counted = unread = ""
    if told.get("AccountingStorageType", "").endswith("slurmdbd"):
        of_cluster = [f"user={user}", f"cluster={told.get('ClusterName', '')}", f"format={limittext.CHARGE_FORMAT}"]
        try:
            answers = ask(
                ["sacctmgr", "-n", "-P", "show", "user", user, "format=defaultaccount"],
                ["sacctmgr", "-n", "-P", "show", "qos", f"format={limittext.QOS_FORMAT}"],
                ["sacctmgr", "-n", "-P", "show", "assoc", *of_cluster],
            )
        except Unreachable as error:
            unread = unaccounted(error)
        else:
            default, of_qos, assoc = (answer.stdout for answer in answers)
            # a site may keep it from its users: then what counts is unknown
            counted = perhaps("scontrol", "-o", "show", "assoc_mgr", "flags=qos,assoc", f"users={user}")
    first = (default.splitlines() or [""])[0].strip()
    try:
        return limittext.limits(
            user, first, partition.stdout, settings.stdout, of_qos, assoc, groups.stdout, counted or None, unread
        )
    except (KeyError, ValueError, QuantityError) as error:
        raise Unreachable(
            f"site '{site}' describes its limits in a form not known here ({type(error).__name__}: {error})"
        ) from error
