"""All sites asked at once; one that does not answer is marked."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Self

from unit.federation.worlds import NOW, cluster, site, snapshot
from westward.errors import AccessRefused, Unreachable
from westward.federation.snapshot import take_snapshot
from westward.model.site import ClusterState, Site


class FakeClient:
    """A cluster that answers, says no, or takes its time."""

    def __init__(self, site: Site) -> None:
        self.name = site.name
        if self.name == "locked":
            raise AccessRefused("site 'locked': the token is expired", "renew it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def state(self) -> ClusterState:
        if self.name == "silent":
            raise Unreachable("site 'silent': nobody answers")
        time.sleep(0.2)
        return cluster()


def test_each_site_answers_or_is_marked_with_the_reason_and_the_next_step() -> None:
    taken = take_snapshot({name: site(name) for name in ("west", "silent", "locked")}, FakeClient)  # type: ignore[arg-type]
    assert set(taken.clusters) == {"west"}
    assert taken.silent == {
        "silent": "site 'silent': nobody answers",
        "locked": "site 'locked': the token is expired (renew it)",
    }


def test_sites_are_asked_at_the_same_time() -> None:
    started = time.monotonic()
    take_snapshot({f"s{i}": site(f"s{i}") for i in range(10)}, FakeClient)  # type: ignore[arg-type]
    assert time.monotonic() - started < 1.5


def test_its_age_is_that_of_the_oldest_answer() -> None:
    taken = snapshot({"a": cluster(), "b": cluster()})
    assert taken.age_s(NOW + timedelta(seconds=5)) == 5
    assert snapshot({}).age_s(NOW) == 0


def test_no_site_is_no_problem() -> None:
    assert take_snapshot({}).clusters == {}
