"""Dense matrix product on the CPU: a Numba GEMM with an LLVM vector micro-kernel, timed beside NumPy's BLAS.

The algorithm is the five-loop product of Goto and van de Geijn ("Anatomy of High-Performance Matrix
Multiplication", ACM TOMS 34(3), 2008) in the terms of BLIS (Van Zee and van de Geijn, ACM TOMS 41(3), 2015):
panels of B (KC x NC) and blocks of A (MC x KC) are packed, and a micro-kernel keeps an MR x NR tile of C in registers.

- ``tiling``: which vectors the host has, and MR, NR, MC, KC, NC for them
- ``emit``, ``microkernel``, ``packing``: what is emitted as LLVM vector code
- ``product``: the loops around it, and :class:`~westward_bench.gemm.product.Gemm`
- ``measure``, ``__main__``: the benchmark and its command line
"""
