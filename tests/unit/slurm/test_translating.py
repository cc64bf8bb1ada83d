"""A script at another site: what the maps of both know ties it to neither, and its body is never changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.federation.worlds import site
from westward.model.batchscript import BatchScript
from westward.model.site import Site
from westward.model.sitemap import SiteMap
from westward.slurm.obstacles import obstacles
from westward.slurm.routed import render, spec_of
from westward.slurm.sbatchfile import read_script
from westward.slurm.translating import adapted, left_at, translated

EAST = SiteMap(
    accounts={"physics": "phys-east"},
    partitions={"gpu": "a100"},
    modules={"cuda": ("cuda/12.4",), "python": ("GCC/13", "Python/3.11"), "fftw": ("FFTW/3.3",)},
    paths={"/project/u17": "/gpfs/u17", "/data": "/data"},
)
WEST = SiteMap(
    accounts={"physics": "phys-123", "chem": "chem-9"},
    partitions={"gpu": "volta"},
    qos={"long": "weekly"},
    modules={"cuda": ("cuda/12.4",), "python": ("GCC/13", "Python/3.12"), "fftw": ("fftw3",)},
    paths={"/project/u17": "/lustre/u17", "/data": "/data"},
)
HOME, OTHER = replace(site("east"), sitemap=EAST), replace(site("west"), sitemap=WEST)


def read(body: str, *options: str) -> BatchScript:
    lines = "".join(f"#SBATCH {option}\n" for option in ("--time=5", *options))
    return read_script("job.sh", f"#!/bin/bash\n{lines}{body}\n", submitted_from="/home/me")


def left(script: BatchScript, home: Site = HOME, other: Site = OTHER) -> list[str]:
    return [obstacle.what for obstacle in left_at(obstacles(script, home), home, other)]


@pytest.mark.parametrize(
    ("option", "becomes"),
    [
        ("--account=phys-east", "phys-123"),
        ("--account=physics", "phys-123"),
        ("--account=chem", "chem-9"),
        ("--account=unknown", None),
        ("--partition=a100", "volta"),
        ("--qos=long", "weekly"),
        ("--chdir=/gpfs/u17/run", "/lustre/u17/run"),
        ("--output=/gpfs/u17/run/%j.out", "/lustre/u17/run/%j.out"),
        ("--chdir=/gpfs/other", None),
    ],
)
def test_an_option_is_given_in_the_other_site_s_words(option: str, becomes: str | None) -> None:
    script = read("hostname", option)
    assert left(script) == ([option] if becomes is None else [])
    there = adapted(script, obstacles(script, HOME), HOME, OTHER)
    name, _, value = option.removeprefix("--").partition("=")
    assert there.value(name) == (becomes or value)
    assert there.text == script.text
    if becomes:
        assert there.options[name].origin == "the map of site 'west'"


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("module load cuda/12.4", True),
        ("ml GCC/13 cuda/12.4", True),
        ("module load Python/3.11", False),
        ("module load FFTW/3.3", False),
        ("module load cuda/12.4 unknown/1", False),
        ("module use /gpfs/u17/modules", False),
        ("cat /data/set.txt", True),
        ("cat /gpfs/u17/set.txt", False),
        ("cat /elsewhere/set.txt", False),
        ("cat ~/set.txt", False),
        ("conda activate mine", False),
    ],
)
def test_what_the_body_names_has_to_be_called_the_same(line: str, known: bool) -> None:
    assert (left(read(line)) == []) is known


def test_without_maps_everything_ties() -> None:
    plain = replace(HOME, sitemap=SiteMap())
    script = read("module load cuda/12.4\ncat /data/x", "--account=physics")
    assert len(left(script, plain, replace(OTHER, sitemap=SiteMap()))) == 3


def test_a_path_goes_by_the_longest_directory_that_is_known() -> None:
    deep = replace(OTHER, sitemap=replace(WEST, paths={**WEST.paths, "/project/u17/big": "/scratch/big"}))
    assert translated("paths", "/gpfs/u17/big/a", HOME, deep) == "/scratch/big/a"
    assert translated("paths", "/gpfs/u17/bigger/a", HOME, deep) == "/lustre/u17/bigger/a"
    assert translated("paths", "/gpfs/u17", HOME, deep) == "/lustre/u17"


def test_it_is_submitted_with_the_options_anew_and_the_same_body() -> None:
    from datetime import UTC, datetime

    from golden.test_script import offer

    script = read("module load cuda/12.4", "--account=phys-east", "--partition=a100", "--output=/gpfs/u17/%x.out")
    there = adapted(script, obstacles(script, HOME), HOME, OTHER)
    spec = spec_of(there, datetime.now(UTC))
    submission = render(spec, there, offer("west", None), OTHER, "k" * 12)
    assert (submission.account, submission.partition, submission.stdout) == (
        "phys-123",
        "volta",
        "/lustre/u17/job.sh.out",
    )
    assert submission.script == script.text
