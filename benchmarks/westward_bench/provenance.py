"""Collects a record's provenance from this process and host: an allow-list, never the whole environment."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from westward_bench.record import Provenance

PACKAGES = ("numpy", "numba", "mpi4py", "threadpoolctl", "cupy-cuda12x", "numba-cuda")


def utc_now() -> str:
    """The time now, UTC, ISO 8601 to the second: "2025-01-31T08:00:00+00:00"."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect(
    started: str,
    libraries: Mapping[str, str],
    hosts: Iterable[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Provenance:
    """Provenance of a run that began at `started` and ends now.

    `libraries` adds what only the benchmark knows, such as the MPI library; `hosts` are those of all ranks.
    """
    return Provenance(
        started=started,
        finished=utc_now(),
        command=tuple(sys.orig_argv),
        hosts=tuple(sorted(set(hosts if hosts is not None else [socket.gethostname()]))),
        cpu_model=cpu_model(),
        cores_visible=cores_visible(),
        versions={"python": platform.python_version(), **package_versions(), **libraries},
        git_sha=environ.get("WESTWARD_GIT_SHA"),
        slurm_job_id=environ.get("SLURM_JOB_ID"),
        slurm_cluster_name=environ.get("SLURM_CLUSTER_NAME"),
        slurm_job_partition=environ.get("SLURM_JOB_PARTITION"),
    )


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cores_visible() -> int:
    """How many CPUs this process may run on: what Slurm bound it to, not what the node has."""
    return len(os.sched_getaffinity(0))


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's name as the kernel gives it; None where it gives none (as on many Arm machines)."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
