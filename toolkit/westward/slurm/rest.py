"""A cluster through slurmrestd with a JWT: one keep-alive connection, the newest data_parser that both sides know.

slurmrestd ignores `#SBATCH` lines and gives no login environment, so a submission says everything in its fields.
"""

from __future__ import annotations

import json
import os
import ssl
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import httpx

from westward.errors import AccessRefused, InputError, SiteRefused, StorageError, Unreachable
from westward.model.job import JobState, JobStatus, Submission
from westward.model.site import ClusterState, RestDoor
from westward.slurm import restdata
from westward.slurm.client import InDoubt, Poll

DATA_PARSERS = ("v0.0.42", "v0.0.41")
CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 10
# a submission may wait for slurmctld's locks; giving up on one costs a search for it
SUBMIT_TIMEOUT_S = 60
# of how many waiting jobs the reason is asked, one request each
REASONS_AT_MOST = 20
# Slurm's own error numbers (slurm_errno.h), which slurmrestd passes on
ESLURM_INVALID_JOB_ID = 2017
ESLURM_ALREADY_DONE = 2021
ESLURM_JOB_FINISHED = 2084
_NOTHING_TO_DO = frozenset({ESLURM_INVALID_JOB_ID, ESLURM_ALREADY_DONE, ESLURM_JOB_FINISHED})


class RestClient:
    """`SlurmClient` over slurmrestd.

    Raises (from every call):
        Unreachable: nobody listens there, or slurmrestd cannot reach its slurmctld or slurmdbd.
        InDoubt: the request may have been carried out.
        AccessRefused: the token is missing, expired, or not this user's.
        SiteRefused: the cluster refuses what was asked.
    """

    def __init__(self, site: str, door: RestDoor) -> None:
        self._site = site
        self._door = door
        try:
            self._http = httpx.Client(
                base_url=door.url,
                headers={"X-SLURM-USER-NAME": door.user, "X-SLURM-USER-TOKEN": self._token()},
                trust_env=False,  # no proxy and no .netrc of the environment: the token goes to the cluster alone
                verify=ssl.create_default_context(),  # the system's certificates, a site's own CA among them
            )
        except httpx.InvalidURL as error:
            raise InputError(f"site '{site}': '{door.url}' is not an address: {error}") from error
        self._version: str | None = None

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def state(self) -> ClusterState:
        nodes = self._call("GET", "slurm", "nodes/")
        partitions = self._call("GET", "slurm", "partitions/")
        busy = any(node.get("alloc_cpus") for node in nodes["nodes"])
        jobs = self._call("GET", "slurm", "jobs/")["jobs"] if busy else []
        try:
            return restdata.cluster_state(nodes, partitions, jobs, datetime.now(UTC))
        except (KeyError, TypeError, IndexError) as error:
            raise Unreachable(
                f"site '{self._site}' describes itself in a form not known here ({type(error).__name__}: {error})"
            ) from error

    def submit_held(self, submission: Submission) -> int:
        try:
            answer = self._call(
                "POST",
                "slurm",
                "job/submit",
                body={"job": restdata.job_fields(submission), "script": submission.script},
            )
        except InDoubt:
            raise
        except Unreachable as error:
            if (
                self._version is None
                or isinstance(error, AccessRefused)
                or isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
            ):
                raise  # nothing was sent to slurmctld
            raise InDoubt(str(error)) from error
        job_id = answer.get("job_id")
        if not isinstance(job_id, int) or job_id <= 0:
            raise InDoubt(f"site '{self._site}': the answer to the submission names no job id")
        dropped = [
            warning["description"]
            for warning in answer.get("warnings", ())
            if "Ignoring unknown field" in warning["description"]
        ]
        if dropped:
            self.cancel(job_id)
            raise SiteRefused(f"site '{self._site}' would leave out a part of the job: {dropped[0]}")
        return job_id

    def release(self, job_id: int) -> None:
        self._update(job_id, "POST", {"hold": False})

    def cancel(self, job_id: int) -> None:
        self._update(job_id, "DELETE", None)

    def find(self, name: str) -> list[JobStatus]:
        """A held job is not in the accounting before it becomes eligible, so the queue is looked through as well.

        slurmctld's REST query cannot filter by name: this costs about half a millisecond for each job in the queue.
        """
        queued = [
            restdata.queued_status(job) for job in self._call("GET", "slurm", "jobs/")["jobs"] if job["name"] == name
        ]
        month_ago = int((datetime.now(UTC) - timedelta(days=31)).timestamp())
        records = self._call("GET", "slurmdb", "jobs/", query={"job_name": name, "start_time": str(month_ago)})["jobs"]
        found = {job.job_id: job for job in map(restdata.accounted_status, records)}
        found |= {job.job_id: job for job in queued}
        return sorted(found.values(), key=lambda job: job.job_id)

    def poll(self, known: Mapping[int, JobState]) -> Poll:
        listed = self._call("GET", "slurm", "jobs/state/")["jobs"]
        queued = {job_id: job["state"] for job in listed if (job_id := restdata.plain_job_id(job)) in known}
        # the light query does not say why a job waits, which is what its user wants to know first
        few_wait = sum(state is JobState.PENDING for state in known.values()) <= REASONS_AT_MOST
        changed: dict[int, JobStatus] = {}
        gone: set[int] = set()
        for job_id, state in known.items():
            same = job_id in queued and JobState.parse(queued[job_id][0]) is state
            if same and not (state is JobState.PENDING and few_wait):
                continue
            status = self._queued(job_id) or self._accounted(job_id)
            if status is None:
                gone.add(job_id)
            elif status.state is not state or same:
                changed[job_id] = status
        return Poll(changed, frozenset(gone))

    def _queued(self, job_id: int) -> JobStatus | None:
        """What slurmctld says of a job: it keeps one for a while (MinJobAge) after its end, complete with exit code."""
        jobs = self._call("GET", "slurm", f"job/{job_id}", absent={"jobs": []})["jobs"]
        return restdata.queued_status(jobs[0]) if jobs else None

    def _accounted(self, job_id: int) -> JobStatus | None:
        """The latest record of that id: a requeue makes a new one."""
        records = self._call("GET", "slurmdb", f"job/{job_id}", absent={"jobs": []})["jobs"]
        if not records:
            return None
        return restdata.accounted_status(max(records, key=lambda record: record["time"]["submission"]))

    def _update(self, job_id: int, method: str, body: Mapping[str, Any] | None) -> None:
        """Change a job; one that has already ended, or is long gone, needs no change."""
        answer = self._call(method, "slurm", f"job/{job_id}", body=body, harmless=_NOTHING_TO_DO)
        refused = [
            status["error"]
            for status in answer.get("status") or ()
            if status["error"]["code"] not in (0, *_NOTHING_TO_DO)
        ]
        if refused:
            raise SiteRefused(f"site '{self._site}' refuses to change job {job_id}: {refused[0]['message']}")

    def _call(
        self,
        method: str,
        api: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        absent: dict[str, Any] | None = None,
        harmless: frozenset[int] = frozenset(),
    ) -> dict[str, Any]:
        """One request and its answer. `absent` is returned where the cluster says that there is no such job."""
        version = self._version or self._negotiate()
        answer = self._send(method, f"/{api}/{version}/{path}", body, query)
        content = self._content(answer)
        errors = [error for error in content.get("errors", ()) if error.get("error_number") not in harmless]
        if absent is not None and any(
            error.get("error_number") == ESLURM_INVALID_JOB_ID for error in content.get("errors", ())
        ):
            return absent
        if errors or (answer.status_code >= 400 and not content.get("errors")):
            self._raise(answer, errors)
        return content

    def _negotiate(self) -> str:
        """The newest data_parser of DATA_PARSERS that slurmrestd has; asked once a connection."""
        for version in DATA_PARSERS:
            answer = self._send("GET", f"/slurm/{version}/ping/", None, None)
            if answer.status_code != 404:
                self._content(answer)
                self._version = version
                return version
        raise Unreachable(
            f"site '{self._site}': its slurmrestd speaks none of the data_parser versions {', '.join(DATA_PARSERS)}",
            "Slurm 24.05 or newer is needed for this door",
        )

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str] | None
    ) -> httpx.Response:
        answer = self._request(method, path, body, query)
        if restdata.says_unauthorised(answer.status_code, answer.text) and self._renewed_token():
            answer = self._request(method, path, body, query)
        if restdata.says_unauthorised(answer.status_code, answer.text):
            raise AccessRefused(
                f"site '{self._site}': slurmrestd refused the token of user '{self._door.user}'{restdata.token_problem(self._token())}",
                f"renew {self._door.token_file}; for a lab: 'westward lab up'",
            )
        return answer

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str] | None
    ) -> httpx.Response:
        seconds = SUBMIT_TIMEOUT_S if method == "POST" else ANSWER_TIMEOUT_S
        timeout = httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_S)
        try:
            return self._http.request(method, path, json=body, params=query, timeout=timeout)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise InputError(
                f"site '{self._site}': '{self._door.url}' is not an address: {error}", "write http://HOST:PORT"
            ) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(
                f"site '{self._site}': nobody answers at {self._door.url} ({error})",
                "check that it is up; for a lab: 'westward lab status'",
            ) from error
        except httpx.HTTPError as error:
            raise InDoubt(
                f"site '{self._site}': no answer from {self._door.url} ({type(error).__name__}: {error})"
            ) from error

    def _renewed_token(self) -> bool:
        """Take up a token that was renewed since this connection was made."""
        token = self._token()
        if token == self._http.headers["X-SLURM-USER-TOKEN"]:
            return False
        self._http.headers["X-SLURM-USER-TOKEN"] = token
        return True

    def _content(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            content = answer.json()
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            shown = answer.text.strip().splitlines()[:1]
            raise InDoubt(
                f"site '{self._site}': {self._door.url} answered {answer.status_code} with no JSON: {shown[0][:200] if shown else 'nothing'}"
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("errors"), list) or "meta" not in content:
            raise InDoubt(
                f"site '{self._site}': {self._door.url} answered {answer.status_code}, but not as slurmrestd does"
            )
        return content

    def _raise(self, answer: httpx.Response, errors: Sequence[Mapping[str, Any]]) -> None:
        said = (
            "; ".join(dict.fromkeys(restdata.error_text(error) for error in errors)) or f"status {answer.status_code}"
        )
        if any(restdata.is_outage(error) for error in errors):
            raise Unreachable(f"site '{self._site}': slurmrestd answers, but not the daemon behind it: {said}")
        raise SiteRefused(f"site '{self._site}' refuses: {said}")

    def _token(self) -> str:
        """The JWT, read anew for each client so that a renewed one is taken up."""
        try:
            with self._door.token_file.open() as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                token = file.read().strip()
        except UnicodeDecodeError as error:
            raise AccessRefused(f"site '{self._site}': '{self._door.token_file}' holds no token") from error
        except OSError as error:
            raise AccessRefused(
                f"site '{self._site}': cannot read the token file '{self._door.token_file}': {error.strerror}",
                "for a lab: 'westward lab up' writes it",
            ) from error
        if mode & 0o077:
            raise StorageError(
                f"site '{self._site}': others can read the token file '{self._door.token_file}' (mode {mode:o})",
                f"chmod 600 '{self._door.token_file}'",
            )
        if not token.isprintable() or not token.isascii():
            raise AccessRefused(f"site '{self._site}': '{self._door.token_file}' holds no token")
        return token
