"""Results of westward_bench, read and shown."""
