"""Where a result comes from, from what was written down."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from unit.jobs.world import KNOWN, World, decision
from westward.jobs import provenance
from westward.jobs.lifecycle import Jobs
from westward.jobs.template import compose_job
from westward.model.job import JobState
from westward.model.variables import PATTERN, kept
from westward.store.ledger import Job

ENVIRONMENT = {
    "OMP_NUM_THREADS": "3", "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "0,1", "VIRTUAL_ENV": "/home/u/ww", "LC_TIME": "de_DE", "NCCL_DEBUG": "INFO",
}  # fmt: skip
SECRETS = {
    "HF_TOKEN": "hunter2", "AWS_SECRET_ACCESS_KEY": "hunter2", "SLURM_JWT": "hunter2", "PGPASSWORD": "hunter2", "NCCL_AUTH_TOKEN": "hunter2",
    "UCX_KEY": "hunter2", "SSH_AUTH_SOCK": "hunter2", "XPATH": "hunter2", "PATHX": "hunter2",
}  # fmt: skip


def submitted(world: World, where: dict[str, object] | None = None) -> Job:
    with Jobs(world.ledger, KNOWN.sites, world.connect, where=lambda: where or {"host": "here"}) as jobs:
        return jobs.submit(compose_job("command", ["env.OMP_NUM_THREADS=3"]).spec, decision())


class TestVariables:
    def test_those_of_the_list_and_no_others(self) -> None:
        assert kept(ENVIRONMENT | SECRETS) == ENVIRONMENT

    def test_grep_takes_the_list_as_python_does(self) -> None:
        lines = "\n".join(f"{name}=x" for name in ENVIRONMENT | SECRETS)
        found = subprocess.run(
            ["grep", "-E", f"^({PATTERN})="], input=lines, capture_output=True, text=True, check=True
        )
        named = {line.partition("=")[0] for line in found.stdout.splitlines()}
        assert set(kept(dict.fromkeys(named, ""))) == set(ENVIRONMENT)
        assert named - set(ENVIRONMENT) <= {"NCCL_AUTH_TOKEN", "UCX_KEY"}


def test_what_is_taken_at_the_submission_holds_no_secret(tmp_path: Path) -> None:
    found = provenance.origin(ENVIRONMENT | SECRETS, tmp_path)
    assert found["environment"] == ENVIRONMENT
    assert "hunter2" not in json.dumps(found)
    assert found["git"] is None and "not a git repository" in found["git_why"]
    assert found["directory"] == str(tmp_path)


def test_a_directory_that_is_gone_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = provenance.origin({})
    assert found["git"] is None and "the working directory is gone" in found["git_why"]


@pytest.mark.parametrize(("said", "text"), [("no", False), ("0", False), ("yes", True), ("", True)])
def test_the_text_of_changes_is_kept_unless_it_is_not_wanted(tmp_path: Path, said: str, text: bool) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.email=a@b.c", "-c", "user.name=n", *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    git("init", "-q")
    (tmp_path / "a").write_text("one\n")
    git("add", "a")
    git("commit", "-qm", "first")
    (tmp_path / "a").write_text("two\n")
    found = provenance.origin({provenance.KEEP_DIFF: said}, tmp_path)["git"]
    assert ("+two" in str(found["diff"])) is text and found["diff_sha256"]


def test_the_ledger_gives_back_configuration_and_origin(world: World) -> None:
    job = submitted(world)
    told = provenance.told(world.ledger, job)
    assert told["config"]["env"] == {"OMP_NUM_THREADS": "3"} and told["config"]["walltime"] == "00:10:00"
    assert told["submitted"] == {"host": "here"}
    assert told["script"] == job.submission.script
    assert told["decision"]["chosen"]["site"] == job.site
    assert json.loads(json.dumps(told))["job"] == job.key


def test_many_jobs_of_a_command_share_what_is_the_same(world: World) -> None:
    asked = []
    with Jobs(world.ledger, KNOWN.sites, world.connect, where=lambda: asked.append(1) or {"host": "here"}) as jobs:  # type: ignore[func-returns-value]
        made = jobs.submit_many([(compose_job("command", [f"name=n{i}"]).spec, decision()) for i in range(5)])
    assert asked == [1]
    keys = [job.key for job in made if isinstance(job, Job)]
    assert [provenance.told(world.ledger, job)["config"]["name"] for job in world.ledger.get_many(keys)] == [
        f"n{i}" for i in range(5)
    ]
    with world.ledger._reading() as db:
        assert db.rows("SELECT count(*) FROM origins") == [(1,)]


def test_a_job_of_an_older_ledger_says_that_nothing_was_recorded(world: World) -> None:
    job = submitted(world)
    with world.ledger._transaction() as db:
        db.write("UPDATE jobs SET config = NULL, origin = NULL")
    told = provenance.told(world.ledger, job)
    assert told["config"] is None and told["submitted"] is None


def test_a_digest_stands_where_the_image_is_named_by_it(world: World) -> None:
    digest = "sha256:" + "a" * 64
    assert provenance._container({"container": {"image": f"docker://x/y@{digest}"}}, ()) == {
        "image": f"docker://x/y@{digest}",
        "digest": digest,
        "why": "",
    }
    told = provenance._container({"container": {"image": "docker://x/y:latest"}}, ())
    assert told is not None and told["digest"] is None and "@sha256:" in told["why"]
    assert provenance._container({"container": {"image": None}}, ()) is None


def test_the_digest_of_an_image_file_is_what_the_last_attempt_noted() -> None:
    config = {"container": {"image": "images/tiny.sif"}}
    told = provenance._container(config, [{"image": "a" * 64}, {"image": "b" * 64}, {"image": None}, {"image": ""}, {}])
    assert told == {"image": "images/tiny.sif", "digest": "sha256:" + "b" * 64, "why": ""}
    told = provenance._container(config, [{"image": ""}])
    assert told is not None and told["digest"] is None and "noted" in told["why"]


def test_what_attempts_noted_is_fetched_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    job = submitted(world)
    here = tmp_path / "job" / ".westward"
    here.mkdir(parents=True)
    for number in (0, 1):
        (here / f"attempt-{number}").write_bytes(
            b"began=2026-01-31T08:00:00Z\0host=n1\0nodes=n[1-2]\0kernel=Linux 6\0image=0123\0LANG=a\nb\0HF_TOKEN=hunter2\0"
        )
    site = replace(KNOWN.sites["west"], files={str(tmp_path): tmp_path})
    job = replace(
        job, submission=replace(job.submission, directory=str(tmp_path / "job")), restarts=1, state=JobState.COMPLETED
    )
    file = provenance.keep(world.ledger, job, site)
    found = provenance.read(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each["attempt"] for each in found["attempts"]] == [0, 1]
    assert found["attempts"][0] == {
        "attempt": 0, "began": "2026-01-31T08:00:00Z", "host": "n1", "nodes": "n[1-2]", "kernel": "Linux 6", "image": "0123", "environment": {"LANG": "a\nb"},
    }  # fmt: skip
    assert not list(file.parent.glob(".*"))
    assert provenance.read(provenance.keep(world.ledger, job, None))["attempts"] == found["attempts"]


def test_a_site_that_is_gone_is_said(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    found = provenance.read(provenance.keep(world.ledger, submitted(world), None))
    assert found["attempts"] == [] and "could not be asked" in found["attempts_why"]
