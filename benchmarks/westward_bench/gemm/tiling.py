"""Register tile and cache blocks of the GEMM, chosen for the vector unit of the host."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """The vector registers of a CPU: their width in bits, how many there are, and whether it has fused multiply-add."""

    name: str
    bits: int
    registers: int
    fused: bool

    def lanes(self, itemsize: int) -> int:
        """Elements of `itemsize` bytes in one register."""
        return self.bits // (8 * itemsize)


AVX512 = VectorUnit("avx512", bits=512, registers=32, fused=True)
AVX2 = VectorUnit("avx2", bits=256, registers=16, fused=True)
SSE2 = VectorUnit("sse2", bits=128, registers=16, fused=False)
NEON = VectorUnit("neon", bits=128, registers=32, fused=True)
GENERIC = VectorUnit("generic", bits=128, registers=16, fused=False)

DEFAULT_L2_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class RegisterTile:
    """The MR x NR tile of C that the micro-kernel keeps in vector registers.

    `rows` is MR, a power of two so that a block of A can be transposed in registers; NR is `vectors` times `lanes`.
    `unroll` is the number of k steps in one trip of the micro-kernel's loop.
    """

    rows: int
    vectors: int
    lanes: int
    unroll: int
    fused: bool

    @property
    def columns(self) -> int:
        """NR, in elements."""
        return self.vectors * self.lanes

    def padded_depth(self, depth: int) -> int:
        """`depth` rounded up to whole trips of the unrolled loop; panels are padded to it with zeros."""
        return -(-depth // self.unroll) * self.unroll


@dataclass(frozen=True, slots=True)
class CacheBlocks:
    """Block sizes in elements: an MC x KC block of A stays in L2, a KC x NC panel of B in L3."""

    mc: int
    kc: int
    nc: int


def host_vector_unit() -> VectorUnit:
    """The widest vector unit of this machine that the GEMM knows how to use."""
    return vector_unit(platform.machine(), dict(llvm.get_host_cpu_features()))


def vector_unit(machine: str, features: Mapping[str, bool]) -> VectorUnit:
    """The vector unit of a `machine` (``uname -m``) with these LLVM CPU `features`."""
    if machine in ("aarch64", "arm64"):
        return NEON
    if features.get("avx512f"):
        return AVX512
    if features.get("avx2") and features.get("fma"):
        return AVX2
    return SSE2 if features.get("sse2") else GENERIC


def register_tile(unit: VectorUnit, itemsize: int) -> RegisterTile:
    """The tile for `unit` and elements of `itemsize` bytes.

    With V vectors a row it needs MR*V accumulators, V vectors of B and one broadcast element of A (one more register
    where multiply and add are separate). 8 x 3 fills 28 of 32 registers; 4 x 3 all of 16; 4 x 2 leaves room for the product.
    """
    if unit.registers >= 32:
        rows, vectors = 8, 3
    else:
        rows, vectors = 4, 3 if unit.fused else 2
    return RegisterTile(rows, vectors, unit.lanes(itemsize), unroll=4, fused=unit.fused)


def cache_blocks(tile: RegisterTile, itemsize: int, l2_bytes: int) -> CacheBlocks:
    """The block sizes for `tile` and a second-level cache of `l2_bytes`.

    KC = 512 amortises reading and writing C over many steps of k (measured within 2 % of the best from 344 to 512); the
    block of A takes three quarters of L2, which leaves room for one micro-panel of B and the tile of C; NC bounds the
    packed panel of B to 16 MiB of f64, for L3.
    """
    kc, nc = 512, 4096
    rows = l2_bytes * 3 // 4 // (kc * itemsize)
    return CacheBlocks(mc=max(1, rows // tile.rows) * tile.rows, kc=kc, nc=nc // tile.columns * tile.columns)


def host_l2_bytes(sysfs: Path = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")) -> int:
    """Size of the first core's second-level cache as the kernel reports it ("1024K"), or 512 KiB where it does not."""
    try:
        return int(sysfs.read_text().strip().removesuffix("K")) * 1024
    except (OSError, ValueError):
        return DEFAULT_L2_BYTES
