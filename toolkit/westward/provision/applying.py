"""A plan carried out: the playbook runs, the cluster is looked at, and where something went wrong the configuration of before is put back."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from westward.directories import private_dir, state_dir, write_private
from westward.errors import SiteRefused, StorageError, Unreachable, WestwardError
from westward.process import Completed
from westward.provision.hosts import COMPUTE, CONTROLLER, DBD, LOGIN, Hands, Host, Managed
from westward.provision.planning import Plan, RunningJob, as_it_runs, comparable, read_jobs
from westward.provision.playbooks import Playbook
from westward.provision.slurmctld import Slurmctld
from westward.slurm.confcompare import compare

BACK_WITHIN_S = 90.0
KEPT = "/var/lib/westward/kept"
_BAD = ("DOWN", "DRAIN", "FAIL", "NOT_RESPONDING", "INVALID", "INVAL", "UNKNOWN")
# what became of a job that its cluster has lost, or begun again
_LOST = ("NODE_FAIL", "BOOT_FAIL", "PENDING", "REQUEUED")
_KEEP = """set -eu
umask 077
mkdir -p {kept}
cd /etc/slurm 2>/dev/null || exit 0
for file in *.conf *.yaml; do [ ! -f "$file" ] || cp -p "$file" {kept}/; done
"""
# files that were not there before are taken away again; slurmd's own list of devices is written anew by the next run
_PUT_BACK = """set -eu
cd {kept}
for file in *.conf *.yaml; do
  [ ! -f "$file" ] || cmp -s "$file" "/etc/slurm/$file" || {{ cp -p "$file" "/etc/slurm/$file.westward" && mv "/etc/slurm/$file.westward" "/etc/slurm/$file"; }}
done
for file in slurm.conf gres.conf cgroup.conf topology.conf topology.yaml slurmdbd.conf; do [ -f "$file" ] || rm -f "/etc/slurm/$file"; done
"""
# a node that fetches its configuration keeps it there
_SUM = "for file in /etc/slurm/slurm.conf /run/slurm/conf/slurm.conf; do [ ! -f $file ] || { sha256sum $file; exit; }; done"


@dataclass(frozen=True, slots=True)
class HostState:
    """What a host has of slurm.conf.

    Attributes:
        sha256: None where there is none, or no answer.
        has: `before`, `after`, `neither`, `none` or `no answer`.
    """

    sha256: str | None
    has: str


@dataclass(frozen=True)
class Applied:
    """What became of a plan.

    Attributes:
        problems: each a sentence; none where all went well.
        restored: what was there before is there again, on every host that was asked.
        kept: the directory, on each host, with the files of before.
        log: what the playbook said, here.
        jobs: those that ran before and go on, or have ended by themselves.
    """

    problems: tuple[str, ...]
    restored: bool
    hosts: Mapping[str, HostState]
    kept: str
    log: Path
    jobs: tuple[str, ...]


def apply_plan(hands: Hands, site: Managed, plan: Plan) -> Applied:
    """Run the playbook; see that nodes came back, that jobs go on, and that the cluster runs with what was planned.

    Raises:
        Unreachable: a host does not answer before anything is changed.
    """
    return _Applying(hands, site, plan).carry_out()


class _Applying:
    """One plan, being carried out."""

    def __init__(self, hands: Hands, site: Managed, plan: Plan) -> None:
        self._hands, self._site, self._plan = hands, site, plan
        self._slurmctld = Slurmctld(site, hands)
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self._kept = f"{KEPT}/{stamp}"
        self._log = private_dir(state_dir() / "apply") / f"{plan.cluster.replace('/', '_')}-{stamp}.log"
        self._hosts = site.of(CONTROLLER, DBD, LOGIN, COMPUTE)
        self._running = [job for job in plan.jobs if job.active and job.job not in _expected(plan)]

    def carry_out(self) -> Applied:
        nodes = self._bad_nodes()
        before = self._keep()
        problems = self._play()
        if not problems:
            problems = self._look(nodes)
        restored = False
        if problems:
            restored = self._put_back()
        lost = {job.job for job in self._running if job.job in " ".join(problems)}
        return Applied(
            tuple(problems),
            restored,
            self._states(before),
            self._kept,
            self._log,
            tuple(job.job for job in self._running if job.job not in lost),
        )

    def _keep(self) -> Mapping[str, str | None]:
        """Keep the files of each host beside them, for root alone; the sum of each host's slurm.conf.

        Raises:
            Unreachable: a host does not answer: nothing was changed yet.
        """
        for host, answer in self._on(self._hosts, _KEEP.format(kept=self._kept)).items():
            if isinstance(answer, WestwardError):
                raise Unreachable(
                    f"{host}: {answer}; nothing was changed",
                    answer.next_step or "take it out of the inventory, or wait",
                )
            if answer.status:
                raise StorageError(
                    f"{host}: the files of before cannot be kept: {answer.complaint}; nothing was changed"
                )
        return self._sums()

    def _play(self) -> list[str]:
        write_private(self._log, "")
        with self._log.open("a", encoding="utf-8", buffering=1) as log:
            try:
                Playbook(self._site.inventories, "site.yml", lambda line: print(line, file=log)).play({}, ["--diff"])
            except WestwardError as error:
                return [f"the playbook failed: {error}"]
        return []

    def _look(self, bad_before: Sequence[str]) -> list[str]:
        """What is wrong with the cluster after the playbook; the nodes get some time to come back."""
        until = time.monotonic() + BACK_WITHIN_S
        while True:
            try:
                found = self._faults(bad_before)
            except WestwardError as error:
                found = [f"slurmctld does not answer: {error}"]
            if not found or time.monotonic() > until:
                return found
            time.sleep(1)

    def _faults(self, bad_before: Sequence[str]) -> list[str]:
        away = [node for node in self._bad_nodes() if node not in bad_before]
        found = [f"nodes that did not come back: {', '.join(away)}"] if away else []
        found += self._lost_jobs()
        reading = self._slurmctld.reading()
        runs, _ = as_it_runs(reading.configuration, reading.config)
        left = compare(runs, comparable(self._plan.candidate.configuration()))
        return found + [f"still otherwise than planned: {one}" for one in left[:5]]

    def _lost_jobs(self) -> list[str]:
        now = {job.job: job for job in read_jobs(self._slurmctld)}
        missing = [job for job in self._running if job.job not in now or now[job.job].state == "PENDING"]
        return [f"job {job.job} {why}" for job in missing if (why := self._end_of(job, now.get(job.job)))]

    def _end_of(self, job: RunningJob, now: RunningJob | None) -> str | None:
        """How a job was lost; None where it ended by itself."""
        if now is not None:
            return "was put back into the queue"
        try:
            told = self._slurmctld.ask("scontrol", "-o", "show", "job", job.job)
        except SiteRefused:
            return "is no longer known"
        state = told.partition(" JobState=")[2].split(" ")[0]
        return f"ended as {state}" if state in _LOST else None

    def _bad_nodes(self) -> list[str]:
        """Nodes that can run nothing.

        Raises:
            Unreachable: slurmctld does not answer.
        """
        text = self._slurmctld.ask("sinfo", "-a", "-h", "-N", "-o", "%N %T")
        told = dict(line.split() for line in text.splitlines())
        return [node for node, state in told.items() if state.endswith("*") or state.upper().startswith(_BAD)]

    def _put_back(self) -> bool:
        """The files of before, and the daemons that go by them; whether every host that was asked has done it."""
        script = _PUT_BACK.format(kept=self._kept)
        going: list[bool] = [_well(answer) for answer in self._on(self._hosts, script).values()]
        daemons = set(self._plan.daemons)
        if "slurmdbd" in daemons or any(change.difference.where == "slurmdbd.conf" for change in self._plan.changes):
            going += self._start_again(self._site.of(DBD), "slurmdbd")
        # a reconfiguration would refuse what it cannot take up; a restart reads all of it, and jobs run on
        going += self._start_again(self._site.of(CONTROLLER), "slurmctld")
        nodes = self._site.of(COMPUTE)
        if "slurmd" in daemons:
            going += self._start_again(nodes, "slurmd")
        else:
            going += [_well(answer) for answer in self._on(nodes, "systemctl start slurmd").values()]
        going.append(self._reconfigured())
        return all(going)

    def _reconfigured(self) -> bool:
        until = time.monotonic() + BACK_WITHIN_S
        while not (done := _well(self._hands.run(self._site.controller, ("scontrol", "reconfigure"), repeat=True))):
            if time.monotonic() > until:
                break
            time.sleep(1)
        return done

    def _start_again(self, hosts: Sequence[Host], daemon: str) -> list[bool]:
        return [_well(answer) for answer in self._on(hosts, f"systemctl restart {daemon}").values()]

    def _states(self, before: Mapping[str, str | None]) -> dict[str, HostState]:
        """What each host has; one that fetches its configuration may take a moment."""
        old = {total for total in before.values() if total}
        now = self._sums()
        controller = now.get(self._site.controller.name)
        found = {}
        for host, total in now.items():
            if total is None:
                has = "no answer"
            elif not total:
                has = "none"
            else:
                has = (
                    "before"
                    if total == before.get(host) or total in old
                    else "after"
                    if total == controller
                    else "neither"
                )
            found[host] = HostState(total or None, has)
        return found

    def _sums(self) -> dict[str, str | None]:
        """By host; empty where it has no such file, None where it does not answer."""
        answers = self._on(self._hosts, _SUM)
        return {
            host: (answer.stdout.split() or [""])[0] if isinstance(answer, Completed) and not answer.status else None
            for host, answer in answers.items()
        }

    def _on(self, hosts: Sequence[Host], script: str) -> dict[str, Completed | WestwardError]:
        return self._hands.each(hosts, ("sh", "-s"), stdin=script, repeat=True)


def _expected(plan: Plan) -> set[str]:
    """Jobs that somebody allowed to be ended."""
    return {job for change in plan.changes if change.allowed for job in change.jobs}


def _well(answer: Completed | WestwardError) -> bool:
    return isinstance(answer, Completed) and not answer.status
