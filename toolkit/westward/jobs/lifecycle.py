"""Where a job is submitted, adopted, released, cancelled and settled.

A job starts exactly once. Its intent is in the ledger before anything is sent. It is submitted *held*, under a name that carries our
key; only the id that the ledger recorded is ever released. Whoever finds an unfinished submission (ours after an error, or one of a
process that was killed) looks for the key at the cluster: what is there is adopted; if nothing is there the job is submitted again, and
should the first request arrive late after all, it is a held twin, found by its key and cancelled. A job declared idempotent skips the
hold: two requests at once may then start it twice, which does it no harm.

Many jobs go together: one transaction and one call to their site for each step, whatever their number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from westward.errors import NotFound, SiteRefused, StorageError, WestwardError
from westward.jobs import dependencies, steps, watching
from westward.jobs.allowance import findings
from westward.jobs.asking import asked
from westward.jobs.budgeting import Budgeting
from westward.jobs.provenance import origin
from westward.jobs.side_by_side import side_by_side
from westward.jobs.steps import Steps, parts
from westward.model.decision import Decision
from westward.model.effort import Planned
from westward.model.job import Attempt, JobSpec, new_key
from westward.model.limits import Verdict
from westward.model.site import Site
from westward.slurm.client import InDoubt, SlurmClient, open_client
from westward.slurm.faults import beyond_limits
from westward.slurm.script import render
from westward.store.ledger import UNSETTLED, Intent, Job, Ledger, Phase

Step = Callable[[str, Job], None]


class Jobs:
    """The jobs of a ledger at the sites of a catalogue.

    Args:
        on_step: called as ("intent" | "attempt" | "sent" | "held" | "released", job) right after each of these has happened.
        where: tells where what is submitted comes from, for the record.
    """

    def __init__(
        self,
        ledger: Ledger,
        sites: Mapping[str, Site],
        connect: Callable[[Site], SlurmClient] = open_client,
        on_step: Step | None = None,
        where: Callable[[], Mapping[str, Any]] = origin,
    ) -> None:
        self._ledger = ledger
        self._sites = sites
        self._connect = connect
        self._clients: dict[str, SlurmClient] = {}
        self._connecting = threading.Lock()
        self._on_step = on_step
        self._steps = Steps(ledger, self._client, self._tell)
        self._told: tuple[Decision, dict[str, Any]] | None = None
        self._where = where
        self._origin: Mapping[str, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to all sites."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    # --- submitting --------------------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, decision: Decision) -> Job:
        """Submit a job at the chosen site, and let it start.

        Raises:
            OverBudget: it would spend more than it, or its project, may; nothing is written down.
            SiteRefused: the cluster refuses it; nothing is left there.
            Unreachable: the site could not be asked; nothing was sent, and nothing will be.
            InDoubt: no answer came. The job is in the ledger and is settled by the next command.
            WestwardError: of any kind, whose message says that the job is at its site, held: the next command lets it go.
        """
        ((job, error),) = self._submit([(spec, decision)])
        if isinstance(error, SiteRefused) and beyond_limits(str(error)):
            raise self._explained(error, spec, decision) from error
        if error is not None:
            raise error
        return job

    def _explained(self, error: SiteRefused, spec: JobSpec, decision: Decision) -> SiteRefused:
        """The same refusal with the limit that it is about, which Slurm's own words leave open."""
        offer = decision.chosen
        assert offer is not None
        try:
            limits = self._client(offer.site).limits()
        except WestwardError:
            return SiteRefused(
                str(error), "'westward plan' with the same words says which limit it is, once its site tells"
            )
        job = asked(spec, offer, self._sites[offer.site], limits)
        refused = [each for each in findings(job, limits) if each.verdict is Verdict.REFUSED]
        if not refused:
            return SiteRefused(str(error), "'westward plan' with the same words shows the limits there")
        return SiteRefused(f"{error}: {'; '.join(map(str, refused))}", refused[0].remedy)

    def submit_many(self, wanted: Sequence[tuple[JobSpec, Decision]]) -> list[Job | WestwardError]:
        """Submit jobs, each at the site that was chosen for it; for each what became of it, in their order, as `submit` would say it.

        Raises:
            InputError: one of them cannot be rendered, or can never start; then none was submitted.
        """
        return [_answer(pair) for pair in self._submit(wanted)]

    def submit_recorded(
        self, wanted: Sequence[tuple[JobSpec, Decision]], record: Callable[[Sequence[Intent]], Sequence[Job]]
    ) -> list[Job | WestwardError]:
        """As `submit_many`, where `record` writes the intents into the ledger, together with what belongs to them, and gives their jobs.

        Raises:
            InputError: as `submit_many`.
            WestwardError: what `record` raises; then none was submitted.
        """
        return [_answer(pair) for pair in self._carry_on(record(self._intents(wanted, self._affordable(wanted))))]

    def _submit(self, wanted: Sequence[tuple[JobSpec, Decision]]) -> list[tuple[Job, WestwardError | None]]:
        return self._carry_on(self._ledger.add(self._intents(wanted, self._affordable(wanted))))

    def _affordable(self, wanted: Sequence[tuple[JobSpec, Decision]]) -> Budgeting:
        """A beginning to count what a submission spends.

        Raises:
            OverBudget: all of it would be too much.
        """
        Budgeting(self._ledger).check(wanted)
        return Budgeting(self._ledger)

    def _intents(self, wanted: Sequence[tuple[JobSpec, Decision]], spending: Budgeting) -> list[Intent]:
        named = {dependency.key for spec, _ in wanted for dependency in spec.depends_on}
        if named:  # as they are now: a cluster refuses to wait for a job that it has already forgotten
            self.refresh([self._ledger.find(key) for key in sorted(named)])
        return [self._intent(spec, decision, spending.plan(spec, decision)) for spec, decision in wanted]

    def _carry_on(self, jobs: Sequence[Job]) -> list[tuple[Job, WestwardError | None]]:
        """From the intent on, as far as it goes; what went wrong with a job beside it."""
        keys = [job.key for job in jobs]
        try:
            self._tell("intent", jobs)
            with self._ledger.keep(keys):
                failed = _joined(
                    side_by_side(lambda item: self._steps.advance_site(item[0], parts(item[1])), _by_site(jobs).items())
                )
                # the user sees a failure and may submit again: what did not reach the cluster must never go there
                self._ledger.refused(self._never_sent(failed))
            return [(job, _told(job, failed.get(job.key))) for job in self._ledger.again(jobs)]
        except StorageError as error:
            which = f"job {keys[0]}" if len(keys) == 1 else f"{len(keys)} jobs ({keys[0]} to {keys[-1]})"
            raise StorageError(
                f"{error}; {which} may be on the way",
                "make room for the ledger, then 'westward jobs' takes up what was recorded; do not submit again before",
            ) from error

    def _never_sent(self, failed: Mapping[str, WestwardError]) -> dict[str, str]:
        if not failed:
            return {}
        phases = {job.key: job.phase for job in self._ledger.get_many(list(failed))}
        return {
            key: str(error)
            for key, error in failed.items()
            if phases[key] is Phase.INTENT or (phases[key] is Phase.SUBMITTING and not isinstance(error, InDoubt))
        }

    def _intent(self, spec: JobSpec, decision: Decision, planned: Planned | None = None) -> Intent:
        offer = decision.chosen
        assert offer is not None, "the caller shows the rejections"
        key = new_key()
        native, waits_for = dependencies.told(self._ledger, spec.depends_on, offer.site)
        submission = render(spec, offer, self._sites[offer.site], key, native)
        if waits_for:
            submission = replace(submission, hold=True)
        decided = self._facts(decision)
        return Intent(
            key, spec.name, spec.template, offer.site, submission, spec.outputs, decided, waits_for,
            planned=planned, config=spec.config, origin=self._from_where(),
        )  # fmt: skip

    def _from_where(self) -> Mapping[str, Any]:
        """Where all that is submitted here comes from, as of the first of it."""
        if self._origin is None:
            self._origin = self._where()
        return self._origin

    def _facts(self, decision: Decision) -> dict[str, Any]:
        """The decision as the ledger keeps it. Many jobs may rest on one."""
        known = self._told
        if known is None or known[0] is not decision:
            known = decision, {**asdict(decision), "decided_at": decision.decided_at.isoformat()}
            self._told = known
        return known[1]

    # --- settling ----------------------------------------------------------------------------------------------------

    def settle(self, thorough: bool = True) -> list[tuple[Job, WestwardError]]:
        """Take every unfinished submission a step further; those that cannot be decided now, with the reason.

        Late twins of jobs that needed several requests are cancelled. `thorough` searches for them at once; otherwise at growing
        intervals, as one does who comes by every few seconds.
        """
        undecided = _joined(
            side_by_side(
                lambda item: self._steps.advance_site(item[0], self._claimed(item[1]), again=True),
                self._ledger.unsettled().items(),
            )
        )
        wishes = self._ledger.cancel_wishes()
        twins = self._ledger.perhaps_twins(steps.TWIN_WINDOW, thorough)
        undecided |= _joined(side_by_side(lambda item: self._steps.cancel_wished(*item), wishes.items()))
        undecided |= _joined(side_by_side(lambda item: self._steps.cancel_twins(*item), twins.items()))
        told = self._ledger.get_many(list(undecided))
        self._ledger.doubtful({job.key: str(undecided[job.key]) for job in told if job.phase in UNSETTLED})
        # a refusal is recorded, and shown with the job
        return [(job, undecided[job.key]) for job in told if job.phase is not Phase.REFUSED]

    def cancel(self, job: Job) -> Job:
        """End a job, wherever it is on its way. Repeatable.

        Raises:
            WestwardError: that could not be done now. The wish is recorded: the next command, or the agent, carries it out.
        """
        self._ledger.cancel_wanted(job.key)
        failed = self._steps.advance_site(job.site, self._claimed([job.key]), again=True)
        job = self._ledger.get(job.key)
        if job.phase is Phase.RELEASED:
            failed |= self._steps.cancel_wished(job.site, [job.key])
        if job.key in failed:
            error = failed[job.key]
            raise type(error)(f"{error}; job {job.key} is cancelled when that is over", "westward jobs") from error
        if job.attempts > 1:
            self._steps.cancel_twins(job.site, [(job.key, job.submission.name, job.job_id)])
        return self.refresh([job])[0]

    def _claimed(self, keys: Sequence[str]) -> Iterator[list[Job]]:
        """These jobs, a part at a time, each part ours to move on until the next one is taken."""
        for part in parts(keys):
            with self._ledger.claim(part) as mine:
                yield self._ledger.get_many(mine)

    # --- watching ----------------------------------------------------------------------------------------------------

    def refresh(self, jobs: Iterable[Job]) -> list[Job]:
        """Ask each site once about these jobs, and give them back as they are now.

        A site that does not answer leaves its jobs UNKNOWN, with the reason; they keep the time they were last seen.
        """
        keys = [job.key for job in jobs]
        watching.tick(self._ledger, self._client, keys)
        return self._ledger.get_many(keys)

    def watch(self) -> int:
        """Ask each site once about all its jobs; how many are otherwise than before."""
        return watching.tick(self._ledger, self._client)

    def attempts(self, job: Job) -> list[Attempt]:
        """What its site's accounting has of a job, oldest first: each attempt and each task of an array on its own.

        Raises:
            NotFound: its site is no longer described here.
            Unreachable: the accounting does not answer.
        """
        return self._client(job.site).history(job.created_at - watching.CLOCKS_DIFFER, [job.submission.name])

    def _client(self, site: str) -> SlurmClient:
        if site not in self._sites:
            raise NotFound(
                f"site '{site}' is no longer described here", "put its description back, or bring its lab up again"
            )
        with self._connecting:
            if site not in self._clients:
                self._clients[site] = self._connect(self._sites[site])
            return self._clients[site]

    def _tell(self, step: str, jobs: Iterable[Job]) -> None:
        if self._on_step is not None:
            for job in jobs:
                self._on_step(step, job)


def _told(job: Job, error: WestwardError | None) -> WestwardError | None:
    """What its user is told of a submission that went wrong: where the job is now, and that it need not be submitted again."""
    if error is None or job.phase is Phase.REFUSED:
        return error
    if job.phase is Phase.SUBMITTING:
        where = f"job {job.key} may or may not have been accepted"
        then = "it is recorded, cannot start twice, and is settled by the next command: westward jobs"
    else:
        where = f"job {job.key} is at site '{job.site}', held"
        then = "do not submit it again: the next command lets it go, or cancels it: westward jobs"
    told = type(error)(f"{error}; {where}", then)
    told.__cause__ = error
    return told


def _answer(told: tuple[Job, WestwardError | None]) -> Job | WestwardError:
    job, error = told
    return job if error is None else error


def _joined(answers: Iterable[Mapping[str, WestwardError]]) -> dict[str, WestwardError]:
    return {key: error for answer in answers for key, error in answer.items()}


def _by_site(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.site, []).append(job)
    return found
