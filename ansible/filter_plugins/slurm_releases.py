"""Slurm's releases, and which of them understand each other. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

# in their order; from 24.05 on there is one each May and November
RELEASES = ["19.05", "20.02", "20.11", "21.08", "22.05", "23.02", "23.11"] + [
    f"{year}.{month}" for year in range(24, 40) for month in ("05", "11")
]


def reach(release: str) -> int:
    """How many releases before it the daemons of one understand: two, and three from 24.11 on (Slurm's upgrade guide)."""
    return 3 if RELEASES.index(release) >= RELEASES.index("24.11") else 2


def upgrade_refusal(before: str, after: str) -> str:
    """Why Slurm cannot be upgraded from one version to another at once; empty where it can.

    A daemon understands those of the releases within its reach, and takes up their state.
    """
    found = [re.search(r"\d\d\.\d\d", version) for version in (before, after)]
    names = [match[0] if match else "" for match in found]
    if unknown := [version for version, name in zip((before, after), names, strict=True) if name not in RELEASES]:
        return f"'{unknown[0]}' is no release of Slurm that is known here"
    old, new = (RELEASES.index(name) for name in names)
    back = reach(names[1])
    if new < old:
        return f"{names[1]} is older than {names[0]}: its daemons cannot read what the newer ones have written"
    if new - old > back:
        between = RELEASES[old + (3 if reach(RELEASES[old + 3]) == 3 else 2)]
        return (
            f"{names[1]} takes up the state and the jobs of {back} releases before it, {RELEASES[new - back]} at the oldest, and here is"
            f" {names[0]}: upgrade to {between} first"
        )
    return ""


class FilterModule:
    """The filter, as Ansible finds it."""

    def filters(self) -> dict[str, Callable[[str, str], str]]:
        return {"slurm_upgrade_refusal": upgrade_refusal}
