"""`westward route`: an existing batch script, unchanged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from westward.catalogue.load import load_catalogue
from westward.cli import complete, show
from westward.cli.limits import limits_facts, limits_line, limits_table
from westward.cli.watch import finish, watch_to_end
from westward.errors import InputError
from westward.federation.checking import Checked
from westward.federation.deciding import Routed, decide_script
from westward.federation.foresight import ask_about, refusal, trial_words
from westward.federation.router import chosen_offer
from westward.jobs.budgeting import Budgeting
from westward.jobs.lifecycle import Jobs
from westward.model.batchscript import BatchScript, Given
from westward.model.job import KEY_LENGTH, JobSpec, Submission
from westward.model.site import Catalogue, RestDoor, Site
from westward.slurm.options import refused_option
from westward.slurm.sbatchfile import load, read_script, split_command_line
from westward.slurm.sbatchoptions import Takes
from westward.slurm.script import render
from westward.store.ledger import Job, Ledger

# options of Westward's own, which may stand among those of sbatch
OWN = {
    "site": Takes.VALUE,
    "plan": Takes.NOTHING,
    "portable": Takes.NOTHING,
    "policy": Takes.VALUE,
    "project": Takes.VALUE,
    "wait": Takes.NOTHING,
    "json": Takes.NOTHING,
}
NO_LOGIN = (
    "the site's first door is slurmrestd, which gives a job no login environment: no modules, no conda, no HOME for its programs. "
    "Where the script needs one, put a shell door first in the site's description"
)
UNCHANGED = (
    "What a map knows of an option is given to the other site in its words; the script itself is not changed, so what its lines name "
    "has to be called the same at both."
)
USAGE = "westward route [--site SITE] [--plan] [OPTION OF SBATCH]... SCRIPT [ARGUMENT]..."
# short options are sbatch's, -h among them
SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a command line asks for."""

    script: BatchScript
    site: str | None
    plan: bool
    portable: bool
    policy: str | None
    project: str | None
    wait: bool
    as_json: bool


def route(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTION OF SBATCH]... SCRIPT [ARGUMENT]...", help="As they are given to sbatch."),
    ] = None,
    site: Annotated[
        str | None,
        typer.Option(
            "--site", help="Run here. Without it: the site that is described as home.", autocompletion=complete.sites
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show what would be submitted, and what ties the script to its site.")
    ] = False,
    portable: Annotated[
        bool, typer.Option("--portable", help="Every site has what the script names: the policy may choose among them.")
    ] = False,
    policy: Annotated[str | None, typer.Option("--policy", help="By which a portable script's site is chosen.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="The budget that it is paid from.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-W", help="Watch it to its end; the exit code is 1 if it failed.")
    ] = False,
    as_json: show.AsJson = False,
) -> None:
    """Submit an existing sbatch script, unchanged, and return as soon as its job may start.

    Options and arguments are those of sbatch, in its order: the command line goes before SBATCH_... variables, and these before the
    script's #SBATCH lines. The script runs at its home, where its accounts, modules and paths are, unless nothing ties it there.
    """
    own = {
        "site": site,
        "plan": plan,
        "portable": portable,
        "policy": policy,
        "project": project,
        "wait": wait,
        "json": as_json,
    }
    wish = _wish(words or [], own)
    catalogue = load_catalogue()
    routed = decide_script(wish.script, catalogue, wish.site, wish.portable, wish.policy)
    routed = replace(routed, spec=replace(routed.spec, project=wish.project))
    if wish.plan:
        _show_plan(routed, catalogue, wish.as_json)
        return
    _submit(routed, catalogue, wish)


def _wish(words: list[str], own: dict[str, Any]) -> Wish:
    given, rest = split_command_line(words, OWN)
    if not rest:
        raise InputError("no script is named", USAGE)
    said = {**own, **{option.name: option.value or True for option in given if option.name in OWN}}
    path = Path(rest[0])
    script = read_script(
        rest[0],
        load(path),
        environment=os.environ,
        command_line=[option for option in given if option.name not in OWN],
        arguments=rest[1:],
        submitted_from=os.getcwd(),
    )
    return Wish(
        script,
        said["site"],
        said["plan"],
        said["portable"],
        said["policy"],
        said["project"],
        said["wait"],
        said["json"],
    )


def _submit(routed: Routed, catalogue: Catalogue, wish: Wish) -> None:
    chosen_offer(routed.decision, wish.site)
    ledger = Ledger()
    with Jobs(ledger, catalogue.sites) as running:
        show.tell_undecided(running.settle())
        try:
            job = running.submit(routed.spec, routed.decision)
        except KeyboardInterrupt:
            show.tell_interrupted()
            raise
        if not wish.as_json:
            _tell_submitted(job, routed)
        if wish.wait:
            job = watch_to_end(running, ledger, job, live=not wish.as_json)
    if wish.wait:
        finish(job, catalogue.sites, wish.as_json)
    elif wish.as_json:
        show.print_json(show.job_facts(job))
    else:
        show.tell_how_to_follow(job)


def _tell_submitted(job: Job, routed: Routed) -> None:
    why = show.reason(routed.decision) if routed.decision.policy != "home" else _why_there(routed)
    show.out.print(
        Text.assemble(
            (show.printable(job.name), "bold"),
            " is job ",
            (job.key, "bold"),
            " at ",
            (job.site, "bold"),
            f", Slurm id {job.job_id} ({why})",
        ),
        soft_wrap=True,
    )


def _why_there(routed: Routed) -> str:
    count = len(routed.found)
    if not count:
        return "named by --site"
    if routed.home.name in routed.left:
        left = len(routed.left[routed.home.name])
        return f"named by --site; {left} of the {count} things that tie it to its home do so there as well"
    return (
        f"its home: {count} {'things tie' if count != 1 else 'thing ties'} it there; 'westward route --plan' lists them"
    )


def _show_plan(routed: Routed, catalogue: Catalogue, as_json: bool) -> None:
    offer = chosen_offer(routed.decision)
    site = catalogue.sites[offer.site]
    submission = render(routed.spec, offer, site, "k" * KEY_LENGTH)
    with show.err.status(f"asking {site.name} for its limits, and to try it"):
        limits, trial, notes = ask_about(routed.spec, offer, site)
    if as_json:
        tried = {
            "limits": limits_facts(limits),
            "test_only": asdict(trial) if trial else None,
            "plan_notes": list(notes),
        }
        show.print_json(_facts(routed, site, submission) | tried)
    else:
        start = [*([trial_words(trial)] if trial else []), *notes]
        _print_plan(routed, catalogue, submission, start, limits)
    Budgeting(Ledger()).check([(routed.spec, routed.decision)])
    problem = refusal(limits, trial)
    if problem is not None:
        raise problem


def _print_plan(
    routed: Routed, catalogue: Catalogue, submission: Submission, start: Sequence[str], limits: Checked
) -> None:
    if routed.decision.policy != "home":
        show.out.print(show.decision_table(routed.decision, routed.spec.name))
    site = catalogue.sites[chosen_offer(routed.decision).site]
    foreseen = [
        *(f"  start      {said}" for said in start),
        f"  limits     {limits_line(limits)}",
        *(f"  note       {note}" for note in (limits.notes if limits.findings else ())),
    ]
    for line in (*_summary(routed, site, submission), *foreseen):
        show.out.print(Text(show.printable(line)), soft_wrap=True)
    if limits.met:
        show.out.print(limits_table(limits))
    show.out.print(_options_table(routed.spec))
    if routed.found:
        show.out.print(_obstacles_table(routed, catalogue))
        if any(catalogue.sites[name].sitemap for name in routed.left):
            show.out.print(Text(UNCHANGED), soft_wrap=True)


def _summary(routed: Routed, site: Site, submission: Submission) -> list[str]:
    script = routed.spec.script
    assert script is not None
    refused = _refused(site, submission)
    why = _why_there(routed).partition(";")[0] if routed.decision.policy == "home" else "portable"
    if routed.decision.policy != "home" and routed.found and not routed.portable:
        why = "its home, or where the maps know all that ties it there"
    return [
        f"{script.file}: would be submitted at {site.name} ({why}), {len(script.text.encode()):,} bytes as they are",
        f"  name       {submission.name} ({'k' * KEY_LENGTH} stands for the key that submit makes)",
        f"  directory  {submission.directory}",
        f"  stdout     {submission.stdout}",
        *([f"  arguments  {' '.join(map(repr, script.arguments))}"] if script.arguments else []),
        *(f"  not through {door}: {reason}" for door, reason in refused.items()),
        *([f"  note       {NO_LOGIN}"] if isinstance(site.doors[0], RestDoor) else []),
    ]


def _refused(site: Site, submission: Submission) -> dict[str, str]:
    """The doors of a site that cannot take the job, and why."""
    reasons = {
        str(door): refused_option(submission.options, "slurmrestd") for door in site.doors if isinstance(door, RestDoor)
    }
    return {door: reason for door, reason in reasons.items() if reason}


def _options_table(spec: JobSpec) -> Any:
    assert spec.script is not None
    made = show.table("options", "option", "value", "from")
    for given in spec.script.options.values():
        made.add_row(f"--{given.name}", Text(show.printable(given.value or "")), given.origin)
    return made


def _obstacles_table(routed: Routed, catalogue: Catalogue) -> Any:
    title = (
        "what ties it to its site (declared portable all the same)" if routed.portable else "what ties it to its site"
    )
    mapped = [name for name in sorted(routed.left) if catalogue.sites[name].sitemap]
    made = show.table(
        title,
        "line",
        "what",
        "why",
        "how to remove it",
        *(f"by the map of {name}" for name in mapped),
        numbers=("line",),
    )
    for found in routed.found:
        line = str(found.line) if found.line else "-"
        there = ["still ties it" if found in routed.left[name] else "known there" for name in mapped]
        made.add_row(line, Text(show.printable(found.what)), Text(found.why), Text(found.remedy), *there)
    return made


def _facts(routed: Routed, site: Site, submission: Submission) -> dict[str, Any]:
    script = routed.spec.script
    assert script is not None
    return {
        "script": script.file,
        "site": site.name,
        "portable": routed.portable,
        "name": routed.spec.name,
        "slurm_name": submission.name,
        "directory": submission.directory,
        "stdout": submission.stdout,
        "arguments": list(script.arguments),
        "options": [_given_facts(given) for given in script.options.values()],
        "obstacles": [asdict(found) for found in routed.found],
        "left_at": {name: [asdict(found) for found in left] for name, left in routed.left.items()},
        "refused_by": _refused(site, submission),
        "notes": [NO_LOGIN] if isinstance(site.doors[0], RestDoor) else [],
        "decision": show.decision_facts(routed.decision),
    }


def _given_facts(given: Given) -> dict[str, Any]:
    return {"name": given.name, "value": given.value, "from": given.origin, "line": given.line}
