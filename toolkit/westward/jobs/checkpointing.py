"""The keys of a job that say how it is stopped and started again -> Checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from westward.errors import InputError
from westward.model.checkpoint import EARLY_S, LONGEST_BEFORE_S, SIGNALS, Checkpoint
from westward.model.units import format_walltime, whole_minutes_s


def to_checkpoint(
    template: str, config: Mapping[str, Any], named: Collection[str], walltime_s: int
) -> Checkpoint | None:
    """How the job is stopped and started again; None without a signal.

    Raises:
        InputError: a value cannot be meant, or an option says the same in another way.
    """
    said = config["checkpoint"]
    if said["signal"] is None:
        idle = next(
            (key for key in sorted(named) if key.startswith("checkpoint.") and key != "checkpoint.signal"), None
        )
        if idle:
            raise InputError(
                f"template '{template}': {idle} means nothing without a signal", "add checkpoint.signal=USR1"
            )
        return None
    signal = str(said["signal"]).upper().removeprefix("SIG")
    limits = {"before_s": (1, LONGEST_BEFORE_S), "restarts": (0, 10_000), "exit_code": (1, 255)}
    if signal not in SIGNALS:
        raise InputError(
            f"template '{template}': checkpoint.signal={said['signal']}: one of {', '.join(SIGNALS)} was expected"
        )
    for key, (least, most) in limits.items():
        if not least <= said[key] <= most:
            raise InputError(f"template '{template}': checkpoint.{key}={said[key]}: {least} to {most} was expected")
    if said["before_s"] + EARLY_S >= whole_minutes_s(walltime_s):
        raise InputError(
            f"template '{template}': checkpoint.before_s={said['before_s']} leaves nothing of the job's time, {format_walltime(walltime_s)}",
            "Slurm may send the signal a minute early: give the job more walltime, or take less of it",
        )
    for name in config["options"]:
        if name and "signal".startswith(name):  # sbatch takes the beginning of an option for it
            raise InputError(
                f"template '{template}': options.{name} and checkpoint.signal both ask for a signal", "keep one of them"
            )
    return Checkpoint(signal, said["before_s"], said["restarts"], said["exit_code"])
