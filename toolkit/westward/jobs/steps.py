"""The steps that take jobs from wherever the ledger says they got to released, at one site: look, adopt, send, let go; and twins.

Each step is recorded before the next is taken, and fenced by the claim that the caller holds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from westward.errors import NotFound, SiteRefused, Unreachable, WestwardError
from westward.jobs import dependencies
from westward.model.job import JobState, JobStatus
from westward.slurm.client import InDoubt, Known, SlurmClient, TakenInPart
from westward.store.ledger import UNSETTLED, Job, Ledger, Phase

# how long after its last submit request a job that needed several is searched for late twins: longer than any gateway holds a request
TWIN_WINDOW = timedelta(minutes=30)
# jobs whose requests go out together: a killed process leaves at most so many in doubt, and each step is one commit for all of them
TOGETHER = 128
# the n-th look for a job in doubt that its cluster does not have comes this long after the last request, doubled each time, with jitter
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 300.0
MOST_ATTEMPTS = 10

T = TypeVar("T")


class _Silent(Exception):
    """A site does not answer, with its error."""

    def __init__(self, error: WestwardError) -> None:
        super().__init__(str(error))
        self.error = error


class Steps:
    """The steps of a ledger's jobs.

    Args:
        client: the open client of a site.
        tell: called as ("attempt" | "sent" | "held" | "released", jobs) right after each of these has happened.
    """

    def __init__(
        self, ledger: Ledger, client: Callable[[str], SlurmClient], tell: Callable[[str, Iterable[Job]], None]
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._tell = tell

    def advance_site(self, site: str, parts: Iterable[Sequence[Job]], again: bool = False) -> dict[str, WestwardError]:
        """`_advance` for each part of a site's jobs; once it does not answer, it is not asked for the next part."""
        failed: dict[str, WestwardError] = {}
        silent: WestwardError | None = None
        for part in parts:
            if silent is None:
                try:
                    answers = self._advance(site, part, again)
                except _Silent as said:
                    silent = said.error
                else:
                    failed |= answers
                    unanswered = [error for error in answers.values() if isinstance(error, Unreachable)]
                    if not again and len(unanswered) == len(part) > 0:
                        silent = Unreachable(str(unanswered[0]), unanswered[0].next_step)
                    continue
            failed |= {job.key: silent for job in part if job.phase in UNSETTLED}
        return failed

    def _advance(self, site: str, jobs: Sequence[Job], again: bool = False) -> dict[str, WestwardError]:
        """From wherever the ledger says the jobs got, to released (or cancelled); what went wrong, by key. The caller holds the claims.

        Jobs that somebody else brought there between our look and our claim are left alone. `again`: somebody tried before, so what
        its cluster does not have is not sent again before its time.

        Raises:
            _Silent: nothing was done, since the site does not answer.
        """
        jobs = [job for job in jobs if job.phase in UNSETTLED]
        failed: dict[str, WestwardError] = {}
        met = dependencies.met(self._ledger, jobs)
        never_sent = {
            job.key: "cancelled before it was submitted" if job.cancelled else f"not submitted: {met[job.key]}"
            for job in jobs
            if job.phase is Phase.INTENT and (job.cancelled or isinstance(met[job.key], str))
        }
        self._ledger.refused(never_sent)
        waiting = {job.key for job in jobs if job.phase is Phase.HELD and met[job.key] is None and not job.cancelled}
        jobs = [job for job in jobs if job.key not in never_sent.keys() | waiting]
        if not jobs:
            return failed
        try:
            client = self._client(site)
            found, failed = self._look(client, jobs)
        except WestwardError as error:
            raise _Silent(error) from error
        jobs = [job for job in jobs if job.key not in failed]
        jobs = self._adopt(self._still_there(jobs, found), found)
        sending = [job for job in jobs if job.phase is not Phase.HELD]
        if again:
            sending = self._due(sending, failed)
        held = [job for job in jobs if job.phase is Phase.HELD] + self._send(client, sending, failed)
        failed |= self._let_go(client, held)
        return failed

    def _look(self, client: SlurmClient, jobs: Sequence[Job]) -> tuple[dict[str, list[int]], dict[str, WestwardError]]:
        """The ids under which the cluster has these jobs, by name, oldest first; and those of which it cannot tell now.

        Where the accounting does not answer, the queue is enough for those whose id is recorded. Of those that were never sent nothing is
        asked.
        """
        sent = [job for job in jobs if job.phase is not Phase.INTENT]
        if not sent:
            return {}, {}
        try:
            by_name = client.find([job.submission.name for job in sent])
            return {name: [job.job_id for job in there] for name, there in by_name.items()}, {}
        except Unreachable as error:
            by_id = {job.job_id: job for job in sent if job.phase is Phase.HELD and job.job_id is not None}
            if not by_id:
                raise
            there, unsure = self._named_so(client, by_id)
            found = {job.submission.name: [job_id] if job_id in there else [] for job_id, job in by_id.items()}
            return found, {
                **{job.key: error for job in sent if job.phase is Phase.SUBMITTING},
                **{by_id[job_id].key: Unreachable(why) for job_id, why in unsure.items()},
            }

    def _named_so(self, client: SlurmClient, by_id: Mapping[int, Job]) -> tuple[dict[int, JobStatus], dict[int, str]]:
        """Those that the cluster has under their id *and* name; and those of which it cannot tell now, with the reason.

        A cluster that was set up anew counts its ids from one again, so an id alone proves nothing.
        """
        poll = client.poll(dict.fromkeys(by_id, Known(JobState.UNKNOWN)))
        there = {
            job_id: status for job_id, status in poll.changed.items() if status.name == by_id[job_id].submission.name
        }
        unsure = dict.fromkeys(by_id.keys() - poll.changed.keys() - poll.gone, "its site did not tell of it this time")
        return there, unsure | dict(poll.unheard)

    def _still_there(self, jobs: Sequence[Job], found: Mapping[str, list[int]]) -> list[Job]:
        """Those whose recorded id is still ours. The others were let go unrecorded and are over, or are no more: watching finds out."""
        gone = [job for job in jobs if job.phase is Phase.HELD and job.job_id not in found[job.submission.name]]
        self._ledger.gone({job.key: f"its site no longer has it as job {job.job_id}" for job in gone})
        return [job for job in jobs if job not in gone]

    def _adopt(self, jobs: Sequence[Job], found: Mapping[str, list[int]]) -> list[Job]:
        """Take the oldest job of each name as ours, if there is one; no one but us can have released it."""
        ids = {
            job.key: found[job.submission.name][0]
            for job in jobs
            if job.phase is Phase.SUBMITTING and found.get(job.submission.name)
        }
        adopted = self._ledger.handles(ids)
        return [
            replace(job, job_id=ids[job.key], phase=Phase.HELD) if job.key in adopted else job
            for job in jobs
            if job.key not in ids or job.key in adopted
        ]

    def _due(self, jobs: Sequence[Job], failed: dict[str, WestwardError]) -> list[Job]:
        """Of jobs that their cluster does not have, those to be sent (again) now; the others wait, which goes into `failed`."""
        now, due, given_up = datetime.now(UTC), [], []
        for job in jobs:
            # nothing of a request that could not leave is still on its way
            since = (now - job.attempted_at).total_seconds() if job.attempted_at and job.attempts else None
            if job.cancelled:
                if since is None or since >= TWIN_WINDOW.total_seconds():
                    given_up.append(job.key)
                else:
                    failed[job.key] = InDoubt(
                        f"job {job.key} is not at site '{job.site}', but its submission may still arrive; it will be cancelled then",
                        "run 'westward jobs' again later",
                    )
            elif job.attempts >= MOST_ATTEMPTS:
                failed[job.key] = InDoubt(
                    f"job {job.key}: {job.attempts} submissions to site '{job.site}' were not answered, and it has none of them",
                    f"find out what is wrong there, then: westward cancel {job.key}, and submit it again",
                )
            elif since is not None and job.attempted_at and since < (wait_s := retry_after_s(job)):
                again_at = (job.attempted_at + timedelta(seconds=wait_s)).astimezone()
                failed[job.key] = InDoubt(
                    f"job {job.key} is not at site '{job.site}' (yet); it is submitted again at {again_at:%H:%M:%S}",
                    "'westward jobs' shows how it went on",
                )
            else:
                due.append(job)
        self._ledger.refused(dict.fromkeys(given_up, "cancelled before it was submitted"))
        return due

    def _send(self, client: SlurmClient, jobs: Sequence[Job], failed: dict[str, WestwardError]) -> list[Job]:
        """One submit request each, recorded before they leave and after they are answered; the jobs that have a handle now."""
        if not jobs:
            return []
        ours = self._ledger.attempt([job.key for job in jobs])
        jobs = [job for job in jobs if job.key in ours]
        self._tell("attempt", jobs)
        answers = client.submit([job.submission for job in jobs])
        ids: dict[str, int] = {}
        refused: dict[str, str] = {}
        not_sent: list[str] = []
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, int):
                ids[job.key] = answer
            else:
                failed[job.key] = answer
                if isinstance(answer, SiteRefused):
                    refused[job.key] = str(answer)
                elif isinstance(answer, TakenInPart):
                    self._ledger.cancel_wanted(job.key)
                elif not isinstance(answer, InDoubt):
                    not_sent.append(job.key)
        self._tell("sent", [job for job in jobs if job.key in ids])
        self._ledger.refused(refused)
        self._ledger.not_sent(not_sent)
        ours = self._ledger.handles(ids)
        handled = [replace(job, job_id=ids[job.key], phase=Phase.HELD) for job in jobs if job.key in ours]
        self._tell("held", handled)
        return handled

    def _let_go(self, client: SlurmClient, held: Sequence[Job]) -> dict[str, WestwardError]:
        """Release what is held and may start, and cancel what is not wanted any more."""
        met = dependencies.met(self._ledger, held)
        wishes = self._ledger.mine([job.key for job in held])
        held = [job for job in held if job.key in wishes]
        unwanted = [job for job in held if wishes[job.key]]
        hopeless = [job for job in held if not wishes[job.key] and isinstance(met[job.key], str)]
        wanted = [job for job in held if not wishes[job.key] and met[job.key] is True]
        failed = self._each(client.release, [job for job in wanted if job.submission.hold])
        done = [job for job in wanted if job.key not in failed]
        released = self._ledger.released([job.key for job in done])
        unwanted += [job for job in done if job.key not in released]  # wished for just now
        failed |= self._each(client.cancel, [*unwanted, *hopeless])
        self._ledger.released([job.key for job in unwanted if job.key not in failed], wanted=False)
        self._ledger.called_off({job.key: str(met[job.key]) for job in hopeless if job.key not in failed})
        self._tell("released", [job for job in (*wanted, *unwanted) if job.key not in failed])
        return failed

    def _each(
        self, call: Callable[[Sequence[int]], dict[int, WestwardError]], jobs: Sequence[Job]
    ) -> dict[str, WestwardError]:
        keys = {job.job_id: job.key for job in jobs if job.job_id is not None}
        if not keys:
            return {}
        try:
            return {keys[job_id]: error for job_id, error in call(list(keys)).items()}
        except WestwardError as error:
            return dict.fromkeys(keys.values(), error)

    def cancel_twins(self, site: str, perhaps: Sequence[tuple[str, str, int | None]]) -> dict[str, WestwardError]:
        """Cancel every other job of their names."""
        keep = {name: job_id for _, name, job_id in perhaps}
        try:
            client = self._client(site)
            twins = [
                job.job_id
                for name, jobs in client.find(list(keep)).items()
                for job in jobs
                if job.job_id != keep[name] and not job.state.final
            ]
            for error in (client.cancel(twins) if twins else {}).values():
                raise error
        except NotFound:  # its description is gone: nothing can be searched, and nobody is in doubt
            return {}
        except WestwardError as error:
            return dict.fromkeys([key for key, _, _ in perhaps], error)
        self._ledger.searched_for_twins([key for key, _, _ in perhaps])
        return {}

    def cancel_wished(self, site: str, keys: Sequence[str]) -> dict[str, WestwardError]:
        """Carry out the wish to cancel jobs that were let go. Those that are not in the queue under their id and name are over."""
        by_id = {job.job_id: job for job in self._ledger.get_many(keys) if job.job_id is not None}
        try:
            client = self._client(site)
            there, unsure = self._named_so(client, by_id)
        except WestwardError as error:
            return dict.fromkeys(keys, error)
        alive = [by_id[job_id] for job_id, status in there.items() if not status.state.final]
        failed: dict[str, WestwardError] = {by_id[job_id].key: Unreachable(why) for job_id, why in unsure.items()}
        failed |= self._each(client.cancel, alive)
        self._ledger.cancel_sent([key for key in keys if key not in failed])
        return failed


def retry_after_s(job: Job) -> float:
    """Seconds after the last request: doubled with every attempt, and jitter of the job's own, so that many do not come back at once."""
    jitter = random.Random(f"{job.key}{job.attempts}").uniform(0.5, 1.0)
    return jitter * min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** (job.attempts - 1))


def parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + TOGETHER] for start in range(0, len(things), TOGETHER))
