"""`westward site plan` and `westward site apply`: what a run of the playbook would do to a cluster, and doing it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from westward.cli import managed, show
from westward.errors import InputError, Unsafe, WestwardError

if TYPE_CHECKING:
    from westward.provision.applying import Applied
    from westward.provision.planning import Change, Plan
    from westward.provision.trial import Trial

Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="KEY", help="Do not refuse this change, as StateSaveLocation; repeatable."),
]
_STYLES = {"live": "green", "restart": "cyan", "drained": "yellow", "destroys": "bold red"}
_WIDEST = 60  # letters of a value in the table; --json has the whole of it


def plan(
    site: managed.SiteOrInventory,
    inventory: managed.MoreInventories = None,
    allow: Allow = None,
    as_json: show.AsJson = False,
) -> None:
    """What the playbook would change on a cluster that runs, and what that does to running jobs. Nothing is changed.

    Exit code 5 where a change would lose or end something and no --allow names it, 2 where slurmctld does not start with what is planned.
    """
    from westward.provision.hosts import Hands
    from westward.provision.planning import make_plan

    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        made = make_plan(hands, cluster, allow or ())
    if as_json:
        show.print_json(facts(made))
    else:
        tell(made)
    refuse(made)


def apply(
    site: managed.SiteOrInventory,
    inventory: managed.MoreInventories = None,
    allow: Allow = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: show.AsJson = False,
) -> None:
    """Plan, ask, run the playbook, and see that nodes came back and jobs go on. Where that fails the old configuration is put back."""
    from westward.provision.applying import apply_plan
    from westward.provision.hosts import Hands
    from westward.provision.planning import make_plan

    cluster = managed.managed(site, inventory)
    with Hands() as hands:
        made = make_plan(hands, cluster, allow or ())
        if not as_json:
            tell(made)
        refuse(made)
        if not yes and not _agreed(made):
            raise InputError("nothing was changed", "add --yes where nobody can be asked")
        with show.err.status("the playbook runs") if show.err.is_terminal else nullcontext():
            applied = apply_plan(hands, cluster, made)
    if as_json:
        show.print_json(facts(made) | {"applied": applied_facts(applied)})
    else:
        tell_applied(applied)
    if applied.problems:
        raise _failed(applied)


def refuse(made: Plan) -> None:
    """
    Raises:
        InputError: slurmctld does not start with what is planned, or shows less than it names.
        Unsafe: a change would lose or end something, and nobody named it.
    """
    if made.trial is not None and not made.trial.passed:
        raise InputError(
            f"{made.cluster}: a slurmctld {made.version} {_failure(made.trial)}; nothing was changed",
            "change the variables of the inventory; the lines above are what it says",
        )
    if made.refused:
        names = dict.fromkeys(change.name for change in made.refused)
        raise Unsafe(
            f"{made.cluster}: refused, and nothing was changed: " + "; ".join(map(_refusal, made.refused)),
            f"drain first, or say that it may be: {' '.join(f'--allow {name}' for name in names)}",
        )


def _failure(trial: Trial) -> str:
    if not trial.started:
        return "does not start with this configuration"
    return f"starts with this configuration, and does not show {', '.join(trial.missing[:5])}"


def _refusal(change: Change) -> str:
    jobs = f" (jobs {_some(change.jobs)})" if change.jobs else ""
    return f"{change.name}: {change.effect.why}{jobs}"


def facts(made: Plan) -> dict[str, Any]:
    """What --json says."""
    trial = made.trial
    return {
        "cluster": made.cluster,
        "version": made.version,
        "changes": [
            {
                "name": change.name,
                "file": change.difference.where,
                "about": change.difference.about,
                "key": change.difference.what,
                "before": change.difference.before,
                "after": change.difference.after,
                "class": str(change.effect.kind),
                "daemons": change.effect.daemons,
                "nodes": change.effect.nodes,
                "jobs": change.jobs,
                "why": change.effect.why,
                "see": change.effect.see,
                "allowed": change.allowed,
                "refused": change.refused,
            }
            for change in made.changes
        ],
        "daemons": made.daemons,
        "trial": trial
        and {
            "passed": trial.passed,
            "started": trial.started,
            "missing": trial.missing,
            "log": trial.log,
            "unchecked": trial.unchecked,
            "interfaces": trial.interfaces,
            "seconds": trial.seconds,
        },
        "notes": made.notes,
    }


def tell(made: Plan) -> None:
    """A table of the changes, what starts again, and what became of the trial."""
    running = sum(job.active for job in made.jobs)
    _line("", f"{made.cluster}: Slurm {made.version}, {running} jobs running, {len(made.jobs) - running} waiting")
    for note in made.notes:
        _line("note: ", note, "yellow")
    if not made.changes:
        _line("", "the configuration is as the inventory says: nothing changes")
        return
    listed = show.table("", "class", "where", "what", "now", "then", "jobs it harms", "why")
    for change in made.changes:
        difference, effect = change.difference, change.effect
        cells = [difference.where, f"{difference.about} {difference.what}".strip()]
        cells += [_short(difference.before), _short(difference.after), _some(change.jobs) or "none", effect.why]
        listed.add_row(Text(str(effect.kind), style=_STYLES[str(effect.kind)]), *map(show.printable, cells))
    show.out.print(listed)
    _line("starts again: ", ", ".join(made.daemons) or "nothing")
    if made.trial is not None:
        _tell_trial(made.trial)


def _tell_trial(trial: Trial) -> None:
    outcome = "starts and answers" if trial.passed else _failure(trial)
    _line("trial: ", f"slurmctld {outcome} ({trial.seconds:.1f} s)", "green" if trial.passed else "red")
    for line in trial.log:
        _line("  it says ", line)
    _line("not tried: ", ", ".join(trial.unchecked))


def applied_facts(applied: Applied) -> dict[str, Any]:
    """What --json says of what was done."""
    return {
        "problems": applied.problems,
        "restored": applied.restored,
        "hosts": {host: {"sha256": state.sha256, "has": state.has} for host, state in applied.hosts.items()},
        "kept": applied.kept,
        "log": str(applied.log),
        "jobs": applied.jobs,
    }


def tell_applied(applied: Applied) -> None:
    """What the cluster has now, host by host where they are unlike."""
    for problem in applied.problems:
        _line("failed: ", problem, "red")
    if applied.problems:
        listed = show.table("", "host", "slurm.conf", "sha256")
        for host, state in applied.hosts.items():
            listed.add_row(show.printable(host), state.has, (state.sha256 or "-")[:16])
        show.out.print(listed)
    else:
        _line("", f"done: the nodes are back, and {len(applied.jobs)} jobs go on", "green")
    _line(
        "kept: ", f"the files of before are in {applied.kept} on each host; what the playbook said is in {applied.log}"
    )


def _failed(applied: Applied) -> WestwardError:
    state = (
        "the configuration of before is back" if applied.restored else "NOT every host has the configuration of before"
    )
    return WestwardError(
        f"{'; '.join(applied.problems)}: {state}", f"the whole of what the playbook said: {applied.log}"
    )


def _agreed(made: Plan) -> bool:
    if not sys.stdin.isatty():
        return False
    return typer.confirm("run the playbook?" if made.changes else "nothing changes in Slurm's files; run the playbook?")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _short(text: str | None) -> str:
    shown = "(not set)" if text is None else text
    return shown if len(shown) <= _WIDEST else f"{shown[:_WIDEST]}..."


def _line(head: str, text: str, style: str = "") -> None:
    show.out.print(Text.assemble((head, style), show.printable(text)), soft_wrap=True)
