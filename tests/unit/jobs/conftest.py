"""Fixtures of one job's life."""

from unit.jobs.world import no_wait, world
from unit.store.databases import database

__all__ = ["database", "no_wait", "world"]
