"""Budgets as a user meets them: every way to submit keeps them, and nothing is written down or sent beyond them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from unit.federation.worlds import NOW
from unit.jobs.world import SILENT, World, a_job, decision, many, submit
from westward.catalogue.budgets import budgets_file, load_projects, project_named
from westward.cli.budgets import left_lines, notes
from westward.errors import InputError, NotFound, OverBudget, WestwardError
from westward.jobs import budgeting, watching
from westward.jobs.budgeting import Budgeting, Left
from westward.jobs.template import compose_job
from westward.model.budget import Amounts, Caps, Project
from westward.model.checkpoint import Checkpoint
from westward.model.effort import planned
from westward.model.job import Array, Attempt, JobState, Usage
from westward.slurm.client import NotOffered
from westward.store.ledger import Phase

LLM = Project("llm", Caps(100.0, None, None, "CNY"), datetime.now(UTC) - timedelta(days=1))


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(budgeting.Budgeting.__init__, "__defaults__", (lambda name: {"llm": LLM}[name],))
    return tmp_path


def cost() -> float:
    made = decision()
    assert made.chosen is not None
    money = planned(a_job(), made.chosen, made.currency).amounts.money
    assert money is not None
    return money


class TestOfASubmission:
    def test_what_a_job_spends_is_what_the_site_charges_whatever_the_policy_weighs(self) -> None:
        made = decision()
        assert made.chosen is not None and made.chosen.cost.compute is not None and made.chosen.cost.energy is not None
        spends = planned(a_job(), made.chosen, "CNY").amounts
        assert spends.money == pytest.approx(made.chosen.cost.compute + made.chosen.cost.energy)
        assert (spends.accelerator_hours, spends.carbon_kg) == (4.0, made.chosen.carbon_kg)

    def test_an_array_spends_with_each_of_its_tasks(self) -> None:
        made = decision()
        assert made.chosen is not None
        assert planned(a_job(array=Array.parse("0-9")), made.chosen, "CNY").amounts.accelerator_hours == 40.0

    def test_a_job_that_may_put_itself_back_spends_with_each_of_its_starts(self) -> None:
        made = decision()
        assert made.chosen is not None
        plan = planned(a_job(checkpoint=Checkpoint(restarts=2)), made.chosen, "CNY")
        assert (plan.amounts.accelerator_hours, plan.limit_s) == (
            12.0,
            3 * planned(a_job(), made.chosen, "CNY").limit_s,
        )

    @pytest.mark.parametrize("caps", [Caps(money=1.0), Caps(accelerator_hours=3.9), Caps(carbon_kg=0.1)])
    def test_beyond_its_own_cap_nothing_is_written_down_or_sent(self, world: World, caps: Caps) -> None:
        with pytest.raises(OverBudget, match="this submission is over its budget: the cap is") as caught:
            submit(world, budget=caps)
        assert (caught.value.exit_code, world.ledger.jobs(), world.cluster.asked) == (5, [], [])

    def test_within_it_is_submitted(self, world: World) -> None:
        assert submit(world, budget=Caps(money=cost(), currency="CNY")).phase is Phase.RELEASED

    def test_a_cap_in_another_currency_is_an_error(self, world: World) -> None:
        with pytest.raises(InputError, match="capped in EUR, and the sites charge in CNY"):
            submit(world, budget=Caps(money=1000.0, currency="EUR"))

    def test_a_cost_that_is_unknown_is_refused_unless_it_may_be(self, world: World) -> None:
        made = decision()
        assert made.chosen is not None
        unknown = replace(made, chosen=replace(made.chosen, money=None))
        with pytest.raises(OverBudget, match="unknown") as caught:
            world.jobs().submit(a_job(budget=Caps(money=1000.0)), unknown)
        assert "budget.allow_unknown_cost=true" in caught.value.next_step
        world.jobs().submit(a_job(budget=Caps(money=1000.0, allow_unknown=True)), unknown)

    def test_a_sweep_is_one_submission_and_is_refused_before_its_first_job(self, world: World) -> None:
        wanted = many(5, budget=Caps(money=4.5 * cost()))
        with pytest.raises(OverBudget, match=f"{5 * cost():.4g} CNY"):
            world.jobs().submit_many(wanted)
        assert (world.ledger.jobs(), world.cluster.asked) == ([], [])
        within = many(4, budget=Caps(money=4.5 * cost()))
        assert len(world.jobs().submit_many(within)) == 4


class TestOfAProject:
    def test_what_is_left_is_kept_over_submissions(self, world: World) -> None:
        fitting = int(100 // cost())
        for _ in range(fitting):
            submit(world, project="llm")
        with pytest.raises(OverBudget, match="project 'llm' has not enough left: the cap is 100 CNY"):
            submit(world, project="llm")
        assert len(world.ledger.jobs()) == fitting
        submit(world)  # of no project

    def test_a_sweep_beyond_what_is_left_is_refused_before_its_first_job(self, world: World) -> None:
        with pytest.raises(OverBudget):
            world.jobs().submit_many(many(int(100 // cost()) + 1, project="llm"))
        assert world.ledger.jobs() == []

    def test_when_somebody_else_spends_it_meanwhile_the_rest_is_not_submitted(self, world: World) -> None:
        """What is left is looked at first; another process takes the last of it before the jobs are written down."""
        running = world.jobs()
        wanted = many(2, project="llm")
        checked = Budgeting.check

        def check(self: Budgeting, pairs: object) -> object:
            Budgeting.check = checked  # type: ignore[method-assign]
            told = self.check(wanted)
            world.jobs().submit_many(many(int(100 // cost()) - 1, project="llm"))
            return told

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Budgeting, "check", check)
            with pytest.raises(OverBudget):
                running.submit_many(wanted)
        assert len(world.ledger.jobs()) == int(100 // cost()) - 1

    def test_what_a_plan_says_is_left(self, world: World) -> None:
        submit(world, project="llm")
        (left,) = Budgeting(world.ledger).check([(a_job(project="llm"), decision())])
        assert left.use.reserved.money == pytest.approx(cost())
        assert (left.use.spent, left.use.jobs) == (Amounts(), 1)
        assert left.asked.money == pytest.approx(cost())

    @pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.NODE_FAIL])
    def test_what_a_job_ran_before_its_cluster_put_it_back_is_spent_too(
        self, world: World, state: JobState, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An hour's limit: 50 min until its node failed, 30 until it was preempted, 15 to its end."""
        monkeypatch.setattr(watching, "FINAL_AFTER", timedelta(0))
        made = submit(world, project="llm")
        last = NOW + timedelta(hours=3)
        world.cluster.set(1, state, started_at=last, ended_at=last + timedelta(minutes=15), restarts=2)
        record = world.cluster.jobs[1]
        world.cluster.attempts = [
            Attempt(replace(record, started_at=NOW), Usage(3000, {})),
            Attempt(replace(record, started_at=NOW + timedelta(hours=1)), Usage(1800, {})),
        ]  # the accounting has not heard of the last start
        for _ in range(2):
            world.jobs().refresh([made])
        (use,) = world.ledger.used(LLM).values()
        assert use.spent.money == pytest.approx(cost() * (50 + 30 + 15) / 60)
        assert use.reserved == Amounts()
        assert world.cluster.asked.count("history") == 1, "once it is known it is not asked for again"

    def test_of_an_array_each_task_counts_with_its_attempts(self, world: World) -> None:
        made = submit(world, project="llm", array=Array.parse("0-1"))
        tasks = {JobState.COMPLETED: 2}
        start, end = NOW, NOW + timedelta(minutes=60)
        world.cluster.set(1, JobState.COMPLETED, started_at=start, ended_at=end, restarts=1, tasks=tasks)
        record = world.cluster.jobs[1]
        world.cluster.attempts = [
            Attempt(record, Usage(minutes * 60, {}), task=task) for task, minutes in ((0, 30), (1, 12), (0, 9))
        ]
        world.jobs().refresh([made])
        (use,) = world.ledger.used(LLM).values()
        assert use.spent.money == pytest.approx(2 * cost() * (60 + 30 / 2) / 60)

    def test_a_job_that_is_cancelled_while_it_waits_again_has_spent_what_it_ran(self, world: World) -> None:
        made = submit(world, project="llm")
        world.cluster.set(1, JobState.CANCELLED, ended_at=NOW + timedelta(hours=2), restarts=1)
        record = world.cluster.jobs[1]
        world.cluster.attempts = [
            Attempt(replace(record, started_at=NOW), Usage(600, {})),
            Attempt(record, Usage(0, {})),
        ]
        world.jobs().refresh([made])
        (use,) = world.ledger.used(LLM).values()
        assert use.spent.money == pytest.approx(cost() / 6)

    @pytest.mark.parametrize("told", [[], NotOffered("no"), SILENT])
    def test_where_the_accounting_does_not_tell_it_counts_with_its_whole_limit(
        self, world: World, told: list[Attempt] | WestwardError
    ) -> None:
        made = submit(world, project="llm")
        world.cluster.attempts = told
        world.cluster.set(1, JobState.COMPLETED, started_at=NOW, ended_at=NOW + timedelta(minutes=6), restarts=1)
        world.jobs().refresh([made])
        (use,) = world.ledger.used(LLM).values()
        assert use.spent.money == pytest.approx(cost())

    def test_a_job_of_no_project_is_not_asked_about(self, world: World) -> None:
        made = submit(world)
        world.cluster.set(1, JobState.COMPLETED, started_at=NOW, ended_at=NOW, restarts=1)
        world.jobs().refresh([made])
        assert "history" not in world.cluster.asked

    def test_hours_count_whatever_the_sites_charge_in(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        hours = Project("llm", Caps(accelerator_hours=5.0), LLM.since)
        monkeypatch.setattr(budgeting.Budgeting.__init__, "__defaults__", (lambda name: hours,))
        submit(world, project="llm")
        with pytest.raises(OverBudget, match="5 accelerator-hours, 4 accelerator-hours of it spent or reserved"):
            submit(world, project="llm")
        left = Left(hours, world.ledger.used(hours), Amounts())
        assert (left.use.reserved.accelerator_hours, left.use.jobs) == (4.0, 1)
        assert notes(left) == []
        assert left_lines(left)[0].startswith("project llm: 1 accelerator-hours left of 5 (0 spent, 4 reserved)")


class TestFile:
    def write(self, text: str) -> None:
        budgets_file().parent.mkdir(parents=True, exist_ok=True)
        budgets_file().write_text(text)

    def test_projects_with_their_caps_and_the_begin_of_their_period(self) -> None:
        self.write("projects:\n  llm: {since: 2026-01-31, currency: CNY, money: 10, carbon_kg: 2.5}\n")
        found = load_projects()["llm"]
        assert found.caps == Caps(10.0, None, 2.5, "CNY")
        assert found.since.astimezone().date().isoformat() == "2026-01-31"

    def test_without_a_file_there_is_none_and_a_name_says_how_to_begin_one(self) -> None:
        assert load_projects() == {}
        with pytest.raises(NotFound) as caught:
            project_named("llm")
        assert str(budgets_file()) in caught.value.next_step

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("projects: {a: {since: soon, money: 1}}", "projects.a.since"),
            ("projects: {a: {since: 2026-01-31, money: 1}}", "currency: is missing"),
            ("projects: {a: {since: 2026-01-31, money: -1, currency: CNY}}", "zero up"),
            ("projects: {a: {since: 2026-01-31, gold: 1}}", "gold"),
            ("projects: {'a b': {since: 2026-01-31}}", "no name of a project"),
            ("budget: 3", "projects: is missing"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_place(self, text: str, said: str) -> None:
        self.write(text)
        with pytest.raises(InputError, match=said):
            load_projects()


class TestKeys:
    def test_a_template_takes_caps_and_a_project(self) -> None:
        spec = compose_job(
            "gemm", ["budget.money=10", "budget.carbon_kg=1.5", "budget.currency=CNY", "project=llm"]
        ).spec
        assert (spec.budget, spec.project) == (Caps(10.0, None, 1.5, "CNY"), "llm")
        assert compose_job("gemm", []).spec.budget.any is False

    @pytest.mark.parametrize("override", ["budget.money=-1", "budget.money=cheap", "budget.gold=3"])
    def test_a_cap_that_cannot_be_meant(self, override: str) -> None:
        with pytest.raises(InputError, match="budget"):
            compose_job("gemm", [override])
