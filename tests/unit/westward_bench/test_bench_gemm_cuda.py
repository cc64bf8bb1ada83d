"""The GPU's kernels, without a GPU: Numba's simulator runs the one, the host's C++ compiler makes a program of the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from westward_bench.gemm import cuda
from westward_bench.gemm.cuda.simt import BlockTile

HERE = Path(__file__).parent
CASES = [
    (33, 20, 24, 1, 0, False), (17, 19, 13, 2, -1, False), (16, 16, 8, 1, 0, False), (1, 1, 1, 1, 0, False), (40, 36, 7, 1, 3, False),
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
    """The tensor-core kernel's source as a program of the host, whose fragments are plain matrices."""
    if not shutil.which("g++"):
        pytest.skip("no g++ here to compile tensorcore.cu with")
    program = tmp_path_factory.mktemp("wmma") / "product"
    source = Path(cuda.__file__).with_name("tensorcore.cu")
    subprocess.run(
        ["g++", "-std=c++20", "-O1", "-pthread", "-w", f"-I{HERE / 'wmma_on_host'}", f'-DTENSORCORE_CU="{source}"',
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
