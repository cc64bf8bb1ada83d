"""What a project has spent, by what became of its jobs; and that nobody spends what is left twice."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from unit.store.databases import Fresh
from unit.store.test_ledger import intent
from westward.errors import InputError, OverBudget
from westward.model.budget import Amounts, Caps, Project
from westward.model.effort import Planned
from westward.model.job import JobState, JobStatus, new_key
from westward.store.ledger import Intent, Ledger

THEN = datetime.now(UTC) - timedelta(days=1)
LLM = Project("llm", Caps(100.0, 50.0, 10.0, "CNY"), THEN)
COST = Amounts(10.0, 4.0, 1.0)


def wish(
    amounts: Amounts = COST, project: Project | None = LLM, currency: str | None = "CNY", unknown: bool = False
) -> Intent:
    return replace(intent(new_key()), planned=Planned(amounts, currency, 3600, project, unknown))


def add(ledger: Ledger, *intents: Intent, project: Project = LLM) -> list[str]:
    return [
        job.key
        for job in ledger.add(
            [
                replace(each, planned=replace(each.planned, project=project))
                if each.planned and each.planned.project is LLM
                else each
                for each in intents
            ]
        )
    ]


def let_go(ledger: Ledger, keys: list[str]) -> None:
    ledger.attempt(keys)
    ledger.handles({key: number for number, key in enumerate(keys, 1)})
    ledger.released(keys)


def ended(
    ledger: Ledger, key: str, state: JobState = JobState.COMPLETED, ran_s: float | None = 900, **more: int
) -> None:
    let_go(ledger, [key])
    now = datetime.now(UTC)
    started = None if ran_s is None else now - timedelta(seconds=ran_s)
    ledger.seen({key: JobStatus(1, "x", state, started_at=started, ended_at=now, **more)}, {key})


def spent(ledger: Ledger, project: Project = LLM) -> tuple[float | None, float | None]:
    """(spent, reserved) money."""
    uses = ledger.used(project)
    found = list(uses.values())
    return (
        round(sum(use.spent.money or 0.0 for use in found), 6),
        round(sum(use.reserved.money or 0.0 for use in found), 6),
    )


class TestWhatCounts:
    def test_a_job_that_goes_on_counts_in_full(self, database: Fresh) -> None:
        ledger = database.ledger()
        add(ledger, wish())
        let_go(ledger, add(ledger, wish()))
        assert spent(ledger) == (0.0, 20.0)

    def test_one_that_has_ended_with_the_part_of_its_limit_that_it_ran(self, database: Fresh) -> None:
        ledger = database.ledger()
        (key,) = add(ledger, wish())
        ended(ledger, key)
        assert spent(ledger) == (2.5, 0.0)

    def test_one_that_never_started_with_nothing(self, database: Fresh) -> None:
        ledger = database.ledger()
        cancelled, refused = add(ledger, wish(), wish())
        ended(ledger, cancelled, JobState.CANCELLED, None)
        ledger.refused({refused: "no"})
        assert spent(ledger) == (0.0, 0.0)

    @pytest.mark.parametrize(
        ("state", "ran_s", "more"),
        [(JobState.COMPLETED, None, {}), (JobState.COMPLETED, 60, {"restarts": 1}), (JobState.TIMEOUT, 9000, {})],
    )
    def test_one_of_which_it_is_not_known_how_long_it_ran_in_full(
        self, database: Fresh, state: JobState, ran_s: float | None, more: dict[str, int]
    ) -> None:
        ledger = database.ledger()
        (key,) = add(ledger, wish())
        ended(ledger, key, state, ran_s, **more)
        assert spent(ledger) == (10.0, 0.0)

    def test_a_job_that_is_lost_counts_in_full(self, database: Fresh) -> None:
        ledger = database.ledger()
        (key,) = add(ledger, wish())
        let_go(ledger, [key])
        ledger.lost({key: "nowhere"})
        assert spent(ledger) == (10.0, 0.0)

    def test_other_projects_and_earlier_periods_do_not_count(self, database: Fresh) -> None:
        ledger = database.ledger()
        add(ledger, wish(project=replace(LLM, name="other")), wish(project=None), wish())
        assert spent(ledger) == (0.0, 10.0)
        assert spent(ledger, replace(LLM, since=datetime.now(UTC) + timedelta(minutes=1))) == (0.0, 0.0)

    def test_an_amount_that_is_unknown_counts_as_nothing_and_is_told(self, database: Fresh) -> None:
        ledger = database.ledger()
        add(ledger, wish(Amounts(None, 4.0, None), unknown=True), wish())
        (use,) = ledger.used(LLM).values()
        assert (use.jobs, use.unknown, use.reserved) == (2, 1, Amounts(10.0, 8.0, 1.0))


class TestKeeping:
    @pytest.mark.parametrize("kind", ["money", "accelerator_hours", "carbon_kg"])
    def test_what_is_beyond_a_cap_is_not_added_and_the_message_names_cap_spent_and_asked(
        self, database: Fresh, kind: str
    ) -> None:
        ledger = database.ledger()
        project = replace(LLM, caps=replace(Caps(currency="CNY"), **{kind: 1.5 * getattr(COST, kind)}))
        add(ledger, wish(), project=project)
        with pytest.raises(OverBudget) as caught:
            add(ledger, wish(), project=project)
        assert caught.value.exit_code == 5
        for amount in (1.5 * getattr(COST, kind), getattr(COST, kind)):
            assert f"{amount:.4g} " in str(caught.value)
        assert "project 'llm'" in str(caught.value)
        assert len(ledger.jobs()) == 1

    def test_all_jobs_of_one_submission_or_none(self, database: Fresh) -> None:
        ledger = database.ledger()
        with pytest.raises(OverBudget):
            add(ledger, *(wish() for _ in range(11)))
        assert ledger.jobs() == []
        assert len(add(ledger, *(wish() for _ in range(10)))) == 10

    def test_what_an_ended_job_did_not_use_can_be_spent_again(self, database: Fresh) -> None:
        ledger = database.ledger()
        keys = add(ledger, *(wish() for _ in range(10)))
        with pytest.raises(OverBudget):
            add(ledger, wish())
        ended(ledger, keys[0], ran_s=0)
        add(ledger, wish())

    def test_unknown_costs_are_refused_unless_the_user_lets_them_in(self, database: Fresh) -> None:
        ledger = database.ledger()
        unknown = Amounts(None, 4.0, 1.0)
        with pytest.raises(OverBudget, match="unknown"):
            add(ledger, wish(unknown))
        add(ledger, wish(unknown, unknown=True))
        hours = Project("llm", Caps(accelerator_hours=50.0), THEN)
        add(ledger, wish(unknown), project=hours)

    def test_money_is_never_converted(self, database: Fresh) -> None:
        ledger = database.ledger()
        with pytest.raises(InputError, match=r"CNY.*EUR"):
            add(ledger, wish(currency="EUR"))
        add(ledger, wish(currency="EUR"), project=Project("llm", Caps(accelerator_hours=50.0), THEN))
        with pytest.raises(InputError, match="has spent in EUR"):
            add(ledger, wish())

    def test_of_many_at_once_only_as_many_pass_as_the_cap_allows(self, database: Fresh) -> None:
        """Each with a ledger of its own, as separate commands have."""
        database.ledger()
        outcomes: list[bool] = []
        start = threading.Barrier(8)

        def submit() -> None:
            ledger = Ledger(database.url)
            start.wait()
            for _ in range(3):
                try:
                    add(ledger, wish())
                    outcomes.append(True)
                except OverBudget:
                    outcomes.append(False)
            ledger.close()

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (outcomes.count(True), outcomes.count(False)) == (10, 14)
        assert spent(database.ledger()) == (0.0, 100.0)


class TestStarts:
    """How long jobs took to start, beside what had been foreseen of them: from this a plan's band comes."""

    def started(self, ledger: Ledger, foreseen: float | None, after_s: float, waits: bool = False) -> None:
        made = replace(intent(new_key()), decision={"chosen": {"start_in_s": foreseen}})
        if not waits:
            made = replace(made, submission=replace(made.submission, dependency=None, begin_at=None))
        (job,) = ledger.add([made])
        let_go(ledger, [job.key])
        at = job.created_at + timedelta(seconds=after_s)
        ledger.seen({job.key: JobStatus(1, "x", JobState.RUNNING, started_at=at)}, set())

    def test_what_was_foreseen_and_what_it_took(self, database: Fresh) -> None:
        ledger = database.ledger()
        self.started(ledger, 10.0, 30.0)
        self.started(ledger, None, 30.0)
        self.started(ledger, 10.0, 30.0, waits=True)
        ((foreseen, took),) = ledger.starts("west")
        assert (foreseen, round(took, 3)) == (10.0, 30.0)
        assert ledger.starts("east") == []
