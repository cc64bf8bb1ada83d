"""The GEMM is right for every shape, element type and vector width; its benchmark says so."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llvmlite import ir

from westward_bench.gemm import __main__ as command
from westward_bench.gemm.emit import SCALARS
from westward_bench.gemm.measure import verdict
from westward_bench.gemm.microkernel import define_microkernel
from westward_bench.gemm.product import Gemm
from westward_bench.gemm.tiling import (
    AVX2,
    AVX512,
    NEON,
    SSE2,
    CacheBlocks,
    VectorUnit,
    cache_blocks,
    host_l2_bytes,
    host_vector_unit,
    register_tile,
    vector_unit,
)
from westward_bench.record import Record

SMALL_BLOCKS = CacheBlocks(mc=24, kc=12, nc=96)
"""So small that matrices of a few tens of rows go through every edge of every loop."""


@functools.cache
def compiled(dtype: str, unit: VectorUnit) -> Gemm:
    itemsize = 8 if dtype == "f64" else 4
    return Gemm(dtype, tile=register_tile(unit, itemsize), blocks=SMALL_BLOCKS)


def check_exactly(gemm: Gemm, m: int, n: int, k: int) -> None:
    """Small whole numbers, whose products and sums are exact: every element must be equal."""
    random = np.random.default_rng([m, n, k])
    a, b = random.integers(-8, 9, (m, k)), random.integers(-8, 9, (k, n))
    dtype = gemm.scalar.dtype
    out = np.full((m, n), np.nan, dtype)
    assert gemm(a.astype(dtype), b.astype(dtype), out) is out
    np.testing.assert_array_equal(out, a @ b)


dimensions = st.integers(0, 9) | st.integers(0, 110)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@settings(max_examples=100, deadline=None)
@given(m=dimensions, n=dimensions, k=dimensions)
@example(m=0, n=5, k=3)
@example(m=5, n=0, k=3)
@example(m=5, n=3, k=0)
@example(m=1, n=1, k=1)
@example(m=49, n=97, k=25)
def test_every_shape_is_exact(dtype: str, m: int, n: int, k: int) -> None:
    check_exactly(compiled(dtype, host_vector_unit()), m, n, k)


# LLVM splits a vector wider than the host's: the tiles of other CPUs run here too, only slower.
@pytest.mark.parametrize(("dtype", "unit"), [("f64", AVX2), ("f32", SSE2)], ids=["avx2", "sse2"])
def test_the_tiles_of_other_cpus_are_exact(dtype: str, unit: VectorUnit) -> None:
    if not host_vector_unit().fused and unit.fused:
        pytest.skip("llvm.fma is a library call here")
    for shape in [(1, 1, 1), (8, 24, 12), (25, 97, 13), (3, 50, 40), (64, 7, 64), (23, 23, 23)]:
        check_exactly(compiled(dtype, unit), *shape)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize(
    ("unit", "triple", "cpu"),
    [(NEON, "aarch64-unknown-linux-gnu", "neoverse-n1"), (AVX2, "x86_64-unknown-linux-gnu", "haswell"), (AVX512, "x86_64-unknown-linux-gnu", "skylake-avx512")],
    ids=["neon", "avx2", "avx512"],
)  # fmt: skip
def test_a_cpu_of_another_kind_multiplies_and_adds_in_one_instruction(
    dtype: str, unit: VectorUnit, triple: str, cpu: str
) -> None:
    """As far as it can be told on this machine: by the instructions that LLVM makes of the micro-kernel for that CPU."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    scalar = SCALARS[dtype]
    tile = register_tile(unit, scalar.itemsize)
    module = ir.Module()
    module.triple = triple
    define_microkernel(module, scalar, tile).linkage = "external"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    compiled_module = llvm.parse_assembly(str(module))
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(compiled_module, builder)
    words = [line.split()[0] for line in machine.emit_assembly(compiled_module).splitlines() if line.split()]
    fused = [word for word in words if word.startswith(("fmla", "vfmadd"))]
    # one body for each number of vectors from the tile's down to 1
    assert len(fused) == tile.rows * tile.unroll * sum(range(tile.vectors + 1))
    assert not {"bl", "call", "callq"} & set(words), "without the instruction LLVM calls libm for each lane"


def test_default_blocks_cross_their_edges_exactly() -> None:
    gemm = compiled("f64", host_vector_unit())
    other = object.__new__(Gemm)
    other.__dict__ |= gemm.__dict__ | {"blocks": CacheBlocks(mc=16, kc=8, nc=48)}
    check_exactly(other, 131, 113, 127)


def test_reads_read_only_matrices_and_leaves_them_alone() -> None:
    gemm = compiled("f64", host_vector_unit())
    a = np.arange(35.0).reshape(5, 7)
    a.flags.writeable = False
    np.testing.assert_array_equal(gemm(a, np.eye(7)), a)


def test_infinities_stay_in_their_row() -> None:
    gemm = compiled("f64", host_vector_unit())
    a = np.ones((9, 5))
    a[8, 2] = np.inf
    c = gemm(a, np.ones((5, 9)))
    assert np.isinf(c[8]).all()
    assert (c[:8] == 5).all()


@pytest.mark.parametrize(
    ("a", "b", "out", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), None, "a has 3 columns but b has 2 rows"),
        (np.ones((2, 3), np.float32), np.ones((3, 2)), None, "a must be a matrix of float64, is 2-dimensional float32"),
        (np.ones(3), np.ones((3, 2)), None, "is 1-dimensional"),
        (np.ones((2, 3)), np.ones((3, 2)), np.ones((3, 3)), r"out must have shape \(2, 2\)"),
    ],
)
def test_refuses_what_it_cannot_multiply(a, b, out, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        compiled("f64", host_vector_unit())(a, b, out)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (29, 51, 17), (64, 3, 96), (2, 100, 5), (0, 4, 3), (4, 5, 0)])
def test_operands_may_lie_in_memory_as_they_like(dtype: str, shape: tuple[int, int, int]) -> None:
    gemm, (m, n, k) = compiled(dtype, host_vector_unit()), shape
    random = np.random.default_rng(3)
    a, b, c = (random.integers(-8, 9, size).astype(gemm.scalar.dtype) for size in ((m, k), (k, n), (m, n)))

    def laid_out(matrix: np.ndarray) -> list[np.ndarray]:
        """The same elements by rows, by columns, in every other column of a wider matrix, and backwards."""
        wide = np.full((matrix.shape[0], 2 * matrix.shape[1]), np.nan, matrix.dtype)
        wide[:, ::2] = matrix
        return [matrix.copy(), np.asfortranarray(matrix.copy()), wide[:, ::2], matrix[::-1].copy()[::-1]]

    for left, right in itertools.product(laid_out(a), laid_out(b)):
        np.testing.assert_array_equal(gemm(left, right), a @ b)
    for out in laid_out(c):
        assert gemm(a, b, out, alpha=-3, beta=2) is out
        np.testing.assert_array_equal(out, -3 * (a @ b) + 2 * c)


def test_what_has_a_factor_of_zero_is_not_read() -> None:
    gemm = compiled("f64", host_vector_unit())
    bad, good = np.array([[np.nan, np.inf], [1.0, 2.0]]), np.ones((2, 2))
    np.testing.assert_array_equal(gemm(good, good, bad.copy(), beta=0), 2 * good)
    np.testing.assert_array_equal(gemm(good, good, bad.copy(), alpha=0.5, beta=0), good)
    np.testing.assert_array_equal(gemm(bad, bad, good.copy(), alpha=0, beta=3), 3 * good)
    np.testing.assert_array_equal(gemm(bad, bad, good.copy(), alpha=0), 0 * good)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(gemm(good, good, bad.copy(), beta=1), bad + 2)
    with pytest.raises(ValueError, match="beta needs an out"):
        gemm(good, good, beta=1)


def test_not_a_number_reaches_its_row_and_column_alone() -> None:
    gemm = compiled("f64", host_vector_unit())
    a, b = np.ones((30, 40)), np.ones((40, 50))
    a[7, 11] = b[23, 31] = np.nan
    there = np.isnan(gemm(a, b))
    assert there[7].all() and there[:, 31].all() and there.sum() == 50 + 30 - 1


def test_refuses_to_overwrite_an_input() -> None:
    a = np.ones((4, 4))
    with pytest.raises(ValueError, match="overlap"):
        compiled("f64", host_vector_unit())(a, np.ones((4, 4)), a)


@pytest.mark.parametrize(
    ("machine", "features", "unit"),
    [
        ("x86_64", {"sse2": True, "avx2": True, "fma": True, "avx512f": True}, AVX512),
        ("x86_64", {"sse2": True, "avx2": True, "fma": True, "avx512f": False}, AVX2),
        ("x86_64", {"sse2": True, "avx2": True}, SSE2),
        ("aarch64", {"neon": True}, NEON),
    ],
)
def test_the_vector_unit_follows_the_cpu(machine: str, features: dict[str, bool], unit: VectorUnit) -> None:
    assert vector_unit(machine, features) == unit


@pytest.mark.parametrize("unit", [AVX512, AVX2, SSE2, NEON])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_a_tile_fits_the_registers_and_a_block_the_cache(unit: VectorUnit, itemsize: int) -> None:
    tile = register_tile(unit, itemsize)
    assert tile.rows * tile.vectors + tile.vectors + 1 <= unit.registers
    blocks = cache_blocks(tile, itemsize, l2_bytes=2**20)
    assert blocks.mc * blocks.kc * itemsize <= 2**20
    assert blocks.mc % tile.rows == blocks.nc % tile.columns == 0


def test_an_unknown_cache_size_has_a_default(tmp_path: Path) -> None:
    (tmp_path / "size").write_text("2048K\n")
    assert host_l2_bytes(tmp_path / "size") == 2**21
    assert host_l2_bytes(tmp_path / "none") == 2**19


def test_the_benchmark_records_both_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "Gemm", lambda name, threads: compiled(name, host_vector_unit()))
    code = command.main(
        ["--size", "65", "96", "--dtype", "f32", "--repeats", "2", "--output", str(tmp_path / "r.json")]
    )
    record = Record.from_json((tmp_path / "r.json").read_text())
    assert (code, record.status) == (0, "ok")
    assert [(row["size"], row["kernel"] == "westward") for row in record.rows] == [
        (65, True), (65, False), (96, True), (96, False),
    ]  # fmt: skip
    assert {metric.name for metric in record.metrics} == {
        "gflops_median", "gflops_best", "ratio_to_blas", "ratio_to_blas_low", "ratio_to_blas_high", "compile_time",
    }  # fmt: skip
    for ours, theirs in (record.rows[:2], record.rows[2:]):
        low, ratio, high = (float(str(ours[name])) for name in ("ratio_low", "ratio", "ratio_high"))
        assert low <= ratio <= high and ours["verdict"] == verdict(low, high)
        assert (theirs["ratio_low"], theirs["ratio"], theirs["ratio_high"], theirs["verdict"]) == (1, 1, 1, None)
    assert record.verification is not None
    assert record.verification.checked == 2 * (65 * 65 + 96 * 96)
    assert "GFLOP/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(1.01, 1.2, "faster"), (0.8, 0.99, "slower"), (0.99, 1.01, "even"), (0.9, 1.1, "too noisy"), (1.0, 1.0, "even")],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, said: str) -> None:
    assert verdict(low, high) == said


def test_a_wrong_product_fails_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Gemm.__call__

    def one_wrong(self, a, b, out=None):  # type: ignore[no-untyped-def]
        c = right(self, a, b, out)
        c[0, 0] += 1
        return c

    monkeypatch.setattr(Gemm, "__call__", one_wrong)
    monkeypatch.setattr(command, "Gemm", lambda name, threads: compiled(name, host_vector_unit()))
    assert command.main(["--size", "16", "--repeats", "1", "--output", str(tmp_path / "r.json")]) == 1
    record = Record.from_json((tmp_path / "r.json").read_text())
    assert record.status == "failed"
    assert record.message == "1 of 512 elements exceed the error bound"
