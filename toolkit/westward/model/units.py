"""Time limits and memory sizes: Slurm's own notations, read and written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from westward.errors import QuantityError

_WALLTIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<fields>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGTP]?)(?:i?B)?", re.IGNORECASE)
_FACTOR = {"": 1024**2, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def parse_walltime(text: str) -> int:
    """Seconds of a Slurm time limit, in one of the six forms that sbatch(1) lists.

    These are "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours", "days-hours:minutes" and
    "days-hours:minutes:seconds".

    Raises:
        QuantityError: the text is none of these, or is zero (which Slurm reads as "no limit").
    """
    match = _WALLTIME.fullmatch(text.strip())
    if match is None:
        raise QuantityError(f"'{text}' is not a time limit; write D-HH:MM:SS, HH:MM:SS, MM:SS or minutes", text)
    fields = [int(field) for field in match["fields"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*fields, 0, 0)[:3]
        total = ((int(match["days"]) * 24 + hours) * 60 + minutes) * 60 + seconds
    elif len(fields) == 3:
        total = (fields[0] * 60 + fields[1]) * 60 + fields[2]
    else:
        total = fields[0] * 60 + (fields[1] if len(fields) == 2 else 0)
    if total == 0:
        raise QuantityError(f"the time limit '{text}' is zero, which Slurm would read as no limit", text)
    return total


def parse_moment(text: str, now: datetime) -> datetime:
    """A point in time, in UTC: "+90" (minutes) or "+2:00:00" from now, as time limits are written; or ISO 8601.

    A number alone is minutes from now too: Hydra takes the plus of +90 away. ISO 8601 without an offset is this host's own time zone.

    Raises:
        QuantityError: the text is neither.
    """
    try:
        if text.startswith("+") or (text.isdecimal() and len(text) < len("20260131")):
            return now + timedelta(seconds=parse_walltime(text.removeprefix("+")))
        return datetime.fromisoformat(text).astimezone(UTC)
    except (QuantityError, ValueError, OverflowError) as error:
        raise QuantityError(
            f"'{text}' is not a point in time; write 2026-01-31T08:00+01:00, or +2:00:00 for in two hours", text
        ) from error


def format_walltime(seconds: int) -> str:
    """A time limit as Slurm prints it: HH:MM:SS, with D- before it from one day on."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour:02d}:{minute:02d}:{second:02d}"
    return f"{days}-{clock}" if days else clock


def whole_minutes_s(walltime_s: int) -> int:
    """Seconds of the limit that Slurm makes of a walltime: it counts in minutes and rounds up. What is shown or priced is this."""
    return -(-walltime_s // 60) * 60


def parse_memory(text: str) -> int:
    """Bytes of a memory size as sbatch(1) takes it: a number with K, M, G, T or P (powers of 1024), megabytes without.

    Raises:
        QuantityError: the text is not such a size.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise QuantityError(f"'{text}' is not a memory size; write for example 512M, 4G or 1T", text)
    return int(float(match["number"]) * _FACTOR[match["unit"].upper()])


def format_bytes(size: float) -> str:
    """A size for people: the largest binary unit that keeps the number at 1 or more, e.g. '1 MiB', '1.5 GiB'."""
    value = float(size)
    for unit in SIZES[:-1]:
        if abs(value) < 1024:
            return f"{value:g} {unit}" if value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {SIZES[-1]}"


def format_duration(seconds: float) -> str:
    """A span for people: '0.4 s', '42 s', '3 min 5 s', '2 h 10 min', '4 d 3 h'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit} {rest} {lower}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def from_epoch(seconds: float | None) -> datetime | None:
    """A point in time, in UTC; None for None and for 0, with which Slurm says 'not yet'."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
