"""What every call of the API needs: the ledger, the sites, and the jobs there, opened for the call and closed after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from westward.catalogue.load import known_sites
from westward.jobs.lifecycle import Jobs
from westward.model.site import Site
from westward.slurm.client import open_client
from westward.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Session:
    """One claimant on the ledger: what acts independently of it, another thread too, has one of its own."""

    ledger: Ledger
    sites: Mapping[str, Site]
    running: Jobs


@contextmanager
def session(sites: Mapping[str, Site] | None = None) -> Iterator[Session]:
    """Open one; without `sites` with every site that is described here."""
    ledger = Ledger()
    known = known_sites() if sites is None else sites
    try:
        with Jobs(ledger, known, open_client) as running:
            yield Session(ledger, known, running)
    finally:
        ledger.close()
