"""Small pieces of LLVM IR that the micro-kernel and the packing routines are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

# llvmlite and Numba carry no type information: IR values, builders, modules and Numba types are opaque to the checker.
Value = Any
Builder = Any
Module = Any
NumbaType = Any

INT8, INT32, INT64 = (ir.IntType(bits) for bits in (8, 32, 64))
CACHE_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Scalar:
    """An element type, named as LLVM's intrinsics name it ("f64"), with what NumPy, Numba and llvmlite call it."""

    name: str
    dtype: np.dtype[Any]
    numba: NumbaType
    llvm: Any

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def pointer(self) -> Any:
        """The LLVM type of a pointer to an element."""
        return self.llvm.as_pointer()

    def vector(self, lanes: int) -> Any:
        """The LLVM type of a vector of `lanes` elements."""
        return ir.VectorType(self.llvm, lanes)


SCALARS = {
    "f64": Scalar("f64", np.dtype(np.float64), types.float64, ir.DoubleType()),
    "f32": Scalar("f32", np.dtype(np.float32), types.float32, ir.FloatType()),
}


def define_function(
    module: Module, name: str, arguments: Sequence[Any], unaliased: Sequence[int], body: Callable[[Builder, Any], None]
) -> Any:
    """The void function `name` of `module`, emitted by `body` on first use; `unaliased` are its noalias pointers."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), list(arguments)), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    for index in unaliased:
        function.args[index].add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    body(builder, function.args)
    builder.ret_void()
    return function


def emit_loop(
    builder: Builder, trips: Value, start: Sequence[Value], body: Callable[[Sequence[Value]], Sequence[Value]]
) -> list[Value]:
    """Emits a loop of `trips` (at least 1) rounds; `body` maps the values carried into a round to those carried out.

    Returns the values after the last round, with `builder` placed behind the loop.
    """
    before = builder.block
    loop = builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    phis = [builder.phi(value.type) for value in (INT64(0), *start)]
    carried = [builder.add(phis[0], INT64(1)), *body(phis[1:])]
    for phi, first, following in zip(phis, (INT64(0), *start), carried, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", carried[0], trips), loop, after)
    builder.position_at_end(after)
    return carried[1:]


def advance(builder: Builder, pointer: Value, elements: Value | int) -> Value:
    """`pointer` moved on by `elements`."""
    return builder.gep(pointer, [INT64(elements) if isinstance(elements, int) else elements])


def load_vector(builder: Builder, pointer: Value, vector: Any, align: int) -> Value:
    """The vector at `pointer`, which is a multiple of `align` bytes."""
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)


def store_vector(builder: Builder, value: Value, pointer: Value, align: int) -> None:
    """Stores a vector at `pointer`, which is a multiple of `align` bytes."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def broadcast(builder: Builder, element: Value, vector: Any) -> Value:
    """A vector with `element` in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, element, INT32(0))
    return builder.shuffle_vector(first, undefined, lane_mask([0] * vector.count))


def lane_mask(lanes: Sequence[int]) -> Value:
    """The constant selector of a two-vector shuffle."""
    return ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))


def multiply_add(builder: Builder, scalar: Scalar, fused: bool, a: Value, b: Value, c: Value) -> Value:
    """a*b + c by lane: with one rounding where the host has the instruction.

    ``llvm.fma`` without that instruction is a call into libm for each lane, hence the two operations instead.
    """
    if not fused:
        return builder.fadd(builder.fmul(a, b), c)
    name = f"llvm.fma.v{a.type.count}{scalar.name}"
    function = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(a.type, [a.type] * 3), name
    )
    return builder.call(function, [a, b, c])


def prefetch(builder: Builder, pointer: Value) -> None:
    """Asks for the cache line at `pointer`, to read, into every level. An address outside the array does no harm."""
    byte_pointer = INT8.as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [byte_pointer, INT32, INT32, INT32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte_pointer], function_type)
    builder.call(function, [builder.bitcast(pointer, byte_pointer), INT32(0), INT32(3), INT32(1)])


def transpose(builder: Builder, rows: Sequence[Value]) -> list[Value]:
    """The transpose of a square block of n vectors of n lanes, n a power of two, in log2(n) rounds of shuffles.

    Each round exchanges the off-diagonal blocks of one size: 1x1, then 2x2, then 4x4.
    """
    block, size = list(rows), len(rows)
    step = 1
    while step < size:
        upper = lane_mask([lane if not lane & step else size + lane - step for lane in range(size)])
        lower = lane_mask([lane + step if not lane & step else size + lane for lane in range(size)])
        for row in (row for row in range(size) if not row & step):
            pair = block[row], block[row + step]
            block[row] = builder.shuffle_vector(*pair, upper)
            block[row + step] = builder.shuffle_vector(*pair, lower)
        step *= 2
    return block


def element_pointer(context: Any, builder: Builder, array_type: NumbaType, array: Value, offset: Value) -> Value:
    """Address of element `offset` of a Numba array's data."""
    return advance(builder, context.make_array(array_type)(context, builder, array).data, offset)
