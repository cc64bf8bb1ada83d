"""Live state of every site, asked at the same time. A site that does not answer is marked with the reason, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from westward.errors import WestwardError
from westward.model.site import ClusterState, Site
from westward.slurm.client import SlurmClient, open_client


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the sites said: `clusters` by site, and for every other site what went wrong."""

    clusters: Mapping[str, ClusterState]
    silent: Mapping[str, str]

    def age_s(self, now: datetime) -> float:
        """Seconds since the oldest answer; 0 where there is none."""
        return max(((now - cluster.taken_at).total_seconds() for cluster in self.clusters.values()), default=0.0)


def take_snapshot(sites: Mapping[str, Site], connect: Callable[[Site], SlurmClient] = open_client) -> Snapshot:
    """Ask every site once, in parallel; takes as long as the slowest one or its time-out."""

    def ask(site: Site) -> ClusterState | str:
        try:
            with connect(site) as client:
                return client.state()
        except WestwardError as error:
            return f"{error} ({error.next_step})" if error.next_step else str(error)

    with ThreadPoolExecutor(max_workers=max(1, len(sites))) as pool:
        answers = dict(zip(sites, pool.map(ask, sites.values()), strict=True))
    return Snapshot(
        clusters={name: answer for name, answer in answers.items() if isinstance(answer, ClusterState)},
        silent={name: answer for name, answer in answers.items() if isinstance(answer, str)},
    )
