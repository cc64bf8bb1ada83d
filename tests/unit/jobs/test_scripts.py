"""A batch script of the user's own lives like every other job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unit.federation.worlds import NOW
from unit.jobs.world import KNOWN, Killed, World, assert_started_once, decision, killed_at
from unit.slurm.test_sbatchfile import directives, read
from westward.errors import InputError
from westward.jobs.collect import open_log
from westward.model.job import JobSpec
from westward.slurm.routed import spec_of


def a_script(*lines: str, arguments: tuple[str, ...] = ("a", "b c")) -> JobSpec:
    return spec_of(replace(read(directives("-J 'grüße 算力'", *lines)), arguments=arguments), NOW)


@pytest.mark.parametrize("step", ["intent", "attempt", "sent", "held"])
def test_killed_anywhere_it_starts_once_and_as_it_was_meant(world: World, no_wait: None, step: str) -> None:
    with pytest.raises(Killed):
        world.jobs(killed_at(step)).submit(a_script("--mem=1G"), decision())
    world.settle()
    assert_started_once(world)
    job = world.only()
    assert (job.name, job.submission.arguments) == ("grüße 算力", ("a", "b c"))
    assert world.cluster.submissions[-1] == job.submission and job.submission.hold
    assert job.submission.script == directives("-J 'grüße 算力'", "--mem=1G")


def test_it_waits_for_a_job_at_another_site_by_its_key(world: World) -> None:
    first = world.jobs().submit(a_script(), decision("east"))
    after = world.jobs().submit(a_script(f"--dependency=afterok:{first.key}"), decision("west"))
    assert world.cluster.started == [] and after.waits_for[0].key == first.key


@pytest.mark.parametrize(
    ("lines", "task", "file"),
    [
        ((), None, "slurm-1.out"),
        (("-a 1-2",), 2, "slurm-1_2.out"),
        (("-o said-%x-%4j.txt",), None, "said-grüße 算力-0001.txt"),
    ],
)
def test_its_log_is_where_the_script_says(
    world: World, tmp_path: Path, lines: tuple[str, ...], task: int | None, file: str
) -> None:
    job = world.jobs().submit(a_script(*lines), decision())
    site = replace(KNOWN.sites["west"], files={KNOWN.sites["west"].root: tmp_path})
    (tmp_path / file).write_text("said")
    with open_log(job, site, task) as log:
        assert log.read() == b"said"


def test_a_log_whose_name_only_its_site_knows(world: World) -> None:
    job = world.jobs().submit(a_script("-o %N.out"), decision())
    with (
        pytest.raises(InputError, match=r"'.*/%N.out' at west, and what %N became is not recorded"),
        open_log(job, KNOWN.sites["west"]),
    ):
        pass
