"""`westward logs`: what a job has written, once or as it comes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, BinaryIO, TextIO

import typer

from westward.cli import show
from westward.cli.arguments import JobName
from westward.cli.terminal import Harmless
from westward.errors import InputError, JobFailed, NotFound
from westward.model.job import JobState
from westward.store.ledger import OPEN, Job, Ledger, Phase

if TYPE_CHECKING:
    from westward.model.site import Site


def logs(
    name: JobName,
    task: Annotated[int | None, typer.Option("--task", help="Which task of an array.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Of what is there, the last so many lines only.")
    ] = None,
) -> None:
    """Print what a job has written: stdout and stderr of its batch script. With -f, also what it writes until it ends.

    The exit code of -f is 1 if the job failed. On a terminal, of control sequences only colours get through; into a file or a pipe
    everything goes as it is. A file for stderr alone (--error) goes to stderr.
    """
    from westward.catalogue.load import known_sites

    ledger, sites = Ledger(), known_sites()
    job = ledger.find(name)
    if job.phase is Phase.REFUSED:
        raise InputError(f"job {job.key} was never submitted, so it has written nothing: {job.reason}")
    if job.site not in sites:
        raise NotFound(
            f"site '{job.site}' of job {job.key} is no longer described here",
            "put its description back, or bring its lab up again",
        )
    out = Printer()
    if follow:
        _follow(ledger, sites, job, task, tail, out)
    else:
        _print(sites[job.site], job, task, tail, out)


class Printer:
    """Where the two outputs of a job go: ours, as they are, or harmless where that is a terminal."""

    def __init__(self) -> None:
        self._outs = {False: _Output(sys.stdout), True: _Output(sys.stderr)}

    def write(self, piece: bytes, is_stderr: bool) -> None:
        self._outs[is_stderr].write(piece)


class _Output:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._harmless = Harmless() if stream.isatty() else None

    def write(self, piece: bytes) -> None:
        if self._harmless is not None:
            self._stream.write(self._harmless.take(piece))
        else:
            raw: BinaryIO = self._stream.buffer
            raw.write(piece)
        self._stream.flush()


def _print(site: Site, job: Job, task: int | None, tail: int | None, out: Printer) -> None:
    from westward.jobs.logs import Log, stderr_path, stdout_path
    from westward.slurm.files import open_files

    written = False
    with open_files(site) as files:
        try:
            paths = [(stdout_path(job, task), False), (stderr_path(job, task), True)]
        except FileNotFoundError:  # its name is not known before its cluster has given it an id
            paths = []
        for path, is_stderr in paths:
            try:
                for piece in Log(files, path, tail).more() if path else ():
                    out.write(piece, is_stderr)
                    written = True
            except FileNotFoundError:
                continue
    if not written:
        show.err.print(f"job {job.key} has written nothing yet (state when last seen: {show.state_text(job).plain})")


def _follow(ledger: Ledger, sites: dict[str, Site], job: Job, task: int | None, tail: int | None, out: Printer) -> None:
    from westward.cli.watch import stands_still
    from westward.jobs.following import Follower
    from westward.jobs.lifecycle import Jobs
    from westward.slurm.files import open_files

    with Jobs(ledger, sites) as running, open_files(sites[job.site]) as files:
        show.tell_undecided(running.settle())
        job = running.refresh([job])[0]
        follower = Follower(running, ledger, job, files, write=out.write, tell=_tell, task=task, lines=tail)
        try:
            state = follower.follow()
        except KeyboardInterrupt:
            goes_on = stands_still(ledger, follower.job) or "the job goes on"
            again = f"westward logs -f {job.key}" + (f" --task {task}" if task is not None else "")
            _tell(
                f"no longer following; {goes_on}: '{again}' follows it again"
                if _goes_on(follower.job)
                else "it has ended"
            )
            raise
    which = f"task {task} of job {job.key}" if task is not None else f"job {job.key}"
    if state is not JobState.COMPLETED:
        said = f"ended {state}" if task is not None else f"ended {show.ended(follower.job)}"
        raise JobFailed(f"{which} at {job.site}: {said}", f"westward explain {job.key}")
    _tell(f"{which} ended {state}")


def _goes_on(job: Job) -> bool:
    return job.phase in OPEN


def _tell(said: str) -> None:
    """Beside what the job writes, and told from it."""
    show.err.print(f"-- {show.printable(said)}", soft_wrap=True, markup=False)
