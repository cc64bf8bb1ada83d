"""The slurmrestd client against a local server that replays real ones' answers, and everything that can go wrong between."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from unit.slurm.replay import NEW, OLD, Answer, Request, Slurmrestd, body_of, captured, content, serving
from westward.errors import AccessRefused, SiteRefused, Unreachable, WestwardError
from westward.model.job import JobChange, JobState, Submission
from westward.model.limits import Cap
from westward.model.site import RestDoor
from westward.slurm import restlimits
from westward.slurm.client import InDoubt, Known, NotOffered, OtherCluster
from westward.slurm.rest import RestClient
from westward.slurm.restcall import DATA_PARSERS, IN_FLIGHT

HTML = Answer(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html")
CUT = Answer(0, b"", cut=True)
RUNNING, PENDING = JobState.RUNNING, JobState.PENDING
SUBMIT = "POST slurm/job/submit"


def submit(client: RestClient, submission: Submission) -> int:
    """The id of one job, or its error raised."""
    (result,) = client.submit([submission])
    if isinstance(result, WestwardError):
        raise result
    return result


def failing(number: int, said: str) -> Answer:
    """An answer of slurmrestd with that error."""
    told = body_of("error_partition")
    told["errors"][0] |= {"error": said, "error_number": number}
    return Answer(500, json.dumps(told).encode())


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


class TestLimits:
    def test_the_accounts_above_are_asked_for_up_to_the_root(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/partitions/", "limits_partitions").on("GET slurmdb/qos/", "limits_qos")
        slurmrestd.on("GET slurmdb/associations/?user", "limits_associations_user").on("GET slurm/jobs/", "limits_jobs")
        slurmrestd.on("GET slurmdb/associations/?account=research", "limits_associations_account")
        slurmrestd.on("GET slurmdb/associations/?account=root", "limits_associations_root")
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state")
        limits = client.limits()
        assert [(each.account, each.user) for each in limits.charges] == [
            ("research", "researcher"), ("research", ""), ("root", ""),
        ]  # fmt: skip
        assert Cap("MaxSubmitJobsPerUser", 2, "", 2.0) in limits.qos["capped"].caps

    @pytest.mark.parametrize("release", [OLD, NEW])
    def test_of_a_long_queue_the_users_own_jobs_are_taken_from_slurmdbd(
        self, slurmrestd: Slurmrestd, client: RestClient, release: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Captured with a job that runs, four array tasks that do, one that waits and one of seven tasks; one will begin in an hour."""
        monkeypatch.setattr(restlimits, "SCAN_AT_MOST", 10)
        slurmrestd.release, slurmrestd.versions = release, ("v0.0.42",) if release == OLD else ("v0.0.45",)
        slurmrestd.on("GET slurm/partitions/", "limits_partitions").on("GET slurmdb/qos/", "limits_qos")
        slurmrestd.on("GET slurmdb/associations/?user", "limits_associations_user")
        slurmrestd.on("GET slurmdb/associations/?account=research", "limits_associations_account")
        slurmrestd.on("GET slurmdb/associations/?account=root", "limits_associations_root")
        slurmrestd.on("GET slurm/conf", "conf" if release == NEW else HTML)
        records = body_of("limits_jobs_accounted", release)["jobs"]
        gone = dict(records[0], job_id=999)  # slurmdbd takes it to run still
        slurmrestd.on("GET slurmdb/jobs/", content("limits_jobs_accounted", release, jobs=[*records, gone]))
        listed = [{"job_id": str(record["job_id"]), "state": ["RUNNING"]} for record in records]
        others = [{"job_id": str(number), "state": ["PENDING"]} for number in range(100, 110)]
        slurmrestd.on("GET slurm/jobs/state/", content("jobs_state", release, jobs=[*listed, *others]))
        limits = client.limits()
        (own,) = [each for each in limits.charges if each.user and each.account == "research"]
        used = {cap.name: cap.used for cap in own.caps if cap.name in ("MaxJobs", "MaxSubmitJobs")}
        assert used == {"MaxJobs": 5.0, "MaxSubmitJobs": 14.0}
        assert "18 jobs are listed there" in limits.notes[-1] and "is held" in limits.notes[-1]
        (asked,) = slurmrestd.asked("GET /slurmdb/v0.0.4" + ("2" if release == OLD else "5") + "/jobs/")
        assert "users=researcher" in asked.path and asked.path.count("state=") == 3
        assert not [request for request in slurmrestd.requests if request.path.endswith("/jobs/")]

    @pytest.mark.parametrize(("release", "size"), [(OLD, None), (NEW, 1001)])
    def test_without_slurmdbd_there_are_those_of_partitions_and_the_newest_tells_that_of_arrays(
        self, slurmrestd: Slurmrestd, client: RestClient, release: str, size: int | None
    ) -> None:
        slurmrestd.release, slurmrestd.versions = release, ("v0.0.42",) if release == OLD else ("v0.0.45",)
        slurmrestd.on("GET slurm/partitions/", "limits_partitions")
        slurmrestd.on("GET slurm/conf", "conf" if release == NEW else HTML)
        slurmrestd.on("GET slurmdb/", "error_token_slurmdb" if release == NEW else CUT)
        limits = client.limits()
        assert (limits.max_array_size, limits.max_script_bytes) == (size, None)
        assert "gpu" in limits.partitions and (limits.charges, limits.qos) == ((), {})
        (note,) = limits.notes
        assert note.startswith("the limits of QOS and accounts cannot be read now: site 'west'")

    def test_a_job_cannot_be_tried(self, client: RestClient, submission: Submission) -> None:
        with pytest.raises(NotOffered) as caught:
            client.try_out(submission)
        assert "shell door" in caught.value.next_step


class TestNegotiation:
    def test_the_newest_version_is_spoken(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        client.cancel([4])
        assert slurmrestd.asked("DELETE /slurm/v0.0.42/job/4")

    def test_an_older_one_is_fallen_back_to_and_kept(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.versions = ("v0.0.41", "v0.0.40")
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        client.cancel([4])
        client.cancel([4])
        assert len(slurmrestd.asked("DELETE /slurm/v0.0.41/job/4")) == 2
        assert [r.path.split("/")[2] for r in slurmrestd.asked("GET")] == list(DATA_PARSERS)

    def test_another_cluster_is_seen_by_the_ping(
        self, slurmrestd: Slurmrestd, token_file: Path, submission: Submission
    ) -> None:
        with RestClient("east", RestDoor(slurmrestd.url, "researcher", token_file), "east") as client:
            errors = [*client.submit([submission, submission]), *client.cancel([4]).values()]
            assert {type(error) for error in errors} == {OtherCluster}
            with pytest.raises(OtherCluster, match=r"leads to the cluster 'west', not to 'east'"):
                client.poll({4: Known(RUNNING)})
        assert {request.path.split("/")[3] for request in slurmrestd.requests} == {"ping"}

    def test_the_right_cluster_costs_no_request(self, slurmrestd: Slurmrestd, token_file: Path) -> None:
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        with RestClient("w", RestDoor(slurmrestd.url, "researcher", token_file), "west") as client:
            assert client.cancel([4]) == client.cancel([4]) == {}
        assert len([request for request in slurmrestd.requests if request.path.startswith("/slurm/v0.0.42")]) == 3

    def test_no_common_version_says_what_is_needed(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.versions = ("v0.0.38",)
        with pytest.raises(Unreachable, match=r"v0\.0\.41") as caught:
            client.state()
        assert "24.05" in caught.value.next_step


class TestSubmit:
    def test_a_held_job_has_an_id(self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission) -> None:
        slurmrestd.on(SUBMIT, "submitted")
        assert client.submit([submission]) == [body_of("submitted")["job_id"]]
        (request,) = slurmrestd.asked("POST")
        assert request.body["job"]["script"] == submission.script
        assert request.body["job"]["hold"] is True

    def test_a_refusal_is_told_in_slurms_words(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "error_partition")
        with pytest.raises(SiteRefused, match=r"site 'west'.*Invalid partition name specified"):
            submit(client, submission)

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
            submit(client, submission)
        assert len(slurmrestd.asked("POST")) == 1, "a submission is never repeated by itself"

    def test_a_daemon_behind_that_does_not_answer_leaves_it_in_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        content = body_of("error_partition")
        content["errors"][0] |= {"error": "Unable to contact slurm controller (connect failure)", "error_number": 1000}
        slurmrestd.on(SUBMIT, Answer(500, json.dumps(content).encode()))
        with pytest.raises(InDoubt):
            submit(client, submission)

    @pytest.mark.parametrize("number", [104, 1002, 5003])
    def test_a_connection_that_broke_behind_slurmrestd_leaves_it_in_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission, number: int
    ) -> None:
        slurmrestd.on(SUBMIT, failing(number, "in so many words"))
        with pytest.raises(InDoubt, match="in so many words"):
            submit(client, submission)

    def test_a_500_without_a_reason_leaves_it_in_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, Answer(500, json.dumps(body_of("error_partition") | {"errors": []}).encode()))
        with pytest.raises(InDoubt, match="500 without a reason"):
            submit(client, submission)

    def test_a_site_s_own_plugin_that_refuses_without_a_number_refuses(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        """job_submit.lua that returns slurm.ERROR: in doubt, it would be looked for and sent again for ever."""
        slurmrestd.on(SUBMIT, failing(-1, "Unspecified error")).on("POST slurm/job/4", failing(-1, "Unspecified error"))
        with pytest.raises(SiteRefused, match="Unspecified error"):
            submit(client, submission)
        assert isinstance(client.release([4])[4], SiteRefused)

    def test_a_job_that_would_lose_a_part_is_cancelled_and_refused(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "submitted_unknown_field").on("DELETE slurm/job/", "cancelled")
        with pytest.raises(SiteRefused, match="no_such_field"):
            submit(client, submission)
        job_id = body_of("submitted_unknown_field")["job_id"]
        assert slurmrestd.asked(f"DELETE /slurm/v0.0.42/job/{job_id}")

    def test_a_refused_token_sends_nothing_into_doubt(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "error_token_submit")
        with pytest.raises(AccessRefused):
            submit(client, submission)


class TestChange:
    def test_release(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("POST slurm/job/2", "released")
        assert client.release([2]) == {}
        assert slurmrestd.asked("POST")[0].body == {"hold": False}

    @pytest.mark.parametrize("answer", ["release_finished", "release_unknown"])
    def test_releasing_a_job_that_is_over_is_harmless(
        self, slurmrestd: Slurmrestd, client: RestClient, answer: str
    ) -> None:
        slurmrestd.on("POST slurm/job/", answer)
        assert client.release([6]) == {}

    @pytest.mark.parametrize("answer", ["cancelled", "cancel_finished", "cancel_unknown"])
    def test_cancelling_can_be_repeated(self, slurmrestd: Slurmrestd, client: RestClient, answer: str) -> None:
        slurmrestd.on("DELETE slurm/job/", answer)
        assert client.cancel([4]) == {}

    def test_one_job_that_was_not_reached_is_in_doubt(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        content = body_of("cancel_unknown")
        content["status"][0]["error"] = {"string": "x", "code": 104, "message": "Connection reset by peer"}
        slurmrestd.on("DELETE slurm/job/", Answer(200, json.dumps(content).encode()))
        assert isinstance(client.cancel([4])[4], InDoubt)

    def test_a_job_of_somebody_else_is_refused(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        content = body_of("cancel_unknown")
        content["status"][0]["error"] = {"string": "x", "code": 2022, "message": "Access/permission denied"}
        slurmrestd.on("DELETE slurm/job/", Answer(200, json.dumps(content).encode()))
        errors = client.cancel([4])
        assert isinstance(errors[4], SiteRefused)
        assert re.search(r"job 4.*permission denied", str(errors[4]))


class TestFind:
    def test_queue_and_accounting_together_oldest_first(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        queued = body_of("jobs_mixed")
        late = {"set": True, "infinite": False, "number": 1900000000}
        queued["jobs"][0] |= {"name": "done~dddddddddddd", "job_id": 99, "submit_time": late}
        slurmrestd.on("GET slurm/jobs/", Answer(200, json.dumps(queued).encode()))
        slurmrestd.on("GET slurmdb/jobs/", "accounted_by_name")
        found = client.find(["done~dddddddddddd"])["done~dddddddddddd"]
        assert [job.job_id for job in found] == [6, 10, 99]
        assert {job.name for job in found} == {"done~dddddddddddd"}
        assert found[0].state is JobState.PENDING, "the queue knows better than the accounting"

    def test_nobody_knows_it(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed").on("GET slurmdb/jobs/", "accounted_by_name_nothing")
        assert client.find(["nobody~nnnnnnnnnnnn"]) == {"nobody~nnnnnnnnnnnn": []}

    def test_silence_of_the_accounting_is_not_absence(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        content = body_of("error_token_slurmdb")
        content["errors"][0]["description"] = "Failed to open slurmdbd connection"
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed")
        slurmrestd.on("GET slurmdb/jobs/", Answer(502, json.dumps(content).encode()))
        with pytest.raises(Unreachable, match="slurmdbd"):
            client.find(["nobody~nnnnnnnnnnnn"])

    def test_all_names_in_one_scan_and_one_query(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed").on("GET slurmdb/jobs/", "accounted_by_name")
        names = ["done~dddddddddddd", "kept~aaaaaaaaaaaa", *(f"x~{number:012}" for number in range(100))]
        assert set(client.find(names)) == set(names)
        assert len(slurmrestd.asked("GET /slurm/v0.0.42/jobs/")) == 1
        asked, by_state = slurmrestd.asked("GET /slurmdb/v0.0.42/jobs/")
        assert asked.path.count("%2C") == by_state.path.count("%2C") == len(names) - 1
        # a window of time leaves out what never became eligible, unless it is asked for by state and up to a moment
        assert "state=CANCELLED&state=COMPLETED&state=DEADLINE" in by_state.path and "end_time=uts" in by_state.path
        assert "end_time" not in asked.path

    def test_no_request_line_is_longer_than_gateways_take(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/", "jobs_mixed").on("GET slurm/jobs/state/", "jobs_state")
        slurmrestd.on("GET slurmdb/jobs/", "accounted_by_name_nothing")
        names = {f"{'x' * 64}~{number:012}" for number in range(250)} | {f"日本{number}" for number in range(100)}
        client.find(names)
        client.poll({10_000_000 + number: Known(RUNNING) for number in range(500)})
        asked = [urlsplit(request.path) for request in slurmrestd.asked("GET /slurmdb/")]
        assert max(len(each.geturl()) for each in asked) < 8000 - 500
        told = [parse_qs(each.query) for each in asked]
        assert {name for query in told for part in query.get("job_name", ()) for name in part.split(",")} == names
        assert len({step for query in told for step in query.get("step", ())}) == 500
        assert 3 < len(asked) < 15

    def test_an_array_is_one_job(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/", "job_array").on("GET slurm/jobs/state/", "jobs_state_array")
        slurmrestd.on("GET slurmdb/jobs/", "accounted_by_name_nothing")
        (found,) = client.find(["array~ffffffffffff"])["array~ffffffffffff"]
        assert (found.state, found.tasks) == (RUNNING, {RUNNING: 2, PENDING: 3})

    def test_nothing_to_look_for_asks_nobody(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        assert client.find([]) == {}
        assert not slurmrestd.requests


class TestPoll:
    def test_one_request_for_jobs_that_did_not_change(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        many = range(100, 200)  # of so many neither the reason for waiting is asked, nor each by its id
        listed = body_of("jobs_state")
        listed["jobs"] += [{"job_id": str(job_id), "state": ["PENDING"]} for job_id in many]
        slurmrestd.on("GET slurm/jobs/state/", Answer(200, json.dumps(listed).encode()))
        poll = client.poll({2: Known(RUNNING), **dict.fromkeys(many, Known(PENDING))})
        assert (poll.changed, poll.gone) == ({}, frozenset())
        assert [request.path for request in slurmrestd.requests][-1] == "/slurm/v0.0.42/jobs/state/"
        assert len([request for request in slurmrestd.requests if "ping" not in request.path]) == 1

    def test_of_a_few_that_wait_the_reason_is_asked(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurm/job/4", "job_held")
        assert client.poll({4: Known(PENDING)}).changed[4].reason == "JobHeldUser"
        assert client.poll({4: Known(PENDING, "JobHeldUser")}).changed == {}

    def test_a_change_is_asked_for(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurm/job/4", "job_cancelled")
        poll = client.poll({4: Known(JobState.UNKNOWN)})
        assert poll.changed[4].state is JobState.CANCELLED
        assert not slurmrestd.asked("GET /slurmdb/")

    def test_one_question_in_vain_leaves_the_others_their_answers(
        self, slurmrestd: Slurmrestd, client: RestClient
    ) -> None:
        """A gateway that breaks a few requests in a hundred would otherwise break every look at a hundred jobs."""
        listed = body_of("jobs_state")
        listed["jobs"] = [{"job_id": job_id, "state": ["CANCELLED"]} for job_id in ("4", "5")]
        slurmrestd.on("GET slurm/jobs/state/", Answer(200, json.dumps(listed).encode()))
        slurmrestd.on("GET slurm/job/4", "job_cancelled").on("GET slurm/job/5", Answer(502, b"<html>"))
        poll = client.poll(dict.fromkeys((4, 5), Known(PENDING)))
        assert (set(poll.changed), poll.gone, poll.unheard) == ({4}, frozenset(), {})
        slurmrestd.on("GET slurm/job/4", Answer(502, b"<html>"))
        with pytest.raises(Unreachable):
            client.poll(dict.fromkeys((4, 5), Known(PENDING)))

    def test_what_has_left_the_queue_is_asked_of_accounting_in_one_call(
        self, slurmrestd: Slurmrestd, client: RestClient
    ) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurmdb/jobs/", "accounted_several")
        records = body_of("accounted_several")["jobs"]
        done, failed = (next(r["job_id"] for r in records if r["name"].startswith(name)) for name in ("done", "fail"))
        array = next(r["array"]["job_id"] for r in records if r["array"]["job_id"])
        poll = client.poll({job_id: Known(RUNNING) for job_id in (done, failed, array, 999999)})
        assert {job_id: status.state for job_id, status in poll.changed.items()} == {
            done: JobState.COMPLETED, failed: JobState.FAILED, array: JobState.FAILED,
        }  # fmt: skip
        assert poll.changed[array].tasks == {JobState.COMPLETED: 4, JobState.FAILED: 1}
        assert poll.gone == {999999}
        (asked,) = slurmrestd.asked("GET /slurmdb/")
        assert asked.path.count("step=") == 4
        assert not slurmrestd.asked("GET /slurm/v0.0.42/job/")

    def test_silence_is_not_gone(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state").on("GET slurmdb/jobs/", HTML)
        poll = client.poll({999999: Known(RUNNING)})
        assert (poll.changed, poll.gone, set(poll.unheard)) == ({}, frozenset(), {999999})

    def test_a_few_are_asked_for_by_their_ids(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        listed = [{"job_id": str(job_id), "state": ["PENDING"]} for job_id in range(100, 140)]
        slurmrestd.on("GET slurm/jobs/state/", content("jobs_state", jobs=listed))
        assert client.poll(dict.fromkeys(range(100, 140), Known(PENDING))).changed == {}
        (asked,) = [request.path for request in slurmrestd.requests if "/state/" in request.path]
        assert asked.startswith("/slurm/v0.0.42/jobs/state/?job_id=100&job_id=101&")

    def test_an_array_among_a_few_is_asked_for_with_all(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state_array").on("GET slurmdb/jobs/", "accounted_by_name_nothing")
        slurmrestd.on("GET slurm/job/7", "job_array")
        client.poll({7: Known(PENDING)})
        asked = [request.path for request in slurmrestd.requests if "/state/" in request.path]
        assert asked == ["/slurm/v0.0.42/jobs/state/?job_id=7", "/slurm/v0.0.42/jobs/state/"]

    def test_many_that_changed_are_asked_for_at_once(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        held = body_of("job_held")["jobs"][0]
        jobs = [held | {"job_id": job_id, "job_state": ["RUNNING"]} for job_id in range(100, 200)]
        listed = [{"job_id": str(job["job_id"]), "state": ["RUNNING"]} for job in jobs]
        slurmrestd.on("GET slurm/jobs/state/", content("jobs_state", jobs=listed))
        slurmrestd.on("GET slurm/jobs/", content("jobs_mixed", jobs=jobs))
        poll = client.poll(dict.fromkeys(range(100, 200), Known(PENDING)))
        assert len(poll.changed) == 100
        assert len(slurmrestd.asked("GET /slurm/v0.0.42/job")) == 2

    def test_an_unknown_state_stops_nothing(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        listed = [{"job_id": "7", "state": ["LAZY"]}, {"job_id": "8", "state": ["RUNNING"]}]
        job = body_of("job_held")["jobs"][0] | {"job_id": 7, "job_state": ["LAZY"]}
        slurmrestd.on("GET slurm/jobs/state/", content("jobs_state", jobs=listed))
        slurmrestd.on("GET slurm/job/7", content("job_held", jobs=[job]))
        poll = client.poll({7: Known(RUNNING), 8: Known(RUNNING)})
        assert poll.changed[7].state is JobState.UNKNOWN


class TestPollOfArrays:
    """Tasks start under ids of their own and are forgotten one by one; the array is one job all the same."""

    @pytest.fixture
    def array(self, slurmrestd: Slurmrestd) -> int:
        slurmrestd.on("GET slurm/jobs/state/", "jobs_state_array").on("GET slurmdb/jobs/", "accounted_by_name_nothing")
        jobs = body_of("job_array")["jobs"]
        array: int = jobs[0]["array_job_id"]["number"]
        slurmrestd.on(f"GET slurm/job/{array}", "job_array")
        return array

    def test_it_is_told_once_and_again_when_a_task_moves_on(
        self, slurmrestd: Slurmrestd, client: RestClient, array: int
    ) -> None:
        first = client.poll({array: Known(PENDING)}).changed[array]
        assert (first.state, first.tasks) == (RUNNING, {RUNNING: 2, PENDING: 3})
        slurmrestd.requests.clear()
        assert client.poll({array: Known(RUNNING)}).changed == {}
        assert len(slurmrestd.requests) == 1, "nothing has moved, so nothing more is asked"
        listed = body_of("jobs_state_array")["jobs"]
        for job in listed:
            if job["job_id"].endswith("_1"):
                job["state"] = ["COMPLETED"]
        slurmrestd.on("GET slurm/jobs/state/", content("jobs_state_array", jobs=listed))
        second = client.poll({array: Known(RUNNING)}).changed[array]
        assert second.tasks == {RUNNING: 1, PENDING: 3, JobState.COMPLETED: 1}

    def test_a_task_that_the_queue_has_forgotten_still_counts(
        self, slurmrestd: Slurmrestd, client: RestClient, array: int
    ) -> None:
        """Task 0 has failed and is forgotten, the others have completed: the array has failed."""
        client.poll({array: Known(PENDING)})
        slurmrestd.on("GET slurmdb/jobs/", "accounted_array")
        jobs = [job | {"job_state": ["COMPLETED"]} for job in body_of("job_array")["jobs"] if job["array_task_id"]["number"] != 0 or not job["array_task_id"]["set"]]  # fmt: skip
        ids = {job["array_task_id"]["number"]: job["job_id"] for job in jobs if job["array_task_id"]["set"]}
        listed = [{"job_id": f"{ids.get(index, array)}_{index}", "state": ["COMPLETED"]} for index in (1, 2, 3, 4)]
        slurmrestd.on("GET slurm/jobs/state/", content("jobs_state_array", jobs=listed))
        slurmrestd.on(f"GET slurm/job/{array}", content("job_array", jobs=jobs))
        status = client.poll({array: Known(RUNNING)}).changed[array]
        assert (status.state, status.exit_code) == (JobState.FAILED, 4)
        assert status.tasks == {JobState.COMPLETED: 4, JobState.FAILED: 1}

    def test_one_that_goes_on_is_told_of_without_the_accounting(
        self, slurmrestd: Slurmrestd, client: RestClient, array: int
    ) -> None:
        slurmrestd.on("GET slurmdb/jobs/", HTML)
        assert client.poll({array: Known(PENDING)}).changed[array].state is RUNNING


class TestOtherCalls:
    def test_a_signal_goes_to_the_steps_alone(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("DELETE slurm/job/4", "cancelled")
        client.signal(4, "SIGUSR1")
        assert slurmrestd.asked("DELETE")[0].path.endswith("/job/4?signal=USR1&flags=FULL_STEPS_ONLY")

    def test_a_signal_that_slurm_does_not_know(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("DELETE slurm/job/4", "signal_unknown")
        with pytest.raises(SiteRefused, match="Unknown signal"):
            client.signal(4, "NOSUCH")

    def test_a_requeue_is_not_offered_before_26_05(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        with pytest.raises(NotOffered, match=r"v0\.0\.42 cannot requeue"):
            client.requeue(4)
        assert not slurmrestd.asked("POST")

    def test_a_requeue(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.versions, slurmrestd.release = ("v0.0.45", "v0.0.44"), NEW
        slurmrestd.on("POST slurm/jobs/requeue", "requeued")
        client.requeue(4)
        assert slurmrestd.asked("POST")[0].body == {"jobs": ["4"]}
        slurmrestd.on("POST slurm/jobs/requeue", "requeue_refused")
        with pytest.raises(SiteRefused, match="pending execution"):
            client.requeue(4)
        refused = [{"job_id": 4, "error_code": 2002, "error": "Access/permission denied"}]
        slurmrestd.on("POST slurm/jobs/requeue", content("requeued", NEW, status=refused))
        with pytest.raises(SiteRefused, match="job 4: Access/permission denied"):
            client.requeue(4)

    @pytest.mark.parametrize(
        "call",
        [lambda client: client.requeue(4), lambda client: client.update(4, JobChange(qos="urgent"))],
        ids=["requeue", "update"],
    )
    def test_what_may_have_been_done_is_not_sent_again_on_a_new_connection(
        self, slurmrestd: Slurmrestd, client: RestClient, call: Callable[[RestClient], None]
    ) -> None:
        slurmrestd.versions, slurmrestd.release = ("v0.0.45",), NEW
        slurmrestd.on("DELETE slurm/job/", "cancelled").on("POST slurm/job", CUT)
        client.cancel([4])  # leaves a kept connection behind
        with pytest.raises(InDoubt):
            call(client)
        assert len(slurmrestd.asked("POST")) == 1

    def test_an_update_sends_what_changes(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("POST slurm/job/4", "released")
        client.update(4, JobChange(qos="urgent"))
        client.update(4, JobChange())
        assert [request.body for request in slurmrestd.asked("POST")] == [{"qos": "urgent"}]

    def test_holding_a_job_that_is_over_is_an_error(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("POST slurm/job/", "release_finished")
        assert isinstance(client.hold([4])[4], SiteRefused)

    def test_the_accounting_backlog(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/diag/", "diag").on("GET slurmdb/ping/", "slurmdb_ping")
        assert client.accounting_backlog() == 0
        silent = body_of("slurmdb_ping")["pings"][0] | {"responding": False}
        slurmrestd.on("GET slurmdb/ping/", content("slurmdb_ping", pings=[silent]))
        with pytest.raises(Unreachable, match="slurmdbd"):
            client.accounting_backlog()

    @pytest.mark.parametrize("release", [OLD, NEW])
    def test_who_we_are(self, slurmrestd: Slurmrestd, client: RestClient, release: str) -> None:
        slurmrestd.release, slurmrestd.versions = release, ("v0.0.42",) if release == OLD else ("v0.0.45",)
        slurmrestd.on("GET slurm/diag/", "diag").on("GET slurmdb/associations/", "associations")
        slurmrestd.on("GET slurm/conf", "conf" if release == NEW else HTML)
        assert client.account().default_account == "research"

    def test_history_asks_for_every_attempt_of_this_user(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurmdb/jobs/", "accounted_array")
        since = datetime(2026, 11, 20, tzinfo=UTC)
        attempts = client.history(since)
        assert sorted(attempt.task or 0 for attempt in attempts) == [0, 1, 2, 3, 4]
        for asked in slurmrestd.asked("GET /slurmdb/"):
            assert "show_duplicates=true" in asked.path
            assert "users=researcher" in asked.path
            assert f"start_time=uts{int(since.timestamp())}" in asked.path
            assert "disable_truncate_usage_time=true" in asked.path
        assert len(slurmrestd.asked("GET /slurmdb/")) == 2, "and each record is told once"

    def test_an_option_without_a_field_is_refused_in_words(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        assert client.refuses(submission) == ""
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        client.cancel([4])
        said = client.refuses(replace(submission, options={"x11": None}))
        assert said == "sbatch option --x11 has no field in slurmrestd v0.0.42"


class TestMany:
    def test_the_results_are_in_order(self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission) -> None:
        def number(request: Request) -> Answer:
            index = int(request.body["job"]["name"])
            if index % 10 == 3:
                return captured("error_partition")
            return content("submitted", job_id=1000 + index)

        slurmrestd.on(SUBMIT, number)
        results = client.submit([replace(submission, name=str(index)) for index in range(50)])
        for index, result in enumerate(results):
            assert isinstance(result, SiteRefused) if index % 10 == 3 else result == 1000 + index

    def test_several_are_in_flight_over_kept_connections(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        submitted = captured("submitted")
        slurmrestd.on(SUBMIT, replace(submitted, stall_s=0.02))
        started = time.monotonic()
        assert len(client.submit([submission] * 64)) == 64
        assert time.monotonic() - started < 64 * 0.02 / 2
        assert 2 <= slurmrestd.connections <= IN_FLIGHT + 1

    def test_when_nobody_answers_the_rest_is_not_sent(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, CUT)
        results = client.submit([submission] * 100)
        doubts = [result for result in results if isinstance(result, InDoubt)]
        assert len(doubts) == len(slurmrestd.asked("POST")) < 2 * IN_FLIGHT
        assert all(isinstance(result, Unreachable) for result in results)

    def test_a_refused_token_stops_the_batch(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, "error_token_submit")
        results = client.submit([submission] * 100)
        assert all(isinstance(result, AccessRefused) for result in results)
        assert len(slurmrestd.asked("POST")) <= 2 * IN_FLIGHT

    def test_one_error_for_each_job(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("POST slurm/job/", "released").on("POST slurm/job/7", "error_partition")
        errors = client.release(range(1, 10))
        assert set(errors) == {7}


class TestConnection:
    def test_one_that_the_server_closed_while_idle_is_made_again(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, replace(captured("submitted"), then_close=True))
        for _ in range(3):
            assert submit(client, submission) == body_of("submitted")["job_id"]
            time.sleep(0.05)
        assert len(slurmrestd.asked("POST")) == 3

    def test_a_short_answer_is_no_answer(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on(SUBMIT, replace(captured("submitted"), short=True))
        with pytest.raises(InDoubt):
            submit(client, submission)

    def test_a_server_that_says_nothing_is_given_up(
        self, slurmrestd: Slurmrestd, client: RestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slurmrestd.on("GET slurm/nodes/", replace(captured("nodes_idle"), stall_s=1))
        client.cancel([4])
        monkeypatch.setattr("westward.slurm.restcall.ANSWER_TIMEOUT_S", 0.1)
        with pytest.raises(Unreachable, match="no answer in time"):
            client.state()

    def test_by_a_unix_socket(self, tmp_path: Path, token_file: Path) -> None:
        with serving(tmp_path / "slurmrestd.socket") as slurmrestd:
            slurmrestd.on("DELETE slurm/job/", "cancelled")
            with RestClient("west", RestDoor(slurmrestd.url, "researcher", token_file)) as client:
                assert client.cancel(range(20)) == {}
            assert len(slurmrestd.asked("DELETE")) == 20

    def test_a_unix_socket_that_is_not_there(self, tmp_path: Path, token_file: Path) -> None:
        door = RestDoor(f"unix://{tmp_path}/none.socket", "researcher", token_file)
        with RestClient("west", door) as client, pytest.raises(Unreachable, match=r"none\.socket.*No such file"):
            client.state()


class TestNobodyThere:
    def test_nothing_listens(self, token_file: Path, submission: Submission) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with RestClient("west", RestDoor(url, "researcher", token_file)) as client:
                with pytest.raises(Unreachable, match=f"site 'west'.*{url}"):
                    client.state()
                with pytest.raises(Unreachable) as caught:
                    submit(client, submission)
        assert not isinstance(caught.value, InDoubt), "nothing was sent"
        assert caught.value.transient

    @pytest.mark.parametrize(
        "url",
        ["west:6820", "unix://host/path", "unix:///", "http://[::1", "http://", "ftp://127.0.0.1", "http://no host:1"],
    )
    def test_an_address_that_is_none(self, token_file: Path, submission: Submission, url: str) -> None:
        """Nothing is sent to such an address, so nothing can be in doubt."""
        with (
            pytest.raises(WestwardError, match="site 'west'") as caught,
            RestClient("west", RestDoor(url, "researcher", token_file)) as client,
        ):
            submit(client, submission)
        assert not isinstance(caught.value, InDoubt)

    def test_it_stops_between_two_calls(
        self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission
    ) -> None:
        slurmrestd.on("DELETE slurm/job/", "cancelled").on("GET slurm/nodes/", CUT)
        client.cancel([4])
        with pytest.raises(Unreachable):
            client.state()


@pytest.mark.parametrize("answer", [HTML, CUT, Answer(200, b"{}"), Answer(200, b'{"errors": null}')])
def test_no_answer_of_another_program_is_taken_for_a_state(
    slurmrestd: Slurmrestd, client: RestClient, answer: Answer
) -> None:
    """A gateway, a captive portal or another service at that port: an error with the site's name, never a guess or a traceback."""
    slurmrestd.on("GET slurm/", answer).on("GET slurmdb/", answer)
    for ask in (client.state, lambda: client.find(["x"]), lambda: client.poll({2: Known(RUNNING)})):
        with pytest.raises(Unreachable, match="site 'west'"):
            ask()


def test_the_submission_of_a_job_without_extras_leaves_them_out(
    slurmrestd: Slurmrestd, client: RestClient, submission: Submission
) -> None:
    slurmrestd.on(SUBMIT, "submitted")
    submit(client, replace(submission, gres=None, mem_per_node_mib=None, account=None))
    sent = slurmrestd.asked("POST")[0].body["job"]
    assert not {"tres_per_node", "memory_per_node", "account", "qos"} & set(sent)


class TestControllerDown:
    """What slurmrestd says while slurmctld is gone, as captured: nothing of it is a refusal."""

    def test_looking(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("GET slurm/jobs/state/", "error_controller_down_state")
        with pytest.raises(Unreachable, match="not the daemon behind it") as caught:
            client.poll({4: Known(RUNNING)})
        assert "scontrol ping" in caught.value.next_step and "westward site check west" in caught.value.next_step

    def test_changing(self, slurmrestd: Slurmrestd, client: RestClient) -> None:
        slurmrestd.on("POST slurm/job/", "error_controller_down_update")
        slurmrestd.on("DELETE slurm/job/", "error_controller_down_cancel")
        assert isinstance(client.release([4])[4], InDoubt)
        assert isinstance(client.cancel([4])[4], InDoubt)
        with pytest.raises(InDoubt):  # another door must not send a second signal
            client.signal(4, "USR1")

    def test_submitting(self, slurmrestd: Slurmrestd, client: RestClient, submission: Submission) -> None:
        slurmrestd.on(SUBMIT, "error_controller_down_submit")
        with pytest.raises(InDoubt):
            submit(client, submission)


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A certificate for 127.0.0.1 with its key, signed by nobody else."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        file = tmp_path / "west.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        return file

    def test_a_site_with_a_certificate_of_its_own_ca(
        self, certificate: Path, token_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with serving(certificate=certificate) as slurmrestd:
            slurmrestd.on("DELETE slurm/job/", "cancelled")
            with RestClient("west", RestDoor(slurmrestd.url, "researcher", token_file)) as client:
                assert client.cancel(range(1, 10)) == {}

    def test_nothing_is_sent_to_a_server_that_nobody_vouches_for(self, certificate: Path, token_file: Path) -> None:
        with serving(certificate=certificate) as slurmrestd:
            door = RestDoor(slurmrestd.url, "researcher", token_file)
            with RestClient("west", door) as client, pytest.raises(Unreachable, match="certificate") as caught:
                client.state()
        assert not isinstance(caught.value, InDoubt)
        assert not slurmrestd.requests
