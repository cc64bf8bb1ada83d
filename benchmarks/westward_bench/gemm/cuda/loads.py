"""Reads of four neighbouring f32 in one 16-byte instruction (ld.v4.f32), which Numba does not make of four reads by itself.

The simulator knows neither such instructions nor aligned shared memory: there each is four plain reads.
"""

from __future__ import annotations

from typing import Any

from numba import config, cuda, float32

Four = Any
"""Four f32, as a tuple."""

if config.ENABLE_CUDASIM:  # type: ignore[attr-defined]

    def load4(matrix: Any, row: int, column: int) -> Four:
        """``matrix[row, column : column + 4]`` in global memory: f32 by rows, whose width and `column` are multiples of 4."""
        return matrix[row, column], matrix[row, column + 1], matrix[row, column + 2], matrix[row, column + 3]

    def load4_shared(tiles: Any, buffer: int, row: int, column: int) -> Four:
        """``tiles[buffer, row, column : column + 4]`` of what `shared_tiles` made; `column` is a multiple of 4."""
        return load4(tiles[buffer], row, column)

    def shared_tiles(shape: tuple[int, int, int]) -> Any:
        """A device function without arguments that gives the block's f32 array of `shape` in shared memory, aligned to 16 bytes."""
        return cuda.jit(device=True)(lambda: cuda.shared.array(shape, float32))

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic

    GLOBAL, SHARED = (
        1,
        3,
    )  # address spaces (NVVM IR specification): of a generic address the GPU would first have to find out

    def _load4_from(space: int) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def load4_flat(typing_context: Any, array: Any, index: Any) -> Any:
            signature = types.UniTuple(types.float32, 4)(array, types.int64)  # type: ignore[no-untyped-call]

            def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
                vector = ir.VectorType(ir.FloatType(), 4)
                place = builder.bitcast(builder.gep(data, [arguments[1]]), vector.as_pointer())
                loaded = builder.load(builder.addrspacecast(place, vector.as_pointer(space), "in_space"), align=16)
                lanes = [builder.extract_element(loaded, cgutils.int32_t(lane)) for lane in range(4)]
                return context.make_tuple(builder, signature.return_type, lanes)

            return signature, emit

        return load4_flat

    _load4_global, _load4_shared = _load4_from(GLOBAL), _load4_from(SHARED)

    @cuda.jit(device=True)  # type: ignore[untyped-decorator]
    def load4(matrix: Any, row: int, column: int) -> Four:
        """``matrix[row, column : column + 4]`` in global memory: f32 by rows, whose width and `column` are multiples of 4."""
        return _load4_global(matrix, row * matrix.shape[1] + column)

    @cuda.jit(device=True)  # type: ignore[untyped-decorator]
    def load4_shared(tiles: Any, buffer: int, row: int, column: int) -> Four:
        """``tiles[buffer, row, column : column + 4]`` of what `shared_tiles` made; `column` is a multiple of 4."""
        return _load4_shared(tiles, (buffer * tiles.shape[1] + row) * tiles.shape[2] + column)

    def shared_tiles(shape: tuple[int, int, int]) -> Any:
        """A device function without arguments that gives the block's f32 array of `shape` in shared memory, aligned to 16 bytes."""
        # put into its caller before types are told: no device function may return an array that it made
        return cuda.jit(device=True, inline="always")(lambda: cuda.shared.array(shape, float32, alignment=16))
