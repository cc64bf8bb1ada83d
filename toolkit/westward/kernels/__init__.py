"""Arithmetic on arrays: no I/O, no objects, so that the same code decides live and replays a million jobs."""
