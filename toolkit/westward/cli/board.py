"""`westward watch`: one job to its end, or many at once as they go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from westward.cli import show
from westward.cli.arguments import JobNames
from westward.cli.keypress import pauses
from westward.errors import JobFailed, NotFound
from westward.model.job import JobState
from westward.model.units import format_duration
from westward.store.ledger import OPEN, Job, Ledger, SiteWord

if TYPE_CHECKING:  # loaded when a job is watched: a shell that completes its name is not to wait for that
    from westward.jobs.lifecycle import Jobs
    from westward.jobs.overview import Overview, Progress


def watch(names: JobNames = None, as_json: show.AsJson = False) -> None:
    """Follow jobs live: all that go on, or those (and the sweeps) that are named. One alone is followed to its end, and its results are shown.

    q or Ctrl-C ends the watching, never a job. Off a terminal each change is a line; with --json each is an object on a line of its own.
    """
    from westward.catalogue.load import known_sites
    from westward.cli.watch import finish, watch_to_end
    from westward.jobs.lifecycle import Jobs

    ledger, sites = Ledger(), known_sites()
    with Jobs(ledger, sites) as running:
        show.tell_undecided(running.settle())
        named = list(dict.fromkeys(key for name in names or () for key in _meant(ledger, name)))
        if len(named) == 1:
            job = watch_to_end(running, ledger, ledger.get(named[0]), live=not as_json)
        else:
            jobs = watch_many(running, ledger, named or None, as_json)
    if len(named) == 1:
        finish(job, sites, as_json)
    elif named:
        refuse_failed(jobs)


def _meant(ledger: Ledger, name: str) -> list[str]:
    """The jobs that a user names: one, or all that a sweep has made.

    Raises:
        NotFound, InputError: none, or several, are meant by that.
    """
    try:
        return [ledger.find(name).key]
    except NotFound:
        sweep = ledger.sweeps.find(name)
        if sweep is None:
            raise
        return ledger.sweeps.jobs(sweep.key)


def watch_many(
    running: Jobs, ledger: Ledger, keys: Sequence[str] | None, as_json: bool, quiet: bool = False
) -> list[Job]:
    """Watch jobs until they have all ended, or the user has seen enough; as they are then.

    Args:
        keys: of those to watch; None for all that go on, and those that come meanwhile.
        quiet: show nothing meanwhile.
    """
    from westward.jobs.overview import Overview

    overview = Overview(running, ledger, keys)
    try:
        if show.out.is_terminal and not as_json and not quiet:
            _live(overview)
        else:
            _lines(overview, as_json, quiet)
    except KeyboardInterrupt:
        _tell_stopped(ledger, overview.jobs)
        raise
    jobs = overview.jobs
    if not overview.over:
        _tell_stopped(ledger, jobs)
    elif not jobs and not as_json:
        show.out.print("No job goes on. The newest: westward jobs")
    return jobs


def refuse_failed(jobs: Sequence[Job]) -> None:
    """
    Raises:
        JobFailed: some of these have ended otherwise than they should.
    """
    failed = [job for job in jobs if job.phase not in OPEN and job.state is not JobState.COMPLETED]
    if failed:
        told = show.named(f"{job.key} ({show.printable(job.name)}): {show.ended(job)}" for job in failed)
        raise JobFailed(
            f"{len(failed):,} of {len(jobs):,} jobs failed:{told}",
            f"why: 'westward explain {failed[0].key}'; what it wrote: 'westward logs {failed[0].key}'",
        )


def _live(overview: Overview) -> None:
    from rich.live import Live

    from westward.jobs.following import FIRST_TICK_S, LAST_TICK_S, SLOWER

    tick = FIRST_TICK_S
    # on a screen of its own, so that what was there before comes back and a long list does not roll
    with (
        pauses("q") as pause,
        Live(console=show.out, auto_refresh=False, screen=True, vertical_overflow="crop") as display,
    ):
        while True:
            changed, turned = overview.look()
            tick = FIRST_TICK_S if changed or turned else min(tick * SLOWER, LAST_TICK_S)
            if overview.over:
                break
            left = tick
            while left > 0:  # the clock goes on between looks
                display.update(board(overview, datetime.now(UTC), show.out.height), refresh=True)
                if pause(min(1.0, left)):
                    return
                left -= 1.0
    show.out.print(board(overview, datetime.now(UTC), None))


def _lines(overview: Overview, as_json: bool, quiet: bool) -> None:
    from time import sleep

    from westward.jobs.following import FIRST_TICK_S, LAST_TICK_S, SLOWER

    tick = FIRST_TICK_S
    while True:
        changed, turned = overview.look()
        now = datetime.now(UTC)
        for word in () if quiet else turned:
            print(json.dumps(_site_facts(word, now), default=str) if as_json else _site_line(word, now), flush=True)
        for job in () if quiet else changed:
            print(json.dumps(_job_facts(job, now), default=str) if as_json else _job_line(job, now), flush=True)
        if overview.over:
            return
        tick = FIRST_TICK_S if changed or turned else min(tick * SLOWER, LAST_TICK_S)
        sleep(tick)


def board(overview: Overview, now: datetime, height: int | None) -> Group:
    """What is shown of them, in so many lines; None for all of it."""
    sites, jobs = overview.sites(), overview.jobs
    of_sites = show.table(
        "", "site", "answers", "running", "waiting", "not known", numbers=("running", "waiting", "not known")
    )
    for line in sites:
        counts = [str(count or "-") for count in (line.running, line.waiting, line.others)]
        of_sites.add_row(escape(show.printable(line.name)), _answers(line.word, now), *counts)
    room = len(jobs) if height is None else max(1, height - len(sites) - 11)
    of_jobs = _jobs_table(jobs[:room], now)
    going_on = sum(job.phase in OPEN for job in jobs)
    more = f", {len(jobs) - room:,} not shown" if len(jobs) > room else ""
    hint = "; q ends the watching, and no job" if height is not None else ""
    said = f"{going_on:,} of {len(jobs):,} jobs go on{more}{hint}"
    return Group(of_sites, of_jobs, Text(f"{now.astimezone():%H:%M:%S}  {said}", style="dim"))


def _jobs_table(jobs: Sequence[Job], now: datetime) -> Table:
    from westward.jobs.overview import progress

    made = show.table("", "job", "name", "site", "state", "progress", "expected", "reason")
    for job in jobs:
        told = progress(job, now)
        made.add_row(
            job.key,
            escape(show.printable(job.name)),
            escape(show.printable(job.site)),
            show.state_text(job),
            progress_words(told),
            expected(told, now),
            escape(show.printable(job.reason)),
            style="" if job.phase in OPEN else "dim",
        )
    return made


def progress_words(told: Progress) -> str:
    """How far, in a few words."""
    words = [f"{told.done:,}/{told.tasks:,} tasks"] if told.tasks is not None else []
    if told.ran_s is not None:
        of = f" of {format_duration(told.limit_s)}" if told.limit_s and told.tasks is None else ""
        words.append(f"{format_duration(told.ran_s)}{of}")
    return ", ".join(words) or "-"


def expected(told: Progress, now: datetime) -> str:
    """When it starts, or ends, as far as its cluster tells."""
    if told.starts_at is not None:
        return f"starts {show.clock(told.starts_at, now)}" if told.starts_at > now else "starts soon"
    return f"ends by {show.clock(told.ends_by, now)}" if told.ends_by is not None else "-"


def _answers(word: SiteWord | None, now: datetime) -> Text:
    if word is None:
        return Text("not asked yet", style="dim")
    if word.silent_since is None:
        return Text("yes", style="green")
    return Text(f"silent for {_ago(word.silent_since, now)}: {show.printable(word.problem)}", style="magenta")


def _ago(moment: datetime, now: datetime) -> str:
    return format_duration(max(0.0, (now - moment).total_seconds()))


def _site_line(word: SiteWord, now: datetime) -> str:
    said = f"silent: {show.printable(word.problem)}" if word.silent_since else "answers again"
    return f"{now.astimezone():%H:%M:%S}  site {word.name}  {said}"


def _job_line(job: Job, now: datetime) -> str:
    from westward.jobs.overview import progress

    told = progress(job, now)
    tasks = f"{told.done}/{told.tasks} tasks" if told.tasks is not None else ""
    words = [
        f"{now.astimezone():%H:%M:%S}",
        job.key,
        show.printable(job.name),
        job.site,
        show.state_text(job).plain,
        tasks,
    ]
    reason = f"({show.printable(job.reason)})" if job.reason else ""
    return "  ".join(word for word in (*words, reason) if word)


def _site_facts(word: SiteWord, now: datetime) -> dict[str, Any]:
    return {
        "change": "site",
        "at": now.isoformat(),
        "site": word.name,
        "answers": word.silent_since is None,
        "problem": word.problem,
    }


def _job_facts(job: Job, now: datetime) -> dict[str, Any]:
    from westward.jobs.overview import progress

    told = progress(job, now)
    return {
        "change": "job", "at": now.isoformat(), **show.job_facts(job), "done": told.done, "tasks": told.tasks, "ran_s": told.ran_s,
        "limit_s": told.limit_s, "starts_at": told.starts_at, "ends_by": told.ends_by,
    }  # fmt: skip


def _tell_stopped(ledger: Ledger, jobs: Sequence[Job]) -> None:
    from westward.cli.watch import stands_still, tell_stopped

    going_on = [job for job in jobs if job.phase in OPEN]
    if len(going_on) == 1:
        tell_stopped(ledger, going_on[0])
    elif going_on:
        still = next(filter(None, (stands_still(ledger, job) for job in going_on)), "the jobs go on")
        show.err.print(f"no longer watching; {still}: 'westward watch' follows them again", soft_wrap=True)
