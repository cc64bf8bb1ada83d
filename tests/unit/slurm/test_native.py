"""The native door where there is no pyslurm, or one that does not fit: packages that stand for it, loaded on the road that the real one takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from westward.errors import AccessRefused, SiteRefused, Unreachable
from westward.model.job import JobChange, JobState, Submission
from westward.slurm import nativedata
from westward.slurm.client import InDoubt, Known, NotOffered, OtherCluster, SlurmClient
from westward.slurm.native import NOT_OFFERED, OFFERED, NativeClient
from westward.slurm.nativelib import Unfit
from westward.slurm.text import whole

TOOLKIT = Path(__file__).parents[3] / "toolkit"
# as much of pyslurm as the trial looks at; WORLD is what a test adds
PYSLURM = """
import os, sys
sys.setdlopenflags(sys.getdlopenflags() | os.RTLD_GLOBAL | os.RTLD_DEEPBIND)
from types import SimpleNamespace
class PyslurmError(Exception):
    pass
class RPCError(PyslurmError):
    def __init__(self, errno, msg):
        self.errno = errno
        super().__init__(msg)
class Records:
    @staticmethod
    def load():
        return {}
class Settings:
    @staticmethod
    def load():
        return SimpleNamespace(version="26.05.5", cluster_name="west")
Nodes = Partitions = Jobs = Records
from pyslurm import slurmctld
slurmctld.Config = Settings
"""
SUBMITS = """
class JobSubmitDescription:
    def __init__(self, **fields):
        self.fields = fields
    def submit(self):
        name = self.fields["name"]
        if name == "refused":
            os.write(2, b"python3: error: invalid partition specified: nope\\n")
            raise RPCError(2000, "Invalid partition name specified")
        if name == "silence":
            os.write(2, b"python3: error: slurm_receive_msg: Socket timed out\\n")
            raise RPCError(5004, "Socket timed out on send/recv operation")
        if name == "down":
            raise RPCError(1800, "Unable to contact slurm controller (connect failure)")
        if name == "plugin":
            raise RPCError(-1, "Unspecified error")
        if name == "reset":
            raise RPCError(104, "Connection reset by peer")
        if name == "odd":
            raise ValueError("Batch script is empty or none was provided.")
        os.write(2, b"somebody else's words\\n")
        return 7
"""

Make = Callable[..., NativeClient]


@pytest.fixture
def pyslurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make a pyslurm that does as told, on a host with Slurm 26.05.5, and open the door."""
    package = tmp_path / "packages" / "pyslurm"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sinfo").write_text("#!/bin/sh\necho slurm 26.05.5\n")
    (tmp_path / "bin" / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("SLURM_BITSTR_LEN", "0")
    monkeypatch.syspath_prepend(str(package.parent))

    def make(
        world: str = "", *, first: str = "", submission: str = "from os import environ as pyenviron"
    ) -> NativeClient:
        (package / "core" / "job").mkdir(parents=True)
        for folder in (package / "core", package / "core" / "job"):
            (folder / "__init__.py").touch()
        (package / "__init__.py").write_text(first + PYSLURM + world)
        (package / "version.py").write_text('__version__ = "25.11.2"\n')
        (package / "slurmctld.py").touch()
        (package / "core" / "job" / "submission.py").write_text(submission + "\n")
        return NativeClient("west")

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyslurm"]:
        del sys.modules[name]


def why(client: NativeClient) -> Any:
    """The error of a door that does not work, the same for a question and a submission."""
    with pytest.raises(Unreachable) as raised:
        client.accounting_backlog()
    return raised.value


def test_without_pyslurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submission: Submission) -> None:
    (tmp_path / "sinfo").write_text("#!/bin/sh\necho slurm-wlm 24.11.5\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    client = NativeClient("west")
    error = why(client)
    assert "site 'west'" in str(error)
    assert "built for exactly this host's Slurm 24.11.5" in str(error)
    assert "look for a pyslurm 24.11 on PyPI" in error.next_step
    assert "door: shell" in error.next_step
    assert error.exit_code == 4
    (answer,) = client.submit([submission])
    assert isinstance(answer, Unreachable) and not isinstance(answer, InDoubt)
    assert isinstance(client.release([5])[5], Unreachable)
    assert client.refuses(submission) == ""


def test_no_slurm_on_this_host_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "the Slurm of this host, a login node of that cluster" in str(why(NativeClient("west")))


def test_a_pyslurm_for_another_slurm_cannot_be_imported(pyslurm: Make) -> None:
    error = why(pyslurm(first="raise ImportError('libslurmfull.so: undefined symbol: slurm_load_jobs')\n"))
    assert isinstance(error, Unfit)
    assert "pyslurm 25.11.2 does not work with Slurm 26.05.5 here" in str(error)
    assert "undefined symbol: slurm_load_jobs" in str(error)
    assert "build pyslurm 25.11.2 against it by the recipe in Westward's containers/pyslurm" in error.next_step
    assert not error.transient


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("25.11.3", "pip install 'westward[native]'"),
        ("26.05.5", "pyslurm 25.11.2"),
        ("27.05.0", "a pyslurm 27.5 on PyPI"),
        ("", "a pyslurm of its release"),
    ],
)
def test_the_pyslurm_that_is_named_exists_or_has_to_be_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, said: str
) -> None:
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\necho slurm {version}\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert said in why(NativeClient("west")).next_step


def test_a_crash_of_libslurm_ends_another_process(pyslurm: Make) -> None:
    error = why(pyslurm("import signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"))
    assert isinstance(error, Unfit)
    assert "it crashes (signal 11)" in str(error)


def test_libslurm_that_exits_without_a_configuration(pyslurm: Make) -> None:
    error = why(pyslurm("os.write(2, b'python3: fatal: Could not establish a configuration source\\n')\nos._exit(1)\n"))
    assert "no configuration that it can use here: Could not establish a configuration source" in str(error)
    assert "SLURM_CONF" in error.next_step


def test_a_configuration_that_is_not_there_is_not_waited_for(pyslurm: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
    assert "SLURM_CONF names '/nowhere/slurm.conf'" in str(why(pyslurm("import time\ntime.sleep(60)\n")))


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (1005, Unfit, "pyslurm 25.11.2 does not work with Slurm 26.05.5 here: its slurmctld speaks another protocol"),
        (1007, AccessRefused, "refuses who we are"),
        (1800, Unreachable, "its slurmctld does not answer"),
    ],
)
def test_what_the_controller_says_to_the_trial(pyslurm: Make, number: int, kind: type, said: str) -> None:
    error = why(pyslurm(f"def load():\n    raise RPCError({number}, 'in so many words')\nSettings.load = load\n"))
    assert type(error) is kind
    assert said in str(error)
    assert "in so many words" in str(error)


def test_a_pyslurm_that_cannot_be_kept_from_leaking_is_not_used(pyslurm: Make) -> None:
    assert "SLURM_JWT" in str(why(pyslurm(submission="")))


def test_loading_leaves_this_process_as_it_was(
    pyslurm: Make, submission: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JWT", "secret")
    flags = sys.getdlopenflags()
    assert pyslurm(SUBMITS).submit([submission]) == [7]
    assert sys.getdlopenflags() == flags
    assert sys.modules["pyslurm.core.job.submission"].pyenviron == {}
    assert os.environ["SLURM_JWT"] == "secret"


def test_another_cluster_gets_no_job(pyslurm: Make, submission: Submission) -> None:
    pyslurm(SUBMITS)
    client = NativeClient("east", "east")
    (answer,) = client.submit([submission])
    assert type(answer) is OtherCluster
    assert str(answer) == "site 'east': its native door leads to the cluster 'west', not to 'east'"
    assert type(client.release([7])[7]) is OtherCluster
    assert NativeClient("west", "west").submit([submission]) == [7]


def test_refusals_carry_slurms_words_and_stop_nothing(
    pyslurm: Make, submission: Submission, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["good", "refused", "odd", "plugin", "good"]
    answers = pyslurm(SUBMITS).submit([replace(submission, name=name) for name in names])
    assert [type(answer) for answer in answers] == [int, SiteRefused, SiteRefused, SiteRefused, int]
    assert str(answers[1]) == (
        "site 'west' refuses: Invalid partition name specified: invalid partition specified: nope"
    )
    assert "Batch script is empty" in str(answers[2])
    assert capfd.readouterr().err == "somebody else's words\n" * 2


@pytest.mark.parametrize(("first", "kind"), [("silence", InDoubt), ("reset", InDoubt), ("down", Unreachable)])
def test_after_silence_nothing_more_is_sent(pyslurm: Make, submission: Submission, first: str, kind: type) -> None:
    names = ["good", first, "good", "good"]
    answers = pyslurm(SUBMITS).submit([replace(submission, name=name) for name in names])
    assert [type(answer) for answer in answers] == [int, kind, Unreachable, Unreachable]


QUEUE_ALONE = """
def job(id, **fields):
    told = dict(id=id, name="a~b", array_id=None, array_task_id=None, array_tasks_waiting=None, state="RUNNING", state_reason=None,
        priority=1, submit_time=1_700_000_000, start_time=1_700_000_001, end_time=None, exit_code=0, exit_code_signal=0,
        requeue_count=0, allocated_nodes="n1", nodelist="n1", partition="gpu", user_id=os.geteuid())
    return SimpleNamespace(**{**told, **fields})
class Jobs:
    @staticmethod
    def load():
        return {8: job(8), 21: job(21, array_id=20, array_task_id=1)}
class db:
    away = True
    JobFilter = dict
    class Jobs:
        @staticmethod
        def load(asked):
            if db.away:
                raise RPCError(7000, "Unable to connect to database")
            return {7: job(7, state="COMPLETED", end_time=1_700_000_009)}
"""


def test_without_slurmdbd_a_poll_tells_what_the_queue_says(pyslurm: Make) -> None:
    client = pyslurm(QUEUE_ALONE)
    known = {7: Known(JobState.RUNNING), 8: Known(JobState.PENDING), 20: Known(JobState.PENDING)}
    for _ in range(2):  # the array, too, is asked for again
        poll = client.poll(known)
        assert (set(poll.changed), poll.gone, set(poll.unheard)) == ({8}, frozenset(), {7, 20})
        assert "slurmdbd does not answer" in poll.unheard[7]
    sys.modules["pyslurm"].db.away = False
    poll = client.poll(known)
    assert ({job: status.state for job, status in poll.changed.items()}, poll.unheard) == (
        {7: JobState.COMPLETED, 8: JobState.RUNNING, 20: JobState.RUNNING},
        {},
    )


def test_what_is_offered_and_what_is_not() -> None:
    protocol = {name for name in vars(SlurmClient) if not name.startswith("_")} - {"close"}
    assert {*OFFERED, *NOT_OFFERED} == protocol
    assert not set(OFFERED) & set(NOT_OFFERED)
    client = NativeClient("west")
    with pytest.raises(NotOffered):
        client.history(datetime.now(UTC))
    with pytest.raises(NotOffered, match="number of nodes"):
        client.update(5, JobChange(nodes=2))


def test_it_runs_with_nothing_installed_but_python() -> None:
    """A login node has the Python that pyslurm was built for, and no package that Westward needs elsewhere."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import westward.slurm.native; westward.slurm.native.NativeClient('west')"],
        env={"PYTHONPATH": str(TOOLKIT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# --- records ----------------------------------------------------------------------------------------------------------


def test_every_field_of_a_submission(submission: Submission) -> None:
    asked = replace(submission, array="0-3%2", dependency="afterok:5", begin_at=2_000_000_000, requeue=True, qos="urgent", options={"comment": "c"})  # fmt: skip
    fields = nativedata.job_fields(asked)
    assert list(fields.pop("profile_types")) == []
    assert fields == {
        "name": "job~aaaaaaaaaaaa", "partitions": "gpu", "account": "research", "qos": "urgent", "nodes": 2, "ntasks": 4,
        "ntasks_per_node": 2, "cpus_per_task": 3, "memory_per_node": 1024, "gres_per_node": "gpu:h100:4", "time_limit": 5,
        "working_directory": "/shared/me", "standard_output": "/shared/me/job~aaaaaaaaaaaa.out", "script": "#!/bin/bash\ntrue\n",
        "environment": {
            "A": "1", "B": "it's\n\"b\"", "SLURM_CPUS_PER_TASK": "3", "SLURM_NTASKS_PER_NODE": "2", "SLURM_SUBMIT_DIR": "/shared/me",
        },
        "array": "0-3%2", "dependencies": "afterok:5", "begin_time": 2_000_000_000, "is_requeueable": True, "priority": 0,
        "comment": "c",
    }  # fmt: skip
    assert "priority" not in nativedata.job_fields(replace(submission, hold=False))


def test_options_that_pyslurm_has_a_field_for(submission: Submission) -> None:
    options = {
        "comment": "it's", "exclusive": None, "kill-on-invalid-dep": "yes", "mail-type": "FAIL,END", "nice": None,
        "signal": "B:USR1@90", "spread-job": None,
    }  # fmt: skip
    asked = replace(submission, options=options)
    assert nativedata.refused(asked) == ""
    fields = nativedata.job_fields(asked)
    told = (
        "comment",
        "resource_sharing",
        "kill_on_invalid_dependency",
        "mail_types",
        "nice",
        "signal",
        "spreads_over_nodes",
    )
    assert [fields[name] for name in told] == [
        "it's", "no", True, ["FAIL", "END"], 100, {"signal": 10, "time": 90, "batch_only": True}, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("time-min", "5"), ("comment", None), ("exclusive", "topo"), ("kill-on-invalid-dep", "no"), ("mail-type", "ALL"),
        ("nice", "very"), ("nice", "0"), ("signal", "NOSUCH"), ("signal", "USR1@0"), ("spread-job", "yes"),
    ],
)  # fmt: skip
def test_what_pyslurm_has_no_field_for(submission: Submission, option: str, value: str | None) -> None:
    said = nativedata.refused(replace(submission, options={option: value}))
    assert f"--{option}" + (f"={value}" if value else "") in said


def test_a_job_needs_variables_of_its_own(submission: Submission) -> None:
    """Without one, pyslurm would copy all those of this process into the job."""
    assert nativedata.refused(replace(submission, environment={}))


def job(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{
        "id": 12, "name": "job~aaaaaaaaaaaa", "array_id": None, "array_task_id": None, "array_tasks_waiting": None,
        "state": "PENDING", "state_reason": "JobHeldUser", "priority": 0, "submit_time": 1_700_000_000, "start_time": None,
        "end_time": None, "exit_code": 0, "exit_code_signal": 0, "requeue_count": 0, "allocated_nodes": None,
        "nodelist": None, "partition": "gpu", **fields,
    })  # fmt: skip


def test_held_and_planned_jobs() -> None:
    held = nativedata.queued(job()).status
    assert (held.held, held.reason, held.exit_code, held.nodes) == (True, "JobHeldUser", None, "")
    planned = nativedata.queued(job(priority=1, state_reason=None, start_time=1_700_000_100)).status
    assert (planned.held, planned.reason, planned.started_at) == (False, "", None)
    assert planned.estimated_start == datetime.fromtimestamp(1_700_000_100, UTC)


def test_an_unknown_state_stops_nothing() -> None:
    assert nativedata.queued(job(state="TELEPORTED")).status.state is JobState.UNKNOWN
    assert nativedata.queued(job(state=None)).status.state is JobState.UNKNOWN


def test_an_array_whose_task_0_pyslurm_does_not_number() -> None:
    rows = [
        nativedata.queued(job(id=13, array_id=12, state="RUNNING", priority=1)),
        nativedata.queued(job(id=14, array_id=12, array_task_id=1, state="FAILED", exit_code=3, priority=1)),
        nativedata.queued(job(array_id=12, array_tasks_waiting="2-5:3,7")),
    ]
    assert [row.tasks for row in rows] == [{0}, {1}, {2, 5, 7}]
    assert whole(rows).tasks == {JobState.RUNNING: 1, JobState.FAILED: 1, JobState.PENDING: 3}
    assert whole(rows).job_id == 12


def test_tasks_that_never_started_are_a_mask_in_the_accounting() -> None:
    row = nativedata.accounted(job(array_id=12, array_tasks_waiting="0x85", state="CANCELLED"))
    assert row.tasks == {0, 2, 7}


@pytest.mark.parametrize(
    ("has", "counted", "used"),
    [
        ({"gpu:h100": 4}, {"gres/gpu": 2, "gres/gpu:h100": 2}, {"h100": 2}),
        ({"gpu:h100": 4}, {"gres/gpu": 2}, {"h100": 2}),
        ({"gpu": 4}, {"gres/gpu": 1, "cpu": 8}, {"gpu": 1}),
        ({"gpu:a100": 2, "gpu:h100": 4}, {}, {}),
        ({"gpu:a100": 2, "gpu:h100": 4}, {"gres/gpu": 2}, None),
    ],
)
def test_gpus_in_use_are_never_guessed(
    has: dict[str, int], counted: dict[str, int], used: dict[str, int] | None
) -> None:
    record = SimpleNamespace(
        name="n1", state="MIXED+DRAIN", partitions=["gpu"], effective_cpus=8, allocated_cpus=2, real_memory=8000,
        allocated_memory=None, configured_gres=has, allocated_tres=counted, reason=None,
    )  # fmt: skip
    node = nativedata.node(record)
    assert (node.accelerators_used if node else None) == used
    assert node is None or node.states == ("MIXED", "DRAIN")
