"""Dense matrix product on an NVIDIA GPU: ours in Numba-CUDA (f32) and in CUDA C++ on tensor cores (f16, bf16), beside cuBLAS.

- ``simt``: the Numba-CUDA kernel; NUMBA_ENABLE_CUDASIM=1 runs it without a GPU
- ``loads``: reads of four neighbours in one instruction
- ``tensorcore.cu``: the tensor-core kernel, by WMMA
- ``measure``, ``command``: the benchmark, and what ``--device cuda`` does
"""
