"""The loops around the micro-kernel, and :class:`Gemm`, which compiles them and owns their workspace."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange, set_num_threads, types

from westward_bench.gemm.emit import SCALARS, Scalar
from westward_bench.gemm.microkernel import build_microkernel
from westward_bench.gemm.packing import build_pack_a, build_pack_b
from westward_bench.gemm.tiling import (
    CacheBlocks,
    RegisterTile,
    cache_blocks,
    host_l2_bytes,
    host_vector_unit,
    register_tile,
)

Matrix = np.ndarray[tuple[int, int], np.dtype[Any]]
Workspace = np.ndarray[Any, np.dtype[Any]]

PAGE_BYTES = 4096
HUGE_BYTES = 8 << 20
"""NumPy asks for huge pages from 4 MiB on; a workspace of 8 MiB surely holds aligned ones."""


class Gemm:
    """C = alpha A B + beta C for matrices of one element type, compiled for this machine when it is made.

    Not for concurrent calls: the packed panels are kept between calls.

    Args:
        name: "f64" or "f32".
        threads: rows of C are shared out over this many Numba threads.
        tile, blocks: register tile and cache blocks, by default those for the host.

    Attributes:
        compile_s: seconds that the compilation took.
    """

    def __init__(
        self, name: str, threads: int = 1, tile: RegisterTile | None = None, blocks: CacheBlocks | None = None
    ) -> None:
        self.scalar = SCALARS[name]
        self.threads = threads
        self.tile = tile or register_tile(host_vector_unit(), self.scalar.itemsize)
        self.blocks = blocks or cache_blocks(self.tile, self.scalar.itemsize, host_l2_bytes())
        started = time.perf_counter()
        self._product = _compile_product(self.scalar, self.tile, threads)
        self.compile_s = time.perf_counter() - started
        self._workspaces = _workspaces(self.scalar, self.tile, self.blocks, threads)

    def __call__(
        self, a: Matrix, b: Matrix, out: Matrix | None = None, *, alpha: float = 1.0, beta: float = 0.0
    ) -> Matrix:
        """alpha A B + beta `out`, into `out` if given.

        As in BLAS, what has a factor of zero is not read: NaN and infinity in it go nowhere. Whatever is not C-contiguous (a transpose, every
        other column) is copied first, and alpha and beta other than 1 and 0 take another pass over C: right, and a little slower.

        Raises:
            ValueError: a matrix has the wrong element type or shape, `out` overlaps an input, or beta has no `out` to multiply.
        """
        shape = self._shape(a, b, out)
        if out is None:
            if beta:
                raise ValueError("beta needs an out to multiply")
            out = np.empty(shape, self.scalar.dtype)
        scale, keep = self.scalar.dtype.type(alpha), self.scalar.dtype.type(beta)
        if scale == 1 and keep == 0 and out.flags.c_contiguous:
            self._multiply(a, b, out)
            return out
        added = np.zeros(shape, self.scalar.dtype)
        if scale != 0:
            self._multiply(a, b, added)
            added *= scale
        out[...] = added if keep == 0 else added + keep * out
        return out

    def _multiply(self, a: Matrix, b: Matrix, c: Matrix) -> None:
        if self.threads > 1:
            set_num_threads(self.threads)
        a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
        self._product(a, b, c, *self._workspaces, self.blocks.mc, self.blocks.kc, self.blocks.nc)

    def _shape(self, a: Matrix, b: Matrix, out: Matrix | None) -> tuple[int, int]:
        """The shape of C."""
        for name, matrix in (("a", a), ("b", b), ("out", out)):
            if matrix is not None and (matrix.ndim != 2 or matrix.dtype != self.scalar.dtype):
                raise ValueError(
                    f"{name} must be a matrix of {self.scalar.dtype}, is {matrix.ndim}-dimensional {matrix.dtype}"
                )
        if a.shape[1] != b.shape[0]:
            raise ValueError(f"a has {a.shape[1]} columns but b has {b.shape[0]} rows")
        shape = (a.shape[0], b.shape[1])
        if out is not None and out.shape != shape:
            raise ValueError(f"out must have shape {shape}, has {out.shape}")
        if out is not None and (np.may_share_memory(out, a) or np.may_share_memory(out, b)):
            raise ValueError("out must not overlap a or b")
        return shape


def _workspaces(scalar: Scalar, tile: RegisterTile, blocks: CacheBlocks, threads: int) -> tuple[Workspace, ...]:
    """Packed blocks of A and one spare tile of C for each thread, and the packed panel of B that they share."""
    depth = tile.padded_depth(blocks.kc)
    rows = -(-blocks.mc // tile.rows) * tile.rows
    columns = -(-blocks.nc // tile.columns) * tile.columns
    return (
        _aligned(threads, rows * depth, scalar),
        _aligned(1, columns * depth, scalar)[0],
        _aligned(threads, tile.rows * tile.columns, scalar),
    )


def _aligned(rows: int, elements: int, scalar: Scalar) -> Workspace:
    """A zeroed `rows` x `elements` array, each row on pages of its own."""
    per_page = PAGE_BYTES // scalar.itemsize
    row = -(-elements // per_page) * per_page
    raw = np.zeros(max(rows * row + per_page, HUGE_BYTES // scalar.itemsize), scalar.dtype)
    first = (-raw.ctypes.data % PAGE_BYTES) // scalar.itemsize
    return raw[first : first + rows * row].reshape(rows, row)


def _compile_product(scalar: Scalar, tile: RegisterTile, threads: int) -> Callable[..., None]:
    """The whole product, compiled: ``product(a, b, c, a_blocks, b_panel, spare_tiles, mc, kc, nc)``."""
    pack_b = build_pack_b(scalar, tile)
    multiply_block = _build_multiply_block(scalar, tile)
    height, width, unroll = tile.rows, tile.columns, tile.unroll

    def product(
        a: Matrix, b: Matrix, c: Matrix, a_blocks: Workspace, b_panel: Workspace, spare_tiles: Workspace,
        mc: int, kc: int, nc: int,
    ) -> None:  # fmt: skip
        m, k = a.shape
        n = b.shape[1]
        workers = a_blocks.shape[0]
        share = ((m + workers - 1) // workers + height - 1) // height * height
        if k == 0:
            c[:, :] = 0
        for column in range(0, n, nc):
            columns = min(nc, n - column)
            strips = (columns + width - 1) // width
            for depth_start in range(0, k, kc):
                depth = min(kc, k - depth_start)
                padded = (depth + unroll - 1) // unroll * unroll
                for worker in prange(workers):
                    for strip in range(strips * worker // workers, strips * (worker + 1) // workers):
                        j = strip * width
                        pack_b(b, depth_start, depth, column + j, min(width, columns - j), b_panel, j * padded)
                for worker in prange(workers):
                    end = min(m, (worker + 1) * share)
                    for row in range(worker * share, end, mc):
                        multiply_block(
                            a, c, a_blocks[worker], b_panel, spare_tiles[worker],
                            row, min(mc, end - row), depth_start, depth, column, columns,
                        )  # fmt: skip

    compiled = njit(error_model="numpy", nogil=True, parallel=threads > 1)(product)
    compiled.compile(_signature(scalar))
    return compiled


def _signature(scalar: Scalar) -> tuple[Any, ...]:
    """What `product` is compiled for; inputs may be read-only."""
    constant = types.Array(scalar.numba, 2, "C", readonly=True)
    matrix, vector = types.Array(scalar.numba, 2, "C"), types.Array(scalar.numba, 1, "C")
    return (constant, constant, matrix, matrix, vector, matrix, types.int64, types.int64, types.int64)


def _build_multiply_block(scalar: Scalar, tile: RegisterTile) -> Callable[..., None]:
    """The macro-kernel: packs an MC x KC block of A and multiplies it with the packed KC x NC panel of B."""
    kernel = build_microkernel(scalar, tile)
    pack_a = build_pack_a(scalar, tile)
    height, width, lanes, unroll = tile.rows, tile.columns, tile.lanes, tile.unroll
    zero = scalar.dtype.type(0)

    @njit(error_model="numpy", nogil=True)
    def add_tile(spare: Workspace, c: Matrix, row: int, rows: int, column: int, columns: int, accumulate: int) -> None:
        for i in range(rows):
            for j in range(columns):
                before = c[row + i, column + j] if accumulate else zero
                c[row + i, column + j] = before + spare[i * width + j]

    @njit(error_model="numpy", nogil=True)
    def multiply_block(
        a: Matrix, c: Matrix, a_block: Workspace, b_panel: Workspace, spare: Workspace,
        row: int, rows: int, depth_start: int, depth: int, column: int, columns: int,
    ) -> None:  # fmt: skip
        padded = (depth + unroll - 1) // unroll * unroll
        stride = c.shape[1]
        accumulate = 1 if depth_start > 0 else 0
        for i in range(0, rows, height):
            pack_a(a, row + i, min(height, rows - i), depth_start, depth, a_block, i * padded)
        for j in range(0, columns, width):
            tile_columns = min(width, columns - j)
            vectors = (tile_columns + lanes - 1) // lanes
            for i in range(0, rows, height):
                tile_rows = min(height, rows - i)
                a_at, b_at = i * padded, j * padded
                if tile_rows == height and tile_columns == vectors * lanes:
                    at = (row + i) * stride + column + j
                    kernel(padded, vectors, a_block, a_at, b_panel, b_at, c, at, stride, accumulate)
                else:
                    kernel(padded, vectors, a_block, a_at, b_panel, b_at, spare, 0, width, 0)
                    add_tile(spare, c, row + i, tile_rows, column + j, tile_columns, accumulate)

    return multiply_block
