"""Slurm clusters of our own in containers, for the demo and the tests: `up`, `down`, `status`, `shell`."""
