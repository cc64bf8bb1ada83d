"""The Debian releases that a lab's nodes can be made of, and how the Slurm in each differs from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Overrides = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Release:
    """A Debian release with its Slurm.

    Attributes:
        suite: Debian's name for it.
        slurm: Slurm's version in it, without the last part.
        packages: what its node image has beyond what all have.
        rest: whether slurmrestd is started: that of 22.05 speaks none of the data_parser versions that Westward knows.
        munge: whether munge authenticates, as in every Slurm before 23.11.
        mpi: what `srun --mpi=` is called there.
        settings: keys of slurm.conf and slurmdbd.conf that are otherwise than in `config.py`; None leaves a key out.
        cgroup: the same for cgroup.conf.
        index_expires: its package index is valid for a week only, as that of every suite that still changes.
        pyslurm: whether its image carries pyslurm (GPL-2: built into the image of a lab, never part of Westward's own wheel).
    """

    suite: str
    slurm: str
    packages: tuple[str, ...]
    rest: bool = True
    munge: bool = False
    mpi: str = "pmix"
    settings: Overrides = field(default_factory=dict)
    cgroup: Overrides = field(default_factory=dict)
    index_expires: bool = False
    pyslurm: bool = False

    @property
    def public_base(self) -> str:
        """The image of this release in public registries."""
        return f"debian:{self.suite}-slim"

    @property
    def own_base(self) -> str:
        """The same made by us with debootstrap."""
        return f"westward-base:{self.suite}"


BOOKWORM = Release(
    suite="bookworm",
    slurm="22.05",
    packages=("munge",),
    rest=False,
    munge=True,
    # its PMIx plugin looks for the library where only the -dev package puts it
    mpi="pmi2",
    settings={
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "AuthAltTypes": None,
        "AuthAltParameters": None,
        # format_stderr is not known there
        "LogTimeFormat": "iso8601_ms",
    },
    # no plugin of that name there; none is loaded, since nothing asks for one
    cgroup={"CgroupPlugin": None},
)
TRIXIE = Release(
    suite="trixie",
    slurm="24.11",
    packages=("libopenmpi40", "libpmix2t64", "openmpi-bin", "slurm-wlm-jwt-plugin"),
)
FORKY = Release(
    suite="forky",
    slurm="26.05",
    packages=("slurm-wlm-jwt-plugin",),
    # Debian builds this Slurm without its PMIx plugin, and Open MPI knows no other way in
    mpi="pmi2",
    index_expires=True,
    pyslurm=True,
)
RELEASES = {release.suite: release for release in (BOOKWORM, TRIXIE, FORKY)}
DEFAULT = TRIXIE
