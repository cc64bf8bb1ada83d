"""Where a job is submitted, adopted, released, cancelled and settled.

A job starts exactly once. Its intent is in the ledger before anything is sent. It is submitted *held*, under a name that carries our
key; only the id that the ledger recorded is ever released. Whoever finds an unfinished submission (ours after an error, or one of a
process that was killed) looks for the key at the cluster: what is there is adopted; if nothing is there the job is submitted again, and
should the first request arrive late after all, it is a held twin, found by its key and cancelled. A job declared idempotent skips the
hold: two requests at once may then start it twice, which does it no harm.

Many jobs go together: one transaction and one call to their site for each step, whatever their number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from westward.errors import NotFound, SiteRefused, StorageError, Unreachable, WestwardError
from westward.jobs import dependencies, watching
from westward.jobs.side_by_side import side_by_side
from westward.model.decision import Decision
from westward.model.job import JobSpec, JobState, JobStatus, new_key
from westward.model.site import Site
from westward.slurm.client import InDoubt, Known, SlurmClient, open_client
from westward.slurm.script import render
from westward.store.ledger import UNSETTLED, Intent, Job, Ledger, Phase

# how long after its last submit request a job that needed several is searched for late twins: longer than any gateway holds a request
TWIN_WINDOW = timedelta(minutes=30)
# jobs whose requests go out together: a killed process leaves at most so many in doubt, and each step is one commit for all of them
TOGETHER = 128
# the n-th look for a job in doubt that its cluster does not have comes this long after the last request, doubled each time, with jitter
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 300.0
MOST_ATTEMPTS = 10

Step = Callable[[str, Job], None]
T = TypeVar("T")


class _Silent(Exception):
    """A site does not answer, with its error."""

    def __init__(self, error: WestwardError) -> None:
        super().__init__(str(error))
        self.error = error


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
        on_step: Step | None = None,
    ) -> None:
        self._ledger = ledger
        self._sites = sites
        self._connect = connect
        self._clients: dict[str, SlurmClient] = {}
        self._on_step = on_step
        self._told: tuple[Decision, dict[str, Any]] | None = None

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
            SiteRefused: the cluster refuses it; nothing is left there.
            Unreachable: the site could not be asked; nothing was sent, and nothing will be.
            InDoubt: no answer came. The job is in the ledger and is settled by the next command.
            WestwardError: of any kind, whose message says that the job is at its site, held: the next command lets it go.
        """
        ((job, error),) = self._submit([(spec, decision)])
        if error is not None:
            raise error
        return job

    def submit_many(self, wanted: Sequence[tuple[JobSpec, Decision]]) -> list[Job | WestwardError]:
        """Submit jobs, each at the site that was chosen for it; for each what became of it, in their order, as `submit` would say it.

        Raises:
            InputError: one of them cannot be rendered, or can never start; then none was submitted.
        """
        return [job if error is None else error for job, error in self._submit(wanted)]

    def submit_stream(self, wanted: Iterable[tuple[JobSpec, Decision]]) -> Iterator[Job | WestwardError]:
        """As `submit_many`, for as many jobs as come: while some are on their way to their sites, the next are taken from `wanted`.

        Use it as its only user until it is through; whoever stops early waits for those that are on their way.

        Raises:
            InputError: as `submit_many`; what was taken from `wanted` after those jobs was not submitted either.
        """
        source = iter(wanted)
        with ThreadPoolExecutor(max_workers=1) as pool:
            on_their_way: Future[list[Job | WestwardError]] | None = None
            while some := list(islice(source, TOGETHER)):
                answers = on_their_way.result() if on_their_way is not None else []
                on_their_way = pool.submit(self.submit_many, some)
                yield from answers
            if on_their_way is not None:
                yield from on_their_way.result()

    def _submit(self, wanted: Sequence[tuple[JobSpec, Decision]]) -> list[tuple[Job, WestwardError | None]]:
        named = {dependency.key for spec, _ in wanted for dependency in spec.depends_on}
        if named:  # as they are now: a cluster refuses to wait for a job that it has already forgotten
            self.refresh([self._ledger.find(key) for key in sorted(named)])
        jobs = self._ledger.add([self._intent(spec, decision) for spec, decision in wanted])
        keys = [job.key for job in jobs]
        try:
            self._tell("intent", jobs)
            with self._ledger.keep(keys):
                failed = _joined(
                    side_by_side(lambda item: self._advance_site(item[0], _parts(item[1])), _by_site(jobs).items())
                )
                # the user sees a failure and may submit again: what did not reach the cluster must never go there
                self._ledger.refused(self._never_sent(failed))
            return [(job, _told(job, failed.get(job.key))) for job in self._ledger.get_many(keys)]
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

    def _intent(self, spec: JobSpec, decision: Decision) -> Intent:
        offer = decision.chosen
        assert offer is not None, "the caller shows the rejections"
        key = new_key()
        native, waits_for = dependencies.told(self._ledger, spec.depends_on, offer.site)
        submission = render(spec, offer, self._sites[offer.site], key, native)
        if waits_for:
            submission = replace(submission, hold=True)
        if self._told is None or self._told[0] is not decision:  # many jobs may rest on one decision
            self._told = decision, {**asdict(decision), "decided_at": decision.decided_at.isoformat()}
        return Intent(key, spec.name, spec.template, offer.site, submission, spec.outputs, self._told[1], waits_for)

    # --- settling ----------------------------------------------------------------------------------------------------

    def settle(self, thorough: bool = True) -> list[tuple[Job, WestwardError]]:
        """Take every unfinished submission a step further; those that cannot be decided now, with the reason.

        Late twins of jobs that needed several requests are cancelled. `thorough` searches for them at once; otherwise at growing
        intervals, as one does who comes by every few seconds.
        """
        undecided = _joined(
            side_by_side(
                lambda item: self._advance_site(item[0], self._claimed(item[1]), again=True),
                self._ledger.unsettled().items(),
            )
        )
        wishes = self._ledger.cancel_wishes()
        twins = self._ledger.perhaps_twins(TWIN_WINDOW, thorough)
        undecided |= _joined(side_by_side(lambda item: self._cancel_wished(*item), wishes.items()))
        undecided |= _joined(side_by_side(lambda item: self._cancel_twins(*item), twins.items()))
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
        failed = self._advance_site(job.site, self._claimed([job.key]), again=True)
        job = self._ledger.get(job.key)
        if job.phase is Phase.RELEASED:
            failed |= self._cancel_wished(job.site, [job.key])
        if job.key in failed:
            error = failed[job.key]
            raise type(error)(f"{error}; job {job.key} is cancelled when that is over", "westward jobs") from error
        if job.attempts > 1:
            self._cancel_twins(job.site, [(job.key, job.submission.name, job.job_id)])
        return self.refresh([job])[0]

    def _claimed(self, keys: Sequence[str]) -> Iterator[list[Job]]:
        """These jobs, a part at a time, each part ours to move on until the next one is taken."""
        for part in _parts(keys):
            with self._ledger.claim(part) as mine:
                yield self._ledger.get_many(mine)

    def _advance_site(self, site: str, parts: Iterable[Sequence[Job]], again: bool = False) -> dict[str, WestwardError]:
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
                    if not again and len(answers) == len(part) > 0:
                        silent = next(
                            (Unreachable(str(e), e.next_step) for e in answers.values() if type(e) is not SiteRefused),
                            None,
                        )
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

        Jobs whose id is recorded are asked for by it, which the queue answers alone; of those that were never sent nothing is asked.
        """
        names = [job.submission.name for job in jobs if job.phase is Phase.SUBMITTING]
        by_id = {job.job_id: job for job in jobs if job.phase is Phase.HELD and job.job_id is not None}
        found = {name: [one.job_id for one in there] for name, there in client.find(names).items()} if names else {}
        there, unheard = self._named_so(client, by_id)
        return found | {job.submission.name: [job_id] if job_id in there else [] for job_id, job in by_id.items()}, {
            by_id[job_id].key: Unreachable(why) for job_id, why in unheard.items()
        }

    def _named_so(
        self, client: SlurmClient, by_id: Mapping[int, Job]
    ) -> tuple[dict[int, JobStatus], Mapping[int, str]]:
        """Those that the cluster has under their id *and* name; and those that have left its queue while its accounting is silent.

        A cluster that was set up anew counts its ids from one again, so an id alone proves nothing.
        """
        if not by_id:
            return {}, {}
        poll = client.poll(dict.fromkeys(by_id, Known(JobState.UNKNOWN)))
        return {
            job_id: status for job_id, status in poll.changed.items() if status.name == by_id[job_id].submission.name
        }, poll.unheard

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
            elif since is not None and job.attempted_at and since < (wait_s := _retry_after_s(job)):
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

    # --- twins -------------------------------------------------------------------------------------------------------

    def _cancel_twins(self, site: str, perhaps: Sequence[tuple[str, str, int | None]]) -> dict[str, WestwardError]:
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

    def _cancel_wished(self, site: str, keys: Sequence[str]) -> dict[str, WestwardError]:
        """Carry out the wish to cancel jobs that were let go. Those that are not in the queue under their id and name are over."""
        by_id = {job.job_id: job for job in self._ledger.get_many(keys) if job.job_id is not None}
        try:
            client = self._client(site)
            there, _ = self._named_so(client, by_id)
        except WestwardError as error:
            return dict.fromkeys(keys, error)
        alive = [by_id[job_id] for job_id, status in there.items() if not status.state.final]
        failed = self._each(client.cancel, alive)
        self._ledger.cancel_sent([key for key in keys if key not in failed])
        return failed

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

    def _client(self, site: str) -> SlurmClient:
        if site not in self._sites:
            raise NotFound(
                f"site '{site}' is no longer described here", "put its description back, or bring its lab up again"
            )
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


def _retry_after_s(job: Job) -> float:
    """Seconds after the last request: doubled with every attempt, and jitter of the job's own, so that many do not come back at once."""
    jitter = random.Random(f"{job.key}{job.attempts}").uniform(0.5, 1.0)
    return jitter * min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** (job.attempts - 1))


def _parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[start : start + TOGETHER] for start in range(0, len(things), TOGETHER))


def _joined(answers: Iterable[Mapping[str, WestwardError]]) -> dict[str, WestwardError]:
    return {key: error for answer in answers for key, error in answer.items()}


def _by_site(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.site, []).append(job)
    return found
