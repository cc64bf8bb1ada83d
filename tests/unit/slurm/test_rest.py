"""The slurmrestd client against a local server that replays a real one's answers, and everything that can go wrong between."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from unit.slurm.replay import Answer, Request, Slurmrestd, body_of, captured, token
from westward.errors import AccessRefused, SiteRefused, StorageError, Unreachable, WestwardError
from westward.model.job import JobState, Submission
from westward.model.site import RestDoor
from westward.slurm.client import InDoubt
from westward.slurm.rest import RestClient

HTML = Answer(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html")
CUT = Answer(0, b"", cut=True)
SUBMIT = "POST slurm/job/submit"


class TestState:
    def test_an_idle_cluster_is_not_asked_for_its_jobs(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/nodes/", "nodes_idle").on("GET slurm/partitions/", "partitions")
        state = client.state()
        assert [node.name for node in state.nodes] == ["west-n1", "west-n2"]
        assert not slurmrestd.asked("GET /slurm/v0.0.42/jobs/")

    def test_a_busy_cluster_says_when_its_jobs_end(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/nodes/", "nodes_busy").on("GET slurm/partitions/", "partitions")
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed")
        assert set(client.state().running_ends) == {"west-n1"}

    def test_user_and_token_go_with_every_request(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/nodes/", "nodes_idle").on("GET slurm/partitions/", "partitions")
        client.state()
        for request in slurmrestd.requests:
            headers = {name.lower(): value for name, value in request.headers.items()}
            assert headers["x-slurm-user-name"] == "researcher"
            assert headers["x-slurm-user-token"] == "first.token.here"


class TestNegotiation:
    def test_the_newest_version_is_spoken(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        client.cancel(4)
        assert slurmrestd.asked("DELETE /slurm/v0.0.42/job/4")

    def test_an_older_one_is_fallen_back_to_and_kept(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.versions = ("v0.0.41", "v0.0.40")
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        client.cancel(4)
        client.cancel(4)
        assert len(slurmrestd.asked("DELETE /slurm/v0.0.41/job/4")) == 2
        assert len(slurmrestd.asked("GET /slurm/v0.0.42/ping/")) == 1

    def test_no_common_version_says_what_is_needed(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.versions = ("v0.0.38",)
        with pytest.raises(Unreachable, match=r"v0\.0\.41") as caught:
            client.state()
        assert "24.05" in caught.value.next_step


class TestSubmit:
    def test_a_held_job_has_an_id(self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission) -> None:
        slurmrestd.on(SUBMIT, "submitted")
        assert client.submit_held(submission) == body_of("submitted")["job_id"]
        (request,) = slurmrestd.asked("POST")
        assert request.body["script"] == submission.script
        assert request.body["job"]["hold"] is True

    def test_a_refusal_is_told_in_slurms_words(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "error_partition")
        with pytest.raises(SiteRefused, match=r"site 'west'.*Invalid partition name specified"):
            client.submit_held(submission)

    @pytest.mark.parametrize(
        "answer",
        [
            CUT,
            HTML,
            Answer(504, b'{"message": "Endpoint request timed out"}'),
            Answer(200, b""),
            Answer(200, b"[]"),
            Answer(200, b"{}"),
            Answer(200, b'{"job_id": 0, "errors": [], "warnings": []}'),
        ],
        ids=["cut", "502 with HTML", "504 of a gateway with JSON", "empty", "a list", "an empty object", "no id"],
    )
    def test_no_clear_answer_leaves_it_in_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission, answer: Answer
    ) -> None:
        slurmrestd.on(SUBMIT, answer)
        with pytest.raises(InDoubt):
            client.submit_held(submission)
        assert len(slurmrestd.asked("POST")) == 1, "a submission is never repeated by itself"

    def test_a_daemon_behind_that_does_not_answer_leaves_it_in_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        content = body_of("error_partition")
        content["errors"][0] |= {"error": "Unable to contact slurm controller (connect failure)", "error_number": 1000}
        slurmrestd.on(SUBMIT, Answer(500, json.dumps(content).encode()))
        with pytest.raises(InDoubt):
            client.submit_held(submission)

    def test_a_job_that_would_lose_a_part_is_cancelled_and_refused(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "submitted_unknown_field").on("DELETE slurm/job/", "cancelled")
        with pytest.raises(SiteRefused, match="no_such_field"):
            client.submit_held(submission)
        job_id = body_of("submitted_unknown_field")["job_id"]
        assert slurmrestd.asked(f"DELETE /slurm/v0.0.42/job/{job_id}")

    def test_a_refused_token_sends_nothing_into_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "error_token_submit")
        with pytest.raises(AccessRefused):
            client.submit_held(submission)


class TestChange:
    def test_release(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("POST slurm/job/2", "released")
        client.release(2)
        assert slurmrestd.asked("POST")[0].body == {"hold": False}

    @pytest.mark.parametrize("answer", ["release_finished", "release_unknown"])
    def test_releasing_a_job_that_is_over_is_harmless(
        self, slurmrestd: Slurmrestd, client: RestClient, answer: str
    ) -> None:
        slurmrestd.on("POST slurm/job/", answer)
        client.release(6)

    @pytest.mark.parametrize("answer", ["cancelled", "cancel_finished", "cancel_unknown"])
    def test_cancelling_can_be_repeated(self, slurmrestd: Slurmrestd, client: RestClient, answer: str) -> None:
        slurmrestd.on("DELETE slurm/job/", answer)
        client.cancel(4)

    def test_a_job_of_somebody_else_is_refused(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        content = body_of("cancel_unknown")
        content["status"][0]["error"] = {"string": "x", "code": 2022, "message": "Access/permission denied"}
        slurmrestd.on("DELETE slurm/job/", Answer(200, json.dumps(content).encode()))
        with pytest.raises(SiteRefused, match=r"job 4.*permission denied"):
            client.cancel(4)


class TestFind:
    def test_queue_and_accounting_together_oldest_first(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        queued = body_of("jobs_mixed")
        queued["jobs"][0] |= {"name": "done~dddddddddddd", "job_id": 99}
        slurmrestd.on("GET slurm/jobs/", Answer(200, json.dumps(queued).encode()))
        slurmrestd.on("GET slurmdb/jobs/", "accounted_by_name")
        found = client.find("done~dddddddddddd")
        assert [job.job_id for job in found] == [6, 10, 99]
        assert {job.name for job in found} == {"done~dddddddddddd"}
        assert found[0].state is JobState.PENDING, "the queue knows better than the accounting"

    def test_nobody_knows_it(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed").on("GET slurmdb/jobs/", "accounted_by_name_nothing")
        assert client.find("nobody~nnnnnnnnnnnn") == []

    def test_silence_of_the_accounting_is_not_absence(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        content = body_of("error_token_slurmdb")
        content["errors"][0]["description"] = "Failed to open slurmdbd connection"
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed")
        slurmrestd.on("GET slurmdb/jobs/", Answer(502, json.dumps(content).encode()))
        with pytest.raises(Unreachable, match="slurmdbd"):
            client.find("nobody~nnnnnnnnnnnn")


class TestPoll:
    def test_one_request_for_jobs_that_did_not_change(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state")
        many = dict.fromkeys(range(100, 121), JobState.PENDING)  # of so many the reason for waiting is not asked
        listed = body_of("jobs_state")
        listed["jobs"] += [{"job_id": str(job_id), "state": ["PENDING"]} for job_id in many]
        slurmrestd.on("GET slurm/jobs/state/", Answer(200, json.dumps(listed).encode()))
        poll = client.poll({2: JobState.RUNNING, **many})
        assert (poll.changed, poll.gone) == ({}, frozenset())
        assert len(slurmrestd.requests) == 2, "the ping and the list"

    def test_of_a_few_that_wait_the_reason_is_asked(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurm/job/4", "job_held")
        assert client.poll({4: JobState.PENDING}).changed[4].reason == "JobHeldUser"

    def test_a_change_is_asked_for(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurm/job/4", "job_cancelled")
        slurmrestd.on("GET slurm/job/999999", "job_unknown").on("GET slurmdb/job/999999", "accounted_unknown")
        slurmrestd.on("GET slurm/job/10", "job_unknown").on("GET slurmdb/job/10", "accounted_completed")
        poll = client.poll({4: JobState.UNKNOWN, 10: JobState.RUNNING, 999999: JobState.RUNNING})
        assert poll.changed[4].state is JobState.CANCELLED
        assert poll.changed[10].state is JobState.COMPLETED, "it left the queue, and the accounting has it"
        assert poll.gone == {999999}

    def test_silence_is_not_gone(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurm/job/999999", "job_unknown")
        slurmrestd.on("GET slurmdb/job/999999", HTML)
        with pytest.raises(Unreachable):
            client.poll({999999: JobState.RUNNING})


class TestToken:
    def test_an_expired_one_says_how_long_ago(
        self, slurmrestd: Slurmrestd, client: RestClient, token_file: Path
    ) -> None:
        token_file.write_text(token(exp=time.time() - 3 * 3600 - 20, sun="researcher"))
        slurmrestd.on("GET slurm/nodes/", "error_token")
        with pytest.raises(AccessRefused, match=r"researcher.*expired 3 h ago") as caught:
            client.state()
        assert str(token_file) in caught.value.next_step

    @pytest.mark.parametrize("answer", ["error_token_slurmdb", "error_token"])
    def test_refused_by_slurmdbd_or_slurmctld(self, slurmrestd: Slurmrestd, client: RestClient, answer: str) -> None:
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed").on("GET slurmdb/jobs/", answer)
        with pytest.raises(AccessRefused):
            client.find("x")

    @pytest.mark.parametrize("status", [401, 403])
    def test_refused_by_a_gateway(self, slurmrestd: Slurmrestd, client: RestClient, status: int) -> None:
        slurmrestd.on("GET slurm/nodes/", Answer(status, b"no", "text/plain"))
        with pytest.raises(AccessRefused):
            client.state()

    def test_a_renewed_one_is_taken_up_by_the_same_client(
        self, slurmrestd: Slurmrestd, client: RestClient, token_file: Path, submission: Submission
    ) -> None:
        def only_second(request: Request) -> Answer:
            headers = {name.lower(): value for name, value in request.headers.items()}
            return captured("submitted" if headers["x-slurm-user-token"] == "second" else "error_token_submit")

        slurmrestd.on(SUBMIT, only_second)
        with pytest.raises(AccessRefused):
            client.submit_held(submission)
        token_file.write_text("second\n")
        assert client.submit_held(submission) == body_of("submitted")["job_id"]

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
    def test_one_that_others_can_read_is_refused(self, token_file: Path, mode: int) -> None:
        token_file.chmod(mode)
        with pytest.raises(StorageError, match=f"mode {mode:o}") as caught:
            RestClient("west", RestDoor("http://127.0.0.1:9", "researcher", token_file))
        assert caught.value.next_step == f"chmod 600 '{token_file}'"

    def test_one_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(AccessRefused, match=r"none\.jwt.*No such file"):
            RestClient("west", RestDoor("http://127.0.0.1:9", "researcher", tmp_path / "none.jwt"))

    @pytest.mark.parametrize("content", [b"a\nb", b"\xff\xfe", "tökén".encode(), b"\x1b[31m"], ids=repr)
    def test_what_is_no_token_is_never_sent(self, token_file: Path, content: bytes) -> None:
        token_file.write_bytes(content)
        with pytest.raises(AccessRefused, match="no token"):
            RestClient("west", RestDoor("http://127.0.0.1:9", "researcher", token_file))

    def test_it_is_never_shown(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/nodes/", "error_token")
        with pytest.raises(AccessRefused) as caught:
            client.state()
        assert "first.token.here" not in f"{caught.value} {caught.value.next_step}"

    def test_a_proxy_of_the_environment_never_sees_it(
        self, slurmrestd: Slurmrestd, token_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Login nodes often have http_proxy set for the world outside; a cluster's door is not there."""
        monkeypatch.setenv("http_proxy", slurmrestd.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            door = RestDoor(f"http://127.0.0.1:{taken.getsockname()[1]}", "researcher", token_file)
            with RestClient("west", door) as client, pytest.raises(Unreachable):
                client.state()
        assert not slurmrestd.requests


class TestNobodyThere:
    def test_nothing_listens(self, token_file: Path, submission: Submission) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with RestClient("west", RestDoor(url, "researcher", token_file)) as client:
                with pytest.raises(Unreachable, match=f"site 'west'.*{url}"):
                    client.state()
                with pytest.raises(Unreachable) as caught:
                    client.submit_held(submission)
        assert not isinstance(caught.value, InDoubt), "nothing was sent"
        assert caught.value.transient

    @pytest.mark.parametrize("url", ["west:6820", "http://[::1", "http://", "ftp://127.0.0.1", "http://no host:1"])
    def test_an_address_that_is_none(self, token_file: Path, submission: Submission, url: str) -> None:
        """Nothing is sent to such an address, so nothing can be in doubt."""
        with (
            pytest.raises(WestwardError, match="site 'west'") as caught,
            RestClient("west", RestDoor(url, "researcher", token_file)) as client,
        ):
            client.submit_held(submission)
        assert not isinstance(caught.value, InDoubt)

    def test_it_stops_between_two_calls(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on("DELETE slurm/job/", "cancelled").on("GET slurm/nodes/", CUT)
        client.cancel(4)
        with pytest.raises(Unreachable):
            client.state()


@pytest.mark.parametrize("answer", [HTML, CUT, Answer(200, b"{}"), Answer(200, b'{"errors": null}')])
def test_no_answer_of_another_program_is_taken_for_a_state(
    slurmrestd: Slurmrestd, client: RestClient, answer: Answer
) -> None:
    """A gateway, a captive portal or another service at that port: an error with the site's name, never a guess or a traceback."""
    slurmrestd.on("GET slurm/", answer).on("GET slurmdb/", answer)
    for ask in (client.state, lambda: client.find("x"), lambda: client.poll({2: JobState.RUNNING})):
        with pytest.raises(Unreachable, match="site 'west'"):
            ask()


def test_the_submission_of_a_job_without_extras_leaves_them_out(
    slurmrestd: Slurmrestd, client: RestClient, submission: Submission
) -> None:
    slurmrestd.on(SUBMIT, "submitted")
    client.submit_held(replace(submission, gres=None, mem_per_node_mib=None, account=None))
    sent = slurmrestd.asked("POST")[0].body["job"]
    assert not {"tres_per_node", "memory_per_node", "account", "qos"} & set(sent)
