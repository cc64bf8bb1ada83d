"""Our f32 product in Numba-CUDA: fused multiply-adds on the vector units, no tensor cores.

A block of threads computes a `rows` x `columns` tile of C. It goes through k in steps of `depth`: a step's tiles of A and B lie in shared
memory, A's transposed, and each thread keeps a small tile of C in registers. There are two buffers: while a step is computed from one, the
next step's elements are on their way from global memory to registers, and then go to the other, so that one barrier a step is enough.
The scheme is that of MAGMA and CUTLASS (Nath, Tomov, Dongarra, "An Improved MAGMA GEMM for Fermi GPUs", IJHPCA 24(4), 2010).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, float32

from westward_bench.gemm.cuda.loads import Four, load4, load4_shared, shared_tiles


@dataclass(frozen=True, slots=True)
class BlockTile:
    """How a product is cut up.

    Attributes:
        rows, columns: of C that one block of threads computes.
        depth: of k in one step.
        thread_rows, thread_columns: of C that one thread keeps in registers; multiples of 4, taken as groups of 4 that lie apart, so that
            neighbouring threads read neighbouring words of shared memory.

    Raises:
        ValueError: the sizes do not divide each other.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int

    def __post_init__(self) -> None:
        groups = 4 * self.threads
        even = not any(
            (
                self.rows % self.thread_rows,
                self.columns % self.thread_columns,
                self.thread_rows % 4,
                self.thread_columns % 4,
            )
        )
        if not even or self.depth % 4 or self.rows * self.depth % groups or self.columns * self.depth % groups:
            raise ValueError(f"{self}: the threads cannot share these tiles evenly in groups of 4")

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return (self.rows // self.thread_rows) * (self.columns // self.thread_columns)


TILE = BlockTile(rows=128, columns=128, depth=8, thread_rows=8, thread_columns=8)
"""256 threads, 16 KiB of shared memory, 64 accumulators a thread: two blocks fit on a multiprocessor of any GPU since Volta."""


@functools.cache
def kernel_of(tile: BlockTile, vector: bool) -> Any:
    """The compiled kernel ``(a, b, c, alpha, beta)``; `vector`: rows of A and of B are multiples of 4 elements, and read four at a time."""
    rows, columns, depth, threads = tile.rows, tile.columns, tile.depth, tile.threads
    thread_rows, thread_columns = tile.thread_rows, tile.thread_columns
    across = columns // thread_columns
    row_stride, column_stride = 4 * (rows // thread_rows), 4 * across
    a_groups, b_groups = rows * depth // (4 * threads), columns * depth // (4 * threads)
    a_wide, b_wide = depth // 4, columns // 4
    new_tiles = shared_tiles((2, depth, rows + columns))

    @cuda.jit(device=True)  # type: ignore[untyped-decorator]
    def read4(matrix: Any, row: int, column: int) -> Four:
        """Four neighbours; those outside of the matrix are 0."""
        height, width = matrix.shape
        zero = float32(0)
        if row >= height:
            return zero, zero, zero, zero
        if vector:
            if column < width:
                return load4(matrix, row, column)
            return zero, zero, zero, zero
        first = matrix[row, column] if column < width else zero
        second = matrix[row, column + 1] if column + 1 < width else zero
        third = matrix[row, column + 2] if column + 2 < width else zero
        fourth = matrix[row, column + 3] if column + 3 < width else zero
        return first, second, third, fourth

    @cuda.jit  # type: ignore[untyped-decorator]
    def product(a: Any, b: Any, c: Any, alpha: Any, beta: Any) -> None:
        tiles = new_tiles()
        a_next = cuda.local.array((a_groups, 4), float32)
        b_next = cuda.local.array((b_groups, 4), float32)
        total = cuda.local.array((thread_rows, thread_columns), float32)
        a_part = cuda.local.array(thread_rows, float32)
        b_part = cuda.local.array(thread_columns, float32)

        thread = cuda.threadIdx.x
        first_row, first_column = cuda.blockIdx.y * rows, cuda.blockIdx.x * columns
        my_row, my_column = 4 * (thread // across), 4 * (thread % across)
        for i in range(thread_rows):
            for j in range(thread_columns):
                total[i, j] = float32(0)

        steps = (a.shape[1] + depth - 1) // depth
        for step in range(steps + 1):
            if step < steps:
                for g in range(a_groups):
                    group = thread + g * threads
                    four = read4(a, first_row + group // a_wide, step * depth + 4 * (group % a_wide))
                    a_next[g, 0], a_next[g, 1], a_next[g, 2], a_next[g, 3] = four
                for g in range(b_groups):
                    group = thread + g * threads
                    four = read4(b, step * depth + group // b_wide, first_column + 4 * (group % b_wide))
                    b_next[g, 0], b_next[g, 1], b_next[g, 2], b_next[g, 3] = four
            if step > 0:
                held = (step - 1) % 2
                for p in range(depth):
                    for i in range(0, thread_rows, 4):
                        four = load4_shared(tiles, held, p, my_row + (i // 4) * row_stride)
                        a_part[i], a_part[i + 1], a_part[i + 2], a_part[i + 3] = four
                    for j in range(0, thread_columns, 4):
                        four = load4_shared(tiles, held, p, rows + my_column + (j // 4) * column_stride)
                        b_part[j], b_part[j + 1], b_part[j + 2], b_part[j + 3] = four
                    for i in range(thread_rows):
                        for j in range(thread_columns):
                            total[i, j] += a_part[i] * b_part[j]
            if step < steps:
                free = step % 2
                for g in range(a_groups):
                    group = thread + g * threads
                    for lane in range(4):
                        tiles[free, 4 * (group % a_wide) + lane, group // a_wide] = a_next[g, lane]
                for g in range(b_groups):
                    group = thread + g * threads
                    for lane in range(4):
                        tiles[free, group // b_wide, rows + 4 * (group % b_wide) + lane] = b_next[g, lane]
            cuda.syncthreads()

        for i in range(thread_rows):
            row = first_row + my_row + (i // 4) * row_stride + i % 4
            if row < c.shape[0]:
                for j in range(thread_columns):
                    column = first_column + my_column + (j // 4) * column_stride + j % 4
                    if column < c.shape[1]:
                        value = alpha * total[i, j]
                        if beta != 0:
                            value += beta * c[row, column]
                        c[row, column] = value

    return product


def multiply(
    a: Any, b: Any, c: Any, alpha: float = 1.0, beta: float = 0.0, tile: BlockTile = TILE, stream: Any = 0
) -> None:
    """C = alpha A B + beta C on the device, for C-contiguous f32 matrices there; where beta is 0, C is not read. Returns before it is done.

    Raises:
        ValueError: the shapes do not fit, or a matrix is not f32 and C-contiguous; transposes are not offered.
    """
    (m, depth), (b_rows, n) = a.shape, b.shape
    if depth != b_rows or c.shape != (m, n):
        raise ValueError(f"a is {a.shape}, b {b.shape} and c {c.shape}: expected (m, k), (k, n) and (m, n)")
    for name, matrix in (("a", a), ("b", b), ("c", c)):
        if np.dtype(matrix.dtype) != np.float32 or not contiguous(matrix):
            raise ValueError(f"{name} must be a C-contiguous matrix of float32; copy it with ascontiguousarray first")
    if m == 0 or n == 0:
        return
    grid = (-(-n // tile.columns), -(-m // tile.rows))
    vector = depth % 4 == 0 and n % 4 == 0 and aligned(a) and aligned(b)
    kernel = kernel_of(tile, vector)
    kernel[grid, tile.threads, stream](a, b, c, np.float32(alpha), np.float32(beta))


def contiguous(matrix: Any) -> bool:
    """Whether a device array lies by rows without gaps; Numba's arrays say so in a dictionary, CuPy's in an attribute."""
    flags = matrix.flags
    return bool(flags["C_CONTIGUOUS"] if isinstance(flags, dict) else flags.c_contiguous)


def aligned(matrix: Any) -> bool:
    """Whether a device array begins at a multiple of 16 bytes; the simulator's have no address, and may be anywhere."""
    interface = getattr(matrix, "__cuda_array_interface__", None)
    return interface is None or interface["data"][0] % 16 == 0
