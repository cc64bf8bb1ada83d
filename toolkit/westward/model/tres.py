"""Slurm's resource strings: what a node has ("gpu:h100:4(S:0-1)") and what is counted ("cpu=8,mem=4G,gres/gpu:h100=4")."""

from __future__ import annotations

import re

from westward.errors import QuantityError

_KIND = re.compile(r"(?:gres[/:])?(?P<kind>[A-Za-z_]\w*)(?P<rest>.*)")
# a type may begin with a digit, as NVIDIA's names of MIG slices do ("1g.10gb"), but is not a number
_GPU = re.compile(r"(?::(?P<type>(?!\d+(?::|\(|$))\w[\w.-]*))?(?::(?P<count>\d+))?(?:\(.*\))?")
_SPLIT = re.compile(r",(?![^(]*\))")


def parse_gpus(text: str) -> dict[str, int]:
    """Accelerators by type in a node's GRES string, as `Gres`, `GresUsed` and slurmrestd give it.

    "gpu:h100:4(S:0-1),gpu:a100:2(IDX:0-1),license:1" is {"h100": 4, "a100": 2}. A GPU without a type counts as "gpu";
    other kinds of GRES are left out, and so is a type with a count of 0.

    Raises:
        QuantityError: an entry does not have that form.
    """
    gpus: dict[str, int] = {}
    for entry in _SPLIT.split(text) if text and text != "(null)" else ():
        named = _KIND.fullmatch(entry.strip())
        if named is not None and named["kind"] != "gpu":
            continue
        match = _GPU.fullmatch(named["rest"]) if named else None
        if match is None:
            raise QuantityError(f"'{entry}' in the GRES string '{text}' is not of the form kind[:type][:count]", entry)
        count = int(match["count"] or 1)
        if count:
            chip = match["type"] or "gpu"
            gpus[chip] = gpus.get(chip, 0) + count
    return gpus
