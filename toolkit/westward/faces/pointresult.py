"""What a point of a Hydra sweep left behind, as Hydra's own launcher would have left it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from westward.errors import JobFailed, StorageError, Unreachable, WestwardError
from westward.faces.pointprogram import RECORD
from westward.faces.sweeping import Point
from westward.model.site import Site
from westward.slurm.files import SiteFiles, open_files

log = logging.getLogger(__name__)


class PointFailed(JobFailed, CompactHydraException):
    """A point did not succeed. Hydra prints its words alone."""


def begun(config: DictConfig) -> JobReturn:
    """What is known of a point before it has run."""
    made = JobReturn()
    task = deepcopy(config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    made.cfg = task
    made.hydra_cfg = OmegaConf.masked_copy(config, "hydra")
    made.overrides = list(config.hydra.overrides.task)
    made.task_name = config.hydra.job.name
    return made


def failed(config: DictConfig, error: WestwardError) -> JobReturn:
    """A point that went wrong: its value raises when it is asked for."""
    made = begun(config)
    made.status = JobStatus.FAILED
    said = f"{error}\n{error.next_step}".rstrip()
    made.return_value = PointFailed(said, log=getattr(error, "log", ""))
    return made


def returned(point: Point, site: Site | None, config: DictConfig, fetch_mib: int, number: int) -> JobReturn:
    """What a point that has ended returned, its files fetched into its output directory here."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.id = point.slurm_id
    target = Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir)).absolute()
    problem: WestwardError | None = None
    where = f"{point.job.key}{'' if point.task is None else f' task {point.task}'} at {point.job.site}"
    try:
        point.result()
    except WestwardError as error:
        problem = error
    record = _record(point.fetched(RECORD))
    if site is not None and not isinstance(problem, Unreachable):
        _fetch(point, site, target, _names(record, config), fetch_mib * 1024**2)
    if problem is None and record is None:
        problem = JobFailed(f"job {where}: what its application returned cannot be read")
    if problem is not None:
        made = failed(config, _retold(problem, record))
        log.error("\t#%d : %s : %s", number, where, point.state)
    else:
        assert record is not None
        made = begun(config)
        made.status = JobStatus.COMPLETED
        made.return_value = record["return_value"]
        log.info("\t#%d : %s : %s", number, where, point.state)
        if record["not_json"]:
            log.warning("\t#%d : it returned a %s, which JSON cannot say: taken as None", number, record["not_json"])
    made.working_dir = str(target)
    return made


def _retold(problem: WestwardError, record: Mapping[str, Any] | None) -> WestwardError:
    """The application's own error, where it got so far as to raise one."""
    if record is None or not record["error"] or not isinstance(problem, JobFailed):
        return problem
    first = str(problem).splitlines()[0].removesuffix("; its log ends:")
    return JobFailed(f"{record['traceback'].rstrip()}\n({first})", problem.next_step, problem.log)


def _record(file: Path) -> Mapping[str, Any] | None:
    """What the program in the job wrote; None where it was not fetched, or is not what that program writes."""
    try:
        record = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and {"return_value", "not_json", "error", "traceback", "files"} <= record.keys()
    return record if whole else None


def _names(record: Mapping[str, Any] | None, config: DictConfig) -> Sequence[tuple[str, int]]:
    """What to fetch, with its size; without a record what Hydra writes for every job."""
    if record is not None:
        return [(str(name), int(size)) for name, size in record["files"]]
    folder = config.hydra.output_subdir
    known = [f"{folder}/{name}.yaml" for name in ("config", "hydra", "overrides")] if folder else []
    return [(name, 0) for name in [*known, f"{config.hydra.job.name}.log"]]


def _fetch(point: Point, site: Site, target: Path, names: Sequence[tuple[str, int]], most_bytes: int) -> None:
    """Copy files of the point's output directory, the small ones first, as far as they fit; what is left there is said."""
    left: list[str] = []
    with open_files(site) as there:
        for name, size in sorted(names, key=lambda item: item[1]):
            most_bytes -= size
            if most_bytes < 0 or not _copied(there, point.directory, name, target):
                left.append(name)
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        log.warning(
            "left at %s, in %s: %s%s (hydra.launcher.fetch_mib)", site.name, point.directory, ", ".join(left[:3]), more
        )


def _copied(there: SiteFiles, directory: str, name: str, target: Path) -> bool:
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/":  # a job may write anything into its record
        return False
    local = target.joinpath(*parts)
    try:
        os.makedirs(local.parent, exist_ok=True)
        there.fetch(f"{directory}/{name}", local)
    except FileNotFoundError:
        return True  # nothing of that name was written, or it was taken away since
    except (OSError, StorageError, Unreachable) as error:
        log.warning("%s", error)
        return False
    return True
