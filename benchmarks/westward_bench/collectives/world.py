"""Is this the MPI world that was asked for?

A launcher and an MPI library that do not find each other start every rank as a world of its own: each then reduces with
nobody, ends normally and prints plausible figures.
"""

from __future__ import annotations

from collections.abc import Mapping


class WorldSizeError(RuntimeError):
    """The MPI world does not have the number of ranks that was asked for."""


def expected_ranks(asked: int | None, environ: Mapping[str, str]) -> tuple[int | None, str]:
    """How many ranks there must be, and who said so: the command line, else Slurm, else nobody (None).

    Raises:
        WorldSizeError: SLURM_NTASKS is not a number.
    """
    if asked is not None:
        return asked, "--expect-ranks"
    text = environ.get("SLURM_NTASKS")
    if text is None:
        return None, "nobody"
    if not text.isdigit():
        raise WorldSizeError(f"SLURM_NTASKS: expected a whole number, got {text!r}; give --expect-ranks")
    return int(text), "SLURM_NTASKS"


def check_world_size(actual: int, expected: int | None, said_by: str) -> None:
    """Passes if nobody said how many ranks there must be, or if there are that many.

    Raises:
        WorldSizeError: there are more or fewer; the message says what to try.
    """
    if expected is None or actual == expected:
        return
    hint = ""
    if actual == 1:
        hint = "; the launcher and this MPI library do not work together: see 'srun --mpi=list', try 'srun --mpi=pmix'"
    raise WorldSizeError(f"the MPI world has {actual} rank(s), {said_by} says {expected}{hint}")
