"""What Slurm's commands complain of. Pure. `faults` says what such words mean."""

from __future__ import annotations

import re

_FINISHED = ("already finished", "already completing", "already completed", "already done")


def by_job(text: str) -> dict[int, str]:
    """What scontrol or scancel said of single jobs."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        told = re.search(r"(?P<what>\S.*?) for job (?P<id>\d{1,18})", line)
        cancel = re.search(r"job error on job id (?P<id>\d{1,18})\S*: (?P<what>.+)", line)
        match = cancel or told
        if match is not None:
            found[int(match["id"])] = match["what"].strip()
    return found


def over(said: str) -> bool:
    """Whether a complaint only says that the job has ended, or is not known (any more)."""
    return any(word in said for word in (*_FINISHED, "Invalid job id"))


def words(text: str) -> str:
    """Slurm's own words in what a command printed to its error output: without the program's name and without repetitions."""
    lines = []
    for line in text.splitlines():
        said = re.sub(r"^(?:\w+: )?(?:(?:error|fatal): )?", "", line.strip())
        if said and said not in lines:
            lines.append(said)
    return "; ".join(lines[-3:]) or "no reason given"
