"""Packing: copies of A and B in the order in which the micro-kernel reads them, padded with zeros to whole tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.extending import intrinsic

from westward_bench.gemm import emit
from westward_bench.gemm.emit import Builder, Scalar, Value
from westward_bench.gemm.tiling import RegisterTile

PREFETCH_ROWS = 8
"""How many rows ahead of the copy B is asked for."""
PREFETCH_BYTES = 256
"""How far ahead of the copy each row of A is asked for."""


def build_pack_a(scalar: Scalar, tile: RegisterTile) -> Callable[..., None]:
    """``pack_a(a, row, rows, column, depth, panel, offset)``: a micro-panel of A, MR elements for each step of k.

    Rows `row` to `row + rows` (at most MR) and columns `column` to `column + depth` go to `panel` from `offset` on.
    Whole square blocks are transposed in registers, the rest element by element.
    """
    height, unroll = tile.rows, tile.unroll
    transpose_blocks = _copy_intrinsic(
        f"westward_transpose_{scalar.name}_{height}", scalar, _transpose_block(scalar, height)
    )

    @njit(error_model="numpy", nogil=True)
    def pack_a(a: Any, row: int, rows: int, column: int, depth: int, panel: Any, offset: int) -> None:
        done = 0
        if rows == height and depth >= height:
            stride = a.shape[1]
            transpose_blocks(a, row * stride + column, stride, panel, offset, depth // height)
            done = depth // height * height
        for k in range(done, depth):
            start = offset + k * height
            for i in range(rows):
                panel[start + i] = a[row + i, column + k]
            for i in range(rows, height):
                panel[start + i] = 0
        padded = (depth + unroll - 1) // unroll * unroll
        for i in range(offset + depth * height, offset + padded * height):
            panel[i] = 0

    return pack_a


def build_pack_b(scalar: Scalar, tile: RegisterTile) -> Callable[..., None]:
    """``pack_b(b, row, depth, column, columns, panel, offset)``: a micro-panel of B, NR elements for each step of k.

    Rows `row` to `row + depth` and columns `column` to `column + columns` (at most NR) go to `panel` from `offset` on.
    """
    width, unroll = tile.columns, tile.unroll
    name = f"westward_copy_{scalar.name}_{tile.vectors}x{tile.lanes}"
    copy_rows = _copy_intrinsic(name, scalar, _copy_row(scalar, tile))

    @njit(error_model="numpy", nogil=True)
    def pack_b(b: Any, row: int, depth: int, column: int, columns: int, panel: Any, offset: int) -> None:
        if columns == width:
            stride = b.shape[1]
            copy_rows(b, row * stride + column, stride, panel, offset, depth)
        else:
            for k in range(depth):
                start = offset + k * width
                for j in range(columns):
                    panel[start + j] = b[row + k, column + j]
                for j in range(columns, width):
                    panel[start + j] = 0
        padded = (depth + unroll - 1) // unroll * unroll
        for i in range(offset + depth * width, offset + padded * width):
            panel[i] = 0

    return pack_b


Round = Callable[[Builder, Value, Value, Value], list[Value]]
"""Emits one round of a copy: (builder, source, stride, target) -> where the next round reads and writes."""


def _transpose_block(scalar: Scalar, size: int) -> Round:
    """A round that transposes a `size` x `size` block: `size` rows of A, `stride` apart, become columns of the panel."""
    vector = scalar.vector(size)

    def emit_round(builder: Builder, source: Value, stride: Value, target: Value) -> list[Value]:
        rows = []
        for i in range(size):
            row = emit.advance(builder, source, builder.mul(stride, emit.INT64(i)))
            emit.prefetch(builder, emit.advance(builder, row, PREFETCH_BYTES // scalar.itemsize))
            rows.append(emit.load_vector(builder, row, vector, scalar.itemsize))
        for k, column in enumerate(emit.transpose(builder, rows)):
            emit.store_vector(builder, column, emit.advance(builder, target, k * size), scalar.itemsize)
        return [emit.advance(builder, source, size), emit.advance(builder, target, size * size)]

    return emit_round


def _copy_row(scalar: Scalar, tile: RegisterTile) -> Round:
    """A round that copies NR elements of one row of B."""
    vector = scalar.vector(tile.lanes)
    line = emit.CACHE_LINE_BYTES // scalar.itemsize

    def emit_round(builder: Builder, source: Value, stride: Value, target: Value) -> list[Value]:
        ahead = emit.advance(builder, source, builder.mul(stride, emit.INT64(PREFETCH_ROWS)))
        for column in range(0, tile.columns, line):
            emit.prefetch(builder, emit.advance(builder, ahead, column))
        for column in range(0, tile.columns, tile.lanes):
            value = emit.load_vector(builder, emit.advance(builder, source, column), vector, scalar.itemsize)
            emit.store_vector(builder, value, emit.advance(builder, target, column), scalar.itemsize)
        return [emit.advance(builder, source, stride), emit.advance(builder, target, tile.columns)]

    return emit_round


def _copy_intrinsic(name: str, scalar: Scalar, emit_round: Round) -> Callable[..., None]:
    """``copy(source, source_offset, source_stride, target, target_offset, rounds)``, rounds at least 1."""

    def body(builder: Builder, arguments: Any) -> None:
        source, stride, target, rounds = arguments
        emit.emit_loop(builder, rounds, [source, target], lambda now: emit_round(builder, now[0], stride, now[1]))

    @intrinsic
    def copy(_context: Any, source: Any, source_offset: Any, source_stride: Any, target: Any, target_offset: Any,
             rounds: Any) -> Any:  # fmt: skip
        index = types.int64
        return types.void(source, index, index, target, index, index), generate

    def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
        source, source_offset, stride, target, target_offset, rounds = arguments
        pointer_types = [scalar.pointer, emit.INT64, scalar.pointer, emit.INT64]
        function = emit.define_function(builder.module, name, pointer_types, (0, 2), body)
        read = emit.element_pointer(context, builder, signature.args[0], source, source_offset)
        write = emit.element_pointer(context, builder, signature.args[3], target, target_offset)
        builder.call(function, [read, stride, write, rounds])
        return context.get_dummy_value()

    return copy
