"""The command line: one module a command group, no logic."""

import gc

# a command spends most of its time on importing, and the garbage collector a tenth of that on looking through what was just imported
gc.set_threshold(50_000)
