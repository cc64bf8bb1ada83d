"""A user's limits by slurmrestd: what is asked, and what the answers say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from westward.errors import Unreachable
from westward.model.limits import Limits
from westward.slurm import limitjson
from westward.slurm.looking import unaccounted
from westward.slurm.restarrays import Listing
from westward.slurm.restcall import Caller, Content, Query

# of so many jobs in the queue all are read, which takes about a second
SCAN_AT_MOST = 2000
# as a point in time: 2033
_FAR_AWAY = 2_000_000_000
Ask = Callable[[str, Query], Content]


def read(
    user: str, rest: Caller, accounting: Ask, listing: Callable[[], Listing], scan: Callable[[], list[Content]]
) -> Limits:
    """What counts against the limits is taken from the whole queue, for slurmctld's query of jobs has no filter by user (24.11 to 26.05 know
    `update_time` and `flags`). That costs half a millisecond for each of its jobs, so of a queue of more than SCAN_AT_MOST the user's
    jobs are taken from slurmdbd, which has not those that are held or wait for another job; a note says so.

    Args:
        accounting: slurmdbd's answer to a query of a path.
        listing: the state of every job in the queue, which is cheap.
        scan: every job in the queue, in full.

    Raises:
        Unreachable: slurmctld does not answer.
        KeyError, TypeError: an answer has another form than every version known here.
    """
    partitions = rest.call("GET", "slurm", "partitions/")
    meta = partitions["meta"]
    own: list[Content] = []
    others: list[Content] = []
    of_qos: list[Content] = []
    counted = limitjson.Own(())
    notes: tuple[str, ...] = ()
    if meta["plugin"].get("accounting_storage") != "accounting_storage/none":
        try:
            own = accounting("associations/", {"user": user})["associations"]
            of_qos = accounting("qos/", {})["qos"]
            others = _accounts_above(own, accounting)
            counted, notes = _count(user, accounting, listing, scan)
        except Unreachable as error:
            own, of_qos, others, notes = [], [], [], (unaccounted(error),)
    told = limitjson.limits(user, meta["slurm"]["cluster"], partitions["partitions"], of_qos, own, others, counted)
    told = replace(told, notes=(*told.notes, *notes))
    if not rest.speaks("v0.0.45"):
        return told
    return limitjson.with_settings(told, rest.call("GET", "slurm", "conf")["slurm_conf"])


def _count(
    user: str, accounting: Ask, listing: Callable[[], Listing], scan: Callable[[], list[Content]]
) -> tuple[limitjson.Own, tuple[str, ...]]:
    """What the user's jobs take, and what is to be known of that."""
    listed = listing()
    count = len(listed.plain) + len(listed.tasks)
    if count <= SCAN_AT_MOST:
        return limitjson.Own(limitjson.in_queue(user, scan())), ()
    # a question by state has only what is eligible before the window's end
    query = [("users", user), ("skip_steps", "true"), ("end_time", f"uts{_FAR_AWAY}")]
    found = accounting("jobs/", [*query, *(("state", state) for state in ("PENDING", "RUNNING", "SUSPENDED"))])["jobs"]
    mine = limitjson.in_accounting(found, listed.plain.keys() | listed.tasks.keys())
    return limitjson.Own(mine), (limitjson.MANY.format(count=count),)


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
