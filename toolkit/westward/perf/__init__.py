"""Benchmarks of Westward itself: `python -m westward.perf.NAME` prints JSON."""
