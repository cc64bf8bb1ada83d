"""Westward: an HPC batch-cluster toolkit on Slurm. East Data, West Compute."""

__version__ = "0.1.0"
