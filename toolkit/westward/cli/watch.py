"""Following a job to its end, and showing what it left behind."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime

from rich.text import Text

from westward.cli import show
from westward.errors import JobFailed
from westward.jobs.collect import collect
from westward.jobs.lifecycle import Jobs
from westward.model.result import JobResult
from westward.model.site import Site
from westward.model.units import format_duration
from westward.store.ledger import OPEN, UNSETTLED, Job

FIRST_TICK_S = 0.5
LAST_TICK_S = 10.0
SLOWER = 1.2


def watch_to_end(running: Jobs, job: Job, live: bool) -> Job:
    """Ask about a job until it has ended, at growing intervals while nothing changes.

    On a terminal a line moves with it; elsewhere each change is a line of its own. Ctrl-C ends the watching, never the job.
    """
    from rich.live import Live
    from rich.spinner import Spinner

    moving = live and show.err.is_terminal
    told, tick = None, FIRST_TICK_S
    try:
        with Live(console=show.err, refresh_per_second=8, transient=True) if moving else nullcontext() as display:
            while job.phase in OPEN:
                if job.phase in UNSETTLED:
                    running.settle()
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
        show.err.print(f"no longer watching; the job goes on: 'westward watch {job.key}' follows it again")
        raise
    return job


def finish(job: Job, sites: Mapping[str, Site], as_json: bool) -> None:
    """Fetch and show what a job left behind.

    Raises:
        JobFailed: it did not succeed.
    """
    result = collect(job, sites.get(job.site))
    if as_json:
        show.print_json({**show.job_facts(job), "ok": result.ok, "problem": result.problem, "record": result.record})
    else:
        _show(job, result)
    if not result.ok:
        raise JobFailed(
            f"job {job.key} at {job.site}: {result.problem}", f"read its output with 'westward logs {job.key}'"
        )


def _line(job: Job) -> Text:
    waited = format_duration((datetime.now(UTC) - (job.started_at or job.created_at)).total_seconds())
    why = f" ({show.printable(job.reason)})" if job.reason else ""
    return Text.assemble(f"{job.key}  ", show.state_text(job), why, f"  {waited}")


def _show(job: Job, result: JobResult) -> None:
    if result.record is not None and "columns" in result.record:
        name = show.printable(job.name)
        show.out.print(show.record_table(f"{name} at {job.site}, {job.state}", result.record))
    for file in result.files.values():
        show.out.print(f"results: {file}", soft_wrap=True)
