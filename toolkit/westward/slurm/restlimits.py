"""A user's limits by slurmrestd: what is asked, and what the answers say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from westward.errors import Unreachable
from westward.model.limits import Limits
from westward.slurm import limitjson
from westward.slurm.looking import unaccounted
from westward.slurm.restcall import Caller, Content, Query

Ask = Callable[[str, Query], Content]


def read(user: str, rest: Caller, accounting: Ask, scan: Callable[[], list[Content]]) -> Limits:
    """
    Args:
        accounting: slurmdbd's answer to a query of a path.
        scan: every job in the queue.

    Raises:
        Unreachable: slurmctld does not answer.
        KeyError, TypeError: an answer has another form than every version known here.
    """
    partitions = rest.call("GET", "slurm", "partitions/")
    meta = partitions["meta"]
    own: list[Content] = []
    others: list[Content] = []
    of_qos: list[Content] = []
    jobs: list[Content] = []
    unread = ""
    if meta["plugin"].get("accounting_storage") != "accounting_storage/none":
        try:
            own = accounting("associations/", {"user": user})["associations"]
            of_qos = accounting("qos/", {})["qos"]
            others = _accounts_above(own, accounting)
            jobs = scan()
        except Unreachable as error:
            own, of_qos, unread = [], [], unaccounted(error)
    told = limitjson.limits(user, meta["slurm"]["cluster"], partitions["partitions"], of_qos, own, others, jobs)
    if unread:
        told = replace(told, notes=(unread,))
    if not rest.speaks("v0.0.45"):
        return told
    return limitjson.with_settings(told, rest.call("GET", "slurm", "conf")["slurm_conf"])


def _accounts_above(own: Sequence[Content], accounting: Ask) -> list[Content]:
    """The accounts of these associations as a whole, and those above them."""
    found: dict[str, Content] = {}
    wanted = {str(each["account"]) for each in own}
    while wanted:
        answer = accounting("associations/", {"account": ",".join(sorted(wanted))})["associations"]
        whole = {str(each["account"]): each for each in answer if not each["user"]}
        found |= whole
        wanted = {str(each["parent_account"]) for each in whole.values()} - found.keys() - {""}
    return list(found.values())
