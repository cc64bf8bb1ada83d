"""A cluster by its commands: on this host, and by ssh to an sshd in this process. Only the programs behind them are made up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pytest

from unit.slurm.fakes import VERSIONS, FakeSlurm, Sshd, said, serving
from westward.errors import AccessRefused, SiteRefused, Unreachable, WestwardError
from westward.model.job import JobChange, JobState, Submission
from westward.model.limits import Cap
from westward.model.site import ShellDoor
from westward.slurm.client import InDoubt, Known, OtherCluster, Poll
from westward.slurm.shell import ShellClient

FIELDS = ("JobID", "State", "ExitCode", "Submit", "Start", "End", "Partition", "NodeList", "JobName", "ElapsedRaw")


def record(*values: str) -> dict[str, str]:
    return dict(zip(FIELDS, values, strict=False))


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    (tmp_path / "bin").mkdir()
    made = FakeSlurm(tmp_path / "bin")
    made.queue([])
    made.accounting([])
    return made


@pytest.fixture
def sshd(slurm: FakeSlurm, tmp_path: Path) -> Iterator[Sshd]:
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    with serving(key, f"{slurm.folder}:{os.environ['PATH']}", tmp_path) as made:
        (tmp_path / "known_hosts").write_text(made.line())
        yield made


@pytest.fixture(params=["local", "ssh"])
def client(
    request: pytest.FixtureRequest, slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ShellClient]:
    monkeypatch.setenv("HOME", str(tmp_path))
    if request.param == "local":
        monkeypatch.setenv("PATH", f"{slurm.folder}:{os.environ['PATH']}")
        monkeypatch.setenv("SBATCH_PARTITION", "of-the-login")
        door = ShellDoor()
    else:
        door = ssh_door(request.getfixturevalue("sshd"), tmp_path)
    with ShellClient("west", door) as made:
        yield made


def ssh_door(sshd: Sshd, folder: Path) -> ShellDoor:
    return ShellDoor("127.0.0.1", "u17", sshd.port, folder / "key", folder / "known_hosts")


def many(submission: Submission, count: int) -> list[Submission]:
    return [
        replace(submission, name=f"job~{number}", script=f"#!/bin/sh\n# number {number}\n") for number in range(count)
    ]


NUMBERED = "n=$(sed -n 's/^# number //p'); echo $((1000 + n))"


def test_scripts_arrive_as_they_are_and_answers_in_order(
    client: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    hostile = "#!/bin/bash\n# number 3\necho 'it'\"'s\" $HOME `id` \\\nEOF\n}\n\t*\n" + "x" * 100_000
    wanted = many(submission, 20)
    wanted[3] = replace(wanted[3], script=hostile)
    slurm.program(
        "sbatch",
        f'f={slurm.folder}/script.$$; cat > $f; n=$(sed -n "s/^# number //p" $f); mv $f {slurm.folder}/script-$n; echo $((1000 + n))',
    )
    assert client.submit(wanted) == [1000 + number for number in range(20)]
    assert (slurm.folder / "script-3").read_text().rstrip("\n") == hostile
    assert slurm.calls("sbatch") == [["--parsable", "--hold"]] * 20


@pytest.fixture
def login(slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Login scripts that print, read, and set what they should not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bash_profile").write_text(
        f"echo 99; cat; export PATH={slurm.folder}:$PATH MODULES=loaded SBATCH_CLUSTERS=other\n"
    )


@pytest.mark.usefixtures("login")
def test_a_users_own_script_arrives_to_the_byte_with_its_options_and_a_login_environment(
    client: ShellClient, slurm: FakeSlurm, submission: Submission, tmp_path: Path
) -> None:
    scripts = ["#!/bin/sh\necho 'it'\"'s\" $HOME \\\n", "#!/bin/sh\nprintf 'no line break %s \\n' at its end"]
    keeps = f'for last; do :; done; cat /dev/stdin > "{slurm.folder}/$last"; pwd > {slurm.folder}/folder; env > {slurm.folder}/environment; echo 7'
    slurm.program("sbatch", keeps)
    folder = tmp_path / "a b'c"
    folder.mkdir()
    own = replace(
        submission, root=str(folder), environment={"OTHER": "two words"}, options={"nice": None, "mem": "1 G"}
    )
    wanted = [replace(own, script=text, arguments=("x y", f"script-{n}")) for n, text in enumerate(scripts)]
    assert client.submit(wanted) == [7, 7]
    assert [(slurm.folder / f"script-{n}").read_text() for n in range(2)] == scripts
    words = sorted(slurm.calls("sbatch"))[0]
    assert {"--hold", "--nice", "--mem=1 G", f"--job-name={own.name}"} < {*words}
    assert words[-3:] == ["/dev/stdin", "x y", "script-0"]
    assert (slurm.folder / "folder").read_text() == f"{folder}\n"
    names = dict(line.split("=", 1) for line in (slurm.folder / "environment").read_text().splitlines() if "=" in line)
    assert (names["MODULES"], names["OTHER"]) == ("loaded", "two words") and "SBATCH_CLUSTERS" not in names


@pytest.mark.usefixtures("login")
def test_a_users_own_script_from_a_directory_that_is_not_there(
    client: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    slurm.program("sbatch", "echo 7")
    (answer,) = client.submit([replace(submission, root="/not/there", arguments=())])
    assert isinstance(answer, WestwardError) and not isinstance(answer, InDoubt)
    assert "there is no directory" in str(answer) and "/not/there" in str(answer)
    assert slurm.calls("sbatch") == []


def test_a_job_without_a_hold_is_not_held(client: ShellClient, slurm: FakeSlurm, submission: Submission) -> None:
    slurm.program("sbatch", "cat > /dev/null; echo 7")
    assert client.submit([replace(submission, hold=False)]) == [7]
    assert slurm.calls("sbatch") == [["--parsable"]]


def test_sbatch_gets_no_more_of_the_login_than_a_job_should(
    client: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    slurm.program("sbatch", f"cat > /dev/null; env > {slurm.folder}/environment; echo 7")
    client.submit([replace(submission, environment={"PATH": "/opt/site/bin:/usr/bin:/bin", "OTHER": "in the script"})])
    names = dict(line.split("=", 1) for line in (slurm.folder / "environment").read_text().splitlines())
    assert names["PATH"] == "/opt/site/bin:/usr/bin:/bin"
    assert set(names) <= {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "SLURM_CONF",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", SiteRefused),
        ("sbatch: unrecognized option '--nosuch'\nTry \"sbatch --help\"", SiteRefused),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", Unreachable),
        ("sbatch: error: Batch job submission failed: Connection refused", Unreachable),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", InDoubt),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", InDoubt),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (receive failure)", InDoubt),
        ("sbatch: error: Batch job submission failed: Connection reset by peer", InDoubt),
        ("sbatch: error: Batch job submission failed: Broken pipe", InDoubt),
        ("sbatch: error: Batch job submission failed: Connection timed out", InDoubt),
        ("sbatch: error: Batch job submission failed: Header lengths are longer than data received", InDoubt),
        ("sbatch: error: Batch job submission failed: Message send failure", InDoubt),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", InDoubt),
        ("sbatch: error: Batch job submission failed: No route to host", Unreachable),
        ("sbatch: error: Socket timed out\nsbatch: error: Batch job submission failed: Connection refused", InDoubt),
        ("sbatch: error: Batch job submission failed: Unspecified error", SiteRefused),
        ("sbatch: error: Batch job submission failed: Protocol authentication error", AccessRefused),
        ("Killed", InDoubt),
        ("", InDoubt),
    ],
)  # fmt: skip
def test_what_sbatch_complains_of(
    client: ShellClient, slurm: FakeSlurm, submission: Submission, stderr: str, kind: type[WestwardError]
) -> None:
    (slurm.folder / "stderr").write_text(stderr + "\n" if stderr else "")
    slurm.program("sbatch", f"cat > /dev/null; cat {slurm.folder}/stderr >&2; exit 1")
    (answer,) = client.submit([submission])
    assert type(answer) is kind and "site 'west'" in str(answer)
    if kind is Unreachable or kind is AccessRefused:
        assert "westward site check west" in answer.next_step


def test_one_that_is_refused_stops_none_of_the_others(
    client: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    slurm.program(
        "sbatch",
        "n=$(sed -n 's/^# number //p'); [ $n != 4 ] || { echo 'sbatch: error: no' >&2; exit 1; }; echo $((1000 + n))",
    )
    answers = client.submit(many(submission, 10))
    assert [number for number, answer in enumerate(answers) if not isinstance(answer, int)] == [4]
    assert isinstance(answers[4], SiteRefused)


def test_missing_commands_say_what_to_do(client: ShellClient, slurm: FakeSlurm, submission: Submission) -> None:
    (answer,) = client.submit([submission])
    assert type(answer) is Unreachable and "sbatch" in str(answer)
    (slurm.folder / "squeue").unlink()
    with pytest.raises(Unreachable, match="squeue"):
        client.poll({1: Known(JobState.PENDING)})


def test_commands_in_a_folder_of_their_own(slurm: FakeSlurm, submission: Submission) -> None:
    slurm.program("sbatch", "cat > /dev/null; echo 7")
    with ShellClient("west", ShellDoor(commands=str(slurm.folder))) as client:
        assert client.submit([submission]) == [7]


ROW = ("7", "N/A", "PENDING", "JobHeldUser", "0", "gpu", "1795493518", "N/A", "N/A", "", "job~aaaaaaaaaaaa")
RUNNING = ("8", "N/A", "RUNNING", "None", "1", "gpu", "1795493518", "1795493519", "1795493819", "n1", "b~aaaaaaaaaaab")


def test_a_poll_tells_what_is_otherwise_and_nothing_else(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.queue([ROW, RUNNING])
    slurm.accounting([record("9", "FAILED", "3:0", "1795493518", "1795493519", "1795493520", "gpu", "n1", "c~a")])
    known = {
        7: Known(JobState.PENDING, "JobHeldUser"), 8: Known(JobState.PENDING, "Priority"), 9: Known(JobState.RUNNING),
        10: Known(JobState.RUNNING),
    }  # fmt: skip
    poll = client.poll(known)
    assert set(poll.changed) == {8, 9} and poll.gone == {10}
    assert (poll.changed[8].state, poll.changed[8].nodes) == (JobState.RUNNING, "n1")
    assert (poll.changed[9].state, poll.changed[9].exit_code) == (JobState.FAILED, 3)
    assert len(slurm.calls("sacct")) == 1
    assert client.poll({}).changed == {}


def test_a_poll_that_finds_nothing_new_asks_once(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.queue([ROW, RUNNING])
    assert client.poll({7: Known(JobState.PENDING, "JobHeldUser"), 8: Known(JobState.RUNNING)}).changed == {}
    assert (len(slurm.calls("squeue")), len(slurm.calls("sacct"))) == (1, 0)


def test_what_leaves_the_queue_between_two_questions_is_asked_for_again(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.queue([RUNNING])
    slurm.program("squeue", f"case $* in *%j*|*-O*) exit 0;; esac\n{slurm.script('squeue')}")
    known = {8: Known(JobState.PENDING, "Priority")}
    assert client.poll(known) == Poll({}, frozenset())
    slurm.queue([])
    slurm.accounting(
        [record("8", "COMPLETED", "0:0", "1795493518", "1795493519", "1795493520", "gpu", "n1", RUNNING[-1])]
    )
    assert client.poll(known).changed[8].state is JobState.COMPLETED


def test_an_array_is_told_again_when_its_counts_change(client: ShellClient, slurm: FakeSlurm) -> None:
    waiting = ("7", "1-3%1", "PENDING", "JobArrayTaskLimit", *ROW[4:])
    slurm.queue([waiting, ("7", "0", *RUNNING[2:])])
    poll = client.poll({7: Known(JobState.PENDING, "JobHeldUser")})
    assert poll.changed[7].tasks == {JobState.PENDING: 3, JobState.RUNNING: 1}
    same = {7: Known(poll.changed[7].state, poll.changed[7].reason)}
    assert client.poll(same).changed == {}
    slurm.queue([("7", "2-3%1", *waiting[2:]), ("7", "1", *RUNNING[2:])])
    slurm.accounting([record("7_0", "COMPLETED", "0:0", "1795493518", "1795493519", "1795493520", "gpu", "n1", "b~a")])
    assert client.poll(same).changed[7].tasks == {JobState.PENDING: 2, JobState.RUNNING: 1, JobState.COMPLETED: 1}


def test_an_accounting_that_is_down_proves_nothing(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.program(
        "sacct",
        "echo 'sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to host:east-ctl:6819: Connection refused' >&2; exit 1",
    )
    with pytest.raises(Unreachable, match="sacct") as caught:
        client.find(["job~aaaaaaaaaaaa"])
    assert "slurmdbd up?" in caught.value.next_step and "westward site check west" in caught.value.next_step
    slurm.queue([RUNNING])
    poll = client.poll({7: Known(JobState.RUNNING), 8: Known(JobState.PENDING)})
    assert (set(poll.changed), poll.gone, set(poll.unheard)) == ({8}, frozenset(), {7})
    assert "sacct" in poll.unheard[7]


def test_a_job_is_found_in_queue_and_accounting(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.queue([ROW])
    slurm.accounting([
        record("5", "COMPLETED", "0:0", "1795493500", "1795493501", "1795493502", "gpu", "n1", ROW[-1]),
        record("7", "PENDING", "0:0", "1795493518", "None", "Unknown", "gpu", "None assigned", ROW[-1]),
        record("6", "COMPLETED", "0:0", "1795493510", "1795493511", "1795493512", "gpu", "n1", "other~x"),
    ])  # fmt: skip
    found = client.find([ROW[-1], "nobody~b"])
    assert [(job.job_id, job.held) for job in found[ROW[-1]]] == [(5, False), (7, True)]
    assert found["nobody~b"] == []


def test_many_names_make_many_short_command_lines(client: ShellClient, slurm: FakeSlurm) -> None:
    assert len(client.find([f"job~{number:012}" for number in range(1700)])) == 1700
    assert len(slurm.calls("squeue")) == 4
    windows, states = (
        [call for call in slurm.calls("sacct") if ("-s" in call) is by_state] for by_state in (False, True)
    )
    assert len(windows) == len(states) == 4
    # a window of time leaves out what never became eligible, unless it is asked for by state and up to a moment
    assert all("CANCELLED" in call[call.index("-s") + 1].split(",") for call in states)
    assert all("-E" in call for call in (*windows, *states))
    assert max(len(word) for call in slurm.calls("squeue") for word in call) < 20_000


def test_releases_go_together_and_ended_jobs_are_no_error(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.program(
        "scontrol",
        "echo 'Job has already finished for job 3' >&2; echo 'Access/permission denied for job 5' >&2; echo 'slurm_suspend error: Access/permission denied' >&2; exit 1",
    )
    failed = client.release([3, 4, 5])
    assert set(failed) == {5} and isinstance(failed[5], SiteRefused) and "permission" in str(failed[5])
    assert slurm.calls("scontrol") == [["release", "3,4,5"]]
    assert set(client.hold([3, 4, 5])) == {3, 5}


def test_a_controller_that_is_away_fails_them_all(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.program(
        "scontrol", "echo 'slurm_suspend error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    )
    failed = client.release([3, 4])
    assert set(failed) == {3, 4} and all(type(error) is Unreachable for error in failed.values())
    slurm.program("scancel", "echo 'scancel: error: Unable to contact slurm controller (receive failure)' >&2; exit 1")
    assert {type(error) for error in client.cancel([3, 4]).values()} == {InDoubt}
    slurm.program("scontrol", "echo 'Broken pipe for job 3' >&2; exit 1")
    assert {job: type(error) for job, error in client.release([3, 4]).items()} == {3: InDoubt}


def test_changes_of_one_job(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.program("scontrol", "")
    slurm.program("scancel", "")
    slurm.program("squeue", "echo 7")
    client.requeue(7)
    client.update(7, JobChange(walltime_s=61, begin_at=1795493518, at_once=2, partition="low"))
    client.update(7, JobChange())
    client.signal(7, "USR1")
    assert slurm.calls("scontrol") == [
        ["requeue", "7"],
        ["update", "JobId=7", "TimeLimit=2", "Partition=low", "StartTime=2026-11-24T04:11:58", "ArrayTaskThrottle=2"],
    ]
    assert slurm.calls("scancel") == [["--signal=USR1", "7"]]
    with pytest.raises(SiteRefused, match="does not run"):
        client.signal(8, "USR1")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_describes_itself(client: ShellClient, slurm: FakeSlurm, version: str) -> None:
    for name in ("node", "partition", "config", "squeue_ends", "sdiag", "assoc", "mpi"):
        (slurm.folder / f"{name}.txt").write_text(said(version, name))
    slurm.program("scontrol", f"for word; do last=$word; done; cat {slurm.folder}/$last.txt")
    slurm.program("squeue", f"cat {slurm.folder}/squeue_ends.txt")
    slurm.program("sdiag", f"cat {slurm.folder}/sdiag.txt")
    slurm.program("srun", f"cat {slurm.folder}/mpi.txt >&2")
    slurm.program("sacctmgr", f"case $4 in user) echo research;; assoc) cat {slurm.folder}/assoc.txt;; esac")
    state = client.state()
    assert state.version.startswith(version) and len(state.nodes) >= 2 and len(state.running_ends) == 2
    account = client.account()
    assert (account.default_account, account.max_array_size) == ("research", 1001)
    assert account.clock is not None and abs((account.clock - datetime.now(UTC)).total_seconds()) < 5
    assert account.home and "pmi2" in account.mpi
    assert client.accounting_backlog() == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cluster_tells_its_limits(client: ShellClient, slurm: FakeSlurm, version: str) -> None:
    for name in ("partition", "qos", "assoc", "assoc_mgr"):
        (slurm.folder / f"{name}.txt").write_text(said(version, f"limits_{name}"))
    settings = said(version, "config").replace("bf_interval=5", "bf_interval=5,max_script_size=65536")
    (slurm.folder / "config.txt").write_text(settings)
    there = slurm.folder
    slurm.program(
        "scontrol",
        f"case $* in *assoc_mgr*) cat {there}/assoc_mgr.txt;; *partition*) cat {there}/partition.txt;; *) cat {there}/config.txt;; esac",
    )
    slurm.program("sacctmgr", f"case $4 in user) echo research;; *) cat {there}/$4.txt;; esac")
    slurm.program("id", "case $1 in -un) echo researcher;; *) echo researcher staff;; esac")
    limits = client.limits()
    assert (limits.user, limits.groups, limits.default_account) == ("researcher", ("researcher", "staff"), "research")
    assert Cap("MaxSubmitJobsPerUser", 2, "", 2.0) in limits.qos["capped"].caps
    slurm.program(
        "scontrol",
        f"case $* in *assoc_mgr*) exit 1;; *partition*) cat {there}/partition.txt;; *) cat {there}/config.txt;; esac",
    )
    hidden = client.limits()
    assert Cap("MaxSubmitJobsPerUser", 2) in hidden.qos["capped"].caps and hidden.notes
    assert (hidden.max_array_size, hidden.max_script_bytes) == (1001, 65536)
    slurm.program("sacctmgr", "echo 'sacctmgr: error: Sending PersistInit msg: Connection refused' >&2; exit 1")
    told = client.limits()
    assert (told.max_array_size, told.charges, told.qos) == (1001, (), {}), "jobs are taken while slurmdbd is down"
    assert told.partitions == limits.partitions and "cannot be read now" in told.notes[0] and len(told.notes) == 1


def test_a_trial_is_the_submission_with_test_only_and_holds_nothing(
    client: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    slurm.program(
        "sbatch",
        'cat > /dev/null; echo "sbatch: Job 6 to start at 1795777631 using 1 processors on nodes n1 in partition gpu" >&2',
    )
    told = client.try_out(submission)
    assert (told.start, told.nodes) == (1795777631.0, "n1")
    assert slurm.calls("sbatch") == [["--test-only", "--hold"]]
    slurm.program("sbatch", 'echo "allocation failure: Invalid qos specification" >&2; exit 1')
    assert client.try_out(submission).refusal == "Invalid qos specification"
    slurm.program(
        "sbatch", 'echo "allocation failure: Unable to contact slurm controller (connect failure)" >&2; exit 1'
    )
    with pytest.raises(Unreachable):
        client.try_out(submission)


def test_history_is_asked_in_utc(client: ShellClient, slurm: FakeSlurm) -> None:
    slurm.accounting([
        {**record("7_3", "TIMEOUT", "0:0", "1795493518", "1795493519", "1795493579", "gpu", "n1", "a~b", "60"), "AllocTRES": "cpu=2,mem=1G"},
        {**record("7_3.0", "CANCELLED", "0:15", "1795493519", "1795493519", "1795493579", "", "n1", "sh", "60"), "MaxRSS": "2048K"},
    ])  # fmt: skip
    (attempt,) = client.history(datetime(2026, 11, 24, 4, 0, tzinfo=UTC), ["a~b"])
    assert (attempt.task, attempt.status.state, attempt.usage.elapsed_s) == (3, JobState.TIMEOUT, 60)
    assert attempt.usage.max_rss_bytes == 2 * 1024**2 and attempt.usage.tres == {"cpu": 2, "mem": 1024**3}
    assert "2026-11-24T04:00:00" in slurm.calls("sacct")[0]


# --- which cluster ----------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellClient]:
    """The commands of this host, whose cluster is another one than the site's."""
    monkeypatch.setenv("PATH", f"{slurm.folder}:{os.environ['PATH']}")
    slurm.program("scontrol", "echo 'ClusterName             = east'")
    for name in ("sbatch", "scancel"):
        slurm.program(name, "echo 7")
    with ShellClient("west", ShellDoor(), "west") as made:
        yield made


def test_nothing_is_done_or_believed_at_another_cluster(
    elsewhere: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    errors = [
        *elsewhere.submit([submission, submission]),
        *elsewhere.release([7]).values(),
        *elsewhere.cancel([7]).values(),
    ]
    for call in (
        lambda: elsewhere.poll({7: Known(JobState.RUNNING)}),
        lambda: elsewhere.find(["job~a"]),
        lambda: elsewhere.requeue(7),
    ):
        with pytest.raises(Unreachable) as caught:
            call()
        errors.append(caught.value)
    assert len(errors) == 7
    for error in errors:
        assert type(error) is OtherCluster and not error.transient
        assert str(error) == "site 'west': shell on this host leads to the cluster 'east', not to 'west'"
        assert "westward site check west" in error.next_step
    assert not slurm.calls("sbatch") and not slurm.calls("scancel")
    assert {call[0] for call in slurm.calls("scontrol")} == {"show"}


def test_a_cluster_that_does_not_say_its_name_is_none(elsewhere: ShellClient, slurm: FakeSlurm) -> None:
    slurm.program("scontrol", "echo Configuration data")
    with pytest.raises(OtherCluster, match="does not say"):
        elsewhere.poll({7: Known(JobState.RUNNING)})


def test_the_cluster_is_asked_for_its_name_once(
    elsewhere: ShellClient, slurm: FakeSlurm, submission: Submission
) -> None:
    slurm.program("scontrol", "[ $1 != show ] || echo 'ClusterName             = WEST'")
    elsewhere.poll({7: Known(JobState.RUNNING)})
    assert elsewhere.submit([submission, submission]) == [7, 7]
    assert elsewhere.release([7]) == elsewhere.cancel([7]) == {}
    assert slurm.calls("scontrol") == [["show", "config"], ["release", "7"]]


# --- by ssh only ------------------------------------------------------------------------------------------------------


def test_nothing_but_a_shell_stands_on_a_remote_command_line(
    sshd: Sshd, slurm: FakeSlurm, submission: Submission, tmp_path: Path
) -> None:
    slurm.program("sbatch", NUMBERED)
    with ShellClient("west", ssh_door(sshd, tmp_path)) as client:
        client.submit(many(submission, 30))
        client.poll({7: Known(JobState.PENDING)})
    assert set(sshd.commands) == {"sh"}
    assert len(sshd.commands) <= 8 + 2  # channels for thirty submissions, one for each question
    assert len(slurm.calls("sbatch")) == 30 and sshd.most_channels <= 8


def test_a_talkative_login_is_not_listened_to(
    sshd: Sshd, slurm: FakeSlurm, submission: Submission, tmp_path: Path
) -> None:
    sshd.chatter = "Welcome!\n99\n"
    slurm.program("sbatch", NUMBERED)
    with ShellClient("west", ssh_door(sshd, tmp_path)) as client:
        assert client.submit(many(submission, 2)) == [1000, 1001]


def test_an_sshd_with_few_sessions_serves_them_all(
    sshd: Sshd, slurm: FakeSlurm, submission: Submission, tmp_path: Path
) -> None:
    sshd.max_sessions = 2
    slurm.program("sbatch", NUMBERED)
    with ShellClient("west", ssh_door(sshd, tmp_path)) as client:
        assert client.submit(many(submission, 20)) == [1000 + number for number in range(20)]


def test_a_connection_that_breaks_leaves_the_rest_in_doubt(
    sshd: Sshd, slurm: FakeSlurm, submission: Submission, tmp_path: Path
) -> None:
    """Twelve answers arrive; the other jobs may be there or not."""
    slurm.program(
        "sbatch",
        f"n=$(sed -n 's/^# number //p'); [ $n -lt 12 ] || {{ touch {slurm.folder}/stuck; sleep 30; }}; echo $((1000 + n))",
    )
    with ShellClient("west", ssh_door(sshd, tmp_path)) as client:
        import threading

        def cut() -> None:
            while not (slurm.folder / "stuck").exists():
                time.sleep(0.01)
            time.sleep(0.5)
            sshd.drop()

        threading.Thread(target=cut, daemon=True).start()
        answers = client.submit(many(submission, 20))
        assert answers[:12] == [1000 + number for number in range(12)]
        assert all(isinstance(answer, InDoubt) for answer in answers[12:])
        slurm.queue([ROW])
        assert client.find([ROW[-1]])[ROW[-1]][0].job_id == 7  # on a new connection


def test_a_question_is_asked_again_on_a_new_connection(sshd: Sshd, slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.queue([ROW])
    with ShellClient("west", ssh_door(sshd, tmp_path)) as client:
        for _ in range(3):
            assert client.find([ROW[-1]])[ROW[-1]][0].job_id == 7
            sshd.drop()


def test_half_a_script_is_never_submitted(slurm: FakeSlurm, submission: Submission) -> None:
    """Whatever part of the text reaches the far shell, only whole groups of it run."""
    import subprocess

    from westward.slurm.commands import LOGIN, Request
    from westward.slurm.remote import program

    slurm.program("sbatch", f"cat >> {slurm.folder}/seen; echo 1")
    request = Request(
        (str(slurm.folder / "sbatch"), "--parsable"), "#!/bin/sh\nfirst\nsecond\n", LOGIN, {"PATH": "/usr/bin:/bin"}
    )
    whole = program([request], "t0ken")
    for shell in ("dash", "bash"):
        for end in range(len(whole) - 1):
            subprocess.run(
                [shell], input=whole[:end], text=True, capture_output=True, check=False
            ) if end % 7 == 0 or whole[end - 1] == "\n" else None
        assert not (slurm.folder / "seen").exists(), shell
    subprocess.run(["sh"], input=whole, text=True, capture_output=True, check=True)
    assert (slurm.folder / "seen").read_text() == "#!/bin/sh\nfirst\nsecond\n"
