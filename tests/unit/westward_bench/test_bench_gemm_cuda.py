"""The GPU's kernels, without a GPU: Numba's simulator runs the one, the host's C++ compiler makes a program of the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from westward_bench import gpu
from westward_bench.gemm import __main__ as gemm
from westward_bench.gemm import cuda
from westward_bench.gemm.cuda.measure import check_rows, measure, search
from westward_bench.gemm.cuda.simt import BlockTile
from westward_bench.record import Record

HERE = Path(__file__).parent
CASES = [
    (33, 20, 24, 1, 0, False), (17, 19, 13, 2, -1, False), (16, 16, 8, 1, 0, False), (1, 1, 1, 1, 0, False), (40, 36, 7, 1, 3, False), (18, 6, 10, 1, 0, False),
    (5, 6, 0, 1, 0, False), (5, 6, 0, 1, 2, False), (0, 4, 3, 1, 0, False), (30, 4, 9, 0, 1, False), (130, 5, 9, 1, 0, True), (9, 132, 20, -1, 1, True),
]  # fmt: skip
"""m, n, k, alpha, beta, and whether the tile is the benchmark's own: shapes that are read four at a time, and ones that cannot be."""


def test_the_numba_kernel_is_exact_in_the_simulator() -> None:
    ended = subprocess.run(
        [sys.executable, str(HERE / "simulated_product.py"), json.dumps(CASES)],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert dict(zip(CASES, json.loads(ended.stdout), strict=True)) == dict.fromkeys(CASES, 0)


def test_tiles_that_threads_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot share"):
        BlockTile(rows=16, columns=16, depth=6, thread_rows=8, thread_columns=4)


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tensor-core kernel's source as a program of the host, whose fragments are plain matrices, and which stops at a read beyond one."""
    if not shutil.which("g++"):
        pytest.skip("no g++ here to compile tensorcore.cu with")
    program = tmp_path_factory.mktemp("wmma") / "product"
    source = Path(cuda.__file__).with_name("tensorcore.cu")
    subprocess.run(
        ["g++", "-std=c++20", "-O1", "-fsanitize=address", "-pthread", "-w", f"-I{HERE / 'wmma_on_host'}", f'-DTENSORCORE_CU="{source}"',
         str(HERE / "wmma_on_host" / "main.cpp"), "-o", str(program)],
        check=True,
    )  # fmt: skip
    return program


@pytest.mark.parametrize(
    "case", ["1 8 8 1 0", "130 136 40 2 -1", "128 128 96 1 0", "5 264 0 1 2", "129 8 104 0 1"], ids=lambda case: case.replace(" ", "-")
)  # fmt: skip
def test_the_tensor_core_kernel_is_exact_on_the_host(on_host: Path, case: str) -> None:
    ended = subprocess.run([str(on_host), *case.split()], capture_output=True, text=True, check=True)
    assert ended.stdout == "0\n"


def test_without_a_gpu_the_record_says_what_was_not_run_and_holds_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if gpu.why_none() is None:
        pytest.skip("there is a GPU here")
    output = tmp_path / "r.json"
    assert gemm.main(["--device", "cuda", "--size", "64", "96", "--dtype", "f32", "bf16", "--output", str(output)]) == 1
    record = Record.from_json(output.read_text())
    assert record.status == "failed" and record.message is not None and record.message.startswith("not run: ")
    assert len(record.rows) == 2 * 2 * 2 and record.metrics == () and record.verification is None
    assert all(row[name] is None for row in record.rows for name in ("median", "best", "ratio", "wrong"))
    printed = capsys.readouterr()
    assert "not run: " in printed.err and "nvidia" in printed.err.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--device", "cuda", "--dtype", "f64"], "on --device cuda choose from f32, f16, bf16"), (["--search-s", "5"], "expected --device cuda")],
)  # fmt: skip
def test_what_only_one_device_has_is_refused_on_the_other(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        gemm.parse(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_rounding_is_within_the_bound_and_a_term_left_out_is_not(dtype: str) -> None:
    random = np.random.default_rng(1)
    a, b = (random.uniform(-1, 1, shape).astype(np.float32) for shape in ((4, 300), (300, 50)))
    c = a @ b
    assert check_rows(a, b, c, dtype).wrong == 0
    short = a[:, :-1] @ b[:-1]
    assert check_rows(a, b, short, dtype).wrong > 150
    c[2, 7] = np.nan
    check = check_rows(a, b, c, dtype)
    assert check.wrong == 1 and check.max_relative_error == np.inf


def test_the_search_ends_in_time_and_gives_the_fastest_of_what_it_tried() -> None:
    now = iter(range(100))
    tried: list[tuple[int, int, int]] = []

    def rate(shape: tuple[int, int, int]) -> float:
        tried.append(shape)
        return float(np.prod(shape))

    best, count = search(rate, 6, seed=3, clock=lambda: next(now))
    assert count == len(tried) == len(set(tried)) == 6
    assert best == max(tried, key=np.prod)
    assert search(rate, 0, seed=3, clock=lambda: 0)[1] == 1


@pytest.mark.gpu
@pytest.mark.skipif(gpu.why_none() is not None, reason="both kernels on the GPU: no CUDA device")
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_both_kernels_are_right_on_the_gpu(dtype: str) -> None:
    for shape in [(256, 512, 128), (130, 136, 40), (1, 8, 1024)]:
        assert [result.check.wrong for result in measure(shape, dtype, repeats=2, warmup=1)] == [0, 0]
