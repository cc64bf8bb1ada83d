"""What git says of a directory: its commit, and what was changed since. Nothing of the repository's own is run.

A repository can name programs that git runs on the way: monitors, hooks, filters, textconv and external diffs, a way to fetch what is missing.
All of them are put out of action here; git itself refuses a repository of somebody else (safe.directory).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from westward import process
from westward.errors import WestwardError

# all of it together; a tree that takes longer is said to
LIMIT_S = 3.0
DIFF_BYTES = 256 * 1024  # what is kept of a diff; its digest is of the whole
NAMED = 100  # files that are not tracked are named, so many of them
_SAFE = (
    "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false",
    "-c", "submodule.recurse=false", "-c", "protocol.allow=never", "-c", "core.sshCommand=false", "-c", "core.quotePath=false",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_SSH_COMMAND": "false", "GIT_ASKPASS": "false",
    "LC_ALL": "C",
}  # fmt: skip
_DIFF = (
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--full-index",
    "--ignore-submodules=dirty",
    "HEAD",
    "--",
)
_LOGIN = re.compile(r"(?<=://)[^/@]*@")


@dataclass(frozen=True, slots=True)
class _Git:
    """git in one directory, until the time for all of it is over."""

    folder: Path
    until: float
    more: tuple[str, ...] = ()

    def run(self, *words: str) -> process.Completed:
        left = max(0.05, self.until - time.monotonic())
        return process.run(
            ["git", *_SAFE, *self.more, *words],
            timeout_s=left,
            environment=_ENVIRONMENT,
            folder=str(self.folder),
            check=False,
        )


def git_state(folder: Path, keep_diff: bool = True) -> tuple[dict[str, Any] | None, str]:
    """What git says of that directory, or None and why it says nothing. It never takes longer than LIMIT_S, and never fails.

    Of a tree that could not be compared in that time only the commit is known; `why` says so.
    """
    git = _Git(folder, time.monotonic() + LIMIT_S)
    try:
        return _state(git, keep_diff)
    except WestwardError as error:
        return None, str(error)


def _state(git: _Git, keep_diff: bool) -> tuple[dict[str, Any] | None, str]:
    there = git.run("rev-parse", "--show-toplevel")
    if there.status != 0:
        return None, there.complaint.removeprefix("fatal: ")
    settings = _settings(git)
    # what a filter of the repository's own would do to a file is not asked: it is a program
    filters = sorted({key.rpartition(".")[0] for key in settings if key.startswith("filter.")})
    off = [
        word
        for name in filters
        for end in ("clean=", "smudge=", "process=", "required=false")
        for word in ("-c", f"{name}.{end}")
    ]
    git = _Git(git.folder, git.until, tuple(off))
    commit = git.run("rev-parse", "--verify", "--quiet", "HEAD").stdout.strip() or None
    state: dict[str, Any] = {
        "root": there.stdout.rstrip("\n"),
        "commit": commit,
        "branch": None,
        "remote": _LOGIN.sub("", settings["remote.origin.url"]) if "remote.origin.url" in settings else None,
        "dirty": None,
        "changed": [],
        "untracked": [],
        "untracked_count": 0,
        "diff": None,
        "diff_sha256": None,
        "diff_bytes": None,
    }
    try:
        return {**state, **_changes(git, commit, keep_diff)}, "" if commit else "nothing has been committed there yet"
    except process.RanTooLong:
        return state, f"comparing the files took longer than {LIMIT_S:g} s: only the commit is known"


def _settings(git: _Git) -> Mapping[str, str]:
    said = git.run("config", "--local", "--null", "--get-regexp", r"^(filter\..*|remote\.origin\.url)$").stdout
    pairs = (item.partition("\n") for item in said.split("\0") if item)
    return {key: value for key, _, value in pairs}


def _changes(git: _Git, commit: str | None, keep_diff: bool) -> dict[str, Any]:
    words = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--ignore-submodules=dirty")
    said = git.run(*words)
    if said.status != 0:
        raise WestwardError(said.complaint)
    branch, changed, untracked = _read_status(said.stdout.split("\0"))
    found: dict[str, Any] = {
        "branch": branch,
        "dirty": bool(changed),
        "changed": changed[:NAMED],
        "untracked": untracked[:NAMED],
        "untracked_count": len(untracked),
    }
    if not changed or commit is None:
        return found
    diff = git.run(*_DIFF).stdout.encode()
    return {
        **found,
        "diff": diff[:DIFF_BYTES].decode(errors="ignore") if keep_diff else None,
        "diff_sha256": hashlib.sha256(diff).hexdigest(),
        "diff_bytes": len(diff),
    }


def _read_status(items: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """Branch, changed files and those that are not tracked, of `git status --porcelain=v2 -z`."""
    branch, changed, untracked = None, [], []
    rest = iter(items)
    for item in rest:
        kind = item[:1]
        if item.startswith("# branch.head "):
            branch = item.removeprefix("# branch.head ")
        elif kind == "?":
            untracked.append(item[2:])
        elif kind in "12u" and kind:
            changed.append(item.split(" ", {"1": 8, "2": 9, "u": 10}[kind])[-1])
            if kind == "2":  # the name it had before
                next(rest, None)
    return branch, changed, untracked
