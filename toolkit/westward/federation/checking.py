"""The limits of sites beside the jobs that go there. Each site is read once, whatever the number of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from westward.errors import WestwardError
from westward.jobs.side_by_side import side_by_side
from westward.model.limits import Limits
from westward.model.site import Catalogue, Site
from westward.slurm.client import SlurmClient, open_client

Connect = Callable[[Site], SlurmClient]
Told = Mapping[str, Limits | WestwardError]


def read_limits(sites: Iterable[str], catalogue: Catalogue, connect: Connect = open_client) -> Told:
    """What each of these sites says of its limits, or why it says nothing; all are asked at the same time."""

    def ask(name: str) -> Limits | WestwardError:
        try:
            with connect(catalogue.sites[name]) as client:
                return client.limits()
        except WestwardError as error:
            return error

    names = sorted(set(sites))
    return dict(zip(names, side_by_side(ask, names), strict=True))
