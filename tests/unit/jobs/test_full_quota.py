"""A user's quota is full: submit says which limit it is, and what to do."""

from __future__ import annotations

import pytest

from unit.jobs.world import SILENT, World, decision, fails, submit
from westward.errors import SiteRefused, WestwardError
from westward.model.limits import Cap, Charge, Limits, Qos, Rules
from westward.store.ledger import Phase

ACCOUNT = "research"
FULL = Limits(
    "u",
    {"gpu": Rules("gpu", "UP")},
    {"normal": Qos("normal", (Cap("MaxSubmitJobsPerUser", 2, "", 2),))},
    (Charge(ACCOUNT, "u", "", ACCOUNT, ("normal",)),),
    ACCOUNT,
)
POLICY = SiteRefused(
    "site 'west' refuses: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


def refused(world: World, limits: Limits | WestwardError, error: SiteRefused = POLICY) -> SiteRefused:
    world.cluster.before["submit"] = fails(error)
    world.cluster.allowance = limits
    with pytest.raises(SiteRefused) as caught:
        submit(world)
    assert world.only().phase is Phase.REFUSED
    assert caught.value.exit_code == 2
    return caught.value


def test_the_limit_and_what_to_do_are_named(world: World) -> None:
    assert decision().chosen is not None
    told = refused(world, FULL)
    assert "QOS normal: MaxSubmitJobsPerUser is 2, 2 in use, asked: 1" in str(told)
    assert "westward cancel" in told.next_step


@pytest.mark.parametrize("limits", [SILENT, Limits("u", {})])
def test_where_the_limits_cannot_tell_plan_is_named(world: World, limits: Limits | WestwardError) -> None:
    told = refused(world, limits)
    assert str(told).startswith(str(POLICY))
    assert "westward plan" in told.next_step


def test_another_refusal_asks_for_no_limits(world: World) -> None:
    told = refused(world, FULL, SiteRefused("site 'west' refuses: Invalid partition name specified"))
    assert told.next_step == ""
    assert "limits" not in world.cluster.asked
