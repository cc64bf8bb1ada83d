"""Slurm's reason codes in plain words, and what can be done about each.

Source: squeue(1), "JOB REASON CODES", and slurm.schedmd.com/job_reason_codes.html, Slurm 22.05 to 26.05; the codes of limits are built
of parts there ("QOSMaxCpuPerUserLimit"), and are read by their parts here. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """A code that Slurm gives for a job that waits, or that ended.

    Attributes:
        meaning: what it says.
        remedy: what its user can do; empty where there is nothing but to wait.
    """

    code: str
    meaning: str
    remedy: str = ""


def explained(reason: str) -> Reason | None:
    """What a reason means; None where it is none of Slurm's codes. Some are followed by details, after a comma or in parentheses."""
    code = re.split(r"[,(:]", reason, maxsplit=1)[0].strip()
    if code in _CODES:
        return Reason(code, *_CODES[code])
    limit = _LIMIT.fullmatch(code)
    return _of_limit(limit) if limit else None


_SMALLER = "ask for less, or for another partition or site: 'westward plan' shows what fits"
_ADMIN = "ask the site's administrators"
_WAIT_OR_SMALLER = "wait, or cancel it and ask for less"
_CODES: dict[str, tuple[str, str]] = {
    "None": ("the scheduler has not looked at it yet", ""),
    "Priority": ("jobs of higher priority are before it in the queue of its partition", "wait; a shorter walltime lets it fill a gap before them (backfill)"),
    "Resources": ("it is next, and what it asks for is not free yet", "wait; fewer nodes, accelerators or less memory may be free sooner"),
    "Dependency": ("it waits for another job to start or end", "see that job: 'westward explain' of it"),
    "DependencyNeverSatisfied": ("what it waits for can never come: that job ended otherwise than it should", "cancel it, and submit it again once the other has done well"),
    "BeginTime": ("its earliest start (begin) has not come", "wait, or cancel it and submit it without 'begin'"),
    "JobHeldUser": ("it is held, by its user or by the command that submitted it", "let it go there with 'scontrol release'; what Westward holds, the next command or the agent lets go"),
    "JobHeldAdmin": ("an administrator of its cluster holds it", _ADMIN),
    "JobHoldMaxRequeue": ("it was put back so often that its cluster holds it (MaxBatchRequeue)", "see what fails: 'westward attempts'; then cancel it"),
    "JobArrayTaskLimit": ("as many tasks of its array run as it allows at once (%N of array=)", ""),
    "JobLaunchFailure": ("it could not be launched: a node or a file system was not as it should be", "submit it again; if that goes the same way, " + _ADMIN),
    "Cleaning": ("it was put back, and its former nodes are still cleaning up", ""),
    "Prolog": ("its nodes are being prepared (prolog)", ""),
    "ReqNodeNotAvail": ("nodes that it needs are down, drained, or reserved for maintenance that would begin before it could end", "wait, or give it a walltime that ends before the maintenance"),
    "NodeDown": ("a node that it needs is down", "wait, or ask for other nodes"),
    "Nodes required for job are DOWN": ("nodes that it needs are down, drained, or reserved for jobs of a partition with higher priority", "wait, or submit it at another site"),
    "BadConstraints": ("no node of its cluster can ever meet its constraints", "cancel it, and change the constraint or what it asks for"),
    "PartitionDown": ("its partition is down: it starts nothing", "wait, or submit it at another site"),
    "PartitionInactive": ("its partition is inactive: it starts nothing", "wait, or submit it at another site"),
    "PartitionNodeLimit": ("it asks for more or fewer nodes than its partition allows", "cancel it, and ask for another number of nodes"),
    "PartitionTimeLimit": ("its time limit is longer than its partition allows", "cancel it, and give it a shorter walltime, or another partition or site"),
    "AccountNotAllowed": ("its account may not use its partition", "name another account=, or ask the site's administrators"),
    "QOSNotAllowed": ("its QOS may not be used in its partition, or by its account", "name another qos=, or ask the site's administrators"),
    "InvalidAccount": ("its account is not valid at its cluster", "name a valid one: account=; 'westward site show' lists yours"),
    "InvalidQOS": ("its QOS is not valid for its account", "name a valid one: qos=; 'westward site show' lists yours"),
    "QOSJobLimit": ("its QOS lets no more jobs run now", "wait"),
    "QOSResourceLimit": ("its QOS gives out no more of what it asks for now", _WAIT_OR_SMALLER),
    "QOSTimeLimit": ("its QOS has used up its time", _ADMIN),
    "QOSUsageThreshold": ("its account uses more than its QOS allows to start further jobs", "wait until the usage has decayed"),
    "AssociationJobLimit": ("its account or user lets no more jobs run now", "wait"),
    "AssociationResourceLimit": ("its account or user gets no more of what it asks for now", _WAIT_OR_SMALLER),
    "AssociationTimeLimit": ("its account or user has used up its time", _ADMIN),
    "AssocMaxJobsLimit": ("as many jobs of this user run as the account allows", "wait"),
    "Licenses": ("the licences that it asks for are in use", "wait"),
    "BurstBufferResources": ("there is not enough burst buffer free", "wait"),
    "BurstBufferStageIn": ("its data are being copied to the burst buffer", ""),
    "BurstBufferOperation": ("something went wrong with its burst buffer", _ADMIN),
    "Reservation": ("its reservation has not begun, or has nothing free", "wait"),
    "ReservationDeleted": ("the reservation that it asked for is gone", "cancel it, and submit it without the reservation"),
    "InvalidReservation": ("the reservation that it asks for is not there, or not for it", "cancel it, and correct options.reservation"),
    "MaxMemPerLimit": ("it asks for more memory than its partition gives for each CPU or node", "cancel it, and ask for less mem= or more cpus_per_task="),
    "FrontEndDown": ("no front end node is there to run it", _ADMIN),
    "DeadLine": ("it could not end before its deadline any more", "submit it again with a later deadline, or a shorter walltime"),
    "SchedDefer": ("its cluster defers scheduling while it is busy", ""),
    "Power_Not_Avail": ("its cluster's power cap leaves no room for it now", "wait"),
    "Power_Reserved": ("power is reserved for a job of higher priority", "wait"),
    "Not_Hetjob_Leader": ("another part of its heterogeneous job is looked at first", ""),
    "FedJobLock": ("clusters of its federation are deciding who starts it", ""),
    "AccountingPolicy": ("a limit of its accounting keeps it waiting", _ADMIN),
    # how it ended
    "NonZeroExitCode": ("its script ended with another exit code than 0", ""),
    "RaisedSignal": ("a signal ended it", ""),
    "TimeLimit": ("its time limit was reached", "give it a longer walltime="),
    "OutOfMemory": ("it used more memory than it asked for", "ask for more: mem="),
    "NodeFailure": ("one of its nodes failed", "submit it again"),
    "SystemFailure": ("Slurm, a file system or the network failed", "submit it again; if that goes the same way, " + _ADMIN),
    "InactiveLimit": ("it was inactive for longer than its cluster allows", ""),
}  # fmt: skip
_LIMIT = re.compile(
    r"(?P<owner>QOS|Assoc)(?P<kind>Grp|Max|Min)(?P<what>[A-Z][A-Za-z]*?)(?P<per>Per(?:User|Account|Job|Node))?(?P<limit>Limit)?"
)
_OWNERS = {"QOS": "its QOS", "Assoc": "its account"}
_WHAT = {
    "Jobs": "running jobs", "SubmitJobs": "jobs that run or wait", "SubmitJob": "jobs that run or wait",
    "CPU": "CPUs", "Cpu": "CPUs", "CPUs": "CPUs", "Node": "nodes", "Nodes": "nodes", "Memory": "memory", "Mem": "memory",
    "GRES": "accelerators or other GRES", "Gres": "accelerators or other GRES", "Billing": "billing units",
    "Wall": "wall-clock time", "WallDuration": "wall-clock time", "BB": "burst buffer", "License": "licences", "Energy": "energy",
    "CPUMinutes": "CPU minutes", "CPURunMinutes": "CPU minutes of what runs", "MemMinutes": "memory minutes",
    "MemRunMinutes": "memory minutes of what runs", "NodeMinutes": "node minutes", "NodeRunMinutes": "node minutes of what runs",
    "GRESMinutes": "accelerator minutes", "GRESRunMinutes": "accelerator minutes of what runs", "BillingMinutes": "billing minutes",
    "BillingRunMinutes": "billing minutes of what runs", "BBMinutes": "burst buffer minutes", "EnergyMinutes": "energy",
}  # fmt: skip
_PER = {
    "PerUser": " for each user",
    "PerAccount": " for each account",
    "PerJob": " in one job",
    "PerNode": " on one node",
}


def _of_limit(found: re.Match[str]) -> Reason:
    what = _WHAT.get(found["what"], found["what"])
    owner, per = _OWNERS[found["owner"]], _PER.get(found["per"] or "", "")
    together = " for all its jobs together" if found["kind"] == "Grp" and not per else per
    if found["kind"] == "Min":
        return Reason(found[0], f"{owner} wants more {what}{per} than it asks for", "cancel it, and ask for more")
    meaning = f"the limit that {owner} sets to {what}{together} is reached"
    if found["what"].endswith("Minutes") and not found["what"].endswith("RunMinutes"):
        return Reason(
            found[0], f"{meaning}: the budget is used up", "ask for more of it at the site, or submit elsewhere"
        )
    if found["per"] in ("PerJob", "PerNode") or found["what"].startswith("Wall"):
        return Reason(found[0], meaning, f"it can never start so: cancel it; {_SMALLER}")
    return Reason(found[0], meaning, "wait until some of those have ended, or submit at another site")
