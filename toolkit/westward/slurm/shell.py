"""A cluster through Slurm's own commands, on this host or by ssh: `SlurmClient` for every site that lets its users log in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from westward.errors import AccessRefused, SiteRefused, Unreachable, WestwardError
from westward.model.job import Attempt, JobChange, JobStatus, Submission
from westward.model.limits import Limits, Trial
from westward.model.site import Account, ClusterState, ShellDoor
from westward.process import Completed
from westward.slurm import clustertext, complaints, shelllimits, text
from westward.slurm.client import InDoubt, Known, Poll, same_cluster
from westward.slurm.commands import AT_ONCE, LOGIN, Answer, Commands, LocalCommands, Request
from westward.slurm.faults import Fault, next_step, worded
from westward.slurm.looking import ACCOUNTING_SINCE, ENDED, Told, age, chunks, same
from westward.slurm.routed import LOGIN_SHELL, sbatch_words
from westward.slurm.script import update_words

ANSWER_TIMEOUT_S = 60
# a submission may wait for slurmctld's locks; giving up on one costs a search for it
SUBMIT_TIMEOUT_S = 120
# sbatch --test-only holds slurmctld's locks while it looks
TRIAL_TIMEOUT_S = 20
# ids or names in one command: far below what an operating system lets a command line hold
CHUNK = 500
_NOT_FOUND = 127
_SINCE = f"now-{ACCOUNTING_SINCE.days}days"
_SETTINGS = ["scontrol", "show", "config"]


class ShellClient:
    """`SlurmClient` by commands.

    Args:
        cluster: the ClusterName that has to be found there; empty for whichever it is.

    Raises (from every call):
        Unreachable: nobody answers there, the commands are missing, or they cannot reach their slurmctld or slurmdbd.
        InDoubt: the request may have been carried out.
        AccessRefused: the host or the cluster refuses who we are.
        SiteRefused: the cluster refuses what was asked.
    """

    def __init__(self, site: str, door: ShellDoor, cluster: str = "", commands: Commands | None = None) -> None:
        self._site = site
        self._door = door
        # the ClusterName that has still to be compared; empty once it has been, and where it is not known
        self._unproved = cluster
        self._commands = commands or commands_at(door)
        self._user: str | None = None
        # of arrays: what the queue said when it was last looked at, and what was told of it
        self._seen: dict[int, list[str]] = {}
        self._told = Told()

    def close(self) -> None:
        self._commands.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the cluster --------------------------------------------------------------------------------------------------

    def state(self) -> ClusterState:
        nodes, partitions, ends, settings = self._ask(
            ["scontrol", "-d", "-o", "show", "node"],
            ["scontrol", "-o", "show", "partition"],
            ["squeue", "-h", "-t", "RUNNING", "-o", f"%N{text.SEPARATOR}%e"],
            _SETTINGS,
        )
        try:
            return ClusterState(
                version=clustertext.config(settings.stdout)["SLURM_VERSION"],
                partitions=clustertext.partitions(partitions.stdout),
                nodes=clustertext.nodes(nodes.stdout),
                running_ends=clustertext.running_ends(ends.stdout),
                taken_at=datetime.now(UTC),
            )
        except (KeyError, ValueError) as error:
            raise Unreachable(
                f"site '{self._site}' describes itself in a form not known here ({type(error).__name__}: {error})"
            ) from error

    def account(self) -> Account:
        user = self._who()
        settings, clock, home, mpi = self._ask(
            _SETTINGS, ["date", "-u", "+%s"], ["printenv", "HOME"], ["srun", "--mpi=list"]
        )
        told = clustertext.config(settings.stdout)
        default, associations = "", ""
        if told.get("AccountingStorageType", "").endswith("slurmdbd"):
            users, assoc = self._ask(
                ["sacctmgr", "-n", "-P", "show", "user", user, "format=defaultaccount"],
                ["sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", "format=account,partition,qos,defaultqos"],
            )
            default, associations = users.stdout.strip(), assoc.stdout
        size = told.get("MaxArraySize", "")
        return Account(
            cluster=told.get("ClusterName", ""),
            user=user,
            home=home.stdout.strip() or None,
            default_account=default.splitlines()[0] if default else None,
            associations=clustertext.associations(associations),
            clock=text.moment(clock.stdout.strip()),
            max_array_size=int(size) if size.isdecimal() else None,
            mpi=clustertext.mpi_types(mpi.stdout + mpi.stderr),
        )

    def limits(self) -> Limits:
        return shelllimits.read(self._site, self._who(), self._ask, lambda *argv: _said(self._answer(*argv)))

    def try_out(self, submission: Submission) -> Trial:
        """`sbatch --test-only`: nothing is submitted, though a number of the cluster's own is used up.

        Raises:
            Unreachable: it was not answered in TRIAL_TIMEOUT_S.
        """
        self._prove()
        asked = self._submit_request(submission)
        at = asked.argv.index("--parsable")
        request = replace(asked, argv=(*asked.argv[:at], "--test-only", *asked.argv[at + 1 :]))
        (answer,) = self._commands.each([request], at_once=1, timeout_s=TRIAL_TIMEOUT_S, repeat=False)
        if isinstance(answer, WestwardError):
            raise Unreachable(
                f"site '{self._site}': sbatch --test-only was not answered in {TRIAL_TIMEOUT_S} s: {answer}"
            )
        found = text.trial(answer.stderr)
        if answer.status == 0 and found is not None:
            return found
        if answer.status == 0:
            raise Unreachable(f"site '{self._site}': what sbatch --test-only says there cannot be read: {answer}")
        error = self._problem(answer, changes=True)
        if isinstance(error, SiteRefused):
            return Trial(refusal=text.trial_refusal(answer.stderr) or str(error))
        raise error

    def accounting_backlog(self) -> int:
        diagnosis, _ = self._ask(["sdiag"], ["sacctmgr", "-n", "-P", "show", "cluster", "format=cluster"])
        count = clustertext.backlog(diagnosis.stdout)
        if count is None:
            raise Unreachable(f"site '{self._site}': its slurmctld tells nothing of a slurmdbd")
        return count

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def refuses(self, submission: Submission) -> str:
        return ""

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        requests = [self._submit_request(submission) for submission in submissions]
        try:
            self._prove()
            answers = self._commands.each(requests, at_once=AT_ONCE, timeout_s=SUBMIT_TIMEOUT_S, repeat=False)
        except WestwardError as error:
            return [error] * len(submissions)
        return [self._submitted(answer) for answer in answers]

    def _submit_request(self, submission: Submission) -> Request:
        """sbatch passes its own environment on to the job, so it gets no more than a job should."""
        hold = ["--hold"] if submission.hold else []
        if submission.arguments is not None:
            argv = (*LOGIN_SHELL, self._program("sbatch"), "--parsable", *hold, *sbatch_words(submission))
            return Request(argv, submission.script, LOGIN, submission.environment, submission.root)
        path = {"PATH": submission.environment["PATH"]} if "PATH" in submission.environment else {}
        return Request((self._program("sbatch"), "--parsable", *hold), submission.script, LOGIN, path)

    def _submitted(self, answer: Answer) -> int | WestwardError:
        if isinstance(answer, WestwardError):
            return self._named(answer)
        if answer.status == 0:
            job_id = text.job_id(answer.stdout)
            return job_id or InDoubt(f"site '{self._site}': sbatch ended well, but named no job id")
        error = self._problem(answer, changes=True)
        if isinstance(error, SiteRefused) and not any(
            line.startswith(("sbatch: ", "slurm")) for line in answer.stderr.splitlines()
        ):
            return InDoubt(f"site '{self._site}': sbatch ended with status {answer.status} and gave no reason")
        return error

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each_chunk(job_ids, lambda ids: ["scontrol", "release", ",".join(ids)], complaints.over)

    def hold(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each_chunk(job_ids, lambda ids: ["scontrol", "hold", ",".join(ids)])

    def cancel(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        return self._each_chunk(job_ids, lambda ids: ["scancel", *ids], complaints.over)

    def signal(self, job_id: int, signal: str) -> None:
        # scancel tries for more than a minute to signal a job that does not run
        (states,) = self._ask(["squeue", "--me", "-h", "-t", "RUNNING,SUSPENDED", "-o", "%F"])
        if str(job_id) not in states.stdout.split():
            raise SiteRefused(f"site '{self._site}': job {job_id} does not run, so it cannot be signalled")
        self._act("scancel", f"--signal={signal}", str(job_id))

    def requeue(self, job_id: int) -> None:
        self._act("scontrol", "requeue", str(job_id))

    def update(self, job_id: int, change: JobChange) -> None:
        words = update_words(change)
        if words:
            self._act("scontrol", "update", f"JobId={job_id}", *words)

    def find(self, names: Collection[str]) -> dict[str, list[JobStatus]]:
        parts = chunks(sorted(set(names)), CHUNK)
        if not parts:
            return {}
        token = secrets.token_hex(8)
        # the queue is asked first: what has left it before is in the accounting
        answers = self._ask(*(self._queue_words(token, "-n", ",".join(chunk)) for chunk in parts))
        lines = {job_id: of_job for answer in answers for job_id, of_job in text.queue(answer.stdout, token).items()}
        extra = self._details(list(lines))
        rows = self.accounted(names)
        for job_id, of_job in lines.items():
            told_there = [text.detailed(text.queued(fields), fields[1], extra) for fields in of_job]
            rows.setdefault((job_id, told_there[0].status.name), []).extend(told_there)
        told: dict[str, list[JobStatus]] = {name: [] for name in names}
        for (_, name), each in rows.items():
            if name in told:
                told[name].append(text.whole(each))
        return {name: sorted(jobs, key=age) for name, jobs in told.items()}

    def accounted(self, names: Collection[str]) -> dict[tuple[int, str], list[text.Row]]:
        """What the accounting has of jobs of these names, by id and name: the latest attempt of each, and of each task of an array.

        Raises:
            Unreachable: it does not answer.
        """
        token, user = secrets.token_hex(8), self._who()
        named = [f"--name={','.join(chunk)}" for chunk in chunks(sorted(set(names)), CHUNK)]
        asked = [words for name in named for words in self._since_words(token, _SINCE, "-X", "-u", user, name)]
        records = [record for answer in self._ask(*asked) for record in text.records(answer.stdout, token)]
        return text.latest(text.without_doubles(records))

    def poll(self, known: Mapping[int, Known]) -> Poll:
        if not known:
            return Poll({}, frozenset())
        token = secrets.token_hex(8)
        (answer,) = self._ask(self._queue_words(token, fields=text.BRIEF_FIELDS))
        listed = text.listed(answer.stdout, token)
        others, ask = self._otherwise(known, listed)
        unheard: dict[int, str] = {}
        try:
            records = self._records_of(ask, token)
        except Unreachable as error:
            records, unheard = {}, dict.fromkeys(ask, str(error))
        lines, extra = self._in_full(others, token)
        changed: dict[int, JobStatus] = {}
        gone: set[int] = set()
        for job_id in (*others, *(job_id for job_id in ask if not listed.has(job_id))):
            if job_id in unheard or (listed.has(job_id) and job_id not in lines):
                self._seen.pop(job_id, None)  # to be asked again: it may have left the queue just now
                continue
            rows = records.get(job_id, [])
            rows += [text.detailed(text.queued(fields), fields[1], extra) for fields in lines.get(job_id, ())]
            if not rows:
                gone.add(job_id)
                continue
            status = text.whole(rows)
            if self._told.is_news(known[job_id], status):
                changed[job_id] = status
        return Poll(changed, frozenset(gone), unheard)

    def _otherwise(self, known: Mapping[int, Known], listed: text.Listed) -> tuple[list[int], list[int]]:
        """Jobs of which the queue says something new, and those of which the accounting has to be asked (too)."""
        others, ask = [], []
        for job_id, was in known.items():
            now = listed.plain.get(job_id)
            if now is not None:
                if now != was and not same(was, *now):
                    others.append(job_id)
            elif job_id not in listed.arrays:
                ask.append(job_id)
            elif self._seen.get(job_id) != listed.arrays[job_id]:
                # tasks of an array that have ended leave the queue one by one
                self._seen[job_id] = listed.arrays[job_id]
                others.append(job_id)
                ask.append(job_id)
        return others, ask

    def _records_of(self, job_ids: Sequence[int], token: str) -> dict[int, list[text.Row]]:
        """What the accounting says of these jobs, the latest attempt of each."""
        if not job_ids:
            return {}
        answers = self._ask(
            *(
                self._record_words(token, "-X", "-D", "-j", ",".join(map(str, chunk)))
                for chunk in chunks(job_ids, CHUNK * 4)
            )
        )
        # of an id that was used before the latest job counts
        rows = text.latest(record for answer in answers for record in text.records(answer.stdout, token))
        return {job_id: each for (job_id, _), each in rows.items()}

    def _in_full(
        self, job_ids: Sequence[int], token: str
    ) -> tuple[dict[int, list[list[str]]], Mapping[tuple[int, str], tuple[int, int, int]]]:
        """The lines of the queue of these jobs, and their details; nothing of what has left it."""
        if not job_ids:
            return {}, {}
        asked = [self._queue_words(token, *_only(job_ids)), self._detail_words(job_ids)]
        answers = self._commands.each(self._requests(asked), at_once=2, timeout_s=ANSWER_TIMEOUT_S, repeat=True)
        lines, details = map(_said, answers)
        return text.queue(lines, token), text.details(details)

    def _details(self, job_ids: Sequence[int]) -> Mapping[tuple[int, str], tuple[int, int, int]]:
        """Exit codes and restarts, which squeue tells in its slower format only: so only of what changed."""
        return text.details(_said(self._answer(*self._detail_words(job_ids)))) if job_ids else {}

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Attempt]:
        token, user = secrets.token_hex(8), self._who()
        start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        parts = [[f"--name={','.join(chunk)}"] for chunk in chunks(sorted(set(names)), CHUNK)] or [[]]
        answers = self._ask(*(words for part in parts for words in self._since_words(token, start, "-u", user, *part)))
        records = [record for answer in answers for record in text.records(answer.stdout, token)]
        return text.attempts(text.without_doubles(records))

    # --- asking -------------------------------------------------------------------------------------------------------

    def _queue_words(self, token: str, *more: str, fields: Sequence[str] = text.QUEUE_FIELDS) -> list[str]:
        return ["squeue", "--me", "-h", "-t", "all", "-o", text.queue_format(token, fields), *more]

    def _detail_words(self, job_ids: Sequence[int]) -> list[str]:
        return ["squeue", "--me", "-h", "-t", "all", "-O", text.DETAIL_FIELDS, *_only(job_ids)]

    def _since_words(self, token: str, since: str, *more: str) -> list[list[str]]:
        """What asks the accounting for every record since then; some twice, see `looking.ENDED`. A question by state needs the window's end."""
        window = ("-D", "-S", since, "-E", "now+1day")
        return [
            self._record_words(token, *window, *more),
            self._record_words(token, *window, "-s", ",".join(ENDED), *more),
        ]

    def _record_words(self, token: str, *more: str) -> list[str]:
        fields = ",".join(text.RECORD_FIELDS)
        return ["sacct", "-n", "-P", "--noconvert", f"--delimiter={token}", "-o", fields, *more]

    def _who(self) -> str:
        if self._user is None:
            self._user = self._ask(["id", "-un"])[0].stdout.strip()
        return self._user

    def _program(self, name: str) -> str:
        own = name in ("id", "date", "printenv")
        return name if own or not self._door.commands else f"{self._door.commands.rstrip('/')}/{name}"

    def _requests(self, argvs: Sequence[Sequence[str]]) -> list[Request]:
        return [Request((self._program(argv[0]), *argv[1:])) for argv in argvs]

    def _ask(self, *argvs: Sequence[str]) -> list[Completed]:
        """Run commands that only read.

        Raises:
            WestwardError: one of them did not end well.
        """
        proof = [] if not self._unproved or _SETTINGS in argvs else [_SETTINGS]
        asked = [*argvs, *proof]
        answers = self._commands.each(
            self._requests(asked), at_once=len(asked), timeout_s=ANSWER_TIMEOUT_S, repeat=True
        )
        done = []
        for answer in answers:
            if isinstance(answer, WestwardError):
                raise self._named(answer)
            if answer.status != 0:
                raise self._problem(answer)
            done.append(answer)
        if self._unproved:
            told = clustertext.config(done[asked.index(_SETTINGS)].stdout).get("ClusterName")
            same_cluster(self._site, self._door, told, self._unproved)
            self._unproved = ""
        return done[: len(argvs)]

    def _prove(self) -> None:
        """Make sure of the cluster before something is changed there; a question has that done along with itself."""
        if self._unproved:
            self._ask(_SETTINGS)

    def _answer(self, *argv: str, repeat: bool = True) -> Answer:
        (answer,) = self._commands.each(self._requests([argv]), at_once=1, timeout_s=ANSWER_TIMEOUT_S, repeat=repeat)
        return answer

    def _act(self, *argv: str) -> None:
        """Run a command that changes something, once."""
        self._prove()
        answer = self._answer(*argv, repeat=False)
        if isinstance(answer, WestwardError):
            raise self._named(answer)
        if answer.status != 0:
            raise self._problem(answer, changes=True)

    def _each_chunk(
        self,
        job_ids: Sequence[int],
        words: Callable[[list[str]], list[str]],
        harmless: Callable[[str], bool] = lambda said: False,
    ) -> dict[int, WestwardError]:
        """Run a command for many jobs; what went wrong, by job. A complaint that names no job is about all of them."""
        parts = chunks(job_ids, CHUNK)
        if not parts:
            return {}
        try:
            self._prove()
        except WestwardError as error:
            return dict.fromkeys(job_ids, error)
        requests = self._requests([words([str(job_id) for job_id in chunk]) for chunk in parts])
        answers = self._commands.each(requests, at_once=2, timeout_s=SUBMIT_TIMEOUT_S, repeat=True)
        failed: dict[int, WestwardError] = {}
        for chunk, answer in zip(parts, answers, strict=True):
            if isinstance(answer, WestwardError):
                failed |= dict.fromkeys(chunk, self._named(answer))
                continue
            said = complaints.by_job(answer.stderr + answer.stdout)
            if answer.status != 0 and not said and not harmless(answer.stderr):
                failed |= dict.fromkeys(chunk, self._problem(answer, changes=True))
            for job_id, what in said.items():
                if not harmless(what):
                    failed[job_id] = self._told_error(what, changes=True)
        return failed

    def _problem(self, answer: Completed, *, changes: bool = False) -> WestwardError:
        """Why a command ended badly. Of a change whose answer never came it is not known whether it was made."""
        program = answer.argv[len(LOGIN_SHELL) if answer.argv[: len(LOGIN_SHELL)] == LOGIN_SHELL else 0]
        name = program.rpartition("/")[2]
        if answer.status == _NOT_FOUND:
            return Unreachable(
                f"site '{self._site}': there is no program '{program}' at {self._door}",
                "name the directory of Slurm's commands as 'commands' of that door in the site's description",
            )
        said = answer.stderr if answer.stderr.strip() else answer.stdout
        return self._told_error(complaints.words(said), said, name, changes=changes)

    def _told_error(self, what: str, said: str = "", name: str = "", *, changes: bool = False) -> WestwardError:
        fault = worded(said or what)
        if fault is Fault.REFUSED:
            return SiteRefused(f"site '{self._site}' refuses: {what}")
        asks_database = name in ("sacct", "sacctmgr") and fault is not Fault.ACCESS
        step = next_step(Fault.DATABASE if asks_database else fault, self._site)
        if fault is Fault.ACCESS:
            return AccessRefused(f"site '{self._site}' refuses who we are: {what}", step)
        kind = InDoubt if changes and fault in (Fault.SILENT, Fault.DATABASE) else Unreachable
        return kind(f"site '{self._site}': {name or 'it'} answers, but not the daemon behind it: {what}", step)

    def _named(self, error: WestwardError) -> WestwardError:
        """An error of the way to the site, with the site's name."""
        if str(error).startswith("site '"):
            return error
        kinds = (InDoubt, AccessRefused, Unreachable)
        kind = next((kind for kind in kinds if isinstance(error, kind)), type(error))
        named = kind(f"site '{self._site}': {error}", error.next_step)
        named.__cause__ = error
        return named


def _only(job_ids: Sequence[int]) -> list[str]:
    """What lets squeue tell of these jobs only, where they are few."""
    return ["-j", ",".join(map(str, job_ids))] if len(job_ids) <= CHUNK else []


def _said(answer: Answer) -> str:
    """What a command printed; nothing where it did not end well."""
    return answer.stdout if isinstance(answer, Completed) and answer.status == 0 else ""


def commands_at(door: ShellDoor) -> Commands:
    """The commands of the host behind a door."""
    if door.host is None:
        return LocalCommands()
    from westward.slurm.remote import RemoteCommands  # Fabric takes a while to load, and a local door does without it

    return RemoteCommands(door)
