"""Requests to one slurmrestd: the token, the data_parser version that both sides know, several in flight, and what went wrong.

Whatever answers in slurmrestd's place (a gateway, a captive portal, another service) is an error with the site's name, never a guess.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from westward.errors import AccessRefused, InputError, SiteRefused, Unreachable, WestwardError
from westward.model.site import RestDoor
from westward.slurm import restdata
from westward.slurm.client import InDoubt, same_cluster
from westward.slurm.faults import INVALID_JOB_ID, Fault, next_step
from westward.slurm.resttoken import Token, token_problem
from westward.slurm.restwire import AnswerLost, NotConnected, Wire

DATA_PARSERS = ("v0.0.45", "v0.0.44", "v0.0.43", "v0.0.42", "v0.0.41")
# longer than Slurm's own MessageTimeout (10 s), after which slurmrestd says which daemon is silent
ANSWER_TIMEOUT_S = 15
# a submission may wait for slurmctld's locks; giving up on one costs a search for it
SUBMIT_TIMEOUT_S = 60
# slurmctld takes requests one at a time; more in flight than this only wait there
IN_FLIGHT = 8
# so many requests in a row without an answer, and the rest of the batch is not sent
DOUBTS_AT_MOST = IN_FLIGHT
NONE_HARMLESS: frozenset[int] = frozenset()
# what a gateway answers that has given up waiting; everything from 500 on is the server's own trouble
_GATEWAY_TIMEOUT = 408

Item = TypeVar("Item")
Result = TypeVar("Result")
Content = dict[str, Any]
Query = Mapping[str, str] | Sequence[tuple[str, str]]


class Caller:
    """One slurmrestd, asked as one user. Any thread may call. `cluster` is the ClusterName to find there; empty for whichever it is.

    Raises (at once):
        AccessRefused: there is no token to be had.
        StorageError: others can read it.
        InputError: the door's address is none.
    """

    def __init__(self, site: str, door: RestDoor, cluster: str = "") -> None:
        self._site = site
        self._cluster = cluster
        self._door = door
        self._token = Token(site, door)
        self._token.current()
        try:
            self._wire = Wire(door.url)
        except ValueError as error:
            raise InputError(f"site '{site}': {error}", "correct the door in the site's description") from error
        self.version: str | None = None
        self._negotiating = threading.Lock()
        self._workers = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="rest")

    def close(self) -> None:
        self._workers.shutdown()
        self._wire.close()

    def call(
        self,
        method: str,
        api: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Query | None = None,
        absent: Content | None = None,
        harmless: frozenset[int] = NONE_HARMLESS,
        timeout_s: float | None = None,
        repeatable: bool = True,
    ) -> Content:
        """One request and its answer. `absent` is returned where the cluster says that there is no such job."""
        version = self.version or self._negotiate()
        target = f"/{api}/{version}/{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        seconds = timeout_s or (SUBMIT_TIMEOUT_S if method == "POST" else ANSWER_TIMEOUT_S)
        status, raw = self._send(method, target, body, seconds, repeatable)
        content = self._content(status, raw)
        if status < 400 and not content["errors"]:
            return content
        errors = [error for error in content["errors"] if error.get("error_number") not in harmless]
        if absent is not None and any(error.get("error_number") == INVALID_JOB_ID for error in content["errors"]):
            return absent
        if errors or not content["errors"]:
            raise self.problem(errors or [{"error": f"status {status}"}], changes=method != "GET")
        return content

    def speaks(self, version: str) -> bool:
        """Whether the version in use is that one or a newer one."""
        return version <= (self.version or self._negotiate())

    def many(self, call: Callable[[Item], Result], items: Sequence[Item]) -> list[Result | WestwardError]:
        """The results in their order, or what went wrong. When nobody is there or lets us in, the rest is not tried."""
        results: list[Result | WestwardError | None] = [None] * len(items)
        todo = iter(enumerate(items))  # shared by the workers: taking the next of it is one step of the interpreter
        stopped: list[WestwardError] = []
        doubts = 0

        def work() -> None:
            nonlocal doubts
            for place, item in todo:
                if stopped:
                    results[place] = stopped[0]
                    continue
                try:
                    results[place] = call(item)
                    doubts = 0
                except InDoubt as error:
                    results[place] = error
                    doubts += 1
                    if doubts >= DOUBTS_AT_MOST:
                        stopped.append(Unreachable(f"{error}; not sent after {doubts} requests without an answer"))
                except Unreachable as error:
                    results[place] = error
                    stopped.append(error)
                except WestwardError as error:
                    results[place] = error

        if len(items) <= 1:
            work()
        else:
            self._negotiated_quietly()
            self._side_by_side(work, min(IN_FLIGHT, len(items)), stopped)
        return results  # type: ignore[return-value]

    def _side_by_side(self, work: Callable[[], None], workers: int, stopped: list[WestwardError]) -> None:
        running = [self._workers.submit(work) for _ in range(workers)]
        try:
            for future in running:
                future.result()
        except BaseException:
            stopped.append(Unreachable(f"site '{self._site}': interrupted before this was sent"))
            raise

    def _negotiate(self) -> str:
        """The newest data_parser of DATA_PARSERS that slurmrestd has; asked once a client, and its answer also names the cluster."""
        with self._negotiating:
            for version in () if self.version else DATA_PARSERS:
                try:
                    status, raw = self._send("GET", f"/slurm/{version}/ping/", None, ANSWER_TIMEOUT_S, True)
                    if status != 404:
                        slurm = self._content(status, raw)["meta"].get("slurm") or {}
                        if "cluster" in slurm:
                            same_cluster(self._site, self._door, slurm["cluster"], self._cluster)
                        self.version = version
                        break
                except InDoubt as error:  # about a ping: of the request itself nothing has left
                    raise Unreachable(str(error), error.next_step) from error
            if self.version is None:
                raise Unreachable(
                    f"site '{self._site}': {self._door.url} speaks none of slurmrestd's data_parser versions {', '.join(DATA_PARSERS)}",
                    "Slurm 24.05 or newer is needed for this door; list a shell door for another",
                )
            return self.version

    def _negotiated_quietly(self) -> None:
        """Settle the version before several threads ask at once; what goes wrong is met again by the first of them."""
        if self.version is None:
            try:
                self._negotiate()
            except WestwardError:
                return

    def _send(
        self, method: str, target: str, body: Mapping[str, Any] | None, timeout_s: float, repeatable: bool
    ) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        token = self._token.current()
        status, raw = self._request(method, target, content, token, timeout_s, repeatable)
        if restdata.says_unauthorised(status, raw):
            another = self._token.after(token)
            if another is not None and another != token:
                token = another
                status, raw = self._request(method, target, content, token, timeout_s, repeatable)
            if restdata.says_unauthorised(status, raw):
                raise AccessRefused(
                    f"site '{self._site}': slurmrestd refused the token of user '{self._door.user}'{token_problem(token)}",
                    self._token.next_step(),
                )
        return status, raw

    def _request(
        self, method: str, target: str, body: bytes | None, token: str, timeout_s: float, repeatable: bool
    ) -> tuple[int, bytes]:
        headers = {"X-SLURM-USER-NAME": self._door.user, "X-SLURM-USER-TOKEN": token}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            try:
                return self._wire.request(method, target, headers, body, timeout_s)
            except AnswerLost as error:
                if not (repeatable and error.stale):
                    raise
            return self._wire.request(method, target, headers, body, timeout_s)
        except NotConnected as error:
            raise Unreachable(
                f"site '{self._site}': nobody answers at {self._door.url} ({error})",
                "check that it is up; for a lab: 'westward lab status'",
            ) from error
        except AnswerLost as error:
            raise InDoubt(f"site '{self._site}': no answer from {self._door.url} ({error})") from error

    def _content(self, status: int, raw: bytes) -> Content:
        try:
            content = json.loads(raw)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            shown = raw.decode(errors="replace").strip().splitlines()[:1]
            raise InDoubt(
                f"site '{self._site}': {self._door.url} answered {status} with no JSON: {shown[0][:200] if shown else 'nothing'}"
            ) from error
        if not isinstance(content, dict) or not isinstance(content.get("errors"), list) or "meta" not in content:
            raise InDoubt(f"site '{self._site}': {self._door.url} answered {status}, but not as slurmrestd does")
        if not isinstance(content.get("warnings"), list):
            content["warnings"] = []
        if (status == _GATEWAY_TIMEOUT or status >= 500) and not content["errors"]:
            raise InDoubt(f"site '{self._site}': {self._door.url} answered {status} without a reason")
        return content

    def problem(self, errors: Sequence[Mapping[str, Any]], *, changes: bool, about: str = "") -> WestwardError:
        """What slurmrestd told of a request. Of a change (to `about`) whose answer never came it is not known whether it was made."""
        site = f"site '{self._site}'"
        said = "; ".join(dict.fromkeys(restdata.error_text(error) for error in errors))
        faults = {restdata.fault(error, changes=changes) for error in errors}
        if Fault.ACCESS in faults:
            return AccessRefused(f"{site} refuses who we are: {said}", self._token.next_step())
        if faults == {Fault.REFUSED}:
            return SiteRefused(f"{site} refuses{about and f' to change {about}'}: {said}")
        kind = InDoubt if changes and faults & {Fault.SILENT, Fault.DATABASE} else Unreachable
        worst = Fault.DATABASE if Fault.DATABASE in faults else Fault.SILENT
        return kind(f"{site}: slurmrestd answers, but not the daemon behind it: {said}", next_step(worst, self._site))
