"""A cluster's limits beside a job: what would be refused, what would never start, and what would wait. Pure.

The rules are Slurm's (resource_limits.html, sacctmgr(1), slurm.conf(5)), checked on 24.11: of a limit that is set in several places the first counts,
in this order: the partition's QOS, the job's QOS, the user's own association; group limits of accounts count at every level above. A job beyond
a limit of its own is taken and never started, or refused where its QOS has DenyOnLimit; one too many to be submitted is always refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from westward.jobs.asking import MIB, Asked
from westward.model.limits import Cap, Charge, Finding, Limits, Qos, Rules, Verdict
from westward.model.units import format_bytes, format_duration, format_walltime

# a user's own limit, by the name that an association has for it
_SAME = {"MaxJobsPerUser": "MaxJobs", "MaxSubmitJobsPerUser": "MaxSubmitJobs"}
_SUBMIT = ("MaxSubmitJobs", "MaxSubmitJobsPerUser", "MaxSubmitJobsPerAccount", "GrpSubmitJobs")
_JOBS = ("MaxJobs", "MaxJobsPerUser", "MaxJobsPerAccount", "GrpJobs")
_AT_ONCE = ("MaxTRESPerUser", "MaxTRESPerAccount", "GrpTRES")
_MINUTES = ("GrpTRESMins", "GrpTRESRunMins", "MaxTRESRunMinsPerUser")
_ORDER = {verdict: place for place, verdict in enumerate(Verdict)}
# jobs by the limit that they count against, and its account where it is one of each account
Ahead = Mapping[tuple[str, str | None], int]
NOTHING: Ahead = {}


def findings(job: Asked, limits: Limits, ahead: Ahead = NOTHING) -> list[Finding]:
    """Every limit that is set, beside what the job asks; the worst first.

    Args:
        ahead: what jobs that are submitted before this one add to what counts.
    """
    rules = limits.partitions.get(job.partition)
    charge = _charge(job, limits)
    qos = _qos(job, charge, limits)
    found = list(_of_partition(job, rules, limits) if rules else _partition_unknown(job, limits))
    found += _who(job, charge, qos, limits)
    found += _of_caps(job, charge, qos, limits, ahead)
    return sorted(found, key=lambda finding: _ORDER[finding.verdict])


def findings_in_turn(jobs: Iterable[Asked], limits: Limits) -> list[list[Finding]]:
    """The same of jobs that are submitted together: each that is taken counts against what those behind it may submit."""
    ahead: Counter[tuple[str, str | None]] = Counter()
    found = []
    for job in jobs:
        of_job = findings(job, limits, ahead)
        found.append(of_job)
        if worst(of_job) is not Verdict.REFUSED:
            for finding in of_job:
                if finding.limit.endswith(_SUBMIT):
                    ahead[_counter(finding.limit, job)] += job.tasks
    return found


def _counter(limit: str, job: Asked) -> tuple[str, str | None]:
    """Where a job counts: a limit of each account has a count for each."""
    return limit, job.account if limit.endswith("PerAccount") else None


def most_submitted(job: Asked, limits: Limits) -> int | None:
    """How many jobs may wait and run together where this one counts, the least of all limits on that; None for no limit."""
    charge = _charge(job, limits)
    caps = _caps(job, charge, _qos(job, charge, limits), limits)
    return min((cap.value for _, cap in caps if cap.name in _SUBMIT), default=None)


def worst(found: Sequence[Finding]) -> Verdict:
    """What becomes of the job by all of them; a limit of which nothing is known does not count."""
    told = {finding.verdict for finding in found}
    return next((verdict for verdict in (Verdict.REFUSED, Verdict.NEVER, Verdict.WAITS) if verdict in told), Verdict.OK)


# --- who asks ---------------------------------------------------------------------------------------------------------


def _charge(job: Asked, limits: Limits) -> Charge | None:
    """The association that the job is charged to: of its partition before one of all."""
    account = job.account or limits.default_account
    own = [each for each in limits.charges if each.user and each.account == account]
    fitting = [each for each in own if each.partition in ("", job.partition)]
    return max(fitting, key=lambda each: bool(each.partition), default=None)


def _qos(job: Asked, charge: Charge | None, limits: Limits) -> str | None:
    """The QOS that is used: the one that is named, the association's default, its only one, or "normal"; None where that cannot be told."""
    if job.qos or charge is None:
        return job.qos
    if charge.default_qos:
        return charge.default_qos
    if len(charge.qos) == 1:
        return charge.qos[0]
    return "normal" if "normal" in charge.qos and "normal" in limits.qos else None


def _who(job: Asked, charge: Charge | None, qos: str | None, limits: Limits) -> Iterator[Finding]:
    own = sorted({each.account for each in limits.charges if each.user})
    name = job.account or limits.default_account
    checked = limits.enforced is None or bool(limits.enforced)
    if own and checked:
        if charge is None:
            remedy = f"account={own[0]}" if len(own) == 1 else f"account= one of {', '.join(own)}"
            yield Finding(Verdict.REFUSED, "accounts of yours", ", ".join(own), name or "none", remedy=remedy)
        else:
            yield Finding(Verdict.OK, "accounts of yours", ", ".join(own), name or "none")
    if charge is not None and charge.qos and (limits.enforced is None or "qos" in limits.enforced):
        limit, granted = f"QOS of account {charge.account}", ", ".join(sorted(charge.qos))
        if qos is None:
            yield Finding(Verdict.UNKNOWN, limit, granted, "the cluster's default", remedy="name one: qos=...")
        elif qos in charge.qos:
            yield Finding(Verdict.OK, limit, granted, qos)
        else:
            yield Finding(Verdict.REFUSED, limit, granted, qos, remedy=f"qos= one of {granted}")


# --- partitions -------------------------------------------------------------------------------------------------------


def _partition_unknown(job: Asked, limits: Limits) -> Iterator[Finding]:
    """Where it is not known which partition's limits count: none is named, several are, or the cluster tells of none of that name."""
    if limits.partitions:
        named = ", ".join(sorted(limits.partitions))
        yield Finding(Verdict.UNKNOWN, "partition", named, job.partition or "the cluster's default", remedy="name one")


def _of_partition(job: Asked, rules: Rules, limits: Limits) -> Iterator[Finding]:
    beyond = Verdict.REFUSED if limits.refuses_beyond_partition else Verdict.NEVER
    of = f"partition {rules.name}"
    if rules.state != "UP":
        verdict = Verdict.WAITS if rules.state == "DOWN" else Verdict.REFUSED
        yield Finding(verdict, f"{of}: State", rules.state, "UP", remedy="another site, or wait until it is up again")
    else:
        yield Finding(Verdict.OK, f"{of}: State", "UP", "UP")

    def most(
        name: str, value: int | None, wanted: int | None, show: str, of_value: str, remedy: str
    ) -> Iterator[Finding]:
        if value is not None:
            verdict = Verdict.UNKNOWN if wanted is None else beyond if wanted > value else Verdict.OK
            told = show if wanted is not None else "not known"
            yield Finding(verdict, f"{of}: {name}", of_value, told, remedy=remedy if verdict is not Verdict.OK else "")

    wall = rules.max_walltime_s
    limit, asked = (format_walltime(each or 0) for each in (wall, (job.minutes or 0) * 60))
    if job.minutes is not None:  # what names no time gets no more than its partition allows
        yield from most("MaxTime", wall, job.minutes * 60, asked, limit, f"walltime={limit} or less")
    yield from most(
        "MaxNodes", rules.max_nodes, job.nodes, str(job.nodes), str(rules.max_nodes), f"nodes={rules.max_nodes} or less"
    )
    cpus = rules.max_cpus_per_node
    yield from most(
        "MaxCPUsPerNode",
        cpus,
        job.cpus_per_node,
        str(job.cpus_per_node),
        str(cpus),
        "fewer tasks a node, or cpus_per_task",
    )
    mem, wanted = rules.max_mem_per_node_mib, job.mem_per_node_mib
    yield from most(
        "MaxMemPerNode", mem, wanted, _amount("mem", wanted or 0), _amount("mem", mem or 0), f"mem={mem}M or less"
    )
    if rules.min_nodes > 1:
        verdict = Verdict.UNKNOWN if job.nodes is None else beyond if job.nodes < rules.min_nodes else Verdict.OK
        remedy = f"nodes={rules.min_nodes} or more" if verdict is not Verdict.OK else ""
        told = str(job.nodes) if job.nodes is not None else "not known"
        yield Finding(verdict, f"{of}: MinNodes", str(rules.min_nodes), told, remedy=remedy)
    yield from _admitted(job, rules, limits, beyond)


def _admitted(job: Asked, rules: Rules, limits: Limits, beyond: Verdict) -> Iterator[Finding]:
    of = f"partition {rules.name}"
    charge = _charge(job, limits)
    account = job.account or limits.default_account
    qos = _qos(job, charge, limits)
    for name, allowed, denied, ours in (
        ("Accounts", rules.allow_accounts, rules.deny_accounts, account),
        ("Qos", rules.allow_qos, rules.deny_qos, qos),
    ):
        told, verb = (allowed, "Allow") if allowed else (denied, "Deny")
        if told:
            good = ours is not None and (ours in told) == bool(allowed)
            verdict = Verdict.UNKNOWN if ours is None else Verdict.OK if good else beyond
            key = "account" if name == "Accounts" else "qos"
            remedy = "" if verdict is Verdict.OK else f"another {key}=, or another site"
            yield Finding(verdict, f"{of}: {verb}{name}", ", ".join(told), ours or "not known", remedy=remedy)
    if rules.allow_groups:
        groups = limits.groups
        good = groups is not None and bool(set(groups) & set(rules.allow_groups))
        verdict = Verdict.UNKNOWN if groups is None else Verdict.OK if good else beyond
        asked_for = "your groups are not told by this door" if groups is None else ", ".join(groups)
        remedy = "" if verdict is Verdict.OK else "ask the site's administrator for one of these groups"
        yield Finding(verdict, f"{of}: AllowGroups", ", ".join(rules.allow_groups), asked_for, remedy=remedy)


# --- QOS and associations ---------------------------------------------------------------------------------------------


def _of_caps(job: Asked, charge: Charge | None, qos: str | None, limits: Limits, ahead: Ahead) -> Iterator[Finding]:
    denies = any("DenyOnLimit" in each.flags for each in _of_qos(job, qos, limits))
    alone = Verdict.REFUSED if denies else Verdict.NEVER
    for whose, cap in _caps(job, charge, qos, limits):
        limit = f"{whose}: {cap.name}" + (f" {cap.tres}" if cap.tres else "")
        yield _finding(job, limit, _counted(cap, job, limits, ahead.get(_counter(limit, job), 0)), alone)


def _caps(job: Asked, charge: Charge | None, qos: str | None, limits: Limits) -> Iterator[tuple[str, Cap]]:
    """The limits that count for a job, each with whose it is; none where the cluster enforces none."""
    if limits.enforced is not None and not limits.enforced & {"limits", "safe"}:
        return
    levels = [(f"QOS {each.name}", each.caps) for each in _of_qos(job, qos, limits)]
    in_qos = {(cap.name, cap.tres) for _, caps in levels for cap in caps}
    if charge is not None:
        levels.append((f"account {charge.account}, user {charge.user}", charge.caps))
    told: set[tuple[str, str]] = set()
    for whose, caps in levels:
        here = [cap for cap in caps if (_SAME.get(cap.name, cap.name), cap.tres) not in told]
        yield from ((whose, cap) for cap in here)
        told |= {(_SAME.get(cap.name, cap.name), cap.tres) for cap in here}
    for account in _above(charge, limits):
        for cap in account.caps:
            if cap.name.startswith("Grp") and (cap.name, cap.tres) not in in_qos:
                yield f"account {account.account}", cap


def _of_qos(job: Asked, qos: str | None, limits: Limits) -> list[Qos]:
    """The QOS of the partition and that of the job, in the order in which their limits count."""
    rules = limits.partitions.get(job.partition)
    own = limits.qos.get(qos or "")
    of_partition = limits.qos.get(rules.qos) if rules and rules.qos else None
    found = [each for each in dict.fromkeys((of_partition, own)) if each is not None]
    return found[::-1] if own is not None and "OverPartQOS" in own.flags else found


def _above(charge: Charge | None, limits: Limits) -> list[Charge]:
    whole = {each.account: each for each in limits.charges if not each.user}
    found: list[Charge] = []
    name = charge.account if charge else ""
    while name in whole and whole[name] not in found:
        found.append(whole[name])
        name = whole[name].parent
    return found


def _counted(cap: Cap, job: Asked, limits: Limits, ahead: int) -> Cap:
    """The cap with what counts, jobs ahead of this one too; of an account other than the default one the door does not tell."""
    if cap.name.endswith("PerAccount") and job.account not in (None, limits.default_account):
        return replace(cap, used=None)
    return replace(cap, used=cap.used + ahead) if ahead and cap.used is not None else cap


def _finding(job: Asked, limit: str, cap: Cap, alone: Verdict) -> Finding:
    """One cap beside the job; `alone` is what becomes of a job that is beyond it by itself."""
    wanted = _wanted(job, cap)
    value = _shown(cap, cap.value)
    used = _shown(cap, cap.used) if cap.used is not None else ""
    if wanted is None:
        return Finding(Verdict.UNKNOWN, limit, value, "not known", used)
    verdict = _verdict(job, cap, wanted, alone)
    return Finding(verdict, limit, value, _shown(cap, wanted), used, _remedy(cap, verdict, value))


def _wanted(job: Asked, cap: Cap) -> int | None:
    if cap.name in _SUBMIT:
        return job.tasks
    if cap.name in _JOBS:
        return 1
    if cap.name in ("MaxWall", "GrpWall"):
        return job.minutes
    count = job.on_a_node(cap.tres.lower()) if cap.name == "MaxTRESPerNode" else job.count(cap.tres.lower())
    minutes = cap.name in _MINUTES or cap.name == "MaxTRESMinsPerJob"
    if count is None or not minutes:
        return count
    return None if job.minutes is None else count * job.minutes


def _verdict(job: Asked, cap: Cap, wanted: int, alone: Verdict) -> Verdict:
    if cap.name == "MinTRESPerJob":
        return alone if wanted < cap.value else Verdict.OK
    if cap.name in _SUBMIT:
        if wanted > cap.value or (cap.used is not None and cap.used + wanted > cap.value):
            return Verdict.REFUSED
        return Verdict.OK if cap.used is not None else Verdict.UNKNOWN
    shared = cap.name in (*_JOBS, *_AT_ONCE, *_MINUTES, "GrpWall")
    if wanted > cap.value:
        return alone
    if not shared or (wanted == 0 and cap.name not in _JOBS):
        return Verdict.OK
    if cap.used is None:
        return Verdict.UNKNOWN
    return Verdict.WAITS if cap.used + wanted > cap.value else Verdict.OK


def _remedy(cap: Cap, verdict: Verdict, value: str) -> str:
    if verdict in (Verdict.OK, Verdict.UNKNOWN):
        return ""
    if cap.name in _SUBMIT:
        return "wait until some of your jobs have ended, cancel some (westward jobs, westward cancel), or use another qos= or account="
    if verdict is Verdict.WAITS:
        return "nothing: it starts when others have ended; another qos=, account= or --site may be sooner"
    if cap.name == "MaxWall":
        return f"walltime={value} or less, or another qos="
    if cap.name == "MinTRESPerJob":
        return f"ask for at least {value} of {cap.tres}, or another qos="
    return f"ask for at most {value}{f' of {cap.tres}' if cap.tres else ''}, or use another qos= or account="


def _shown(cap: Cap, number: float) -> str:
    minutes = cap.name in _MINUTES or cap.name == "MaxTRESMinsPerJob"
    if cap.name == "MaxWall":
        return format_walltime(round(number * 60))
    if cap.name == "GrpWall":
        return format_duration(number * 60)
    if minutes:
        return f"{number:,.0f} {'MiB' if cap.tres == 'mem' else cap.tres}-minutes"
    return _amount(cap.tres, number)


def _amount(tres: str, number: float) -> str:
    return format_bytes(number * MIB) if tres == "mem" else f"{number:,.0f}"
