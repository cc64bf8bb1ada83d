"""JobSpec and Offer -> what is submitted: the sbatch script, and the same options as fields for slurmrestd.

Pure: nothing here asks a cluster or a clock. The script is what a person reads in `westward plan` and what a shell door submits;
slurmrestd ignores its `#SBATCH` lines, so every option also stands in `Submission`.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from westward.errors import InputError
from westward.model.decision import Offer
from westward.model.job import JobChange, JobSpec, Launcher, Submission, Task, slurm_name
from westward.model.site import Site
from westward.model.sitemap import ONE_WORD
from westward.model.tres import gres
from westward.model.units import format_walltime, whole_minutes_s
from westward.model.variables import PATTERN
from westward.slurm import routed
from westward.slurm.containers import Contained, contained

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parents[1] / "_data" / "slurm" / "jobs"
# where each task of an array has a command of its own, the script keeps it in this variable
OWN_COMMAND = "westward_command"
# options that are not to be had as `options`, and what to use instead
RESERVED = {
    **dict.fromkeys(("job-name", "chdir", "output", "export", "export-file"), "nothing: jobs are found by these"),
    **dict.fromkeys(("hold", "parsable", "test-only", "wait", "wrap", "quiet", "clusters", "uid", "gid"), "nothing: a submission needs them so"),
    **{name: f"use the template's own key for it ({key}=)" for name, key in (
        ("nodes", "nodes"), ("ntasks-per-node", "ntasks_per_node"), ("cpus-per-task", "cpus_per_task"), ("mem", "mem"), ("gres", "accelerators"),
        ("time", "walltime"), ("account", "account"), ("qos", "qos"), ("array", "array"), ("dependency", "depends_on"), ("begin", "begin"),
        ("requeue", "requeue"), ("no-requeue", "requeue"))},
    "partition": "nothing: the partition is chosen with the site",
}  # fmt: skip


def render(spec: JobSpec, offer: Offer, site: Site, key: str, dependency: str | None = None) -> Submission:
    """What `spec` becomes at the site of `offer`.

    Args:
        dependency: jobs of that cluster to wait for, as --dependency takes them.

    Raises:
        InputError: the site does not say how MPI programs are started and the job needs it, or an option cannot be passed on.
    """
    if spec.script is not None:
        return routed.render(spec, spec.script, offer, site, key, dependency)
    name = slurm_name(spec.name, key)
    resources = spec.resources.at(offer.granted)
    accelerators = resources.accelerators
    per_node = gres(offer.chip, accelerators.count) if accelerators and offer.chip else None
    directory, stdout = f"{site.root}/{name}", f"{site.root}/{name}{'.%a' if spec.array else ''}.out"
    begin_at = int(spec.begin_at.timestamp()) if spec.begin_at else None
    # what can never start is cancelled, as it is where a job of another site is waited for; Slurm's own default is up to its sysadmin
    more = {"kill-on-invalid-dep": "yes", **spec.options} if dependency else dict(spec.options)
    requeue = spec.requeue or spec.checkpoint is not None
    if requeue:
        more = {"open-mode": "append", **more}  # what earlier attempts wrote stays
    if spec.checkpoint is not None:
        more["signal"] = f"B:{spec.checkpoint.signal}@{spec.checkpoint.before_s}"
    mib = -(-resources.mem_bytes // 1024**2) if resources.mem_bytes else None
    names = site.sitemap
    account, qos = site.account_for(spec.account), site.qos_for(spec.qos)
    for option, word in (("account", account), ("qos", qos), ("partition", offer.partition)):
        # an #SBATCH line is split like a shell's, and a new line in it would be a command of the script
        if word is not None and not ONE_WORD.fullmatch(word):
            raise InputError(f"site '{site.name}': {option} {word!r} is not one word")
    options = [
        f"--job-name={name}",
        f"--partition={offer.partition}",
        f"--account={account}" if account else None,
        f"--qos={qos}" if qos else None,
        f"--nodes={resources.nodes}",
        f"--ntasks-per-node={resources.ntasks_per_node}",
        f"--cpus-per-task={resources.cpus_per_task}",
        f"--mem={mib}M" if mib else None,
        f"--gres={per_node}" if per_node else None,
        f"--time={format_walltime(whole_minutes_s(resources.walltime_s))}",
        f"--chdir={_word(site.root)}",
        f"--output={_word(stdout)}",
        "--requeue" if requeue else "--no-requeue",
        f"--array={spec.array}" if spec.array else None,
        f"--dependency={dependency}" if dependency else None,
        f"--begin=uts{begin_at}" if begin_at else None,  # seconds since the epoch: no time zone to be guessed
        *(_option(option, value) for option, value in sorted(more.items())),
    ]
    environment = {**site.environment, **spec.env}
    within = contained(spec.container, offer, site) if spec.container else Contained()
    script = _template("job.sbatch.j2").render(
        options=[option for option in options if option],
        key=key,
        template=spec.template,
        environment=[(variable, shlex.quote(value)) for variable, value in sorted(environment.items())],
        directory=shlex.quote(directory) + ('/"$SLURM_ARRAY_TASK_ID"' if spec.array else ""),
        tasks=list(zip(spec.array.task_ids, map(task_lines, spec.tasks), strict=True))
        if spec.array and spec.tasks
        else [],
        modules=[shlex.quote(module) for name in spec.modules for module in names.loaded(name)],
        inputs=[
            (f"WESTWARD_INPUT_{number}", shlex.quote(_input(path, site))) for number, path in enumerate(spec.inputs, 1)
        ],
        site=shlex.quote(site.name),
        setup=spec.setup,
        image=within.file,
        command=_launch(spec, within, site),
        requeue=requeue,
        checkpoint=spec.checkpoint,
        variables=PATTERN,
    )
    return Submission(
        name=name,
        partition=offer.partition,
        account=account,
        qos=qos,
        nodes=resources.nodes,
        ntasks=resources.ntasks,
        ntasks_per_node=resources.ntasks_per_node,
        cpus_per_task=resources.cpus_per_task,
        mem_per_node_mib=mib,
        gres=per_node,
        walltime_s=whole_minutes_s(resources.walltime_s),
        root=site.root,
        directory=directory,
        stdout=stdout,
        environment={"PATH": routed.PATH, **environment},
        script=script,
        array=str(spec.array) if spec.array else None,
        dependency=dependency,
        begin_at=begin_at,
        requeue=requeue,
        hold=not spec.idempotent,
        options=more,
    )


def _option(name: str, value: str | None) -> str:
    """One more option of sbatch as its own line of the script."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise InputError(
            f"'{name}' is not a long option of sbatch",
            "write its name without the two dashes, as in options.gpu-bind=closest",
        )
    for reserved, instead in RESERVED.items():
        if reserved.startswith(name):  # sbatch takes the beginning of an option for it
            raise InputError(f"the option --{reserved} is set by Westward itself", instead)
    if value is not None and not value.isprintable():
        raise InputError(f"the value of the option --{name} has a line break or a control character in it")
    return f"--{name}" if value is None else f"--{name}={_word(value)}"


def _word(value: str) -> str:
    """A value for an #SBATCH line, which is split like a shell's, but for backslashes: those count within single quotes too."""
    return shlex.quote(value).replace("\\", "\\\\")


def task_lines(task: Task) -> list[str]:
    """What a task of its own does before the launch line: its variables, and the array of the shell that the line runs."""
    exports = [f"export {variable}={shlex.quote(value)}" for variable, value in sorted(task.env.items())]
    return [*exports, f"{OWN_COMMAND}=({shlex.join(task.command)})"]


def _launch(spec: JobSpec, within: Contained, site: Site) -> str:
    """The line that starts the job's program: in its container, by its launcher."""
    own = f'"${{{OWN_COMMAND}[@]}}"' if spec.tasks else shlex.join(spec.command)
    command = within.before + own
    # from Slurm 22.05 on srun does not take it from the job
    cpus = f"--cpus-per-task={spec.resources.cpus_per_task}"
    if spec.launcher is Launcher.NONE:
        return f"srun --nodes=1 --ntasks=1 {cpus}{within.srun} {command}" if within.srun else command
    if spec.launcher is Launcher.SRUN:
        return f"srun {cpus}{within.srun} {command}"
    if site.mpi is None:
        raise InputError(
            f"site '{site.name}' does not say how MPI programs are started there",
            "add 'mpi: pmix' (see 'srun --mpi=list') to its description",
        )
    return f"srun {cpus} --mpi={shlex.quote(site.mpi)}{within.srun} {command}"


def _input(path: str, site: Site) -> str:
    """Where an input lies at a site.

    Raises:
        InputError: it is no path.
    """
    scheme, mark, rest = path.partition("://")
    if mark and scheme != "file":
        raise InputError(
            f"inputs: nothing fetches {path} yet",
            "name the path at which every site has it; a site's map says where it is another one",
        )
    place = rest if mark else path
    if not place or place.startswith("~") or not place.isprintable():
        raise InputError(f"inputs: {path!r} is no path: from / on, or relative to the site's root")
    return posixpath.join(site.root, site.sitemap.located(place))


@cache
def _template(name: str) -> jinja2.Template:
    import jinja2  # only here: most commands render nothing

    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template(name)


def update_words(change: JobChange) -> list[str]:
    """What `scontrol update` is told; times in UTC, which is its time zone here."""
    begin = datetime.fromtimestamp(change.begin_at, UTC) if change.begin_at is not None else None
    told = {
        "TimeLimit": -(-change.walltime_s // 60) if change.walltime_s is not None else None,
        "Partition": change.partition,
        "Account": change.account,
        "QOS": change.qos,
        "StartTime": begin.strftime("%Y-%m-%dT%H:%M:%S") if begin else None,
        "Dependency": change.dependency,
        # with one number alone 22.05 changes the least and leaves the most as it was
        "NumNodes": f"{change.nodes}-{change.nodes}" if change.nodes is not None else None,
        "ArrayTaskThrottle": change.at_once,
    }
    return [f"{name}={value}" for name, value in told.items() if value is not None]
