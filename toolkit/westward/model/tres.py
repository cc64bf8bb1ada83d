"""Slurm's resource strings: what a node has ("gpu:h100:4(S:0-1)") and what is counted ("cpu=8,mem=4G,gres/gpu:h100=4")."""

from __future__ import annotations

import re

from westward.errors import QuantityError

# the names of GRES that are accelerators: "gpu" is Slurm's own; sites give the others to Hygon's, Cambricon's and Ascend's cards
KINDS = ("gpu", "dcu", "mlu", "npu")
_KIND = re.compile(r"(?:gres[/:])?(?P<kind>[A-Za-z_]\w*)(?P<rest>.*)")
# a type may begin with a digit, as NVIDIA's names of MIG slices do ("1g.10gb"), but is not a number
_TYPED = re.compile(r"(?::(?P<type>(?!\d+(?::|\(|$))\w[\w.+-]*))?(?::(?P<count>\d+))?(?:\(.*\))?")
_SPLIT = re.compile(r",(?![^(]*\))")
_SLICE = re.compile(r"(?:^|[_-])\d+g\.\d+gb")


def parse_gpus(text: str) -> dict[str, int]:
    """Accelerators by chip in a node's GRES string, as `Gres`, `GresUsed` and slurmrestd give it.

    "gpu:h100:4(S:0-1),gpu:a100:2(IDX:0-1),license:1" is {"h100": 4, "a100": 2}, and "dcu:k100_ai:8" is {"dcu:k100_ai": 8}. What has no
    type counts by its name alone, as "gpu" or "dcu"; other GRES than KINDS are left out, and so is a type with a count of 0.

    Raises:
        QuantityError: an entry does not have that form.
    """
    gpus: dict[str, int] = {}
    for entry in _SPLIT.split(text) if text and text != "(null)" else ():
        named = _KIND.fullmatch(entry.strip())
        if named is not None and named["kind"] not in KINDS:
            continue
        match = _TYPED.fullmatch(named["rest"]) if named else None
        if named is None or match is None:
            raise QuantityError(f"'{entry}' in the GRES string '{text}' is not of the form kind[:type][:count]", entry)
        count = int(match["count"] or 1)
        if count:
            chip = ":".join(part for part in (_shown_kind(named["kind"], match["type"]), match["type"]) if part)
            gpus[chip] = gpus.get(chip, 0) + count
    return gpus


def _shown_kind(kind: str, typed: str | None) -> str:
    return "" if kind == "gpu" and typed else kind


def gres(chip: str, count: int) -> str:
    """What --gres takes for so many of a chip on each node, the chip named as in `parse_gpus`: "gpu:h100:4", "gpu:4", "dcu:k100_ai:8"."""
    return f"{chip}:{count}" if chip_kind(chip) == chip.partition(":")[0] else f"gpu:{chip}:{count}"


def chip_kind(chip: str) -> str:
    """The GRES that a chip of `parse_gpus` is of: "gpu" for "h100", "dcu" for "dcu:k100_ai"."""
    kind = chip.partition(":")[0]
    return kind if kind in KINDS else "gpu"


def chip_type(chip: str) -> str:
    """The type of a chip of `parse_gpus`, in lower case: "k100_ai" for "dcu:K100_AI", and "dcu" where there is none."""
    return chip.rpartition(":")[2].lower()


def is_slice(chip: str) -> bool:
    """Whether a type names a part of a chip: one of NVIDIA's MIG profiles, "1g.10gb" or "nvidia_h100_80gb_hbm3_3g.39gb"."""
    return _SLICE.search(chip_type(chip)) is not None
