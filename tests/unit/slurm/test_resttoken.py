"""Where the JWT comes from, when it is renewed, and where it never shows."""

from __future__ import annotations

import base64
import logging
import os
import re
import socket
import stat
import time
from pathlib import Path

import pytest

from unit.slurm.replay import Answer, Request, Slurmrestd, body_of, captured, token
from westward.errors import AccessRefused, StorageError, Unreachable, WestwardError
from westward.model.job import Submission
from westward.model.site import RestDoor
from westward.slurm.rest import RestClient
from westward.slurm.resttoken import token_problem

SUBMIT = "POST slurm/job/submit"


def submit(client: RestClient, submission: Submission) -> int:
    """The id of one job, or its error raised."""
    (result,) = client.submit([submission])
    if isinstance(result, WestwardError):
        raise result
    return result


def sent_token(request: Request) -> str:
    return {name.lower(): value for name, value in request.headers.items()}["x-slurm-user-token"]


class TestFile:
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
            client.find(["x"])

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
            submit(client, submission)
        token_file.write_text("second\n")
        assert submit(client, submission) == body_of("submitted")["job_id"]

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


@pytest.fixture
def printer(tmp_path: Path) -> Path:
    """A program that prints what the file `says` holds, and counts its runs in `runs`."""
    program = tmp_path / "renew"
    program.write_text(f"#!/bin/sh\necho run >> '{tmp_path}/runs'\ncat '{tmp_path}/says'\n")
    program.chmod(0o700)
    return program


def runs(printer: Path) -> int:
    file = printer.with_name("runs")
    return len(file.read_text().splitlines()) if file.exists() else 0


class TestCommand:
    def test_its_token_is_used_and_kept_private(self, slurmrestd: Slurmrestd, printer: Path, tmp_path: Path) -> None:
        printer.with_name("says").write_text("SLURM_JWT=made.by.command\n")
        kept = tmp_path / "kept.jwt"
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        with RestClient("west", RestDoor(slurmrestd.url, "researcher", kept, (str(printer),))) as client:
            assert client.cancel(range(1, 20)) == {}
        assert {sent_token(request) for request in slurmrestd.requests} == {"made.by.command"}
        assert kept.read_text() == "made.by.command\n"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert runs(printer) == 1

    def test_a_token_alone_will_do_and_stays_in_memory(self, slurmrestd: Slurmrestd, printer: Path) -> None:
        printer.with_name("says").write_text("\nalone.token.here\n")
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        before = set(printer.parent.iterdir())
        with RestClient("west", RestDoor(slurmrestd.url, "researcher", None, (str(printer),))) as client:
            client.cancel([4])
        assert sent_token(slurmrestd.requests[-1]) == "alone.token.here"
        assert set(printer.parent.iterdir()) - before == {printer.with_name("runs")}

    def test_a_refused_token_is_renewed_once_for_all_requests_in_flight(
        self, slurmrestd: Slurmrestd, printer: Path, token_file: Path, submission: Submission
    ) -> None:
        printer.with_name("says").write_text("SLURM_JWT=second.token.here\n")
        slurmrestd.on(
            SUBMIT,
            lambda request: captured("submitted" if sent_token(request).startswith("second") else "error_token_submit"),
        )
        with RestClient("west", RestDoor(slurmrestd.url, "researcher", token_file, (str(printer),))) as client:
            assert client.submit([submission] * 50) == [body_of("submitted")["job_id"]] * 50
        assert runs(printer) == 1
        assert token_file.read_text() == "second.token.here\n"

    def test_one_that_says_that_it_is_over_is_not_sent(
        self, slurmrestd: Slurmrestd, printer: Path, token_file: Path
    ) -> None:
        token_file.write_text(token(exp=time.time() - 60))
        fresh = token(exp=time.time() + 60)
        printer.with_name("says").write_text(fresh)
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        with RestClient("west", RestDoor(slurmrestd.url, "researcher", token_file, (str(printer),))) as client:
            client.cancel([4])
        assert {sent_token(request) for request in slurmrestd.requests} == {fresh}

    def test_one_that_runs_out_is_replaced_before_it_is_sent(
        self, slurmrestd: Slurmrestd, printer: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time()
        printer.with_name("says").write_text(token(exp=now + 60))
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        with RestClient("west", RestDoor(slurmrestd.url, "researcher", None, (str(printer),))) as client:
            client.cancel([4])
            later = token(exp=now + 4000)
            printer.with_name("says").write_text(later)
            monkeypatch.setattr("westward.slurm.resttoken.time.time", lambda: now + 61)
            monkeypatch.setattr("westward.slurm.resttoken.COMMAND_PAUSE_S", 0)
            client.cancel([4])
        assert sent_token(slurmrestd.requests[-1]) == later

    def test_one_that_is_refused_as_well_is_not_asked_for_again_and_again(
        self, slurmrestd: Slurmrestd, printer: Path, submission: Submission
    ) -> None:
        printer.with_name("says").write_text("never.good.enough\n")
        slurmrestd.on(SUBMIT, "error_token_submit")
        with RestClient("west", RestDoor(slurmrestd.url, "researcher", None, (str(printer),))) as client:
            with pytest.raises(AccessRefused) as caught:
                submit(client, submission)
            client.submit([submission] * 30)
        assert runs(printer) == 1
        assert str(printer) in caught.value.next_step
        assert "never.good.enough" not in f"{caught.value} {caught.value.next_step}"

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("echo aaaaaaaaaa.bbbbbbbbbb.cccc >&2; exit 3", r"status 3: \*+$"),
            ("echo no ticket >&2; exit 1", "status 1: no ticket"),
            ("echo SLURM_JWT=secret.secret.secret; exit 1", "status 1: it says nothing"),
            ("true", "printed no token"),
            ("echo two words", "printed no token"),
        ],
    )
    def test_one_that_fails_says_why_and_shows_no_secret(self, tmp_path: Path, script: str, said: str) -> None:
        program = tmp_path / "renew"
        program.write_text(f"#!/bin/sh\n{script.replace('secret', 's' * 9)}\n")
        program.chmod(0o700)
        door = RestDoor("http://127.0.0.1:9", "researcher", None, (str(program),))
        with pytest.raises(AccessRefused, match=said) as caught:
            RestClient("west", door)
        assert not {"bbbbbbbbbb", "s" * 9} & set(re.split(r"[^a-z]", str(caught.value)))
        assert caught.value.exit_code == 4

    def test_one_that_is_not_installed_is_named(self) -> None:
        with pytest.raises(AccessRefused, match="no-such-program"):
            RestClient("west", RestDoor("http://127.0.0.1:9", "researcher", None, ("no-such-program",)))

    def test_a_file_that_cannot_be_written_is_told_and_does_not_stop_the_work(
        self, slurmrestd: Slurmrestd, printer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        printer.with_name("says").write_text("SLURM_JWT=made.by.command\n")
        slurmrestd.on("DELETE slurm/job/", "cancelled")
        door = RestDoor(slurmrestd.url, "researcher", tmp_path / "none" / "kept.jwt", (str(printer),))
        with caplog.at_level(logging.WARNING), RestClient("west", door) as client:
            assert client.cancel([4]) == {}
        assert "kept in memory only" in caplog.text
        assert "made.by.command" not in caplog.text


def test_neither_file_nor_command() -> None:
    with pytest.raises(AccessRefused, match="no token for rest") as caught:
        RestClient("west", RestDoor("http://127.0.0.1:9", "researcher"))
    assert "token_command" in caught.value.next_step


def test_the_environment_of_this_process_gets_no_token(
    slurmrestd: Slurmrestd, client: RestClient, submission: Submission
) -> None:
    """SLURM_JWT in a job's environment would break srun, and be read by whoever can read /proc there."""
    slurmrestd.on(SUBMIT, "submitted")
    submit(client, submission)
    assert "SLURM_JWT" not in os.environ
    assert "first.token.here" not in str(slurmrestd.asked("POST")[0].body)


@pytest.mark.parametrize(
    "text",
    [token(sun="me"), "no token", "a.ü.c", "", "a." + base64.urlsafe_b64encode(b"[1]").decode() + ".c"],
    ids=["no expiry", "no token", "not ASCII", "empty", "not an object"],
)
def test_what_is_no_token_with_an_expiry_is_called_that(text: str) -> None:
    assert token_problem(text) == " (it is not a JWT with an expiry)"


def test_a_token_says_for_how_long_it_is_over() -> None:
    assert token_problem(token(exp=time.time() - 3 * 3600 - 20)) == " (expired 3 h ago)"
    assert token_problem(token(exp=time.time() + 180)) == ""
