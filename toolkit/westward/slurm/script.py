"""JobSpec and Offer -> what is submitted: the sbatch script, and the same options as fields for slurmrestd.

Pure: nothing here asks a cluster or a clock. The script is what a person reads in `westward plan` and what a shell door submits;
slurmrestd ignores its `#SBATCH` lines, so every option also stands in `Submission`.
"""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import jinja2

from westward.errors import InputError
from westward.model.decision import Offer
from westward.model.job import JobSpec, Launcher, Submission, slurm_name
from westward.model.site import Site
from westward.model.units import format_walltime, whole_minutes_s

TEMPLATES = Path(__file__).parents[1] / "_data" / "slurm" / "jobs"
PATH = "/usr/local/bin:/usr/bin:/bin"


def render(spec: JobSpec, offer: Offer, site: Site, key: str) -> Submission:
    """What `spec` becomes at the site of `offer`.

    Raises:
        InputError: the site does not say how MPI programs are started and the job needs it.
    """
    name = slurm_name(spec.name, key)
    resources = spec.resources
    accelerators = resources.accelerators
    gres = f"gpu:{offer.chip}:{accelerators.count}" if accelerators and offer.chip else None
    directory, stdout = f"{site.root}/{name}", f"{site.root}/{name}.out"
    mib = -(-resources.mem_bytes // 1024**2) if resources.mem_bytes else None
    account, qos = spec.account or site.account, spec.qos or site.qos
    for option, word in (("account", account), ("qos", qos), ("partition", offer.partition)):
        # an #SBATCH line is split like a shell's, and a new line in it would be a command of the script
        if word is not None and not re.fullmatch(r"\w[\w.@+-]*", word, re.ASCII):
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
        f"--gres={gres}" if gres else None,
        f"--time={format_walltime(whole_minutes_s(resources.walltime_s))}",
        f"--chdir={shlex.quote(site.root)}",
        f"--output={shlex.quote(stdout)}",
        "--no-requeue",
    ]
    environment = {**site.environment, **spec.env}
    script = _template("job.sbatch.j2").render(
        options=[option for option in options if option],
        key=key,
        template=spec.template,
        environment=[(variable, shlex.quote(value)) for variable, value in sorted(environment.items())],
        directory=shlex.quote(directory),
        setup=spec.setup,
        command=_launch(spec, site),
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
        gres=gres,
        walltime_s=whole_minutes_s(resources.walltime_s),
        root=site.root,
        directory=directory,
        stdout=stdout,
        environment={"PATH": PATH, **environment},
        script=script,
    )


def _launch(spec: JobSpec, site: Site) -> str:
    command = shlex.join(spec.command)
    srun = (
        f"srun --cpus-per-task={spec.resources.cpus_per_task}"  # from Slurm 22.05 on srun does not take it from the job
    )
    if spec.launcher is Launcher.NONE:
        return command
    if spec.launcher is Launcher.SRUN:
        return f"{srun} {command}"
    if site.mpi is None:
        raise InputError(
            f"site '{site.name}' does not say how MPI programs are started there",
            "add 'mpi: pmix' (see 'srun --mpi=list') to its description",
        )
    return f"{srun} --mpi={shlex.quote(site.mpi)} {command}"


@cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template(name)
