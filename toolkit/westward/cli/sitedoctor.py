"""`westward site doctor` and `westward site gres`: what is wrong with a cluster, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.text import Text

from westward.cli import managed, show
from westward.errors import Unreachable, WestwardError

if TYPE_CHECKING:
    from westward.provision.clusterfacts import Facts
    from westward.provision.finding import Finding
    from westward.provision.gres import NodeGres
    from westward.provision.hosts import Managed

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta", "left out": "dim"}


def doctor(
    site: managed.SiteOrInventory,
    inventory: managed.MoreInventories = None,
    no_jobs: Annotated[bool, typer.Option("--no-jobs", help="Run no job.")] = False,
    as_json: show.AsJson = False,
) -> None:
    """Look a cluster over, and name what is wrong, where, and what to do. Changes nothing; runs two jobs of a second.

    Exit code 1 where something failed or could not be found out, 4 where a host gave no answer.
    """
    from westward.provision import doctor as checks

    facts = _facts(site, inventory, jobs=not no_jobs)
    findings = checks.diagnose(facts)
    if as_json:
        show.print_json(doctor_facts(facts, findings))
    else:
        _tell_findings(facts, findings)
    _end(checks.exit_code(facts, findings), facts, _failed(findings))


def gres(
    site: managed.SiteOrInventory, inventory: managed.MoreInventories = None, as_json: show.AsJson = False
) -> None:
    """The accelerators of each node as the inventory, Slurm's files, slurmd and slurmctld have them. Changes nothing.

    Exit code 1 where they differ: each difference is told, with what to do; 4 where a host gave no answer.
    """
    from westward.provision import gres as columns

    facts = _facts(site, inventory, only_gres=True)
    rows = columns.compare(facts)
    if as_json:
        show.print_json([_row_facts(row) for row in rows])
    else:
        _tell_rows(rows)
    if facts.configuration is None:
        raise Unreachable(
            f"the configuration could not be read: {facts.unread}", "does slurmctld run? 'westward site doctor' tells"
        )
    _end(columns.exit_code(rows), facts, f"they differ on {columns.summary(rows)}")


def _facts(site: str, inventory: Any, jobs: bool = False, only_gres: bool = False) -> Facts:
    cluster = managed.managed(site, inventory)
    from westward.provision import clusterfacts
    from westward.provision.hosts import Hands

    with managed.progress(cluster.cluster, len(cluster.hosts)) as told, Hands(told) as hands:
        return clusterfacts.ask(cluster, hands, jobs=jobs, only_gres=only_gres)


def doctor_facts(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    """What --json says."""
    return {
        "cluster": facts.site.cluster,
        "silent": dict(facts.silent),
        "findings": [asdict(one) for one in findings],
    }


def _tell_findings(facts: Facts, findings: Sequence[Finding]) -> None:
    made = show.table(facts.site.cluster, "check", "where", "", "what was found", "what to do")
    for one in findings:
        made.add_row(
            *map(show.printable, (one.check, one.where)),
            Text(one.verdict, style=_STYLES[one.verdict]),
            *_texts(one.found, one.next_step),
        )
    show.out.print(made)


def _texts(*texts: str) -> list[Text]:
    return [Text(show.printable(text)) for text in texts]


def _failed(findings: Sequence[Finding]) -> str:
    from westward.provision.finding import BAD

    bad = list(dict.fromkeys(one.check for one in findings if one.verdict in BAD))
    return f"not well: {', '.join(bad)}"


def _tell_rows(rows: Sequence[NodeGres]) -> None:
    from westward.provision.gresseen import written

    made = show.table("", "node", "inventory", "slurm.conf", "slurmd finds", "slurmctld has")
    for row in rows:
        finds = written(row.seen.counts) if row.seen else "?"
        has = f"{written(row.registered)}, {row.state}" if row.registered is not None else "?"
        cells = [
            row.node,
            *(written(one) if one is not None else "?" for one in (row.inventory, row.configured)),
            finds,
            has,
        ]
        made.add_row(*_texts(*cells), style="red" if row.mismatches or row.silent else "")
    show.out.print(made)
    for row in rows:
        told = [(row.silent, "")] if row.silent else [(one.found, one.fix) for one in row.mismatches]
        for found, fix in told:
            show.out.print(
                Text.assemble((f"{show.printable(row.node)}: ", "bold"), show.printable(found)), soft_wrap=True
            )
            if fix:
                show.out.print(Text.assemble(("  next: ", "bold"), show.printable(fix)), soft_wrap=True)


def _row_facts(row: NodeGres) -> dict[str, Any]:
    from westward.provision.gresseen import written

    columns = {
        "inventory": row.inventory,
        "configured": row.configured,
        "found": row.seen.counts if row.seen else None,
        "registered": row.registered,
    }
    return {
        "node": row.node,
        **{name: None if found is None else written(found) for name, found in columns.items()},
        "detect": row.detect,
        "missing": list(row.missing),
        "state": row.state,
        "reason": row.reason,
        "silent": row.silent,
        "mismatches": [asdict(one) for one in row.mismatches],
    }


def _end(code: int, facts: Facts, failed: str) -> None:
    """
    Raises:
        Unreachable: a host gave no answer; or WestwardError: something is wrong.
    """
    if code == 4:
        end_silent(facts.site, facts.silent)
    if code:
        raise WestwardError(failed)


def end_silent(site: Managed, silent: Mapping[str, str]) -> NoReturn:
    """
    Raises:
        Unreachable: always.
    """
    raise Unreachable(f"of {len(site.hosts)} hosts {len(silent)} gave no answer: {', '.join(silent)}")
