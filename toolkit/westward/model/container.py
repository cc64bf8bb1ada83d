"""A container that a job's program runs in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Runtime(StrEnum):
    """What starts containers at a site: Apptainer (or its forerunner Singularity), or Pyxis, Slurm's plugin for Enroot."""

    APPTAINER = "apptainer"
    PYXIS = "pyxis"


@dataclass(frozen=True, slots=True)
class Container:
    """The image that a command runs in, and what of the site is seen within.

    Attributes:
        image: a file of the site (relative to its root), or an address such as docker://python:3.12.
        runtime: None for what the site's description names, else Apptainer.
        binds: directories of the site that are seen within: "/data", "/data:/mnt", "/data:/mnt:ro".
        options: more words for `apptainer exec`, or for srun with Pyxis.
    """

    image: str
    runtime: Runtime | None = None
    binds: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
