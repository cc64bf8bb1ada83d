"""Westward: an HPC batch-cluster toolkit on Slurm. East Data, West Compute.

The Python API is here: `submit`, `sweep`, `route`, `plan`, `job`, `list_jobs`, `find_sweep`, `as_completed`. Each is loaded when it is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from westward.errors import JobFailed as JobFailed
    from westward.errors import NotEnded as NotEnded
    from westward.errors import WestwardError as WestwardError
    from westward.faces.api import job as job
    from westward.faces.api import list_jobs as list_jobs
    from westward.faces.api import plan as plan
    from westward.faces.api import route as route
    from westward.faces.api import submit as submit
    from westward.faces.job import Job as Job
    from westward.faces.job import Status as Status
    from westward.faces.job import as_completed as as_completed
    from westward.faces.sweeping import Point as Point
    from westward.faces.sweeping import Sweep as Sweep
    from westward.faces.sweeping import find_sweep as find_sweep
    from westward.faces.sweeping import sweep as sweep
    from westward.model.decision import Decision as Decision
    from westward.model.job import JobState as JobState
    from westward.model.result import JobResult as JobResult

__version__ = "0.1.0"
# what `from westward import ...` offers -> the module that has it
_HOMES = {
    **dict.fromkeys(("JobFailed", "NotEnded", "WestwardError"), "westward.errors"),
    **dict.fromkeys(("job", "list_jobs", "plan", "route", "submit"), "westward.faces.api"),
    **dict.fromkeys(("Job", "Status", "as_completed"), "westward.faces.job"),
    **dict.fromkeys(("Point", "Sweep", "find_sweep", "sweep"), "westward.faces.sweeping"),
    "Decision": "westward.model.decision",
    "JobState": "westward.model.job",
    "JobResult": "westward.model.result",
}


def __getattr__(name: str) -> Any:
    """PEP 562: importing westward loads none of this, so that every command starts fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'westward' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
