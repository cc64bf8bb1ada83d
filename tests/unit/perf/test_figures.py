"""What the benchmarks make of what they measured; the clusters are left out."""

from __future__ import annotations

import math
import os
from typing import Any

import pytest

from westward.perf import submit_rate, watch_rate
from westward.perf.meter import accepted


class NoLab:
    def clear(self) -> None:
        pass


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways in the order in which they ran; each takes as many seconds as there were before it in its round."""
    names: list[str] = []
    real = [name for what in (*submit_rate.JUDGED.values(), *submit_rate.COMPARED.values()) for name in what[:2]]
    ways = [*dict.fromkeys(str(name) for name in real if name != "submitit"), "submitit"]

    def way(name: str) -> float | None:
        names.append(name)
        return None if name == "submitit" else float(len(names))

    class Rate:
        def __init__(self, lab: Any, jobs: int) -> None:
            self.phases = {"westward": [{"compose": 1.0}, {"compose": 3.0}]}

    monkeypatch.setattr(submit_rate, "SubmitRate", Rate)
    monkeypatch.setattr(submit_rate, "_ways", lambda rate: {name: ((lambda n=name: way(n)), 100) for name in ways})
    return names


def test_every_second_round_goes_backwards(ran: list[str]) -> None:
    submit_rate.measure(NoLab(), 100, 4)  # type: ignore[arg-type]
    once = ran[: len(ran) // 4]
    assert ran == [*once, *reversed(once)] * 2


def test_a_ratio_is_of_one_round_and_what_is_missing_is_named(ran: list[str]) -> None:
    found = submit_rate.measure(NoLab(), 100, 1)  # type: ignore[arg-type]
    place = {name: ran.index(name) + 1 for name in ran}
    for what, (ours, theirs, aim) in submit_rate.JUDGED.items():
        value = place[theirs] / place[ours]
        assert math.isclose(found["ratios"][what]["value"], value, abs_tol=1e-3)
        assert (found["ratios"][what]["aim"], found["ratios"][what]["met"]) == (aim, value >= aim)
    assert found["rates"]["submitit"] == found["compared"]["westward / submitit"] == "not installed"
    assert found["ms_per_job"] == {"westward": {"compose": 2.0}}


def test_every_way_that_is_compared_is_there() -> None:
    class Rate:
        jobs = 1

        def __getattr__(self, name: str) -> Any:
            assert hasattr(submit_rate.SubmitRate, name), name
            return lambda *_: 1.0

    ways = submit_rate._ways(Rate())  # type: ignore[arg-type]
    compared = [*submit_rate.JUDGED.values(), *submit_rate.COMPARED.values()]
    assert {name for what in compared for name in what[:2]} <= ways.keys()
    places = list(ways)
    for ours, theirs, _ in submit_rate.JUDGED.values():
        assert abs(places.index(ours) - places.index(theirs)) <= 2


def test_every_situation_stands_beside_its_aim() -> None:
    door = {"first_s": 0.9, "same_s": [0.1, 0.2, 0.3], "100_ended_s": 0.25, "growth_mb": 49.0}
    lists = {"agent_alive": {"median_s": 0.4}, "site_asked_of_10000_live": {"median_s": 0.7}}
    aims = watch_rate.judged({"doors": {"shell": door, "rest": door}, "lists": lists})
    assert {what: one["met"] for what, one in aims.items()} == {
        "tick by shell": True, "first tick by shell": False, "tick with 100 ends by shell": True, "memory by shell, MB": True,
        "tick by rest": True, "first tick by rest": True, "tick with 100 ends by rest": True, "memory by rest, MB": True,
        "westward jobs, agent alive": True, "westward jobs, site asked of 10000 live": False,
    }  # fmt: skip


def test_an_answer_that_is_an_error_is_raised() -> None:
    from westward.errors import SiteRefused

    with pytest.raises(SiteRefused):
        accepted([SiteRefused("no")])


def test_the_benchmarks_leave_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from westward.perf import meter

    def fails(*_: Any) -> None:
        assert os.environ["XDG_CONFIG_HOME"].startswith(os.environ["WESTWARD_STATE_DIR"])
        assert "WESTWARD_LEDGER" not in os.environ
        raise KeyboardInterrupt

    monkeypatch.setenv("WESTWARD_LEDGER", "postgresql://shared/x")
    monkeypatch.setattr(meter.cluster, "up", fails)
    monkeypatch.setattr(meter, "down", lambda *_: None)
    before = dict(os.environ)
    with pytest.raises(KeyboardInterrupt), meter.meter("x"):
        pass
    assert dict(os.environ) == before
