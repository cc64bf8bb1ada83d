"""Following a job to its end, and showing what it left behind."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from rich.text import Text

from westward.cli import show
from westward.errors import JobFailed, StorageError, Unreachable
from westward.federation.presence import alive
from westward.jobs.collect import collect, copy_outputs
from westward.jobs.following import FIRST_TICK_S, LAST_TICK_S, SLOWER, take_further
from westward.jobs.lifecycle import Jobs
from westward.jobs.provenance import keep
from westward.model.result import JobResult
from westward.model.site import Site
from westward.model.units import format_duration
from westward.store.ledger import OPEN, UNSETTLED, Job, Ledger, Phase


def watch_to_end(running: Jobs, ledger: Ledger, job: Job, live: bool) -> Job:
    """Ask about a job until it has ended, at growing intervals while nothing changes.

    While it is on its way to its cluster it is taken further, as an agent would: what it waits for at other sites is asked about too.
    On a terminal a line moves with it; elsewhere each change is a line of its own. Ctrl-C ends the watching, never the job.
    """
    from rich.live import Live
    from rich.spinner import Spinner

    moving = live and show.err.is_terminal
    told, tick = None, FIRST_TICK_S
    try:
        with Live(console=show.err, refresh_per_second=8, transient=True) if moving else nullcontext() as display:
            while job.phase in OPEN:
                take_further(running, ledger, [job])
                job = running.refresh([job])[0]
                if display is not None:
                    display.update(Spinner("dots", _line(job)))
                if (job.state, job.reason) != told:
                    told, tick = (job.state, job.reason), FIRST_TICK_S
                    if live and not moving:
                        show.err.print(_line(job))
                if job.phase in OPEN:
                    time.sleep(tick)
                    tick = min(tick * SLOWER, LAST_TICK_S)
    except KeyboardInterrupt:
        tell_stopped(ledger, job)
        raise
    return job


def tell_stopped(ledger: Ledger, job: Job) -> None:
    """What becomes of a job that its user no longer watches."""
    goes_on = stands_still(ledger, job) or "the job goes on"
    show.err.print(f"no longer watching; {goes_on}: 'westward watch {job.key}' follows it again", soft_wrap=True)


def stands_still(ledger: Ledger, job: Job) -> str:
    """Why a job that nobody watches any more goes no further, and what to do; empty where it does."""
    if job.phase not in UNSETTLED or alive(ledger):
        return ""
    why = "is held until jobs at other sites have ended" if job.phase is Phase.HELD and job.waits_for else "is in doubt"
    return f"job {job.key} {why}, and no agent is running to take it further (westward agent start)"


def finish(
    job: Job, sites: Mapping[str, Site], as_json: bool, output_dir: Path | None = None, force: bool = False
) -> None:
    """Fetch and show what a job left behind, and copy its outputs where the user wants them.

    Raises:
        Unsafe: files of those names are there, and may not be replaced without `force`.
        JobFailed: it did not succeed.
        Unreachable: its site does not give its outputs now, so nobody knows yet.
    """
    result = collect(job, sites.get(job.site))
    kept = _kept(job, None if result.away else sites.get(job.site))
    problem = result.problem or (f"its outputs could not be fetched: {result.away}" if result.away else "")
    copied = copy_outputs(result, output_dir, force) if output_dir is not None else []
    if as_json:
        files = {name: str(file) for name, file in result.files.items()}
        facts = {
            "ok": result.ok,
            "problem": problem,
            "record": result.record,
            "files": files,
            "provenance": str(kept) if kept else None,
        }
        show.print_json({**show.job_facts(job), **facts, "copied": [str(file) for file in copied]})
    else:
        _show(job, result, copied)
        if kept is not None:
            show.out.print(Text(show.printable(f"provenance: {kept}")), soft_wrap=True)
        if output_dir is not None and not copied:
            show.err.print(f"job {job.key} left no outputs to copy", soft_wrap=True)
    if result.problem:
        raise JobFailed(
            f"job {job.key} at {job.site}: {problem}",
            f"what it wrote: 'westward logs {job.key}'; what happened: 'westward explain {job.key}'",
        )
    if result.away:
        again = f"westward results {job.key}"
        first = result.away.next_step
        raise Unreachable(
            f"job {job.key} at {job.site} ended {job.state}, but {problem}",
            f"{first}; then: {again}" if first else f"'{again}' again later",
        )


def _kept(job: Job, site: Site | None) -> Path | None:
    """Where its provenance is written. What goes wrong with that is said, and keeps nobody from the results."""
    try:
        return keep(Ledger(), job, site)
    except StorageError as error:
        show.err.print(Text.assemble(("note: ", "yellow"), show.printable(str(error))), soft_wrap=True)
        return None


def _line(job: Job) -> Text:
    waited = format_duration((datetime.now(UTC) - (job.started_at or job.created_at)).total_seconds())
    why = f" ({show.printable(job.reason)})" if job.reason else ""
    return Text.assemble(f"{job.key}  ", show.state_text(job), why, f"  {waited}")


def _show(job: Job, result: JobResult, copied: Sequence[Path]) -> None:
    if granted := show.granted_text(job):
        show.out.print(Text(show.printable(granted)), soft_wrap=True)
    if result.record is not None and "columns" in result.record:
        name = show.printable(job.name)
        show.out.print(show.record_table(f"{name} at {job.site}, {job.state}", result.record))
    for file in copied or result.files.values():
        show.out.print(Text(show.printable(f"{'copied' if copied else 'results'}: {file}")), soft_wrap=True)
