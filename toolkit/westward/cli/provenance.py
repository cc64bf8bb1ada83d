"""`westward provenance`: where a job's result comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from westward.cli import show
from westward.cli.arguments import JobName
from westward.store.ledger import OPEN, Ledger

_SILENT: tuple[Any, ...] = (None, False, [], {}, "")


def provenance(name: JobName, as_json: show.AsJson = False) -> None:
    """Show where a job or a sweep comes from: configuration, code and its changes, decision, environment, and what the job's nodes noted.

    --json prints all of it. Of a job that goes on, and of a sweep, what was written down when it was submitted.
    """
    from westward.catalogue.load import known_sites
    from westward.jobs import provenance as of

    ledger = Ledger()
    if (sweep := ledger.sweeps.find(name)) is not None:
        _of_sweep(of.told_of_sweep(ledger, sweep), as_json)
        return
    job = ledger.find(name)
    if job.phase in OPEN:
        facts, file = of.told(ledger, job), None
    else:
        file = of.keep(ledger, job, known_sites().get(job.site))
        facts = of.read(file)
    if as_json:
        show.print_json(facts)
        return
    made = show.table(f"{show.printable(job.name)} ({job.key}) at {job.site}, {job.state}", "", "")
    for what, text in _lines(facts):
        made.add_row(what, Text(show.printable(text)))
    show.out.print(made)
    if file is not None:
        show.out.print(f"all of it: {file}", soft_wrap=True)


def _of_sweep(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.print_json(facts)
        return
    made = show.table(f"{show.printable(facts['name'])}, sweep {facts['sweep']}", "", "")
    words = " ".join([facts["template"] or "", *facts["overrides"]]).strip()
    made.add_row("points", Text(show.printable(words)))
    for command in facts["submitted"]:
        for what, text in _from(command or {}):
            made.add_row(what, Text(show.printable(text)))
    for job in facts["jobs"][: show.SHOWN]:
        where = f"{job['site']}/{(job['decision'].get('chosen') or {}).get('partition')}, Slurm {job['slurm_version'] or 'not asked'}"
        made.add_row(
            f"job {job['job']}", Text(show.printable(f"{len(job['points']):,} points, {where}, {job['state']}"))
        )
    show.out.print(made)
    show.out.print(
        f"all of it: westward provenance {facts['sweep']} --json; of a job: westward provenance JOB", soft_wrap=True
    )


def _from(submitted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who submitted it, when and from where."""
    who = (
        f"{submitted['at'][:19]} UTC by {submitted.get('user')} on {submitted.get('host')}"
        if submitted
        else "not recorded"
    )
    return [
        ("submitted", who),
        ("from", str(submitted.get("directory") or "not recorded")),
        ("code", _code(submitted)),
        ("Westward", f"{submitted.get('westward', '?')}, Python {submitted.get('python', '?')}"),
    ]


def _lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a person asks first, in that order."""
    chosen = facts["decision"].get("chosen") or {}
    found = [
        *_from(facts["submitted"] or {}),
        ("Slurm", str(facts["slurm_version"] or "not asked")),
        ("went to", f"{facts['site']}/{chosen.get('partition')} by policy {facts['decision'].get('policy')}"),
        ("configuration", " ".join(f"{key}={value}" for key, value in _said(facts["config"])) or "none: no template"),
        ("script", f"sha256 {facts['script_sha256'][:16]}"),
    ]  # fmt: skip
    if facts["container"]:
        found.append(
            (
                "container",
                f"{facts['container']['image']} ({facts['container']['digest'] or facts['container']['why']})",
            )
        )
    for attempt in facts["attempts"]:
        ran = f"{attempt['began']} on {attempt['nodes'] or attempt['host']}, {attempt['kernel']}"
        found.append((f"attempt {attempt['attempt']}", ran))
    if not facts["attempts"]:
        found.append(("attempts", facts["attempts_why"]))
    return found


def _code(submitted: Mapping[str, Any]) -> str:
    git = submitted.get("git")
    if git is None:
        return f"no commit: {submitted.get('git_why') or 'not recorded'}"
    state = {True: f"with {len(git['changed'])} changed files ({git['diff_bytes'] or 0} bytes of diff)", False: "clean"}
    said = f"{git['commit'] or 'no commit'} of {git['root']}, {state.get(git['dirty'], 'not compared')}"
    more = f", {git['untracked_count']} not tracked" if git["untracked_count"] else ""
    return f"{said}{more}{'; ' + submitted['git_why'] if submitted.get('git_why') else ''}"


def _said(config: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """The keys that say something; --json has them all."""
    found = dict(config or {})
    found["policy"] = (found.get("policy") or {}).get("name")
    for group, key in (("checkpoint", "signal"), ("container", "image")):  # without it the others mean nothing
        if not (found.get(group) or {}).get(key):
            found.pop(group, None)
    found |= {
        key: {name: inner for name, inner in value.items() if inner not in _SILENT}
        for key, value in found.items()
        if isinstance(value, Mapping)
    }
    return [
        (key, value) for key, value in found.items() if value not in _SILENT and key not in ("description", "choices")
    ]
