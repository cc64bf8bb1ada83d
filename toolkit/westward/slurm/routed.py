"""A batch script of the user's own -> JobSpec, and JobSpec -> what is submitted: the script to the byte, its options beside it. Pure.

By a shell door sbatch reads the script's #SBATCH lines itself, and gets the same options once more as arguments, so that those of the
environment and of the command line are among them. slurmrestd ignores these lines, so it gets all options as fields.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar

from westward.errors import InputError, QuantityError
from westward.model.accelerators import AcceleratorRequest
from westward.model.batchscript import BatchScript, Given
from westward.model.decision import Offer
from westward.model.job import Array, Dependency, JobSpec, Launcher, Submission, slurm_name
from westward.model.resources import Resources
from westward.model.site import Site
from westward.model.units import parse_memory, parse_walltime
from westward.slurm.sbatchfile import NOT_THE_JOB, place

Value = TypeVar("Value")
# sbatch(1): where stdout goes unless --output says otherwise
STDOUT, ARRAY_STDOUT = "slurm-%j.out", "slurm-%A_%a.out"
# options that have a field in Submission
_FIELDS = ("account", "qos", "partition", "array", "dependency", "job-name", "chdir", "output")
_TYPED = re.compile(r"(?:gpu:)?(?P<chip>[A-Za-z][\w.-]*):(?P<count>[1-9]\d*)")
_KEYED = re.compile(r"[a-z]+:[a-z2-7]{12}")
# sbatch(1), --begin
_FROM_NOW = re.compile(r"now(?:\+(?P<count>\d{1,8})(?P<unit>seconds?|minutes?|hours?|days?|weeks?)?)?", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
# where a job finds programs that has no login environment
PATH = "/usr/local/bin:/usr/bin:/bin"
# run a program with the environment that its user has after logging in; what login scripts print or read is none of what it prints or reads,
# and what they would have sbatch do beside submitting here is left out
_AFTER_LOGIN = 'unset SBATCH_CLUSTERS SLURM_CLUSTERS SBATCH_WAIT SBATCH_DEBUG; exec "$@" >&3 3>&- <&4 4<&-'
_LOGIN = f'exec 3>&1 4<&0 >/dev/null </dev/null; exec bash -l -c {shlex.quote(_AFTER_LOGIN)} bash "$@"'
LOGIN_SHELL = ("sh", "-c", _LOGIN, "sh")


def spec_of(script: BatchScript, now: datetime) -> JobSpec:
    """What a script asks for, as far as a site is chosen, listed and waited for by it; the rest stays in its options.

    Args:
        now: what a begin of "now+1hour" counts from.

    Raises:
        InputError: a value cannot be read; the message names its line.
    """
    array, limit = script.value("array"), script.value("time")
    script = replace(script, given=tuple(_dated(given, now) for given in script.given))
    return JobSpec(
        name=script.value("job-name") or PurePosixPath(script.file).name,
        command=(script.file, *script.arguments),
        resources=_resources(script, _walltime(script, limit)),
        launcher=Launcher.NONE,
        account=script.value("account"),
        qos=script.value("qos"),
        array=_read(script, "array", Array.parse) if array is not None else None,
        depends_on=_read(script, "dependency", _waits_for) if _is_keyed(script) else (),
        requeue="requeue" in script.options,
        script=script,
    )


def _dated(given: Given, now: datetime) -> Given:
    """A begin that counts from now, as seconds since the epoch: the same through every door, and whenever it gets there."""
    match = _FROM_NOW.fullmatch(given.value or "") if given.name == "begin" else None
    if match is None:
        return given
    seconds = int(match["count"] or 0) * _UNITS[(match["unit"] or "s")[0].lower()]
    return replace(given, value=f"uts{int(now.timestamp()) + seconds}")


def _walltime(script: BatchScript, limit: str | None) -> int | None:
    if limit is None or limit.upper() in ("UNLIMITED", "INFINITE", "0"):
        return None
    return _read(script, "time", parse_walltime)


def _resources(script: BatchScript, walltime_s: int | None) -> Resources:
    """What is asked for on each node, where it says so; a range of nodes counts with its least."""
    counts = {
        name: _read(script, name, _count)
        for name in ("nodes", "ntasks", "ntasks-per-node", "cpus-per-task")
        if name in script.options
    }
    nodes = counts.get("nodes", 1)
    per_node = counts.get("ntasks-per-node", -(-counts.get("ntasks", nodes) // nodes))
    mem = script.value("mem")
    return Resources(
        nodes=nodes,
        ntasks_per_node=max(1, per_node),
        cpus_per_task=counts.get("cpus-per-task", 1),
        mem_bytes=(_read(script, "mem", parse_memory) or None) if mem is not None else None,
        accelerators=_accelerators(script),
        walltime_s=walltime_s or Resources().walltime_s,
    )


def _accelerators(script: BatchScript) -> AcceleratorRequest | None:
    """The chips of one node, where the script says how many of which."""
    for name in ("gpus-per-node", "gres"):
        match = _TYPED.fullmatch(script.value(name) or "")
        if match and match["chip"] != "gpu":
            return AcceleratorRequest(match["chip"].lower(), int(match["count"]))
    count = re.fullmatch(r"(?:gpu:)?([1-9]\d*)", script.value("gpus-per-node") or script.value("gres") or "")
    return AcceleratorRequest("any", int(count[1])) if count else None


def _count(text: str) -> int:
    match = re.match(r"[1-9]\d{0,6}", text)
    if match is None:
        raise QuantityError(f"'{text}' is not a number from 1 up", text)
    return int(match[0])


def _waits_for(text: str) -> tuple[Dependency, ...]:
    return tuple(Dependency.parse(part) for part in text.split(","))


def _is_keyed(script: BatchScript) -> bool:
    """Whether it waits for jobs by their keys, and not by Slurm's ids."""
    return all(_KEYED.fullmatch(part) for part in (script.value("dependency") or "-").split(","))


def _read(script: BatchScript, name: str, parse: Callable[[str], Value]) -> Value:
    """The value of an option that is given; what is wrong with it is said with its line."""
    given = script.options[name]
    try:
        return parse(given.value or "")
    except QuantityError as error:
        raise InputError(f"{place(script, given)}: --{name}: {error}", f"see --{name} in sbatch(1)") from error


def render(
    spec: JobSpec, script: BatchScript, offer: Offer, site: Site, key: str, dependency: str | None = None
) -> Submission:
    """The script as it is submitted at the site of `offer`.

    Args:
        dependency: jobs of that cluster to wait for, as --dependency takes them, in place of keys.
    """
    directory = working_directory(script, site)
    output = script.value("output") or (ARRAY_STDOUT if spec.array else STDOUT)
    options = {
        name: given.value for name, given in script.options.items() if name not in NOT_THE_JOB and name not in _FIELDS
    }
    for name in ("error", "input"):
        if options.get(name):
            options[name] = _named(options[name] or "", spec.name)
    if dependency:
        options = {"kill-on-invalid-dep": "yes", **options}
    return Submission(
        name=slurm_name(spec.name, key),
        partition=script.value("partition") or offer.partition or None,
        account=spec.account or site.account,
        qos=spec.qos or site.qos,
        nodes=None,
        ntasks=None,
        ntasks_per_node=None,
        cpus_per_task=None,
        mem_per_node_mib=None,
        gres=None,
        walltime_s=None,
        root=submit_directory(script, site),
        directory=directory,
        stdout=posixpath.join(directory, _named(output, spec.name)),
        environment={**site.environment, **script.environment},
        script=script.text,
        array=script.value("array"),
        dependency=dependency if _is_keyed(script) else script.value("dependency"),
        requeue=None,
        hold=True,
        options=options,
        arguments=script.arguments,
    )


def working_directory(script: BatchScript, site: Site) -> str:
    """Where the job starts at a site: --chdir, taken from where it is submitted.

    That is the directory in which the command was given, where the site has it: as this very host, or under one of the directories that are
    mounted here. Elsewhere it is the site's root.
    """
    return posixpath.normpath(posixpath.join(submit_directory(script, site), script.value("chdir") or "."))


def submit_directory(script: BatchScript, site: Site) -> str:
    """The directory from which the script is submitted there."""
    here = Path(script.submitted_from)
    if site.on_this_host:
        return script.submitted_from
    for there, mounted in site.files.items():
        if here.is_relative_to(mounted):
            return posixpath.normpath(posixpath.join(there, here.relative_to(mounted).as_posix()))
    return site.root


def _named(pattern: str, name: str) -> str:
    """A file name pattern with the user's own name of the job for %x: at the cluster its name carries the key. sbatch(1), filename pattern."""
    if "\\" in pattern:  # nothing is replaced then
        return pattern
    return re.sub(r"%%|%\d*x", lambda found: found[0] if found[0] == "%%" else name.replace("%", "%%"), pattern)


def sbatch_words(submission: Submission) -> list[str]:
    """sbatch's arguments for a script of the user's own that comes by stdin."""
    fields = {
        "job-name": submission.name,
        "partition": submission.partition,
        "account": submission.account,
        "qos": submission.qos,
        "array": submission.array,
        "dependency": submission.dependency,
        "chdir": submission.directory,
        "output": submission.stdout,
    }
    given = {**{name: value for name, value in fields.items() if value is not None}, **submission.options}
    options = [f"--{name}" if value is None else f"--{name}={value}" for name, value in given.items()]
    # without arguments it needs no name, and is then recorded without one
    words = ["/dev/stdin", *submission.arguments] if submission.arguments else []
    return [*options, "--ignore-pbs", *words]


def rest_environment(submission: Submission, user: str) -> dict[str, str]:
    """The variables of a job as slurmrestd is told them; those that sbatch itself would set are among them.

    slurmrestd gives no login environment, so a script of the user's own has a few names of it only.
    """
    if submission.arguments is None:
        return dict(submission.environment)
    options = submission.options
    told = {
        "PATH": PATH,
        "USER": user,
        "LOGNAME": user,
        "SLURM_SUBMIT_DIR": submission.root,
        "SLURM_JOB_NAME": submission.name,
        "SLURM_CPUS_PER_TASK": options.get("cpus-per-task"),
        "SLURM_NTASKS": options.get("ntasks"),
        "SLURM_NPROCS": options.get("ntasks"),
        "SLURM_NTASKS_PER_NODE": options.get("ntasks-per-node"),
        "SLURM_EXPORT_ENV": options.get("export"),
    }
    return {**{name: value for name, value in told.items() if value is not None}, **submission.environment}
