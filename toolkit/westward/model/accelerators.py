"""What a job asks of accelerators: so many of a chip, so many of any chip, or so much compute; and what that became at a site."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from westward.errors import QuantityError
from westward.model.tres import KINDS

ANY_CHIP = "any"
# what a peak is given for: as data sheets name them, "fp64_tensor" for matrix units where they differ from the vector units
PRECISIONS = ("fp64", "fp64_tensor", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")
_PRECISION_ALIAS = {"f64": "fp64", "f32": "fp32", "f16": "fp16", "i8": "int8"}
_PREFIXES = {"G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_COMPUTE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<prefix>[GTPE])(?:FLOPS?|OPS)(?:/S)?\s*@\s*(?P<precision>\w+)", re.IGNORECASE)  # fmt: skip
_CHIP_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[GT]i?B)", re.IGNORECASE)
_CHIP_MEMORY_BYTES = {"GB": 10**9, "TB": 10**12, "GIB": 2**30, "TIB": 2**40}
# a type may begin with a digit, as NVIDIA's names of MIG slices do ("1g.10gb"), but is not a number
_ACCELERATORS = re.compile(rf"(?P<chip>(?:(?:{'|'.join(KINDS)}):)?(?!\d+:)[A-Za-z0-9][\w.+-]*):(?P<count>\d+)", re.ASCII | re.IGNORECASE)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AcceleratorRequest:
    """Accelerators on each node: `count` of one named chip, or of whatever whole chip the site has ("any").

    Raises:
        QuantityError: (from `parse`) the text is not CHIP:COUNT.
    """

    chip: str
    count: int

    @classmethod
    def parse(cls, text: str) -> AcceleratorRequest:
        match = _ACCELERATORS.fullmatch(text.strip())
        if match is None or int(match["count"]) == 0:
            raise QuantityError(
                f"'{text}' does not name accelerators; write CHIP:COUNT, for example h100:4 or any:1", text
            )
        return cls(match["chip"].lower(), int(match["count"]))

    @property
    def any_chip(self) -> bool:
        return self.chip == ANY_CHIP

    def __str__(self) -> str:
        return f"{self.chip}:{self.count}"


def precision(name: str) -> str | None:
    """The name of a precision as the catalogue has it ("f64" is "fp64"); None where there is none of that name."""
    word = name.lower()
    word = _PRECISION_ALIAS.get(word, word)
    return word if word in PRECISIONS else None


@dataclass(frozen=True, slots=True)
class ComputeDemand:
    """So many operations per second, of all accelerators of a job together, by their dense peaks at one precision.

    Raises:
        QuantityError: (from `parse`) the text is not such a demand.
    """

    flops: int
    precision: str

    @classmethod
    def parse(cls, text: str) -> ComputeDemand:
        match = _COMPUTE.fullmatch(text.strip())
        if match is None:
            raise QuantityError(
                f"'{text}' is no demand for compute; write NUMBER, TFLOPS, PFLOPS or EFLOPS, and @PRECISION, for example 2PFLOPS@bf16",
                text,
            )
        named = precision(match["precision"])
        if named is None:
            raise QuantityError(
                f"'{text}': there is no precision '{match['precision']}'; known: {', '.join(PRECISIONS)}",
                match["precision"],
            )
        flops = int(Decimal(match["number"]) * _PREFIXES[match["prefix"].upper()])
        if flops == 0:
            raise QuantityError(f"'{text}' asks for no compute at all", match["number"])
        return cls(flops, named)

    def chips(self, peak_flops: float) -> int:
        """How many chips of that peak it takes: the least number whose peaks add up to it."""
        return -(-self.flops // int(peak_flops))

    def __str__(self) -> str:
        return f"{format_flops(self.flops, self.precision, digits=15).replace(' ', '')}@{self.precision}"


def format_flops(value: float, of: str, digits: int = 4) -> str:
    """Operations per second for people: '989.5 TFLOPS', '2.968 PFLOPS'; 'TOPS' and so on where the precision is an integer."""
    prefix = next((prefix for prefix in reversed(_PREFIXES) if value >= _PREFIXES[prefix]), "G")
    return f"{value / _PREFIXES[prefix]:.{digits}g} {prefix}{'OPS' if of.startswith('int') else 'FLOPS'}"


def parse_chip_memory(text: str) -> int:
    """Bytes of a chip's memory, in the units of data sheets: GB and TB are powers of 1000, GiB and TiB of 1024.

    Raises:
        QuantityError: the text is not such a size.
    """
    match = _CHIP_MEMORY.fullmatch(text.strip())
    if match is None or Decimal(match["number"]) == 0:
        raise QuantityError(f"'{text}' is no memory of a chip; write it as data sheets do, for example 80GB", text)
    return int(Decimal(match["number"]) * _CHIP_MEMORY_BYTES[match["unit"].upper()])


def format_chip_memory(size: float) -> str:
    """A chip's memory as data sheets give it: '80 GB'."""
    return f"{size / 10**9:g} GB"


@dataclass(frozen=True, slots=True)
class Granted:
    """What a request for accelerators became in one partition.

    Attributes:
        asked: the request in its own notation: "h100:4", "any:4", "2PFLOPS@bf16".
        chip: as the cluster spells it.
        per_node: chips on each node.
        precision, peak_flops: of a demand for compute: the dense peak of one chip at its precision; else None.
        estimated: that peak is not from a document of the chip's maker.
        vendor: the chip's maker; None where the chip is not known.
    """

    asked: str
    chip: str
    per_node: int
    nodes: int
    precision: str | None = None
    peak_flops: float | None = None
    estimated: bool = False
    vendor: str | None = None

    @property
    def count(self) -> int:
        """Chips on all nodes together."""
        return self.per_node * self.nodes

    def __str__(self) -> str:
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        peaks = ""
        if self.peak_flops is not None and self.precision is not None:
            each, together = (format_flops(self.peak_flops * times, self.precision) for times in (1, self.count))
            peaks = f" ({each} each{', estimated' if self.estimated else ''}, {together})"
        return f"{self.asked} = {self.count} x {self.chip}{peaks} on {nodes}"
