"""A site with several doors: which is used, what the user is told, and what is never tried twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from unit.slurm.fakes import FakeSlurm
from unit.slurm.replay import Answer, Slurmrestd, body_of, serving
from westward.errors import AccessRefused, SiteRefused, StorageError, Unreachable, WestwardError
from westward.model.job import JobChange, Submission
from westward.model.site import Door, NativeDoor, Power, Prices, RestDoor, ShellDoor, Site
from westward.slurm import client as clients
from westward.slurm import doors
from westward.slurm.client import InDoubt, Known, NotOffered, Poll, SlurmClient
from westward.slurm.doors import Doors

REST, SHELL, NATIVE = RestDoor("http://west:6820", "me"), ShellDoor("login.west"), NativeDoor()
DOWN = Unreachable("site 'west': nobody answers", "look")
REFUSED = AccessRefused("site 'west': the token is over", "renew it")


@dataclass
class Gate:
    """A client behind a door; raises `error` from whatever it is asked, and counts."""

    answer: int = 7
    error: WestwardError | None = None
    refused: str = ""
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    def _say(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def refuses(self, submission: Submission) -> str:
        return self.refused

    def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
        self.asked += [f"submit {submission.name}" for submission in submissions]
        return [self.error or self.answer for _ in submissions]

    def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
        self.asked += [f"release {job_id}" for job_id in job_ids]
        return dict.fromkeys(job_ids, self.error) if self.error else {}

    hold = cancel = release

    def accounting_backlog(self) -> int:
        self._say("backlog")
        return self.answer

    def signal(self, job_id: int, signal: str) -> None:
        self._say("signal")

    def requeue(self, job_id: int) -> None:
        self._say("requeue")

    def update(self, job_id: int, change: JobChange) -> None:
        self._say("update")

    def poll(self, known: Mapping[int, Known]) -> Poll:
        self._say("poll")
        return Poll({}, frozenset())

    def find(self, names: Collection[str]) -> dict[str, list[Any]]:
        self._say("find")
        return {}

    def history(self, since: datetime, names: Collection[str] = ()) -> list[Any]:
        self._say("history")
        return []

    def close(self) -> None:
        self.closed = True


def site(*used: Door) -> Site:
    return Site("west", "west", "r", "p", used, {}, "/shared", Prices(), Power(), {})


Open = Callable[..., Doors]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(doors.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Open:
    """A site with doors in that order; a door whose gate is an error cannot be opened."""

    def made(gates: Mapping[Door, Gate | WestwardError]) -> Doors:
        def open_door(_: Site, door: Door) -> SlurmClient:
            gate = gates[door]
            if isinstance(gate, WestwardError):
                raise gate
            return cast(SlurmClient, gate)

        monkeypatch.setattr(clients, "open_door", open_door)
        return Doors(site(*gates))

    return made


def test_the_first_door_that_works_is_used_and_no_other_is_opened(
    enter: Open, caplog: pytest.LogCaptureFixture
) -> None:
    rest, shell = Gate(answer=1), Gate(answer=2)
    with enter({REST: rest, SHELL: shell}) as way:
        assert way.accounting_backlog() == 1
    assert (rest.closed, shell.closed, shell.asked) == (True, False, [])
    assert not caplog.text


@pytest.mark.parametrize(
    ("error", "verb"), [(DOWN, "does not answer"), (REFUSED, "refuses us")], ids=["down", "refused"]
)
@pytest.mark.parametrize("opens", [True, False], ids=["when asked", "when opened"])
def test_when_it_is_down_the_next_is_used_and_the_user_is_told_once(
    enter: Open, caplog: pytest.LogCaptureFixture, error: WestwardError, verb: str, opens: bool
) -> None:
    shell = Gate(answer=2)
    way = enter({REST: Gate(error=error) if opens else error, SHELL: shell})
    assert [way.accounting_backlog() for _ in range(3)] == [2, 2, 2]
    said = str(error).removeprefix("site 'west': ")
    assert [record.getMessage() for record in caplog.records] == [
        f"site 'west': rest http://west:6820 {verb} ({said}); using shell ssh://login.west"
    ]
    assert caplog.records[0].name == "westward"
    assert caplog.records[0].levelno == logging.WARNING


def test_a_door_that_failed_is_left_alone_for_a_minute(enter: Open, clock: list[float]) -> None:
    rest, shell = Gate(error=DOWN), Gate()
    way = enter({REST: rest, SHELL: shell})
    way.accounting_backlog()
    clock[0] += 59
    way.accounting_backlog()
    assert len(rest.asked) == 1
    rest.error = None
    clock[0] += 2
    way.accounting_backlog()
    assert len(rest.asked) == 2
    assert len(shell.asked) == 2


def test_the_user_is_told_again_when_it_fails_anew(
    enter: Open, clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    rest = Gate(error=DOWN)
    way = enter({REST: rest, SHELL: Gate()})
    for error in (DOWN, DOWN, None, DOWN):
        rest.error = error
        way.accounting_backlog()
        clock[0] += 61
    assert len(caplog.records) == 2


def test_when_all_fail_each_says_why(enter: Open) -> None:
    way = enter({REST: Gate(error=REFUSED), SHELL: Gate(error=DOWN)})
    with pytest.raises(Unreachable) as caught:
        way.poll({})
    assert not isinstance(caught.value, AccessRefused)
    assert str(caught.value) == (
        "site 'west': none of its doors works: rest http://west:6820: the token is over; shell ssh://login.west: nobody answers"
    )
    assert caught.value.next_step == "renew it; or look"
    assert caught.value.exit_code == 4


def test_when_all_refuse_us_it_is_no_outage(enter: Open) -> None:
    with pytest.raises(AccessRefused):
        enter({REST: Gate(error=REFUSED), SHELL: REFUSED}).poll({})


def test_with_one_door_its_own_error_is_enough(enter: Open) -> None:
    rest = Gate(error=DOWN)
    way = enter({REST: rest})
    for _ in range(2):
        with pytest.raises(Unreachable, match=r"^site 'west': nobody answers$"):
            way.poll({})
    assert len(rest.asked) == 2, "where there is no other door, the one is tried whenever somebody asks"


def test_what_the_cluster_refuses_is_not_asked_at_another_door(enter: Open) -> None:
    shell = Gate()
    way = enter({REST: Gate(error=SiteRefused("no")), SHELL: shell})
    with pytest.raises(SiteRefused):
        way.update(4, JobChange())
    assert not shell.asked


@pytest.mark.parametrize(
    "call",
    [lambda way: way.signal(4, "USR1"), lambda way: way.requeue(4), lambda way: way.update(4, JobChange())],
    ids=["signal", "requeue", "update"],
)
def test_what_may_have_been_done_is_not_done_again(enter: Open, call: Callable[[Doors], None]) -> None:
    shell = Gate()
    with pytest.raises(InDoubt):
        call(enter({REST: Gate(error=InDoubt("no answer")), SHELL: shell}))
    assert not shell.asked


def test_a_question_without_an_answer_is_asked_at_the_next_door(enter: Open) -> None:
    way = enter({REST: Gate(error=InDoubt("site 'west': no answer")), SHELL: Gate(answer=2)})
    assert way.accounting_backlog() == 2
    assert way.release([1, 2]) == {}


def test_what_a_door_does_not_offer_is_done_by_the_next_without_a_word(
    enter: Open, caplog: pytest.LogCaptureFixture
) -> None:
    rest, shell = Gate(error=NotOffered("slurmrestd cannot requeue")), Gate()
    way = enter({REST: rest, SHELL: shell})
    way.requeue(4)
    rest.error = None
    way.poll({})
    assert rest.asked == ["requeue", "poll"], "it is not taken for down"
    assert not caplog.text


def test_what_no_door_offers_says_so(enter: Open) -> None:
    way = enter({NATIVE: Gate(error=NotOffered("not by pyslurm")), REST: Gate(error=NotOffered("not by slurmrestd"))})
    with pytest.raises(NotOffered):
        way.requeue(4)


class TestSubmit:
    def test_each_goes_by_the_first_door_that_takes_it_in_full(self, enter: Open, submission: Submission) -> None:
        class Picky(Gate):
            def refuses(self, submission: Submission) -> str:
                return "no field for --x11" if submission.options else ""

        rest, shell = Picky(answer=1), Gate(answer=2)
        way = enter({REST: rest, SHELL: shell})
        odd = replace(submission, options={"x11": None})
        assert way.submit([submission, odd, submission]) == [1, 2, 1]
        assert (len(rest.asked), len(shell.asked)) == (2, 1)
        assert way.refuses(odd) == ""

    def test_no_door_takes_it(self, enter: Open, submission: Submission) -> None:
        way = enter({REST: Gate(refused="sbatch option --x11 has no field in slurmrestd v0.0.42")})
        (result,) = way.submit([submission])
        assert isinstance(result, SiteRefused)
        assert "rest http://west:6820: sbatch option --x11 has no field" in str(result)
        assert "add a shell door" in result.next_step
        assert "--x11" in way.refuses(submission)

    def test_the_door_that_would_take_it_is_down(self, enter: Open, submission: Submission) -> None:
        way = enter({REST: Gate(refused="no field for --x11"), SHELL: Gate(error=DOWN)})
        (result,) = way.submit([submission])
        assert isinstance(result, Unreachable)
        assert not isinstance(result, InDoubt)
        assert "nobody answers" in str(result)
        assert "--x11" in str(result)

    def test_what_was_not_there_goes_by_the_next_door(self, enter: Open, submission: Submission) -> None:
        shell = Gate(answer=2)
        assert enter({REST: Gate(error=DOWN), SHELL: shell}).submit([submission] * 3) == [2, 2, 2]

    def test_a_doubt_stays_a_doubt(self, enter: Open, submission: Submission) -> None:
        doubt, shell = InDoubt("no answer"), Gate()
        assert enter({REST: Gate(error=doubt), SHELL: shell}).submit([submission]) == [doubt]
        assert not shell.asked

    def test_a_door_from_which_only_silence_came_is_left_alone(
        self, enter: Open, submission: Submission, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        doubt = InDoubt("site 'west': no answer")
        way = enter({REST: Gate(error=doubt), SHELL: Gate(answer=2)})
        assert way.submit([submission, submission]) == [doubt, doubt]
        assert way.submit([submission]) == [2]
        assert "rest http://west:6820 does not answer (no answer)" in caplog.text

    def test_one_doubt_among_answers_does_not_close_a_door(self, enter: Open, submission: Submission) -> None:
        class Half(Gate):
            def submit(self, submissions: Sequence[Submission]) -> list[int | WestwardError]:
                return [7, InDoubt("no answer"), 8][: len(submissions)]

        shell = Gate()
        way = enter({REST: Half(), SHELL: shell})
        way.submit([submission] * 3)
        assert way.submit([submission]) == [7]
        assert not shell.asked

    def test_a_refusal_of_the_cluster_stays_one(self, enter: Open, submission: Submission) -> None:
        refusal, shell = SiteRefused("no such partition"), Gate()
        assert enter({REST: Gate(error=refusal), SHELL: shell}).submit([submission]) == [refusal]
        assert not shell.asked

    def test_it_raises_nothing(self, enter: Open, submission: Submission) -> None:
        unsafe = StorageError("others can read the token file")
        assert enter({REST: unsafe, SHELL: Gate()}).submit([submission, submission]) == [unsafe, unsafe]
        (result,) = enter({REST: DOWN, SHELL: REFUSED}).submit([submission])
        assert isinstance(result, Unreachable)
        assert enter({REST: Gate()}).submit([]) == []


class TestMany:
    def test_only_what_one_could_not_reach_goes_by_the_next(self, enter: Open) -> None:
        class Half(Gate):
            def release(self, job_ids: Sequence[int]) -> dict[int, WestwardError]:
                return {job_ids[0]: SiteRefused("not yours"), job_ids[-1]: DOWN}

        shell = Gate()
        errors = enter({REST: Half(), SHELL: shell}).release([1, 2, 3])
        assert set(errors) == {1}
        assert shell.asked == ["release 3"]

    def test_all_down(self, enter: Open) -> None:
        errors = enter({REST: Gate(error=DOWN), SHELL: DOWN}).cancel([1, 2])
        assert set(errors) == {1, 2}
        assert all(isinstance(error, Unreachable) and "none of its doors" in str(error) for error in errors.values())


def test_a_gateway_that_answers_no_ping_leaves_the_job_to_the_next_door(
    slurmrestd: Slurmrestd, token_file: Path, submission: Submission
) -> None:
    """A captive portal: the version could not be settled, so nothing of the submission has left."""
    slurmrestd.on("GET slurm/ping/", Answer(502, b"<html>"))
    with serving() as other:
        other.on("POST slurm/job/submit", "submitted")
        with Doors(site(*(RestDoor(each.url, "researcher", token_file) for each in (slurmrestd, other)))) as way:
            assert way.submit([submission, submission]) == [body_of("submitted")["job_id"]] * 2
    assert not slurmrestd.asked("POST")


def test_a_door_of_this_host_s_own_cluster_is_passed_over(
    slurmrestd: Slurmrestd, token_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, submission: Submission
) -> None:
    """`local` on a login node of another cluster, in front of a slurmrestd of the site."""
    slurm = FakeSlurm(tmp_path)
    slurm.program("scontrol", "echo 'ClusterName = east'")
    slurm.program("sbatch", "echo 9")
    slurmrestd.on("POST slurm/job/submit", "submitted")
    with Doors(site(ShellDoor(commands=str(tmp_path)), RestDoor(slurmrestd.url, "researcher", token_file))) as way:
        assert way.submit([submission]) == [body_of("submitted")["job_id"]]
    assert not slurm.calls("sbatch")
    assert "shell on this host is another cluster's (shell on this host leads to the cluster 'east', not" in caplog.text


def test_real_doors(slurmrestd: Slurmrestd, token_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A slurmrestd that is only a gateway's error page, then one that works: no mock between."""
    broken = RestDoor("http://127.0.0.1:9", "researcher", token_file)
    slurmrestd.on("DELETE slurm/job/", "cancelled").on("GET slurmdb/jobs/", Answer(502, b"<html>"))
    with Doors(site(broken, RestDoor(slurmrestd.url, "researcher", token_file))) as way:
        assert way.cancel([1, 2, 3]) == {}
        with pytest.raises(Unreachable, match="none of its doors"):
            way.poll({1: Known(clients.JobState.RUNNING)})
    assert "rest http://127.0.0.1:9 does not answer" in caplog.text
