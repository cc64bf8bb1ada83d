"""The micro-kernel: an MR x NR tile of C in vector registers, updated by one rank-1 product a step of k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from westward_bench.gemm import emit
from westward_bench.gemm.emit import Builder, Scalar, Value
from westward_bench.gemm.tiling import RegisterTile

PREFETCH_STEPS = 32
"""How far ahead of its use a line of the packed A is asked for, in steps of k (measured best of 0, 8, 16, 32 and 64)."""


def build_microkernel(scalar: Scalar, tile: RegisterTile) -> Callable[..., Any]:
    """The micro-kernel for `tile` as a Numba intrinsic: no call overhead, no array bookkeeping.

    ``kernel(depth, vectors, a, a_offset, b, b_offset, c, c_offset, c_stride, accumulate)`` sets (or, with accumulate = 1,
    adds to) the first `vectors` vectors of each row of the tile of C at c_offset, whose rows are c_stride elements apart.
    `depth` is a multiple of ``tile.unroll`` and at least that; a and b are packed: MR elements of A, and NR of B, for
    each step of k. Fewer vectors than the tile's serve the right edge of C, at a proportionate cost.
    """

    @intrinsic
    def kernel(
        _context: Any, depth: Any, vectors: Any, a: Any, a_offset: Any, b: Any, b_offset: Any, c: Any, c_offset: Any,
        c_stride: Any, accumulate: Any,
    ) -> Any:  # fmt: skip
        index = types.int64
        signature = types.void(index, index, a, index, b, index, c, index, index, index)
        return signature, generate

    def generate(context: Any, builder: Builder, signature: Any, arguments: Any) -> Value:
        depth, vectors, a, a_offset, b, b_offset, c, c_offset, c_stride, accumulate = arguments
        pointers = (
            emit.element_pointer(context, builder, signature.args[2], a, a_offset),
            emit.element_pointer(context, builder, signature.args[4], b, b_offset),
            emit.element_pointer(context, builder, signature.args[6], c, c_offset),
        )
        builder.call(
            define_microkernel(builder.module, scalar, tile), [depth, vectors, *pointers, c_stride, accumulate]
        )
        return context.get_dummy_value()

    return kernel


def define_microkernel(module: Any, scalar: Scalar, tile: RegisterTile) -> Any:
    """The micro-kernel as a function of `module`: one body for each number of vectors."""

    def body(builder: Builder, arguments: Any) -> None:
        depth, vectors, *operands = arguments
        for count in range(tile.vectors, 0, -1):
            with builder.if_then(builder.icmp_signed("==", vectors, emit.INT64(count))):
                _update_tile(builder, scalar, tile, count, depth, *operands)

    name = f"westward_microkernel_{scalar.name}_{tile.rows}x{tile.vectors}x{tile.lanes}"
    index, pointer = emit.INT64, scalar.pointer
    return emit.define_function(module, name, [index, index, pointer, pointer, pointer, index, index], (2, 3, 4), body)


def _update_tile(
    builder: Builder, scalar: Scalar, tile: RegisterTile, vectors: int, depth: Value,
    a: Value, b: Value, c: Value, c_stride: Value, accumulate: Value,
) -> None:  # fmt: skip
    """The sums for the first `vectors` vectors of the tile, then the tile of C."""
    _prefetch_tile(builder, scalar, tile, c, c_stride)
    sums = _accumulate_tile(builder, scalar, tile, vectors, depth, a, b)
    with builder.if_else(builder.icmp_signed("!=", accumulate, emit.INT64(0))) as (add, replace):
        with add:
            _store_tile(builder, scalar, tile, sums, c, c_stride, accumulate=True)
        with replace:
            _store_tile(builder, scalar, tile, sums, c, c_stride, accumulate=False)


Sums = list[list[Value]]
"""The accumulators: for each row of the tile its vectors."""


def _accumulate_tile(
    builder: Builder, scalar: Scalar, tile: RegisterTile, vectors: int, depth: Value, a: Value, b: Value
) -> Sums:
    """The sums over all k of the tile: the loop in which a GEMM spends its time."""
    zero = ir.Constant(scalar.vector(tile.lanes), None)

    def trip(carried: Any) -> list[Value]:
        a_now, b_now, *flat = carried
        sums = _by_row(flat, vectors)
        for step in range(tile.unroll):
            sums = _rank_one_update(builder, scalar, tile, a_now, b_now, step, sums)
        a_next = emit.advance(builder, a_now, tile.unroll * tile.rows)
        b_next = emit.advance(builder, b_now, tile.unroll * tile.columns)
        return [a_next, b_next, *(value for row in sums for value in row)]

    trips = builder.udiv(depth, emit.INT64(tile.unroll))
    return _by_row(emit.emit_loop(builder, trips, [a, b, *[zero] * (tile.rows * vectors)], trip)[2:], vectors)


def _by_row(flat: list[Value], vectors: int) -> Sums:
    return [flat[start : start + vectors] for start in range(0, len(flat), vectors)]


def _rank_one_update(
    builder: Builder, scalar: Scalar, tile: RegisterTile, a: Value, b: Value, step: int, sums: Sums
) -> Sums:
    """`sums` plus a column of A times a row of B, those of `step` within this trip."""
    vector = scalar.vector(tile.lanes)
    align = tile.lanes * scalar.itemsize
    a_step = emit.advance(builder, a, step * tile.rows)
    b_step = emit.advance(builder, b, step * tile.columns)
    if (step * tile.rows * scalar.itemsize) % emit.CACHE_LINE_BYTES < tile.rows * scalar.itemsize:
        emit.prefetch(builder, emit.advance(builder, a_step, PREFETCH_STEPS * tile.rows))
    b_row = [
        emit.load_vector(builder, emit.advance(builder, b_step, j * tile.lanes), vector, align)
        for j in range(len(sums[0]))
    ]
    updated = []
    for i, row in enumerate(sums):
        a_lanes = emit.broadcast(builder, builder.load(emit.advance(builder, a_step, i)), vector)
        pairs = zip(b_row, row, strict=True)
        updated.append([emit.multiply_add(builder, scalar, tile.fused, a_lanes, b_j, total) for b_j, total in pairs])
    return updated


def _prefetch_tile(builder: Builder, scalar: Scalar, tile: RegisterTile, c: Value, c_stride: Value) -> None:
    """Asks for the tile of C early, so that it has arrived when the sums are done."""
    for i in range(tile.rows):
        row = emit.advance(builder, c, builder.mul(c_stride, emit.INT64(i)))
        for column in range(0, tile.columns, emit.CACHE_LINE_BYTES // scalar.itemsize):
            emit.prefetch(builder, emit.advance(builder, row, column))


def _store_tile(
    builder: Builder, scalar: Scalar, tile: RegisterTile, sums: Sums, c: Value, c_stride: Value, accumulate: bool
) -> None:
    """Writes the sums to C, added to what is there if `accumulate`."""
    for i, row in enumerate(sums):
        start = emit.advance(builder, c, builder.mul(c_stride, emit.INT64(i)))
        for j, total in enumerate(row):
            target = emit.advance(builder, start, j * tile.lanes)
            value = total
            if accumulate:
                value = builder.fadd(emit.load_vector(builder, target, total.type, scalar.itemsize), total)
            emit.store_vector(builder, value, target, scalar.itemsize)
