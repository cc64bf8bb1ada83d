"""Where a result comes from: what is written down when a job is submitted, and how it is told when the job has ended.

What is the same for all jobs of a command (who, where, git, environment) is taken once and kept once; what could not be found is null, with why.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import westward
from westward.directories import private_dir, write_private
from westward.errors import StorageError, Unreachable
from westward.jobs.gathering import results_dir
from westward.jobs.gitstate import git_state
from westward.model.job import Array
from westward.model.site import Site
from westward.model.sweep import Sweep, SweepPoint
from westward.model.variables import kept
from westward.slurm.files import open_files
from westward.store.ledger import Job, Ledger

FILE = "provenance.json"
# set to no, 0 or false, it keeps the text of changes that were not committed out of the ledger; their digest stays
KEEP_DIFF = "WESTWARD_KEEP_DIFF"
_ATTEMPTS = 20  # records of so many attempts are fetched, the last ones
_DIGEST = re.compile(r"@(sha256:[0-9a-f]{64})$")


def origin(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> dict[str, Any]:
    """Who submits from where, with what, as of now. It takes some 20 ms where git has little to compare, and stops no submission."""
    environment = os.environ if environment is None else environment
    keep = environment.get(KEEP_DIFF, "").lower() not in ("no", "0", "false")
    where, why_not = _here(folder)
    git, why = git_state(where, keep) if where is not None else (None, why_not)
    user = None
    with suppress(KeyError, OSError):  # a container may have no name for its user
        user = getpass.getuser()
    return {
        "at": datetime.now(UTC).isoformat(),
        "host": socket.gethostname(),
        "user": user,
        "directory": str(where) if where is not None else None,
        "westward": westward.__version__,
        "python": platform.python_version(),
        "environment": kept(environment),
        "git": git,
        "git_why": why,
    }


def _here(folder: Path | None) -> tuple[Path | None, str]:
    try:
        return folder or Path.cwd(), ""
    except OSError as error:
        return None, f"the working directory is gone: {error.strerror}"


def told(ledger: Ledger, job: Job) -> dict[str, Any]:
    """All that the ledger has of where a job's result comes from; no site is asked."""
    points = [point for point in ledger.sweeps.points(job.sweep) if point.job == job.key] if job.sweep else []
    return _told(ledger, job, points)


def told_of_sweep(ledger: Ledger, sweep: Sweep) -> dict[str, Any]:
    """The same of all jobs of a sweep that have points of it now.

    `submitted` has what was the same for all jobs of a command once for each command; a job says which by its place, from 0.
    """
    points: dict[str, list[SweepPoint]] = {}
    for point in ledger.sweeps.points(sweep.key):
        points.setdefault(point.job, []).append(point)
    jobs = [_told(ledger, job, points[job.key]) for job in ledger.get_many(list(points))]
    commands: list[Any] = []
    for job in jobs:
        if job["submitted"] not in commands:
            commands.append(job["submitted"])
        job["submitted"] = commands.index(job["submitted"])
    return {
        "sweep": sweep.key,
        "name": sweep.name,
        "template": sweep.template,
        "overrides": list(sweep.overrides),
        "submitted": commands,
        "jobs": jobs,
    }


def _told(ledger: Ledger, job: Job, points: Sequence[SweepPoint]) -> dict[str, Any]:
    known = ledger.provenance(job.key)
    config = known.get("config")
    chosen = job.decision.get("chosen") or {}
    script = job.submission.script
    return {
        "job": job.key,
        "name": job.name,
        "template": job.template,
        "site": job.site,
        "slurm_job_id": job.job_id,
        "slurm_name": job.submission.name,
        "slurm_version": chosen.get("slurm_version"),
        "state": str(job.state),
        "exit_code": job.exit_code,
        "restarts": job.restarts,
        "created_at": _moment(job.created_at),
        "started_at": _moment(job.started_at),
        "ended_at": _moment(job.ended_at),
        "config": config,
        "sweep": job.sweep,
        "points": [{"task": point.task, "label": point.label, "overrides": list(point.overrides)} for point in points],
        "container": _container(config, ()),
        "script": script,
        "script_sha256": hashlib.sha256(script.encode()).hexdigest(),
        "decision": job.decision,
        "submitted": known.get("origin"),
        "attempts": [],
        "attempts_why": f"'westward provenance {job.key}' fetches them when it has ended",
    }


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _container(config: Mapping[str, Any] | None, attempts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The image that the configuration names, and its digest: the address has it, or of a file the last attempt that noted one."""
    said = (config or {}).get("container")
    image = said.get("image") if isinstance(said, Mapping) else said
    if not image:
        return None
    named = _DIGEST.search(str(image))
    digest = named[1] if named else None
    why = ""
    if "://" not in str(image):
        digest = next((f"sha256:{each['image']}" for each in reversed(attempts) if each.get("image")), None)
        why = "" if digest else "no attempt has noted the file's digest"
    elif digest is None:
        why = "the image is named without its digest: name it as NAME@sha256:..."
    return {"image": str(image), "digest": digest, "why": why}


def keep(ledger: Ledger, job: Job, site: Site | None) -> Path:
    """Write the provenance of a job that has ended beside its results, with what its attempts noted at their nodes; where it is.

    What its site gave once is not asked for again.

    Raises:
        StorageError: nothing can be written here.
    """
    target = results_dir(job.key) / FILE
    facts = told(ledger, job)
    facts["attempts"], facts["attempts_why"] = _attempts(job, site, target)
    facts["container"] = _container(facts["config"], facts["attempts"])
    private_dir(target.parent)
    write_private(target, json.dumps(facts, indent=2, default=str) + "\n")
    return target


def read(file: Path) -> dict[str, Any]:
    """What `keep` wrote.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read '{file}': {error}", "remove it: it is made again") from error
    return dict(found)


def _attempts(job: Job, site: Site | None, target: Path) -> tuple[list[dict[str, Any]], str]:
    """What each attempt noted where it ran, the first one first, and why there is nothing."""
    if job.job_id is None:
        return [], "it was never submitted"
    if job.submission.arguments is not None:
        return [], "a script of the user's own notes nothing"
    directory, why = job.submission.directory, ""
    if job.submission.array is not None:
        first = Array.parse(job.submission.array).task_ids[0]
        directory += f"/{first}"
        why = f"of task {first}; each task has its own in its directory: .westward/attempt-0 and so on"
    before = _kept_before(target)
    if before or site is None:
        return before, why if before else f"site '{job.site}' could not be asked"
    found: list[dict[str, Any]] = []
    draft = target.with_name(".attempt")
    private_dir(target.parent)
    try:
        with open_files(site) as there:
            for number in range(max(0, job.restarts - _ATTEMPTS + 1), job.restarts + 1):
                with suppress(FileNotFoundError):
                    there.fetch(f"{directory}/.westward/attempt-{number}", draft)
                    found.append({"attempt": number, **noted(draft.read_bytes())})
    except (Unreachable, StorageError) as error:
        return found, str(error)
    finally:
        draft.unlink(missing_ok=True)
    return found, why if found else "no attempt has noted anything"


def _kept_before(target: Path) -> list[dict[str, Any]]:
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(target.read_text())["attempts"]
        return found if isinstance(found, list) else []
    return []


def noted(content: bytes) -> dict[str, Any]:
    """What the script of a job wrote down where it ran: NAME=VALUE, each ended by a zero byte; its own first, then variables."""
    pairs = [item.partition("=") for item in content.decode(errors="replace").split("\0") if item]
    values = {name: value for name, _, value in pairs}
    own = {name: values.pop(name, None) for name in ("began", "host", "nodes", "kernel", "image")}
    return {**own, "environment": kept(values)}
