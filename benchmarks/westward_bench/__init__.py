"""Benchmarks that run inside a Slurm job, on nothing but NumPy, Numba, mpi4py and threadpoolctl.

Each benchmark is a package started with ``python3 -m westward_bench.<name>`` and ends with one JSON record
(:mod:`westward_bench.record`), written atomically, so that a file that exists is complete.
"""
