"""Fixtures of the ledger."""

from unit.store.databases import database

__all__ = ["database"]
