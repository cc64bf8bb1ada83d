"""Jobs that wait for jobs: what a cluster can wait for itself, and what somebody of ours waits for across sites."""

from __future__ import annotations

import pytest

from unit.jobs.world import DOUBT, KNOWN, SILENT, Killed, World, a_job, decision, fails, killed_at, submit
from westward.errors import InputError, NotFound, SiteRefused
from westward.jobs.dependencies import is_met
from westward.jobs.lifecycle import Jobs
from westward.model.job import After, Dependency, JobState
from westward.store.ledger import Job, Phase


def after(job: Job, kind: After = After.OK) -> tuple[Dependency, ...]:
    return (Dependency(kind, job.key),)


def ended(world: World, job: Job, state: JobState = JobState.COMPLETED) -> Job:
    cluster = world.cluster if job.site == "west" else world.east
    cluster.set(job.job_id or 0, state)
    return world.jobs().refresh([job])[0]


class TestWithinOneSite:
    def test_its_cluster_waits_for_it(self, world: World) -> None:
        first, second = submit(world), submit(world)
        third = submit(world, depends_on=(*after(first), *after(second, After.ANY)))
        assert third.submission.dependency == "afterok:1,afterany:2"
        assert "#SBATCH --dependency=afterok:1,afterany:2\n" in third.submission.script
        assert third.waits_for == ()
        assert third.phase is Phase.RELEASED

    def test_what_can_never_start_is_cancelled_by_its_cluster(self, world: World) -> None:
        assert submit(world, depends_on=after(submit(world))).submission.options == {"kill-on-invalid-dep": "yes"}
        kept = submit(world, depends_on=after(submit(world)), options={"kill-on-invalid-dep": "no"})
        assert kept.submission.options == {"kill-on-invalid-dep": "no"}
        assert submit(world).submission.options == {}

    def test_what_has_ended_well_is_not_waited_for(self, world: World) -> None:
        """A cluster forgets ended jobs, and refuses to wait for one that it does not know."""
        first = ended(world, submit(world))
        assert submit(world, depends_on=after(first)).submission.dependency is None

    def test_it_is_asked_how_that_job_is_now(self, world: World) -> None:
        first = submit(world)
        world.cluster.set(1, JobState.COMPLETED)
        assert submit(world, depends_on=after(first)).submission.dependency is None

    def test_what_can_never_be_met_is_refused_at_once(self, world: World) -> None:
        first = submit(world)
        world.cluster.set(1, JobState.FAILED)
        with pytest.raises(InputError, match=rf"'afterok:{first.key}' can never be met: job {first.key} is FAILED"):
            submit(world, depends_on=after(first))
        assert len(world.ledger.jobs()) == 1

    def test_one_question_for_all_that_are_named(self, world: World) -> None:
        first = submit(world)
        world.cluster.asked.clear()
        world.jobs().submit_many([(a_job(depends_on=after(first)), decision())] * 5)
        assert world.cluster.asked.count("poll") == 1

    def test_a_job_in_doubt_has_no_id_to_wait_for_yet(self, world: World) -> None:
        world.cluster.after["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many([(a_job(), decision())])
        first = world.only()
        second = submit(world, depends_on=after(first))
        assert (second.phase, second.submission.dependency) == (Phase.HELD, None)
        assert second.waits_for == after(first)
        with pytest.raises(InputError, match=rf"job {first.key} is in doubt"):
            submit(world, depends_on=after(first, After.CORRESPONDING))

    def test_tasks_correspond(self, world: World) -> None:
        first = submit(world)
        second = submit(world, depends_on=after(first, After.CORRESPONDING))
        assert second.submission.dependency == "aftercorr:1"

    def test_a_job_that_is_not_known(self, world: World) -> None:
        with pytest.raises(NotFound, match="aaaaaaaaaaaa"):
            submit(world, depends_on=(Dependency(After.OK, "a" * 12),))
        assert world.ledger.jobs() == []


class TestAcrossSites:
    def test_it_is_held_until_the_other_has_ended(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        assert (second.phase, second.submission.dependency, second.waits_for) == (Phase.HELD, None, after(first))
        for _ in range(2):
            assert world.settle() == []
        assert world.cluster.started == []
        ended(world, first)
        assert world.settle() == []
        assert world.cluster.started == [second.job_id]
        assert world.ledger.get(second.key).phase is Phase.RELEASED

    def test_while_it_waits_its_cluster_is_asked_nothing(self, world: World) -> None:
        submit(world, depends_on=after(submit(world, "east")))
        world.cluster.asked.clear()
        assert world.settle() == []
        assert world.cluster.asked == []

    def test_one_that_is_idempotent_is_held_too(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, idempotent=True, depends_on=after(first))
        assert (second.phase, second.submission.hold, world.cluster.started) == (Phase.HELD, True, [])
        ended(world, first)
        world.settle()
        assert world.cluster.started == [second.job_id]

    def test_all_of_them(self, world: World) -> None:
        first, second = submit(world, "east"), submit(world, "east")
        third = submit(world, depends_on=(*after(first), *after(second, After.START)))
        ended(world, first)
        world.settle()
        assert world.cluster.started == []
        world.east.set(second.job_id or 0, JobState.RUNNING, started_at=first.created_at)
        world.jobs().watch()
        world.settle()
        assert world.cluster.started == [third.job_id]

    def test_what_can_never_be_met_any_more_is_cancelled_and_says_why(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        ended(world, first, JobState.TIMEOUT)
        assert world.settle() == []
        world.jobs().watch()
        gone = world.ledger.get(second.key)
        assert (gone.phase, gone.state) == (Phase.ENDED, JobState.CANCELLED)
        assert gone.reason == f"'afterok:{first.key}' can never be met: job {first.key} at 'east' is TIMEOUT"
        assert gone.ended_at is not None
        assert (world.cluster.alive(), world.cluster.started) == ([], [])

    def test_and_a_chain_falls_with_it(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        third = submit(world, "east", depends_on=after(second))
        ended(world, first, JobState.FAILED)
        for _ in range(2):
            world.settle()
        assert world.ledger.get(third.key).state is JobState.CANCELLED
        assert f"job {second.key} at 'west' is CANCELLED" in world.ledger.get(third.key).reason

    @pytest.mark.usefixtures("no_wait")
    def test_a_job_that_no_cluster_took_ends_what_waits_for_it(self, world: World) -> None:
        world.east.before["submit"] = fails(DOUBT, times=1)
        world.jobs().submit_many([(a_job(), decision("east"))])
        first = world.only()
        second = submit(world, depends_on=after(first))
        world.east.before["submit"] = fails(SiteRefused("site 'east' refuses: Invalid account"))
        for _ in range(2):
            world.settle()
        assert world.ledger.get(first.key).phase is Phase.REFUSED
        assert world.ledger.get(second.key).reason.endswith(f"job {first.key} at 'east' is not submitted")

    def test_a_cancellation_that_fails_is_repeated(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        ended(world, first, JobState.FAILED)
        world.cluster.before["cancel"] = fails(SILENT, times=1)
        assert len(world.settle()) == 1
        assert world.ledger.get(second.key).phase is Phase.HELD
        assert world.settle() == []
        assert world.ledger.get(second.key).state is JobState.CANCELLED

    def test_a_silent_site_neither_meets_nor_breaks_it(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        world.east.before["any"] = fails(SILENT)
        world.jobs().watch()
        assert world.settle() == []
        assert world.ledger.get(second.key).phase is Phase.HELD

    @pytest.mark.usefixtures("no_wait")
    @pytest.mark.parametrize("step", ["intent", "attempt", "sent", "held"])
    def test_killed_while_it_is_submitted_it_waits_all_the_same(self, world: World, step: str) -> None:
        first = submit(world, "east")
        with pytest.raises(Killed):
            world.jobs(killed_at(step)).submit(a_job(depends_on=after(first)), decision())
        assert world.settle() == []
        (second,) = [job for job in world.ledger.jobs() if job.site == "west"]
        assert (second.phase, world.cluster.started) == (Phase.HELD, [])
        ended(world, first)
        world.settle()
        assert world.cluster.started == [second.job_id]

    def test_killed_before_it_was_sent_and_hopeless_by_then_it_is_never_sent(self, world: World) -> None:
        first = submit(world, "east")
        with pytest.raises(Killed):
            world.jobs(killed_at("intent")).submit(a_job(depends_on=after(first)), decision())
        ended(world, first, JobState.FAILED)
        assert world.settle() == []
        (second,) = [job for job in world.ledger.jobs() if job.site == "west"]
        assert second.phase is Phase.REFUSED
        assert "can never be met" in second.reason
        assert world.cluster.submissions == []

    def test_cancelled_by_its_user_it_is_cancelled_at_once(self, world: World) -> None:
        second = submit(world, depends_on=after(submit(world, "east")))
        assert world.jobs().cancel(second).state is JobState.CANCELLED
        assert (world.cluster.alive(), world.cluster.started) == ([], [])

    def test_tasks_cannot_correspond(self, world: World) -> None:
        first = submit(world, "east")
        with pytest.raises(InputError, match=rf"within one site, 'west'; job {first.key} is at 'east'"):
            submit(world, depends_on=after(first, After.CORRESPONDING))

    def test_at_a_site_that_is_no_longer_described(self, world: World) -> None:
        first = submit(world, "east")
        second = submit(world, depends_on=after(first))
        without = {name: site for name, site in KNOWN.sites.items() if name != "east"}
        Jobs(world.ledger, without, world.connect).watch()
        assert world.settle() == []
        assert world.ledger.get(second.key).phase is Phase.HELD


@pytest.mark.parametrize(
    ("kind", "state", "met"),
    [
        (After.OK, JobState.COMPLETED, True),
        (After.OK, JobState.FAILED, False),
        (After.OK, JobState.LOST, False),
        (After.CORRESPONDING, JobState.COMPLETED, True),
        (After.CORRESPONDING, JobState.FAILED, False),
        (After.NOT_OK, JobState.COMPLETED, False),
        (After.NOT_OK, JobState.FAILED, True),
        (After.ANY, JobState.CANCELLED, True),
        (After.START, JobState.CANCELLED, True),
    ],
)
def test_what_meets_a_dependency(world: World, kind: After, state: JobState, met: bool) -> None:
    made = submit(world)
    assert is_met(Dependency(kind, made.key), made) is None
    assert is_met(Dependency(kind, made.key), ended(world, made, state)) is met
