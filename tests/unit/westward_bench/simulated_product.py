"""Run by test_bench_gemm_cuda in a process of its own, under NUMBA_ENABLE_CUDASIM=1: wrong elements of each case, as JSON."""

from __future__ import annotations

import json
import sys

import numpy as np
from numba import cuda

from westward_bench.gemm.cuda.simt import TILE, BlockTile, multiply

SMALL = BlockTile(rows=16, columns=16, depth=8, thread_rows=8, thread_columns=4)


def wrong(m: int, n: int, k: int, alpha: float, beta: float, tile: BlockTile) -> int:
    """Elements that differ from the product of small whole numbers, which is exact. Where beta is 0, C holds NaN."""
    random = np.random.default_rng([m, n, k])
    a, b, c = (random.integers(-8, 9, shape).astype(np.float32) for shape in ((m, k), (k, n), (m, n)))
    out = cuda.to_device(c if beta else np.full_like(c, np.nan))
    multiply(cuda.to_device(a), cuda.to_device(b), out, alpha, beta, tile)
    return int(np.count_nonzero(out.copy_to_host() != alpha * (a @ b) + beta * c))


cases = json.loads(sys.argv[1])
print(json.dumps([wrong(*case[:5], TILE if case[5] else SMALL) for case in cases]))
