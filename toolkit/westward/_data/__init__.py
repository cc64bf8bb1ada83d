"""Files that travel with the package: links to `slurm/` and `containers/` of the source tree."""
