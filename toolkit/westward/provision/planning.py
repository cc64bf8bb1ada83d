"""What a run of the playbook would change on a cluster that runs, what that takes, and what it does to jobs: said before anything is changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from westward.errors import InputError, Unreachable, WestwardError
from westward.provision.hosts import Hands, Managed
from westward.provision.playbooks import Playbook
from westward.provision.reading import without_secrets
from westward.provision.slurmctld import Slurmctld
from westward.provision.trial import Trial, try_out
from westward.slurm.conf import Settings
from westward.slurm.confcluster import Configuration, of_texts
from westward.slurm.confcompare import Difference, compare
from westward.slurm.confeffects import Class, Effect, daemons_of, effect_of, name_of
from westward.slurm.confmeaning import Release, release_of, spelled
from westward.slurm.confrunning import not_taken_up, running
from westward.slurm.hostlist import expand

_ACTIVE = ("RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "STOPPED", "SIGNALING", "STAGE_OUT")
_DEVICES = ("-O", "JobID:20,tres-alloc:300,tres-per-node:80,tres-per-job:80,tres-per-task:80,tres-per-socket:80")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs or waits, as squeue has it.

    Attributes:
        nodes: those that it is on; none while it waits.
        gres: it holds, or asks for, devices.
    """

    job: str
    state: str
    partitions: frozenset[str]
    nodes: frozenset[str]
    gres: bool

    @property
    def active(self) -> bool:
        return self.state in _ACTIVE


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between what runs and what is to run.

    Attributes:
        jobs: those that it would end or disturb.
        allowed: somebody named it, so that it is not refused.
    """

    difference: Difference
    effect: Effect
    jobs: tuple[str, ...] = ()
    allowed: bool = False

    @property
    def name(self) -> str:
        """What --allow calls it."""
        return name_of(self.difference)

    @property
    def refused(self) -> bool:
        return not self.allowed and (bool(self.jobs) or self.effect.harms == "always")


@dataclass(frozen=True)
class Candidate:
    """What the roles would write.

    Attributes:
        files: text by name.
        silent: hosts that Ansible did not reach.
    """

    files: Mapping[str, str] = field(repr=False)
    version: str
    silent: tuple[str, ...] = ()

    def configuration(self) -> Configuration:
        """
        Raises:
            InputError: a line that cannot be meant.
        """
        return of_texts(self.files, release_of(self.version))


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        version: of the Slurm that runs.
        trial: None where nothing differs, so that there is nothing to try.
        jobs: all that run or wait.
        notes: what its owner should know, each a sentence.
    """

    cluster: str
    version: str
    changes: tuple[Change, ...]
    trial: Trial | None
    jobs: tuple[RunningJob, ...]
    candidate: Candidate = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def daemons(self) -> tuple[str, ...]:
        """Those that start again."""
        return daemons_of(change.effect for change in self.changes)

    @property
    def refused(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.refused)

    @property
    def deepest(self) -> Class | None:
        return max((change.effect.kind for change in self.changes), default=None)


def make_plan(hands: Hands, site: Managed, allow: Iterable[str] = ()) -> Plan:
    """Ask a cluster what it runs with, and compare it with what the playbook would write. Nothing is changed on any host.

    Args:
        allow: names of changes that are not to be refused.

    Raises:
        InputError: the variables cannot be meant, or `allow` names what does not change.
        Unreachable: the controller, or its slurmctld, does not answer.
    """
    candidate = render(site.inventories)
    slurmctld = Slurmctld(site, hands)
    reading = slurmctld.reading()
    release = release_of(reading.version)
    after = comparable(candidate.configuration())
    jobs = read_jobs(slurmctld)
    before, late = as_it_runs(reading.configuration, reading.config)
    changes = changes_of(compare(before, after), release, jobs, allow)
    trial = None
    if changes:
        state = running(reading.config).get("StateSaveLocation", "")
        trial = try_out(hands, slurmctld.host, candidate.files, after, state)
    notes = [f"no answer from {', '.join(candidate.silent)}: nothing is known of them"] if candidate.silent else []
    notes += [note for note in reading.notes if note.startswith("slurmctld has nodes")]
    notes += [f"slurm.conf says {spelled(key)}={late[key]}, and slurmctld has not taken that up" for key in late]
    if candidate.version.split("-")[0] != reading.version:
        notes.append(
            f"the packages are {candidate.version}, and slurmctld runs as {reading.version}: it was not restarted"
        )
    return Plan(reading.cluster, reading.version, changes, trial, jobs, candidate, tuple(notes))


def render(inventories: Iterable[Path]) -> Candidate:
    """What the roles would write from an inventory: they say it themselves.

    Raises:
        InputError: the variables cannot be meant.
        Unreachable: a host without which nothing can be said does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="westward-plan-") as folder:
        playbook = Playbook(inventories, "render.yml", lambda _: None)
        # a host that does not answer is told of, and the rest is written all the same
        failed = None
        try:
            playbook.play({"slurm_render_to": folder})
        except WestwardError as error:
            failed = error
        files = {file.name: file.read_text() for file in Path(folder).iterdir()}
    silent = tuple(playbook.output.silent)
    version = files.pop("version", "").strip()
    if not version or "slurm.conf" not in files:
        if silent:
            raise Unreachable(
                f"no answer from {', '.join(silent)}", "'westward site doctor' tells what is wrong with each"
            )
        complaint = playbook.output.complaint.rpartition("'slurm_values' failed: ")[2]  # it says it best
        raise InputError(f"the roles cannot write this cluster's configuration: {complaint[:800] or failed}")
    return Candidate(files, version, silent)


def comparable(conf: Configuration) -> Configuration:
    """Without passwords, as what is read of a cluster has none."""
    return replace(conf, slurm=without_secrets(conf.slurm), dbd=conf.dbd and without_secrets(conf.dbd))


def as_it_runs(files: Configuration, config: str) -> tuple[Configuration, Settings]:
    """What a cluster runs with: its files, but for what slurmctld has not taken up of them; and that.

    Args:
        config: what `scontrol show config` printed.
    """
    late = not_taken_up(files, config)
    settings = {
        key: text for key, text in files.slurm.settings.items() if key not in Settings({one.what: "" for one in late})
    }
    settings |= {one.what: one.before for one in late if one.before is not None}
    known = Settings({one.what: one.after or "" for one in late})
    return replace(files, slurm=replace(files.slurm, settings=Settings(settings))), known


def changes_of(
    differences: Iterable[Difference], release: Release, jobs: Iterable[RunningJob], allow: Iterable[str] = ()
) -> tuple[Change, ...]:
    """Each difference with what it takes, the deepest first.

    Raises:
        InputError: `allow` names what does not change.
    """
    allowed, jobs = {name.lower() for name in allow}, list(jobs)
    found = [Change(one, effect := effect_of(one, release), harmed(one, effect, jobs)) for one in differences]
    unknown = allowed - {change.name.lower() for change in found}
    if unknown:
        names = ", ".join(dict.fromkeys(change.name for change in found)) or "nothing"
        raise InputError(f"--allow {', '.join(sorted(unknown))}: that does not change; what changes: {names}")
    found = [replace(change, allowed=change.name.lower() in allowed) for change in found]
    return tuple(sorted(found, key=lambda change: -change.effect.kind))


def harmed(difference: Difference, effect: Effect, jobs: Iterable[RunningJob]) -> tuple[str, ...]:
    """The jobs that a change ends or disturbs."""
    nodes = frozenset(expand(effect.nodes)) if effect.nodes else None
    partition = difference.about.partition("=")[2]

    def concerned(job: RunningJob) -> bool:
        here = job.active and (nodes is None or bool(job.nodes & nodes))
        match effect.harms:
            case "always" | "jobs":
                return True
            case "running":
                return job.active
            case "node":
                return here
            case "gres":
                return here and job.gres
            case "partition":
                return partition in job.partitions
        return False

    return tuple(job.job for job in jobs if concerned(job))


def read_jobs(slurmctld: Slurmctld) -> tuple[RunningJob, ...]:
    """The jobs that run or wait.

    Raises:
        Unreachable: slurmctld does not answer.
    """
    states = ",".join((*_ACTIVE, "PENDING"))
    queue, held = (
        slurmctld.ask("squeue", "-a", "-h", "-t", states, *form) for form in (("-o", "%A|%T|%P|%N"), _DEVICES)
    )
    return parse_jobs(queue, held)


def parse_jobs(queue: str, devices: str) -> tuple[RunningJob, ...]:
    """From what squeue prints as `%A|%T|%P|%N`, and of each job's devices. Nothing that a user chose is in either."""
    with_gres = {line.split(None, 1)[0] for line in devices.splitlines() if "gres" in line}
    found = []
    for line in queue.splitlines():
        job, state, partitions, nodes = line.split("|")
        found.append(
            RunningJob(
                job,
                state,
                frozenset(partitions.split(",")),
                frozenset(expand(nodes)) if nodes else frozenset(),
                job in with_gres,
            )
        )
    return tuple(found)
