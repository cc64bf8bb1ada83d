"""How a job that runs longer than it may is stopped, saved and started again."""

from __future__ import annotations

from dataclasses import dataclass

SIGNALS = ("USR1", "USR2")  # what srun passes on to the program, and Slurm sends for no reason of its own
# what a program ends with that has saved its state and is to be started again; the same as HTCondor's for this
EXIT_CODE = 85
EARLY_S = 60  # sbatch(1): the signal may come so much earlier than asked for
LONGEST_BEFORE_S = 65535  # sbatch(1), --signal


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A program that saves its state when it is told to, ends, and goes on from there when it is started again.

    Attributes:
        signal: what it is told by; one of SIGNALS.
        before_s: seconds before the time limit; Slurm may be up to a minute early.
        restarts: how often the cluster may start the job again, for whatever reason.
        exit_code: what the program ends with to say that it has saved its state and is not finished.
    """

    signal: str = SIGNALS[0]
    before_s: int = 120
    restarts: int = 3
    exit_code: int = EXIT_CODE
