"""`hydra/launcher=westward`: the points of a sweep of any Hydra application as jobs on Slurm clusters."""
