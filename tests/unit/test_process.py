"""The one place that starts programs."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from westward.errors import StorageError, Unreachable, WestwardError
from westward.process import CommandFailed, run, start_detached

SAY = "import sys; print(*sys.argv[1:], sep='|')"


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    words = ["it's", "$(touch x)", "two words", "", "*", "a\nb", "; id"]
    done = run([sys.executable, "-c", SAY, *words], timeout_s=10)
    assert done.stdout == "|".join(words) + "\n"
    assert (done.status, done.stderr) == (0, "")


def test_a_program_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"'sleep 30' did not end within 0\.2 s") as caught:
        run(["sleep", "30"], timeout_s=0.2)
    assert time.monotonic() - started < 5
    assert caught.value.transient


def test_a_missing_program_is_named() -> None:
    with pytest.raises(Unreachable, match="'no-such-program-here' is not installed"):
        run(["no-such-program-here"], timeout_s=1)


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("not executable")
    with pytest.raises(WestwardError, match="notes"):
        run([str(tmp_path / "notes")], timeout_s=1)


def test_a_failure_shows_command_status_and_last_words() -> None:
    code = "import sys; print('x'); sys.stderr.write(''.join(f'line {i}\\n' for i in range(20))); sys.exit(3)"
    with pytest.raises(CommandFailed) as caught:
        run([sys.executable, "-c", code], timeout_s=10)
    assert "status 3" in str(caught.value)
    assert "line 19" in str(caught.value)
    assert "line 3\n" not in str(caught.value)
    assert caught.value.completed.stdout == "x\n"


def test_a_failure_can_be_the_answer() -> None:
    assert run(["false"], timeout_s=10, check=False).status == 1


def test_secrets_are_masked_everywhere() -> None:
    secret = "hunter2"
    code = "import sys; print('out', sys.stdin.read()); sys.stderr.write('err hunter2'); sys.exit(1)"
    with pytest.raises(CommandFailed) as caught:
        run([sys.executable, "-c", code, secret], timeout_s=10, stdin=secret, secrets=[secret])
    completed = caught.value.completed
    assert secret not in f"{caught.value} {completed.argv} {completed.stdout} {completed.stderr}"
    assert completed.stdout == "out ********\n"
    with pytest.raises(Unreachable) as late:
        run([sys.executable, "-c", "import time; time.sleep(30)", secret], timeout_s=0.3, secrets=[secret])
    assert secret not in str(late.value)


def test_a_secret_that_is_empty_masks_nothing() -> None:
    assert run(["echo", "hello"], timeout_s=10, secrets=[""]).stdout == "hello\n"


def test_variables_are_added_to_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_TEST_OURS", "ours")
    code = "import os; print(os.environ['WESTWARD_TEST_OURS'], os.environ['WESTWARD_TEST_MORE'])"
    done = run([sys.executable, "-c", code], timeout_s=10, environment={"WESTWARD_TEST_MORE": "more"})
    assert done.stdout == "ours more\n"


def test_nothing_waits_for_the_terminal() -> None:
    assert run(["cat"], timeout_s=10).stdout == ""


def test_output_that_is_no_text_does_not_stop_it() -> None:
    assert run(["printf", r"a\377b"], timeout_s=10).stdout == "a\ufffdb"


class TestDetached:
    def wait(self, status: Callable[[], int | None]) -> int:
        deadline = time.monotonic() + 10
        while (ended := status()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return ended

    def test_it_writes_to_a_log_that_only_its_owner_reads(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        for words in ("one", "two"):
            code = f"import sys; print({words!r}, flush=True); print('trouble', file=sys.stderr); sys.exit(3)"
            assert self.wait(start_detached([sys.executable, "-c", code], log)) == 3
        assert log.read_text() == "one\ntrouble\ntwo\ntrouble\n"
        assert stat.S_IMODE(log.stat().st_mode) == 0o600

    def test_it_is_in_a_session_of_its_own_in_no_directory_of_ours_and_hears_nobody(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        code = "import os, sys; print(os.getsid(0) == os.getpid(), os.getcwd(), repr(sys.stdin.read()))"
        self.wait(start_detached([sys.executable, "-c", code], log))
        assert log.read_text() == "True / ''\n"

    def test_arguments_arrive_as_they_are(self, tmp_path: Path) -> None:
        words = ["it's", "$(touch x)", "", "; id"]
        self.wait(start_detached([sys.executable, "-c", SAY, *words], tmp_path / "log"))
        assert (tmp_path / "log").read_text() == "|".join(words) + "\n"

    def test_it_outlives_the_process_that_started_it(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        code = (
            "import sys; from pathlib import Path; from westward.process import start_detached\n"
            "words = [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)']\n"
            f"start_detached(words, Path({str(log)!r}))\n"
            f"while not Path({str(log)!r}).read_text().endswith('\\n'): pass"
        )
        starter = subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
        assert starter.returncode == 0
        started = int(log.read_text())
        os.kill(started, signal.SIGKILL)  # it is there, or this raises

    def test_it_holds_no_file_of_ours_open(self, tmp_path: Path) -> None:
        with (tmp_path / "ours").open("w") as ours:
            os.set_inheritable(ours.fileno(), True)
            code = "import os; print(any(os.path.realpath(f'/proc/self/fd/{n}').endswith('ours') for n in os.listdir('/proc/self/fd')))"
            self.wait(start_detached([sys.executable, "-c", code], tmp_path / "log"))
        assert (tmp_path / "log").read_text() == "False\n"

    def test_a_log_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="no/log"):
            start_detached(["true"], tmp_path / "no" / "log")

    def test_a_missing_program_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(WestwardError, match="'no-such-program-here' cannot be started"):
            start_detached(["no-such-program-here"], tmp_path / "log")
