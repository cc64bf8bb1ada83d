"""Main memory's bandwidth: copy, scale, add and triad over arrays that no cache holds, with Numba on several threads.

The four loops and what they count as moved are those of STREAM (J. D. McCalpin, "Memory Bandwidth and Machine Balance in Current High
Performance Computers", IEEE TCCA Newsletter, December 1995).

- ``kernels``: the loops, what each reads and writes, and what it must leave
- ``measure``: timing and verification
- ``cuda``: the memory of GPUs, and the way to it
- ``__main__``: the command line
"""
