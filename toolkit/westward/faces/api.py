"""`westward.submit` and its kin: what the command line does, as functions that return values and print nothing.

    import westward

    job = westward.submit("gemm", size=2048, dtype="f32", policy="cheapest")
    print(job.result().record)

Keywords are the keys of the template, as `westward templates` lists them; a value is taken as it is, whatever is in it. Everything is
written into the same ledger as the command line's, so `westward jobs` lists these jobs, and a program may end before its jobs do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from westward.catalogue.load import load_catalogue
from westward.errors import InputError
from westward.faces.job import Job
from westward.faces.quoting import Value, overrides_of
from westward.faces.session import session
from westward.federation.deciding import decide, decide_script
from westward.federation.router import chosen_offer
from westward.model.decision import Decision
from westward.model.job import JobSpec
from westward.model.site import Catalogue
from westward.slurm.sbatchfile import load, read_script, split_command_line

COMMAND = "command"  # the template that runs any command


def submit(
    template: str | Sequence[str], /, *, site: str | None = None, overrides: Sequence[str] = (), **values: Value
) -> Job:
    """Submit a job at the site that its policy chooses, and return as soon as it may start.

    Args:
        template: the name of a job template, or a command as a list of words: ["python3", "train.py"].
        site: run here, whatever the policy prefers.
        overrides: more `key=value` texts, in Hydra's grammar; where a keyword says the same key, the keyword counts.
        values: keys of the template: size=2048, env={"A": "b"}, command=["hostname"].

    Raises:
        InputError: a template or a value cannot be meant (NotFound: there is no such template or site).
        NoSiteFits: no site can run it; the reason for each is in the message.
        Unreachable: no site in question answers (InDoubt: it may have been accepted; it is recorded, and cannot start twice).
        SiteRefused: its cluster refuses it.
    """
    catalogue = load_catalogue()
    composed, decision = decide(*_asked(template, overrides, values), site, catalogue)
    return _submit(composed.spec, decision, site, catalogue)


def plan(
    template: str | Sequence[str], /, *, site: str | None = None, overrides: Sequence[str] = (), **values: Value
) -> Decision:
    """What `submit` would decide now, and nothing done: the offers, best first, with their costs, and why other sites are out.

    `chosen` is None where no site can run it. Raises InputError as `submit` does.
    """
    _, decision = decide(*_asked(template, overrides, values), site, load_catalogue())
    return decision


def route(
    script: str | os.PathLike[str],
    /,
    *arguments: str,
    options: Sequence[str] = (),
    site: str | None = None,
    portable: bool = False,
    policy: str | None = None,
) -> Job:
    """Submit an existing sbatch script, unchanged; it goes home unless nothing ties it there.

    Args:
        script: its file.
        arguments: what it is called with.
        options: options of sbatch, over those of the script: ["--time=10", "-n", "4"].
        site: run here.
        portable: every site has what it names, so that the policy may choose among them.
        policy: by which a portable script's site is chosen.

    Raises:
        InputError: it cannot be read, or something in it cannot be meant; otherwise as `submit`.
    """
    given, rest = split_command_line([*options, os.fspath(script), *arguments], {})
    if not rest or rest[0] != os.fspath(script):
        raise InputError(
            f"options={list(options)!r}: these are not options of sbatch alone",
            "give the script and its arguments apart",
        )
    read = read_script(
        rest[0],
        load(Path(rest[0])),
        environment=os.environ,
        command_line=given,
        arguments=rest[1:],
        submitted_from=os.getcwd(),
    )
    catalogue = load_catalogue()
    routed = decide_script(read, catalogue, site, portable, policy)
    return _submit(routed.spec, routed.decision, site, catalogue)


def list_jobs(limit: int | None = None) -> list[Job]:
    """The jobs in the ledger, newest first, as they were when somebody last asked: `Job.status` asks again."""
    with session({}) as opened:
        return [Job(row) for row in opened.ledger.jobs(limit=limit)]


def job(key: str) -> Job:
    """The job of that key (or the beginning of it, or its name at the cluster), as it was when somebody last asked.

    Raises:
        NotFound: there is none.
        InputError: several keys begin so.
    """
    with session({}) as opened:
        return Job(opened.ledger.find(key))


def _asked(
    template: str | Sequence[str], overrides: Sequence[str], values: dict[str, Value]
) -> tuple[str, Sequence[str]]:
    """The name of the template, and all overrides; of two of one key the later one counts."""
    if isinstance(overrides, str):
        raise InputError(f"overrides={overrides!r}: a list of texts was expected", f"overrides=[{overrides!r}]")
    if isinstance(template, str):
        return template, [*overrides, *overrides_of(values)]
    if COMMAND in values:
        raise InputError("the command is given twice", 'give it once: westward.submit(["hostname"], nodes=2)')
    words: list[Value] = [os.fspath(word) for word in template]
    if not words:
        raise InputError("the command has no words", 'name the program: westward.submit(["hostname"])')
    return COMMAND, [*overrides, *overrides_of({COMMAND: words, **values})]


def _submit(spec: JobSpec, decision: Decision, site: str | None, catalogue: Catalogue) -> Job:
    chosen_offer(decision, site)
    with session(catalogue.sites) as opened:
        opened.running.settle(thorough=False)
        return Job(opened.running.submit(spec, decision))
