"""Doors that are shut, as a user of the command line meets them: what is wrong, what to do, exit code 4, and nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.clusters import PLAIN, Judge, Lab, Said, wait_until, westward
from contract.doors import CLUSTERS, DOORS
from westward.lab.sshkeys import KeyPair, key_file

pytestmark = pytest.mark.lab

Door = dict[str, Any]
# where a daemon goes away: each door once, and each version, all at the same time
KINDS = (("v2205", "shell"), ("v2411", "rest"), ("v2605", "shell"))


@dataclass(frozen=True)
class User:
    """Somebody with a ledger and one site of their own, which is one door of one cluster of the lab."""

    home: Path
    judge: Judge
    site: Mapping[str, Any]

    @property
    def door(self) -> Door:
        (door,) = self.site["access"]["doors"]
        return door

    def use(self, **changes: Any) -> None:
        """Change the site's one door."""
        self.door.update(changes)
        (self.home / "config" / "westward" / "sites" / "only.yaml").write_text(yaml.safe_dump(dict(self.site)))

    @property
    def environment(self) -> dict[str, str]:
        """Of this user's processes: nothing that another user or test wrote."""
        own = {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "WESTWARD_STATE_DIR": str(self.home / "state"),
            "SSH_AUTH_SOCK": "",
            "COLUMNS": "200",
        }
        return {**os.environ, **own}

    def says(self, *words: str) -> Said:
        return westward(*words, environment=self.environment)

    def submits(self, *words: str) -> Said:
        return self.says("submit", *PLAIN, "command=[/bin/true]", *words, "--json")

    def job(self) -> Any:
        (job,) = self.says("jobs", "--json").json
        return job

    def nothing_was_sent(self) -> None:
        """By the ledger, and by the cluster's queue."""
        told = self.says("jobs", "--all", "--json").json
        assert [job["phase"] for job in told if job["phase"] != "refused"] == []
        queue = self.judge.root("squeue", "-ah", "-t", "all", "-o", "%j").split()
        assert not {job["slurm_name"] for job in told}.intersection(queue)

    def ends_well(self, key: str) -> None:
        """The job is settled, and ran once: in its cluster's own accounting."""
        wait_until(lambda: self.job()["phase"] == "ended", self.job, every_s=0.5)
        job = self.job()
        assert (job["key"], job["state"]) == (key, "COMPLETED")

        def records() -> list[str]:
            told = self.judge.lab.accounted(self.judge.cluster, job["slurm_name"])
            return [state for _, state in told if not state.startswith("CANCELLED")]

        # slurmdbd may hear of it a moment later than slurmctld
        wait_until(lambda: records() != [], records, 10)
        assert records() == ["COMPLETED"]


@pytest.fixture
def user(version_sites: tuple[Lab, Mapping[str, Any]], lab_state: Path, tmp_path: Path) -> Callable[..., User]:
    """Make the user of one door of one cluster."""
    lab, _ = version_sites

    def make(cluster: str, kind: str) -> User:
        described = lab_state / "labs" / lab.name / "sites" / f"{lab.site(cluster)}.yaml"
        site = yaml.safe_load(described.read_text())
        site["access"]["doors"] = [door for door in site["access"]["doors"] if door["door"] == kind]
        home = tmp_path / f"{cluster}-{kind}"
        (home / "config" / "westward" / "sites").mkdir(parents=True)
        (home / "state").mkdir(mode=0o700)
        made = User(home, Judge(lab, cluster), site)
        made.use()
        return made

    return make


def refused(said: Said, *words: str) -> None:
    """A clear error that names the site and the next step."""
    assert said.status == 4, said
    # a long line is broken where the terminal ends
    text = " ".join(said.err.split())
    assert not [word for word in words if word not in text], text


def private(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


@contextmanager
def stopped(judge: Judge, daemon: str) -> Iterator[None]:
    """One daemon of the controller stopped: it accepts connections, and answers nothing. Its name may have grown: slurmctld-wlm."""
    judge.root("pkill", "-STOP", daemon)
    try:
        yield
    finally:
        judge.root("pkill", "-CONT", daemon)


# --- who we are -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", [cluster for cluster, door in DOORS if door == "rest"])
def test_an_expired_token(user: Callable[..., User], tmp_path: Path, cluster: str):
    one = user(cluster, "rest")
    token = one.judge.root("scontrol", "token", "username=researcher", "lifespan=1").strip().removeprefix("SLURM_JWT=")
    good = one.door["token_file"]
    one.use(token_file=str(private(tmp_path / "token", token)))
    wait_until(
        lambda: "expired" in one.says("plan", *PLAIN, "--site", str(one.site["name"])).err,
        "the token does not expire",
        20,
    )
    refused(one.submits("--site", one.site["name"]), one.site["name"], "expired", "token")
    one.nothing_was_sent()
    assert token not in one.submits("--site", one.site["name"]).err
    one.use(token_file=good)
    one.ends_well(_key(one.submits()))


@pytest.mark.parametrize("cluster", [cluster for cluster, door in DOORS if door == "rest"])
def test_a_token_of_somebody_else(user: Callable[..., User], tmp_path: Path, cluster: str):
    one = user(cluster, "rest")
    token = one.judge.root("scontrol", "token", "username=nobody", "lifespan=600").strip().removeprefix("SLURM_JWT=")
    one.use(token_file=str(private(tmp_path / "token", token)))
    refused(one.submits("--site", one.site["name"]), one.site["name"], "token", "researcher")
    one.nothing_was_sent()


@pytest.mark.parametrize("cluster", [cluster for cluster, door in DOORS if door == "rest"])
def test_a_token_command_renews_what_has_expired(user: Callable[..., User], tmp_path: Path, cluster: str):
    one = user(cluster, "rest")
    judge = one.judge
    old = judge.root("scontrol", "token", "username=researcher", "lifespan=1").strip().removeprefix("SLURM_JWT=")
    file = private(tmp_path / "token", old)
    container = f"{judge.lab.name}.{judge.cluster}-ctl"
    command = ["docker", "exec", container, "scontrol", "token", "username=researcher", "lifespan=600"]
    one.use(token_file=str(file), token_command=command)
    one.ends_well(_key(one.submits()))


# --- who they are -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", ["v2205", "v2605"])
def test_a_host_key_that_nobody_knows(user: Callable[..., User], tmp_path: Path, cluster: str):
    one = user(cluster, "shell")
    one.use(known_hosts=str(private(tmp_path / "known_hosts", "")))
    said = one.submits("--site", one.site["name"])
    refused(said, one.site["name"], "host key", "not known")
    assert "SHA256:" in said.err
    one.nothing_was_sent()


def test_a_host_key_that_has_changed(user: Callable[..., User], tmp_path: Path, ssh_key: KeyPair):
    one = user("v2411", "shell")
    known = Path(one.door["known_hosts"]).read_text()
    host, kind, _ = known.split()[:3]
    assert kind == ssh_key.public.split()[0]
    other = f"{host} {kind} {ssh_key.public.split()[1]}\n"
    one.use(known_hosts=str(private(tmp_path / "known_hosts", other)))
    refused(one.submits("--site", one.site["name"]), one.site["name"], "host key", "changed")
    one.nothing_was_sent()


def test_a_key_of_ours_that_they_do_not_know(user: Callable[..., User], tmp_path: Path, ssh_key: KeyPair):
    one = user("v2411", "shell")
    one.use(identity_file=str(private(tmp_path / "wrong", ssh_key.private)))
    refused(one.submits("--site", one.site["name"]), one.site["name"], "researcher")
    one.nothing_was_sent()


@pytest.fixture
def ssh_key(tmp_path: Path) -> KeyPair:
    """A key pair that no cluster knows."""
    return key_file(tmp_path / "a-new-key", anew=True)


# --- who answers ------------------------------------------------------------------------------------------------------

# what is to happen while a job is on its way: the client's own waiting made short, and a command run right after a step
MEANWHILE = """
import os, subprocess, sys
from westward.cli.main import main
from westward.jobs import lifecycle
from westward.slurm import rest, restcall, shell
for module in (rest, restcall, shell):
    for name in ("ANSWER_TIMEOUT_S", "SUBMIT_TIMEOUT_S", "SCAN_TIMEOUT_S"):
        if hasattr(module, name):
            setattr(module, name, 4)
step, *command = sys.argv.pop(1).split(" ")
def act(now, job):
    if now == "intent" and step == "attempt":  # its version is known, its door is open
        running[0]._client(job.site).accounting_backlog()
    if now == step:
        subprocess.run([str(os.getpid()) if word == "$parent" else word for word in command], check=True)
running = []
init = lifecycle.Jobs.__init__
def begin(self, *a, **k):
    running.append(self)
    init(self, *a, **{**k, "on_step": act})
lifecycle.Jobs.__init__ = begin
main()
"""
SUBMIT = ("submit", *PLAIN, "command=[/bin/true]", "--json")


def impatient(one: User, *words: str, step: str = "never", command: Sequence[str] = ()) -> Said:
    """The command line with short time-outs; `command` is run right after `step`."""
    argv = [sys.executable, "-c", MEANWHILE, " ".join([step, *command]), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=one.environment)
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def stop(one: User, daemon: str) -> list[str]:
    return ["docker", "exec", f"{one.judge.lab.name}.{one.judge.cluster}-ctl", "pkill", "-STOP", daemon]


@contextmanager
def without_slurmdbd(judge: Judge) -> Iterator[None]:
    """No slurmdbd at all, then a new one."""
    judge.root("pkill", "-KILL", "-x", "slurmdbd")
    try:
        yield
    finally:
        container = f"{judge.lab.name}.{judge.cluster}-ctl"
        subprocess.run(["docker", "exec", "-d", "-u", "slurm", container, "slurmdbd", "-D"], check=True)
        wait_until(
            lambda: judge.lab.run(f"{judge.cluster}-ctl", "sacctmgr", "-n", "show", "qos").status == 0, "no slurmdbd"
        )


def away_before_the_submission(one: User) -> None:
    """slurmctld was there when the site was chosen. The request is out, nobody answers: in doubt, then settled, and started once."""
    try:
        said = impatient(one, *SUBMIT, step="attempt", command=stop(one, "slurmctld"))
        refused(said, one.site["name"], "westward jobs")
        listed = impatient(one, "jobs", "--json").json
        assert [job["phase"] for job in listed] == ["submitting"], listed
    finally:
        one.judge.root("pkill", "-CONT", "slurmctld")
    one.ends_well(listed[0]["key"])


def away_after_the_submission(one: User) -> None:
    """The job is there, held; the release is not answered."""
    try:
        said = impatient(one, *SUBMIT, step="held", command=stop(one, "slurmctld"))
        refused(said, one.site["name"])
    finally:
        one.judge.root("pkill", "-CONT", "slurmctld")
    one.ends_well(one.job()["key"])


def slurmctld_away(one: User) -> None:
    """slurmctld is not there from the beginning: nothing is sent, jobs of before are UNKNOWN, and they come back."""
    running = one.says("submit", *PLAIN, "command=[sleep,60]", "--json").json
    with stopped(one.judge, "slurmctld"):
        said = impatient(one, "submit", *PLAIN, "--site", one.site["name"])
        refused(said, one.site["name"])
        (job,) = impatient(one, "jobs", "--json").json
        assert (job["key"], job["state"]) == (running["key"], "UNKNOWN")
        assert one.site["name"] in job["reason"]
    assert one.job()["state"] == "RUNNING"
    assert one.says("cancel", running["key"]).status == 0


def slurmdbd_away(one: User) -> None:
    """Without slurmdbd jobs in the queue are seen and cancelled, and new ones are taken; they are settled when it is back.

    Not so by slurmrestd alone: it cannot tell a cluster's partitions then, and says so before anything is sent.
    """
    sleep = ("submit", *PLAIN, "command=[sleep,60]", "--json")
    before = one.says(*sleep).json

    def states(said: Said) -> dict[str, str]:
        return {job["key"]: job["state"] for job in said.json if job["phase"] != "refused"}

    with without_slurmdbd(one.judge):
        said = impatient(one, *sleep)
        if one.door["door"] == "rest":
            refused(said, one.site["name"], "lurmdb")
        else:
            assert said.status == 0, said
        keys = {before["key"], *([said.json["key"]] if said.status == 0 else [])}
        wait_until(
            lambda: states(impatient(one, "jobs", "--json")) == dict.fromkeys(keys, "RUNNING"),
            "they are not seen to run",
        )
        assert impatient(one, "cancel", before["key"]).status == 0
        wait_until(lambda: "RUNNING" not in one.judge.state(before["slurm_job_id"]), "it still runs", 40)
    for key in keys:
        assert one.says("cancel", key).status == 0
    wait_until(lambda: states(one.says("jobs", "--json")) == dict.fromkeys(keys, "CANCELLED"), "they are not cancelled")


def search_without_slurmdbd(one: User) -> None:
    """Killed before the request left, and slurmdbd is away: not finding the job in the queue is no reason to send it again."""
    assert impatient(one, *SUBMIT, step="attempt", command=["kill", "-9", "$parent"]).status == -9
    with without_slurmdbd(one.judge):
        said = impatient(one, "jobs", "--json")
        (job,) = said.json
        assert (job["phase"], job["attempts"]) == ("submitting", 1)
        assert one.site["name"] in said.err + job["reason"]
    one.ends_well(job["key"])


def search_while_slurmdbd_hangs(one: User) -> None:
    """The same where slurmdbd takes calls and says nothing."""
    assert impatient(one, *SUBMIT, step="attempt", command=["kill", "-9", "$parent"]).status == -9
    with stopped(one.judge, "slurmdbd"):
        (job,) = impatient(one, "jobs", "--json").json
        assert (job["phase"], job["attempts"]) == ("submitting", 1)
    one.ends_well(job["key"])


@pytest.mark.parametrize(
    "happens",
    [
        away_before_the_submission,
        away_after_the_submission,
        slurmctld_away,
        slurmdbd_away,
        search_without_slurmdbd,
        search_while_slurmdbd_hangs,
    ],
    ids=lambda happens: happens.__name__,
)
def test_a_daemon_is_away(user: Callable[..., User], happens: Callable[[User], None]):
    """On clusters of all versions at once, each through another door."""
    users = [user(*kind) for kind in KINDS]
    with ThreadPoolExecutor(len(users)) as pool:
        running = {f"{one.judge.cluster}": pool.submit(happens, one) for one in users}
    errors = {cluster: error for cluster, future in running.items() if (error := future.exception())}
    assert not errors, "\n\n".join(f"{cluster}: {error}" for cluster, error in errors.items())


# --- what is hidden ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_hidden_queue_hides_nothing_of_ours(user: Callable[..., User], cluster: str):
    """PrivateData: a user sees their own jobs alone, which is all that is needed."""
    doors = [user(name, door) for name, door in DOORS if name == cluster and door != "native"]
    with private_data(doors[0].judge):
        for one in doors:
            key = _key(one.submits())
            one.ends_well(key)
            assert one.says("plan", *PLAIN, "--json").status == 0


@contextmanager
def private_data(judge: Judge) -> Iterator[None]:
    """The cluster with PrivateData, then as it was."""
    judge.root("sed", "-i", "$ a PrivateData=jobs,usage,users,accounts", "/etc/slurm/slurm.conf")
    try:
        judge.root("scontrol", "reconfigure")
        assert re.search(r"PrivateData\s*=.*jobs", judge.root("scontrol", "show", "config"))
        yield
    finally:
        judge.root("sed", "-i", "/^PrivateData=/d", "/etc/slurm/slurm.conf")
        judge.root("scontrol", "reconfigure")


def _key(said: Said) -> str:
    assert said.status == 0, said
    return str(said.json["key"])
