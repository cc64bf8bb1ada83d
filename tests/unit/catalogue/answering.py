"""A cluster in memory that answers like a real one, for what asks a cluster about itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from unit.federation.worlds import cluster
from westward.errors import WestwardError
from westward.model.site import Account, Association, ClusterState, Door, Site

ACCOUNT = Account(
    cluster="west",
    user="u17",
    home="/home/u17",
    default_account="physics",
    associations=(
        Association("physics", None, ("normal", "long"), "normal"),
        Association("teaching", "gpu", ("normal",), None),
    ),
    clock=None,
    max_array_size=1001,
    mpi=("none", "pmi2", "pmix", "pmix_v4"),
)


@dataclass
class Answering:
    """Answers as `account` and `state`, its clock `ahead_s` seconds ahead; each call takes `takes_s`."""

    account_: Account = ACCOUNT
    state_: ClusterState = field(default_factory=cluster)
    ahead_s: float | None = 0.0
    takes_s: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def account(self) -> Account:
        time.sleep(self.takes_s / 2)
        now = datetime.now(UTC)
        time.sleep(self.takes_s / 2)
        return replace(self.account_, clock=None if self.ahead_s is None else now + timedelta(seconds=self.ahead_s))

    def state(self) -> ClusterState:
        time.sleep(self.takes_s)
        return self.state_


class Doors:
    """Which door leads to what: a cluster, or an error."""

    def __init__(self, behind: Mapping[Door, Answering | WestwardError]) -> None:
        self.behind = behind

    def __call__(self, site: Site, door: Door) -> Any:
        found = self.behind[door]
        if isinstance(found, WestwardError):
            raise found
        return found
