"""What a cluster says of itself: asked by each door on its own, made into a description, and compared with one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from westward.catalogue import reach
from westward.errors import InputError, SiteRefused, WestwardError
from westward.model.site import (
    Account,
    ClusterState,
    Door,
    Figure,
    Link,
    Observed,
    ObservedPartition,
    Power,
    Prices,
    Site,
)
from westward.model.units import format_duration, format_walltime
from westward.slurm.client import SlurmClient, open_door

SKEW_WARNING_S = 5.0
Connect = Callable[[Site, Door], SlurmClient]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one door said.

    Attributes:
        seconds: from knocking until everything was said, log-in included.
        rtt_s: the round trip of the door's wire (`reach.round_trip_s`).
        clock_skew_s: how far the cluster's clock is ahead of this host's, to about a second; None where this door cannot tell.
        root_writable: whether the directory that jobs write to can be written there; None where this door cannot tell.
    """

    door: Door
    account: Account
    state: ClusterState
    seconds: float
    rtt_s: float | None
    clock_skew_s: float | None
    root_writable: bool | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A door that was of no use, and why."""

    door: Door
    error: WestwardError


def provisional(name: str, doors: Sequence[Door], root: str | None = None) -> Site:
    """A site of which nothing is known yet but the ways in; without a root, it is the home directory there."""
    return Site(name, "", "", "", tuple(doors), {}, root or "", Prices(), Power(), {})


def ask(site: Site, connect: Connect = open_door) -> list[Answer | Refusal]:
    """What each of the site's doors says, in their order. A door to another cluster or another user than the first one's is a refusal."""
    answers: list[Answer | Refusal] = []
    for door in site.doors:
        try:
            answer = _ask(site, door, connect)
            first = next((answer for answer in answers if isinstance(answer, Answer)), answer)
            _same(site, first, answer)
            answers.append(answer)
        except WestwardError as error:
            answers.append(Refusal(door, error))
    return answers


def _ask(site: Site, door: Door, connect: Connect) -> Answer:
    began = time.monotonic()
    with connect(site, door) as client:
        state = client.state()
        # the first call also logged in: its answer may have been long on its way, so the clock is asked for by the second
        before = datetime.now(UTC)
        account = client.account()
        after = datetime.now(UTC)
        seconds = time.monotonic() - began
        root = site.root or account.home
        may_write = reach.writable(door, root) if root else None
        rtt_s = reach.round_trip_s(door)
    halfway = before + (after - before) / 2
    skew = (account.clock - halfway).total_seconds() if account.clock else None
    return Answer(door, account, state, seconds, rtt_s, skew, may_write)


def _same(site: Site, first: Answer, answer: Answer) -> None:
    expected = site.cluster or first.account.cluster
    if answer.account.cluster != expected:
        raise SiteRefused(
            f"site '{site.name}': {answer.door} leads to the cluster '{answer.account.cluster}', not to '{expected}'",
            "each cluster is a site of its own",
        )
    if answer.account.user != first.account.user:
        raise SiteRefused(
            f"site '{site.name}': {answer.door} makes you '{answer.account.user}', the first door '{first.account.user}'",
            "jobs of one user cannot be watched or cancelled as another",
        )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says of a new site, where the cluster's own answer is not to be used."""

    region: str
    root: str | None = None
    account: str | None = None
    qos: str | None = None
    mpi: str | None = None


def describe(name: str, answers: Sequence[Answer], wishes: Wishes) -> Site:
    """The description of a site, from at least one answer.

    Raises:
        InputError: an account or QOS that the cluster does not grant, or no door can tell the home directory and no root is given.
    """
    first = answers[0].account
    root = wishes.root or next((answer.account.home for answer in answers if answer.account.home), None)
    if root is None:
        raise InputError(
            f"site '{name}': its doors cannot tell your home directory there",
            "say where jobs may write, on a file system that all nodes share: --root DIRECTORY",
        )
    if not root.startswith("/"):
        raise InputError(f"site '{name}': the root '{root}' is not a path from / on")
    account = wishes.account or first.default_account
    _granted(name, first, wishes)
    mpi = next((answer.account.mpi for answer in answers if answer.account.mpi), ())
    return replace(
        provisional(name, [answer.door for answer in answers]),
        cluster=first.cluster,
        region="unknown",
        place="unknown",
        root=root.rstrip("/") or "/",
        links=_links(wishes.region, answers),
        account=account,
        qos=wishes.qos,
        mpi=wishes.mpi or _mpi(mpi),
        observed=observe(answers),
    )


_BLANK = {
    "region": "unknown",
    "place": "unknown",
    "files": {},
    "prices": Prices(),
    "power": Power(),
    "mpi": None,
    "environment": {},
    "inventory": (),
}


def keep(before: Site, now: Site) -> tuple[Site, list[str]]:
    """A description made anew, with what its user had filled in `before` and the cluster does not tell; and what that is.

    Nothing is taken over from the description of another cluster.
    """
    if before.cluster != now.cluster:
        return now, []
    kept: dict[str, Any] = {
        name: getattr(before, name)
        for name, blank in _BLANK.items()
        if getattr(now, name) == blank and getattr(before, name) != blank
    }
    if before.links.keys() - now.links.keys():
        kept["links"] = {**before.links, **now.links}
    return replace(now, **kept), list(kept)


def _granted(name: str, account: Account, wishes: Wishes) -> None:
    """Raises InputError where the cluster keeps accounts, and does not grant the account or QOS that is wished for."""
    mine = account.associations
    accounts = sorted({each.account for each in mine})
    if wishes.account and mine and wishes.account not in accounts:
        raise InputError(
            f"site '{name}': '{account.user}' may not charge the account '{wishes.account}'",
            f"yours: {', '.join(accounts)}",
        )
    qos = sorted({qos for each in mine for qos in each.qos if wishes.account in (None, each.account)})
    if wishes.qos and qos and wishes.qos not in qos:
        raise InputError(
            f"site '{name}': '{account.user}' may not use the QOS '{wishes.qos}'", f"yours: {', '.join(qos)}"
        )


def _mpi(known: Sequence[str]) -> str | None:
    """PMIx where the cluster has it. Open MPI is not built for pmi2: under it, each process would believe to be alone."""
    return next(
        (name for name in ("pmix", *sorted(known, reverse=True)) if name in known and name.startswith("pmix")), None
    )


def _links(region: str, answers: Sequence[Answer]) -> dict[str, Link]:
    measured = [(answer.rtt_s, answer.door) for answer in answers if answer.rtt_s is not None]
    if not measured:
        return {}
    rtt_s, door = measured[0]
    today = datetime.now(UTC).date().isoformat()
    if reach.is_here(door):
        return {
            region: Link(
                Figure(0.0, f"not measured: this host is at the cluster (door: {door})", today, estimated=True)
            )
        }
    source = f"measured by westward site add: median of {reach.TRIES} round trips by {door}"
    return {region: Link(Figure(round(rtt_s * 1000, 2), source, today, estimated=False))}


def observe(answers: Sequence[Answer]) -> Observed:
    """The facts worth keeping: of several doors, the first one that tells."""
    first = answers[0]
    defaults = {
        partition.name: partition.default
        for answer in reversed(answers)
        for partition in answer.state.partitions
        if partition.default is not None
    }
    skews = [answer.clock_skew_s for answer in answers if answer.clock_skew_s is not None]
    return Observed(
        at=datetime.now(UTC).replace(microsecond=0),
        version=first.state.version,
        user=first.account.user,
        partitions=tuple(
            ObservedPartition(
                partition.name,
                nodes=sum(partition.name in node.partitions for node in first.state.nodes),
                max_walltime_s=partition.max_walltime_s or None,
                max_nodes=partition.max_nodes,
                default=defaults.get(partition.name),
                accelerators=_accelerators(first.state, partition.name),
            )
            for partition in first.state.partitions
        ),
        accounts=first.account.associations,
        clock_skew_s=round(skews[0], 2) if skews else None,
    )


def chips(answers: Sequence[Answer]) -> set[str]:
    """The chips that a cluster says it has."""
    return {chip for answer in answers for node in answer.state.nodes for chip in node.accelerators}


def _accelerators(state: ClusterState, partition: str) -> dict[str, int]:
    """All accelerators of a partition's nodes, by chip."""
    chips: Counter[str] = Counter()
    for node in state.nodes:
        if partition in node.partitions:
            chips.update(node.accelerators)
    return dict(sorted(chips.items()))


def concerns(site: Site, answers: Sequence[Answer]) -> list[str]:
    """What a user should know before the next job: what has changed against the description, and what will go wrong."""
    if not answers:
        return []
    return [
        *_clock_concerns(answers),
        *_account_concerns(site, answers[0].account),
        *(_changes(site.observed, observe(answers)) if site.observed else ()),
        *_root_concerns(site, answers),
    ]


def _clock_concerns(answers: Sequence[Answer]) -> list[str]:
    said = []
    for answer in answers:
        skew = answer.clock_skew_s
        if skew is not None and abs(skew) > SKEW_WARNING_S:
            where = "ahead of" if skew > 0 else "behind"
            said.append(
                f"its clock is {format_duration(abs(skew))} {where} this host's (by {answer.door}): tokens are refused, begin times are missed "
                "and a lost job is found later; let both hosts follow a time server (chrony)"
            )
    return said[:1]


def _account_concerns(site: Site, account: Account) -> list[str]:
    mine = account.associations
    if not mine:
        return []
    said = []
    if site.account and all(each.account != site.account for each in mine):
        yours = ", ".join(sorted({each.account for each in mine}))
        said.append(f"'{account.user}' may no longer charge the account '{site.account}'; yours: {yours}")
    qos = {qos for each in mine for qos in each.qos if site.account in (None, each.account)}
    if site.qos and qos and site.qos not in qos:
        said.append(f"'{account.user}' may no longer use the QOS '{site.qos}'; yours: {', '.join(sorted(qos))}")
    return said


def _changes(before: Observed, now: Observed) -> list[str]:
    """What is otherwise than on the day the description was written."""
    day = before.at.date().isoformat()
    said = [] if before.version == now.version else [f"Slurm is now {now.version} (was {before.version} on {day})"]
    old, new = ({partition.name: partition for partition in seen.partitions} for seen in (before, now))
    said += [f"the partition '{name}' of {day} is gone" for name in old if name not in new]
    said += [f"the partition '{name}' was not there on {day}" for name in new if name not in old]
    for name in (name for name in old if name in new):
        was, is_ = _limits(old[name]), _limits(new[name])
        changed = [f"{key} {is_[key]} (was {was[key]})" for key in was if was[key] != is_[key]]
        if changed:
            said.append(f"the partition '{name}' has changed since {day}: {', '.join(changed)}")
    return said


def _limits(partition: ObservedPartition) -> dict[str, str]:
    limit = partition.max_walltime_s
    chips = ", ".join(f"{chip} x {count}" for chip, count in sorted(partition.accelerators.items()))
    return {
        "time limit": format_walltime(limit) if limit is not None else "none",
        "nodes of a job": str(partition.max_nodes) if partition.max_nodes is not None else "no limit",
        "nodes": str(partition.nodes),
        "accelerators": chips or "none",
    }


def _root_concerns(site: Site, answers: Sequence[Answer]) -> list[str]:
    told = [answer for answer in answers if answer.root_writable is not None]
    if all(answer.root_writable for answer in told):
        return []
    by = next(answer.door for answer in told if not answer.root_writable)
    return [
        f"jobs cannot write to '{site.root}': by {by} it is not there, or not yours to write to; name another as 'root'"
    ]
