"""Where a job is submitted, adopted, watched, cancelled and collected.

A job starts exactly once. Its intent is in the ledger before anything is sent. It is submitted *held*, under a name that carries our
key; only the id that the ledger recorded is ever released. Whoever finds an unfinished submission (ours after an error, or one of a
process that was killed) looks for the key at the cluster: what is there is adopted; if nothing is there the job is submitted again, and
should the first request arrive late after all, it is a held twin, found by its key and cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from westward.errors import NotFound, SiteRefused, Unreachable, WestwardError
from westward.model.decision import Decision
from westward.model.job import JobSpec, JobState, new_key
from westward.model.site import Site
from westward.slurm.client import InDoubt, SlurmClient, open_client
from westward.slurm.script import render
from westward.store.ledger import UNSETTLED, Job, Ledger, Phase

# how long after its last submit request a job that needed several is searched for late twins: longer than any gateway holds a request
TWIN_WINDOW = timedelta(minutes=30)
# a job that neither queue nor accounting knows is LOST only after this long, since slurmctld may still owe slurmdbd its record
LOST_AFTER = timedelta(minutes=2)

Step = Callable[[str, Job], None]


def _silent(_step: str, _job: Job) -> None:
    """No one watches the steps."""


class Jobs:
    """The jobs of a ledger at the sites of a catalogue.

    Args:
        on_step: called as ("intent" | "attempt" | "sent" | "held" | "released", job) right after each of these has happened.
    """

    def __init__(
        self,
        ledger: Ledger,
        sites: Mapping[str, Site],
        connect: Callable[[Site], SlurmClient] = open_client,
        on_step: Step = _silent,
    ) -> None:
        self._ledger = ledger
        self._sites = sites
        self._connect = connect
        self._clients: dict[str, SlurmClient] = {}
        self._on_step = on_step

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()

    def submit(self, spec: JobSpec, decision: Decision) -> Job:
        """Submit a job at the chosen site, and let it start.

        Raises:
            SiteRefused: the cluster refuses it; nothing is left there.
            InDoubt: no answer came. The job is in the ledger and is settled by the next command.
            Unreachable: the site could not be asked; nothing was sent, and nothing will be.
        """
        offer = decision.chosen
        assert offer is not None, "the caller shows the rejections"
        key = new_key()
        submission = render(spec, offer, self._sites[offer.site], key)
        told = {**asdict(decision), "decided_at": decision.decided_at.isoformat()}
        job = self._ledger.add(key, spec.name, spec.template, offer.site, submission, spec.outputs, told)
        self._on_step("intent", job)
        with self._ledger.claim(key):
            try:
                self._advance(job)
            except InDoubt as error:
                raise InDoubt(
                    f"{error}; job {key} may or may not have been accepted",
                    "it is recorded, cannot start twice, and is settled by the next command: westward jobs",
                ) from error
            except WestwardError as error:
                # the user sees a failure and may submit again: what did not reach the cluster must never go there
                phase = self._ledger.get(key).phase
                if phase is Phase.INTENT or (phase is Phase.SUBMITTING and isinstance(error, Unreachable)):
                    self._ledger.refused(key, str(error))
                raise
        return self._ledger.get(key)

    def settle(self) -> list[tuple[Job, WestwardError]]:
        """Take every unfinished submission a step further; those that cannot be decided now, with the reason.

        Late twins of jobs that needed several requests are cancelled.
        """
        undecided = []
        for job in self._ledger.jobs(phases=UNSETTLED):
            with self._ledger.claim(job.key) as mine:
                if not mine:
                    continue
                try:
                    self._advance(self._ledger.get(job.key))
                except WestwardError as error:
                    if self._ledger.get(job.key).phase is not Phase.REFUSED:  # that is recorded, and shown with the job
                        undecided.append((job, error))
        for job in self._ledger.perhaps_twins(TWIN_WINDOW):
            try:
                self._cancel_named(job, keep=job.job_id)
                self._ledger.searched_for_twins(job.key)
            except WestwardError as error:
                undecided.append((job, error))
        return undecided

    def refresh(self, jobs: Iterable[Job]) -> list[Job]:
        """Ask each site once about its jobs, and give them back as they are now.

        A site that does not answer leaves its jobs UNKNOWN, with the reason; they keep the time they were last seen.
        """
        jobs = list(jobs)
        by_site: dict[str, list[Job]] = {}
        for job in jobs:
            if job.phase is Phase.RELEASED:
                by_site.setdefault(job.site, []).append(job)
        for site, here in by_site.items():
            try:
                self._poll(site, here)
            except WestwardError as error:
                for job in here:
                    self._ledger.unseen(job.key, JobState.UNKNOWN, str(error))
        return [self._ledger.get(job.key) for job in jobs]

    def cancel(self, job: Job) -> Job:
        """End a job, wherever it is on its way. Repeatable."""
        self._ledger.cancel_wanted(job.key)
        with self._ledger.claim(job.key) as mine:
            if mine:
                self._advance(self._ledger.get(job.key))
        job = self._ledger.get(job.key)
        if job.phase is Phase.RELEASED:
            self._cancel_named(job)
        return self.refresh([self._ledger.get(job.key)])[0]

    def _advance(self, job: Job) -> None:
        """From wherever the ledger says the job got, to released (or cancelled). The caller holds the claim.

        A job that somebody else brought there between our look and our claim is left alone.
        """
        if job.phase not in UNSETTLED:
            return
        if job.phase is Phase.INTENT and job.cancelled:
            self._give_up(job)
            return
        client = self._client(job.site)
        if job.phase is Phase.HELD and not self._still_there(job, client):
            self._ledger.unseen(job.key, JobState.LOST, f"its site no longer has it as job {job.job_id}")
            return
        if job.phase is Phase.SUBMITTING:
            job = self._adopt(job, client)
        if job.cancelled and job.phase is not Phase.HELD:
            self._give_up(job)
            return
        if job.phase is not Phase.HELD:
            job = self._send(job, client)
        assert job.job_id is not None, "HELD is written together with the id"
        if job.cancelled:
            client.cancel(job.job_id)
        else:
            client.release(job.job_id)
        self._ledger.released(job.key)
        released = self._ledger.get(job.key)
        if released.cancelled and not job.cancelled:  # wished for while we held the claim
            client.cancel(job.job_id)
        self._on_step("released", released)

    def _send(self, job: Job, client: SlurmClient) -> Job:
        """One submit request, recorded before it leaves and after it is answered."""
        self._ledger.attempt(job.key)
        self._on_step("attempt", job)
        try:
            job_id = client.submit_held(job.submission)
        except SiteRefused as error:
            self._ledger.refused(job.key, str(error))
            raise
        self._on_step("sent", job)
        self._ledger.handle(job.key, job_id)
        job = self._ledger.get(job.key)
        self._on_step("held", job)
        return job

    def _adopt(self, job: Job, client: SlurmClient) -> Job:
        """Take the oldest job of our name as ours, if there is one; no one but us can have released it."""
        found = client.find(job.submission.name)
        if found:
            self._ledger.handle(job.key, found[0].job_id)
        return self._ledger.get(job.key)

    def _still_there(self, job: Job, client: SlurmClient) -> bool:
        """Whether the recorded id is still our job: a cluster that was set up anew counts its ids from one again."""
        return any(found.job_id == job.job_id for found in client.find(job.submission.name))

    def _give_up(self, job: Job) -> None:
        """Cancelled, and not at the cluster: final, unless a request of ours may still be on its way there."""
        if job.attempted_at is not None and datetime.now(UTC) - job.attempted_at < TWIN_WINDOW:
            raise InDoubt(
                f"job {job.key} is not at site '{job.site}', but its submission may still arrive; it will be cancelled then",
                "run 'westward jobs' again later",
            )
        self._ledger.refused(job.key, "cancelled before it was submitted")

    def _cancel_named(self, job: Job, keep: int | None = None) -> None:
        """Cancel every job of our name but `keep`. By the name, since an id may belong to somebody else by now."""
        client = self._client(job.site)
        for found in client.find(job.submission.name):
            if found.job_id != keep and not found.state.final:
                client.cancel(found.job_id)

    def _poll(self, site: str, jobs: list[Job]) -> None:
        by_id: dict[int, Job] = {}
        for job in sorted(jobs, key=lambda job: job.created_at, reverse=True):
            if job.job_id is None:
                continue
            if by_id.setdefault(job.job_id, job) is not job:
                self._missing(job, f"its id {job.job_id} now belongs to job {by_id[job.job_id].key}")
        poll = self._client(site).poll({job_id: job.state for job_id, job in by_id.items()})
        self._ledger.unchanged(
            [job.key for job_id, job in by_id.items() if job_id not in poll.changed and job_id not in poll.gone]
        )
        for job_id, status in poll.changed.items():
            if status.name == by_id[job_id].submission.name:
                self._ledger.seen(by_id[job_id].key, status)
            else:
                self._missing(by_id[job_id], f"its id {job_id} now belongs to another job")
        for job_id in poll.gone:
            self._missing(by_id[job_id], "neither queue nor accounting of its site knows it")

    def _missing(self, job: Job, why: str) -> None:
        last = job.seen_at or job.created_at
        late = datetime.now(UTC) - last > LOST_AFTER
        self._ledger.unseen(job.key, JobState.LOST if late else JobState.UNKNOWN, why)

    def _client(self, site: str) -> SlurmClient:
        if site not in self._sites:
            raise NotFound(
                f"site '{site}' is no longer described here", "put its description back, or bring its lab up again"
            )
        if site not in self._clients:
            self._clients[site] = self._connect(self._sites[site])
        return self._clients[site]
