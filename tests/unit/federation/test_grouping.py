"""Which points share an array, and where an array is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest

from unit.federation.worlds import NOW, catalogue, cluster, site, snapshot
from westward.federation.grouping import OWN, Most, Planned, Point, grouped
from westward.federation.router import route_all
from westward.jobs.template import compose_job
from westward.model.decision import Offer
from westward.model.job import Array, JobSpec, Launcher, Task

KNOWN = catalogue(site("west"), site("east"))
STATE = snapshot({"west": cluster(), "east": cluster()})
MANY = Most(1001)


def points(*overrides: Sequence[str]) -> list[Point]:
    found = []
    for each in overrides:
        one = compose_job("gemm", each, NOW)
        found.append(Point(" ".join(each), tuple(each), one.spec, one.policy, one.region))
    return found


def jobs_of(
    wanted: Sequence[Point], most: Most | Callable[[JobSpec, Offer], Most] = MANY, **more: Any
) -> list[Planned]:
    decisions = route_all([(one.spec, one.policy, one.region) for one in wanted], KNOWN, STATE, NOW)
    limit = most if callable(most) else lambda spec, offer: most
    return grouped(wanted, decisions, more.get("left_out", ()), limit)


def test_points_that_ask_for_the_same_become_tasks_of_one_array() -> None:
    wanted = points(*([f"size={size}", f"nodes={nodes}"] for size in (16, 32, 64) for nodes in (1, 2)))
    # two nodes fit nowhere here; the caller leaves those out
    jobs = jobs_of(wanted, left_out={1, 3, 5})
    assert [(job.points, str(job.spec.array)) for job in jobs] == [((0, 2, 4), "0-2")]
    assert [task.command[3] for task in jobs[0].spec.tasks] == ["--size=16", "--size=32", "--size=64"]
    assert jobs[0].spec.name == "gemm" and jobs[0].spec.command == ()
    assert [jobs[0].task_of(number) for number in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "overrides",
    [
        "cpus_per_task=2", "mem=4G", "walltime=9", "account=teaching", "qos=short", "launcher=none", "requeue=true", "idempotent=true",
        "begin=60", "options.nice=1", "policy=greenest", "ntasks_per_node=2", "outputs=[a]", "setup=[module load x]",
        "depends_on=[afterany:aaaaaaaaaaaa]",
    ],
)  # fmt: skip
def test_what_has_to_be_the_same_in_an_array_makes_two_jobs(overrides: str) -> None:
    jobs = jobs_of(points(["size=16"], ["size=32"], ["size=16", overrides], ["size=32", overrides]))
    assert [job.points for job in jobs] == [(0, 1), (2, 3)]


def test_a_field_that_a_job_gets_one_day_splits_until_somebody_says_otherwise() -> None:
    assert {item.name for item in fields(JobSpec)} > OWN
    assert {"name", "command", "env", "tasks", "config"} == OWN


def test_variables_that_all_have_are_the_array_s_and_the_others_each_task_s() -> None:
    (job,) = jobs_of(points(*(["env.A=1", f"env.B={value}"] for value in (1, 2))))
    assert job.spec.env == {"A": "1"}
    assert [task.env for task in job.spec.tasks] == [{"B": "1"}, {"B": "2"}]


def test_begin_counts_from_one_moment() -> None:
    (job,) = jobs_of(points(["size=1", "begin=10"], ["size=2", "begin=10"]))
    assert len(job.points) == 2


def test_a_single_point_is_a_plain_job() -> None:
    wanted = points(["size=16"])
    (job,) = jobs_of(wanted)
    assert (job.spec, job.points, job.task_of(0)) == (wanted[0].spec, (0,), None)


def test_points_that_are_arrays_themselves_stay_so() -> None:
    wanted = points(["size=16", "array=0-3"], ["size=32", "array=0-3"])
    jobs = jobs_of(wanted)
    assert [job.spec for job in jobs] == [point.spec for point in wanted]
    assert [job.task_of(0) for job in jobs] == [None, None]


def test_an_array_is_cut_where_its_site_has_no_more_indices() -> None:
    jobs = jobs_of(points(*([f"size={size}"] for size in range(1, 12))), Most(4))
    assert [(len(job.points), str(job.spec.array or "")) for job in jobs] == [(4, "0-3"), (4, "0-3"), (3, "0-2")]
    jobs = jobs_of(points(*([f"size={size}"] for size in range(1, 10))), Most(4))
    assert [(len(job.points), str(job.spec.array or "")) for job in jobs] == [(4, "0-3"), (4, "0-3"), (1, "")]
    assert sorted(place for job in jobs for place in job.points) == list(range(9))


def test_and_before_its_script_is_longer_than_its_site_takes() -> None:
    text = "'" * 50_000  # each takes five bytes within quotes
    wanted = [
        replace(point, spec=replace(point.spec, command=("echo", text)))
        for point in points(*([f"size={n}"] for n in (1, 2, 3, 4, 5)))
    ]
    jobs = jobs_of(wanted, Most(1001, 900_000))
    assert [len(job.points) for job in jobs] == [2, 2, 1]


def test_different_names_become_that_of_the_template() -> None:
    (job,) = jobs_of(points(["name=a"], ["name=b"]))
    assert job.spec.name == "gemm"


def test_the_joined_job_is_one_that_can_be_written_down() -> None:
    (job,) = jobs_of(points(["size=16"], ["size=32"]))
    assert job.spec.launcher is Launcher.SRUN
    assert job.spec.array == Array("0-1")
    assert all(isinstance(task, Task) for task in job.spec.tasks)
