"""MPI collectives on host memory: latency, algorithm and bus bandwidth over a range of message sizes.

- ``operations``: the table of operations: buffers, call, bus factor, what a rank must receive
- ``measure``: message sizes, timing and verification of one operation
- ``world``: is this the MPI world that was asked for?
- ``__main__``: the command line
"""
