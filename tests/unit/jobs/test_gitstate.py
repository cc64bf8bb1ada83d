"""What git says of a directory, also of one that somebody else made."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

import pytest

from westward.jobs import gitstate
from westward.jobs.gitstate import git_state

MARK = "somebody-s-program-ran"


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.email=a@b.c", "-c", "user.name=n", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "train.py").write_text("one\n")
    git(folder, "add", "train.py")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_tree(repository: Path) -> None:
    state, why = git_state(repository)
    assert state is not None and why == ""
    assert state["commit"] == git(repository, "rev-parse", "HEAD")
    assert (state["root"], state["branch"], state["dirty"], state["diff"]) == (str(repository), "main", False, None)


def test_what_was_changed_and_what_is_new(repository: Path) -> None:
    (repository / "train.py").write_text("two\n")
    (repository / "größe 1.txt").write_text("secret content")
    state, _ = git_state(repository)
    assert state is not None
    assert state["dirty"] and state["changed"] == ["train.py"] and state["untracked"] == ["größe 1.txt"]
    assert "-one\n+two\n" in state["diff"] and "secret content" not in state["diff"]
    assert state["diff_sha256"] == hashlib.sha256(state["diff"].encode()).hexdigest()


def test_a_renamed_file_and_a_removed_one(repository: Path) -> None:
    (repository / "other.py").write_text("other\n")
    git(repository, "add", "other.py")
    git(repository, "commit", "-qm", "second")
    git(repository, "mv", "train.py", "run.py")
    (repository / "other.py").unlink()
    state, _ = git_state(repository)
    assert state is not None and sorted(state["changed"]) == ["other.py", "run.py"]


def test_a_long_diff_is_cut_and_its_digest_is_of_the_whole(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "train.py").write_text("x\n" * 1000)
    whole, _ = git_state(repository)
    monkeypatch.setattr(gitstate, "DIFF_BYTES", 100)
    state, _ = git_state(repository)
    assert state is not None and whole is not None
    assert len(state["diff"].encode()) == 100
    assert (state["diff_bytes"], state["diff_sha256"]) == (whole["diff_bytes"], whole["diff_sha256"])


def test_the_text_can_be_left_out(repository: Path) -> None:
    (repository / "train.py").write_text("password\n")
    state, _ = git_state(repository, keep_diff=False)
    assert state is not None and state["diff"] is None and state["diff_sha256"]
    assert "password" not in str(state)


def test_no_repository_no_git_and_nothing_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, why = git_state(tmp_path)
    assert state is None and "not a git repository" in why
    git(tmp_path, "init", "-q", "-b", "main")
    state, why = git_state(tmp_path)
    assert state is not None and state["commit"] is None and why == "nothing has been committed there yet"
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_state(tmp_path) == (None, "the program 'git' is not installed here")


def test_a_tree_that_takes_too_long_gives_its_commit(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text('#!/bin/sh\ncase "$*" in *" status "*) exec sleep 9;; esac\nexec /usr/bin/git "$@"\n')
    (tools / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    began = time.monotonic()
    state, why = git_state(repository)
    assert time.monotonic() - began < 2 * gitstate.LIMIT_S
    assert state is not None and state["commit"] and state["dirty"] is None
    assert "only the commit is known" in why


def test_a_login_in_the_address_of_the_remote_is_left_out(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:hunter2@git.example/x.git")
    state, _ = git_state(repository)
    assert state is not None and state["remote"] == "https://git.example/x.git"


def test_a_hostile_repository_runs_nothing(repository: Path, tmp_path: Path) -> None:
    """Every way known to us in which a repository names a program that git would run while it compares."""
    mark = tmp_path / MARK
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >>{mark}\ncat\n')
    program.chmod(0o755)
    inner = repository / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "file").write_text("one\n")
    git(inner, "add", "file")
    git(inner, "commit", "-qm", "first")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", "./inner", "inner")
    (repository / ".gitattributes").write_text("*.py filter=bad diff=bad\n*.bin filter=worse\n")
    (repository / "data.bin").write_text("x\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "second")
    for where in (repository, inner):
        for key in (
            "core.fsmonitor", "core.pager", "pager.diff", "pager.status", "diff.external", "diff.bad.command", "diff.bad.textconv", "core.sshCommand",
            "core.askPass", "core.editor", "filter.bad.clean", "filter.bad.smudge", "filter.worse.process", "core.alternateRefsCommand",
        ):  # fmt: skip
            git(where, "config", key, str(program))
        git(where, "config", "filter.bad.required", "true")
        hooks = tmp_path / "hooks"
        hooks.mkdir(exist_ok=True)
        for hook in ("post-index-change", "fsmonitor-watchman", "query-watchman"):
            (hooks / hook).write_text(program.read_text())
            (hooks / hook).chmod(0o755)
        git(where, "config", "core.hooksPath", str(hooks))
    mark.unlink(missing_ok=True)
    (repository / "train.py").write_text("two\n")
    (repository / "data.bin").write_text("y\n")
    (inner / "file").write_text("two\n")
    state, why = git_state(repository)
    assert not mark.exists(), mark.read_text()
    assert state is not None, why
    assert sorted(state["changed"]) == ["data.bin", "train.py"]
    assert "+two" in state["diff"]
