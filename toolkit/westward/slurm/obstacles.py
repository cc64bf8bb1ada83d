"""What in a batch script ties it to its site, line by line, and how to remove it. Pure.

It looks for what it knows of, so none found is no proof; what is listed was made for one site in most scripts, but not in every one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from westward.model.batchscript import BatchScript, Given
from westward.model.site import Site
from westward.slurm.sbatchfile import lines


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One thing that another site has not, or not so.

    Attributes:
        line: of the script; None for what the environment or the command line says, or nobody says.
        what: the words in question.
        why: what is wrong with them elsewhere.
        remedy: how to get rid of it.
        kind: the kind of name in it that a site's map may know ("accounts", "paths", ...), "" for none.
        names: these names.
        option: the option that names them, which can be given anew at another site; "" for the script's body, which is not changed.
    """

    line: int | None
    what: str
    why: str
    remedy: str
    kind: str = ""
    names: tuple[str, ...] = ()
    option: str = ""


_LEAVE_OUT = "leave it out: the site's own {} is taken, which its description may name"
_NAMES = {
    "account": ("accounts are a site's own", _LEAVE_OUT.format("account")),
    "partition": ("partitions are a site's own", _LEAVE_OUT.format("default partition")),
    "qos": ("QOS are a site's own", _LEAVE_OUT.format("QOS")),
    "reservation": ("a reservation is of one cluster", "leave it out"),
    "nodelist": ("nodes are a site's own", "leave it out, or ask for what they have: --gres, --mem, --constraint"),
    "exclude": ("nodes are a site's own", "leave it out"),
    "licenses": ("licences are a site's own", "leave it out where the program needs none"),
    "constraint": ("features are named by each site's administrator", "ask for resources: --gres=gpu:TYPE:COUNT, --mem"),
    "prefer": ("features are named by each site's administrator", "leave it out"),
    "batch": ("features are named by each site's administrator", "leave it out"),
    "wckey": ("keys of workloads are a site's own", "leave it out"),
    "network": ("networks are a site's own", "leave it out"),
    "bb": ("burst buffers are a site's own", "leave it out"),
    "bbf": ("burst buffers are a site's own", "leave it out"),
    "chdir": ("the directory is on the file system of one site", "leave it out: the job then starts in the site's root"),
}  # fmt: skip
# the options whose value a site's map may translate
_MAPPED = {"account": "accounts", "partition": "partitions", "qos": "qos", "chdir": "paths"}
_LOADS = re.compile(r"(?:module\s+load|ml(?:\s+load)?)\s+(?P<words>[\w./+@ \t-]+)", re.ASCII)
_FILES = ("output", "error", "input")
_CONTAINERS = ("container", "container-id", "container-image")
# what every system has, as far as scripts use it
_EVERYWHERE = ("bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr", "var")
_PATH = re.compile(r"(?<![\w$}~.:/@%*\])-])/(?:[\w.+@,=$*?-]|\{\w|\w\})[^\s\"'`;|&<>():\\]*")
_HOME = re.compile(r"(?<![\w/])~/[^\s\"';|&<>()]*|\$\{?HOME\}?/[^\s\"';|&<>()]*")
_VARIABLE = re.compile(
    r"\$\{?(\w*SCRATCH\w*|WORK|WORKDIR|PROJECT|PROJECT_?DIR|STORE|TMPDIR|JOBFS|LOCAL_?TMP\w*|SLURM_TMPDIR)\b(?![-:])"
)
_LOCAL_FILE = re.compile(
    r"(?<![\w/$}.~-])(\./[\w./-]+|[\w-][\w.-]*\.(?:py|R|jl|m|pl|sh|inp|com|gjf|in|dat|sif|nc|h5|ya?ml|json|csv|mdp|tpr|lmp|foam|jar))(?![\w/(])"
)
_RUNS_IMAGE = re.compile(r"\b(?:apptainer|singularity|enroot|podman|docker|shifter)\b")
_IMAGE = re.compile(r"\S+\.(?:sif|img|sqsh)\b|\w+://\S+|--image\S*")
_LINE_FORMS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"\b(?:module\s+(?:load|add|use|swap|switch|restore)|ml)\s+[^;&|#]*"),
        "modules and their names are a site's own",
        "run the program in a container (--container, or apptainer exec IMAGE)",
    ),
    (
        re.compile(r"(?:(?:^|[;&|]\s*|\s)(?:source|\.)\s+\S*activate\b[^;&|#]*|\b(?:conda|mamba|micromamba)\s+activate\b[^;&|#]*)"),
        "this Python environment is on the file system of one site",
        "put the environment into a container, or make it within the job",
    ),
    (
        re.compile(r"\bspack\s+load\b[^;&|#]*"),
        "what spack has built is a site's own",
        "run the program in a container (--container, or apptainer exec IMAGE)",
    ),
    (
        re.compile(r"\$\{?SLURM_SUBMIT_DIR\b\}?"),
        "what is in the directory of the submission is at one site",
        "declare with --portable that every site has it",
    ),
    (
        re.compile(r"--mpi[= ]\w+"),
        "which MPI srun can start differs from site to site",
        "leave it out where the site's default will do",
    ),
    (
        re.compile(r"(?:^|[;&|(]\s*|\bthen\s+|\bdo\s+)sbatch\b[^;&|#]*"),
        "jobs that the job submits itself are not recorded by Westward",
        "submit them with westward route, and --dependency=afterok:KEY",
    ),
)  # fmt: skip


def obstacles(script: BatchScript, site: Site) -> list[Obstacle]:
    """What ties the script to its site, in the order of its lines; first what no line says."""
    found = [*_of_options(script, site), *_of_the_body(script, site)]
    return sorted(dict.fromkeys(found), key=lambda obstacle: obstacle.line or 0)


def _of_options(script: BatchScript, site: Site) -> Iterator[Obstacle]:
    for name, given in script.options.items():
        if name in _NAMES:
            why, remedy = _NAMES[name]
            kind = _MAPPED.get(name, "")
            yield Obstacle(
                given.line, _said(given), why, remedy, kind, (given.value or "",) if kind else (), name if kind else ""
            )
        elif name in _FILES or name in _CONTAINERS:
            path = given.value or ""
            if path.startswith("/") and not _is_everywhere(path):
                remedy = "write it relative to the job's directory" if name in _FILES else "name an image of a registry"
                where = _where(path, site)
                yield Obstacle(
                    given.line, _said(given), where, remedy, "paths", (path,), name if name in _FILES else ""
                )
        elif name in ("gres", "tres-per-task") and re.search(
            r"(?:^|,)(?!(?:gres/)?gpu\b|cpu\b|mem\b)", given.value or ""
        ):
            yield Obstacle(given.line, _said(given), "generic resources are named by each site", "ask for GPUs alone")
        elif name == "dependency" and re.search(r":\d", given.value or ""):
            remedy = "wait for a job of Westward's by its key: --dependency=afterok:KEY"
            yield Obstacle(given.line, _said(given), "Slurm's ids are of one cluster", remedy)
    if "time" not in script.options:
        yield Obstacle(None, "no --time", "the limit is then that of each site's partition", "#SBATCH --time=...")


def _of_the_body(script: BatchScript, site: Site) -> Iterator[Obstacle]:
    if any(name in script.options for name in _CONTAINERS):
        return  # what the script runs is in the image
    awaited = inside = False  # the image of a container's command, and what is run in it
    for number, line in lines(script.text):
        if number == 1 or line.lstrip().startswith("#"):
            continue
        program = _RUNS_IMAGE.search(line)
        awaited = not inside and (awaited or program is not None)
        image = _IMAGE.search(line, program.end() if program else 0) if awaited else None
        if not inside:
            yield from _of_a_line(number, line[: image.end()] if image else line, site)
        goes_on = line.rstrip().endswith("\\")
        inside = goes_on and (inside or image is not None)
        awaited = awaited and goes_on and not inside


def _of_a_line(number: int, line: str, site: Site) -> Iterator[Obstacle]:
    taken: list[tuple[int, int]] = []
    for form, why, remedy in _LINE_FORMS:
        for match in form.finditer(line):
            taken.append(match.span())
            loads = _LOADS.fullmatch(match[0].strip(" ;&|("))
            modules = tuple(loads["words"].split()) if loads else ()
            yield Obstacle(number, match[0].strip(" ;&|("), why, remedy, "modules" if modules else "", modules)

    def free(form: re.Pattern[str]) -> Iterator[re.Match[str]]:
        for match in form.finditer(line):
            if not any(first <= match.start() < last for first, last in taken):
                taken.append(match.span())
                yield match

    for match in free(_HOME):
        yield Obstacle(
            number, match[0], "your home directory elsewhere has other files", "name it under the job's directory"
        )
    for match in free(_VARIABLE):
        if match[1] not in site.environment:
            remedy = f"set {match[1]} for every site, under 'environment:' of its description"
            yield Obstacle(number, f"${match[1]}", "another site may not set it, or to something else", remedy)
    for match in free(_PATH):
        if not _is_everywhere(match[0]):
            yield Obstacle(
                number,
                match[0],
                _where(match[0], site),
                "bring it along, or declare with --portable that every site has it",
                "paths",
                (match[0],),
            )
    for match in free(_LOCAL_FILE):
        why = "it is taken from the job's directory, which is another one elsewhere"
        yield Obstacle(number, match[0], why, "declare with --portable that every site has it there")


def _said(given: Given) -> str:
    return str(given) if given.line else f"{given} ({given.origin})"


def _is_everywhere(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return len(parts) < 2 or parts[1] in _EVERYWHERE


def _where(path: str, site: Site) -> str:
    has: Callable[[str], bool] = PurePosixPath(path).is_relative_to
    if any(has(directory) for directory in (site.root, *site.files)):
        return f"it is on the file system of '{site.name}'"
    return f"nothing says that '{site.name}' has it, nor any other site"
