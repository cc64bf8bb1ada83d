"""Where a chip's peak comes from: `accelerators.yaml`, and the user's own file of that name, which adds to it or overrides it.

A chip's figures stand beside the document they are from; figures from other documents follow under `also`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from westward.directories import config_dir
from westward.model.accelerators import PRECISIONS, precision
from westward.model.site import Accelerator, Origin
from westward.yamlfile import Reader, open_yaml

SHIPPED = Path(__file__).parent / "accelerators.yaml"
_FIGURES = ("mem_bytes", "mem_bytes_per_s", "power_w")


def own_chips_file() -> Path:
    """Where a user describes chips that do not come with Westward. It need not be there."""
    return config_dir() / "accelerators.yaml"


def load_accelerators() -> dict[str, Accelerator]:
    """The chips by name and by every other name that they have, in lower case.

    Raises:
        InputError: a file is wrong, or two chips of a file have one name.
    """
    own = own_chips_file()
    return {**shipped_chips(), **(read_chips(own) if own.is_file() else {})}


@cache
def shipped_chips() -> Mapping[str, Accelerator]:
    """The chips that come with Westward, by every name."""
    return _chips(open_yaml(SHIPPED, ours=True))


def with_power(chips: Mapping[str, Accelerator]) -> Collection[str]:
    """The names of those whose power is known."""
    return {name for name, chip in chips.items() if chip.power_w is not None}


def read_chips(file: Path) -> dict[str, Accelerator]:
    """The chips of one file, by every name.

    Raises:
        InputError: it is wrong, or two chips have one name.
    """
    return _chips(open_yaml(file))


def _chips(file: Reader) -> dict[str, Accelerator]:
    chips: dict[str, Accelerator] = {}
    for name, described in file.sections():
        chip = _chip(name, described)
        for known in (name.lower(), *chip.aliases):
            if known in chips:
                raise described.error("aliases", f"'{known}' is a name of '{chips[known].name}' too")
            chips[known] = chip
    return chips


def _chip(name: str, described: Reader) -> Accelerator:
    vendor, aliases = described.take("vendor", str), described.take("aliases", list, [])
    peaks: dict[str, float] = {}
    sparse: dict[str, float] = {}
    others: dict[str, float] = {}
    origins = []
    for document in (described, *described.list_of("also", [])):
        taken = (_flops(document, "peak_flops"), _flops(document, "sparse_flops"), _others(document))
        for known, new in zip((peaks, sparse, others), taken, strict=True):
            for figure in new:
                if figure in known:
                    raise document.error(figure, "is given twice")
            known.update(new)
        origins.append(_origin(document, (*taken[0], *taken[2])))
        document.done()
    for figure, peak in peaks.items():
        if peak > sparse.get(figure, peak):
            raise described.error(f"peak_flops.{figure}", "is above the one with sparsity: are they exchanged?")
    return Accelerator(
        name=name,
        vendor=vendor,
        peak_flops=peaks,
        mem_bytes=others.get("mem_bytes"),
        power_w=others.get("power_w"),
        origins=tuple(origins),
        mem_bytes_per_s=others.get("mem_bytes_per_s"),
        aliases=tuple(str(alias).lower() for alias in aliases),
        sparse_flops=sparse,
    )


def _origin(document: Reader, figures: tuple[str, ...]) -> Origin:
    return Origin(
        source=document.take("source", str),
        url=document.take("url", str, None),
        as_of=document.take("as_of", str),
        estimated=document.take("estimated", bool, False),
        figures=figures,
    )


def _flops(document: Reader, key: str) -> dict[str, float]:
    """Peaks by precision, in FLOP/s."""
    given = document.section(key, {})
    peaks = {}
    for name in given.names():
        known = precision(name)
        if known is None:
            raise given.error(name, f"is no precision; known: {', '.join(PRECISIONS)}")
        peaks[known] = _positive(given, name)
    return peaks


def _others(document: Reader) -> dict[str, float]:
    return {key: _positive(document, key) for key in _FIGURES if document.take(key, float, None) is not None}


def _positive(given: Reader, key: str) -> float:
    value = given.take(key, float)
    if value <= 0:
        raise given.error(key, "must be above zero; leave out what is unknown")
    return value
