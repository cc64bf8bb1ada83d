"""A sweep from plan to table on a real cluster, by one door only: arrays for each set of resources, a point that fails, a node that dies midway."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from contract.clusters import ENDED, Lab, Said, wait_until, westward
from westward.directories import state_dir

pytestmark = pytest.mark.lab

# 20 points for each of three sets of resources; the one with the least memory and N=13 fails
SWEPT = ("env.N=range(0,20)", "mem=40M,50M,60M", "env.MEM=${mem}")
FAILS = {"env.N": 13, "mem": "40M"}
POINT = """\
sleep 4
if [ "$N" = 13 ] && [ "$MEM" = 40M ]; then echo "no luck"; exit 3; fi
printf '{"status": "ok", "columns": [{"name": "square", "unit": "m2"}, {"name": "used"}], "rows": [{"square": %d, "used": "%s"}]}' \
  $((N * N)) "$MEM" > draft
mv draft result.json
"""


@dataclass(frozen=True)
class Place:
    """A site that is reached by one door, and the environment in which a user knows it."""

    lab: Lab
    cluster: str
    site: str
    environment: dict[str, str]

    def westward(self, *words: str, timeout_s: float = 120) -> Said:
        return westward(*words, timeout_s=timeout_s, environment=self.environment)

    def submit(self, *overrides: str) -> Any:
        words = [
            "command=[bash,point.sh]",
            "outputs=[result.json]",
            "walltime=3",
            "setup=['cp /shared/researcher/point.sh .']",
        ]
        said = self.westward("submit", "command", "-m", *words, *overrides, "--site", self.site, "--json")
        assert said.status == 0, said.err
        return said.json

    def table(self, sweep: str) -> tuple[Said, list[dict[str, Any]]]:
        said = self.westward("results", sweep, "--json")
        return said, json.loads(said.out)["rows"]

    def wait_until_ended(self, sweep: str, within_s: float) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []

        def ended() -> bool:
            rows[:] = self.table(sweep)[1]
            jobs = {job["key"]: job for job in self.westward("jobs", "--all", "--json").json if job["sweep"] == sweep}
            return all(job["phase"] in ("ended", "refused") for job in jobs.values()) and all(
                row["state"] in ENDED for row in rows
            )

        wait_until(ended, lambda: Counter(row["state"] for row in rows), within_s, every_s=2)
        return rows


@pytest.fixture(params=["rest-east", pytest.param("shell-west", marks=pytest.mark.full)])
def place(clusters: Lab, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    door, _, cluster = request.param.partition("-")
    (file,) = (state_dir() / "labs" / clusters.name / "sites").glob(f"*{cluster}.yaml")
    described = yaml.safe_load(file.read_text())
    described["name"] = f"by-{door}"
    described["access"]["doors"] = [each for each in described["access"]["doors"] if each["door"] == door]
    sites = tmp_path / "config" / "westward" / "sites"
    sites.mkdir(parents=True)
    (sites / f"by-{door}.yaml").write_text(yaml.safe_dump(described))
    clusters.exec(f"{cluster}-ctl", "sh", "-c", f"cat > /shared/researcher/point.sh <<'END'\n{POINT}END\n")
    yield Place(clusters, cluster, f"by-{door}", {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    clusters.exec(f"{cluster}-ctl", "scancel", "--user=researcher")


@pytest.mark.full
def test_sixty_points_three_sets_of_resources_a_failing_point_and_a_dead_node(place: Place, lab_state: Path) -> None:
    plan = place.westward("plan", "command", "-m", *SWEPT, "--site", place.site, "--json").json
    assert [(job["array"], job["mem_bytes"], len(job["points"])) for job in plan["jobs"]] == [
        ("0-19", mib * 2**20, 20) for mib in (40, 50, 60)
    ]
    told = place.submit(*SWEPT)
    sweep = told["sweep"]
    assert len(told["points"]) == 60 and len(told["jobs"]) == 3
    host, controller = f"{place.cluster}-n2", f"{place.cluster}-ctl"
    wait_until(
        lambda: (
            len(place.lab.accounted(place.cluster, told["jobs"][0]["slurm_name"])) >= 8
            and bool(place.lab.exec(controller, "squeue", "-h", "-t", "RUNNING", "-w", host))
        ),
        "nothing runs",
        120,
    )
    docker.from_env().containers.get(f"{place.lab.name}.{host}").kill()
    try:
        rows = place.wait_until_ended(sweep, 400)
    finally:
        its_own = {"WESTWARD_STATE_DIR": str(lab_state)}
        assert westward("lab", "up", "east-west", "--name", place.lab.name, environment=its_own).status == 0
    before = Counter(row["state"] for row in rows)
    # the point that fails may have been one of those on the node
    assert before["NODE_FAIL"] >= 1 and before["FAILED"] <= 1, before
    assert before["COMPLETED"] + before["FAILED"] + before["NODE_FAIL"] == 60, before
    said, _ = place.table(sweep)
    assert said.status == 1 and f"westward retry {sweep}" in said.err

    again = place.westward("retry", sweep, "--json").json
    assert len(again["points"]) == 60 - before["COMPLETED"]
    assert "nothing of sweep" in place.westward("retry", sweep).out
    rows = place.wait_until_ended(sweep, 200)
    assert Counter(row["state"] for row in rows) == {"COMPLETED": 59, "FAILED": 1}
    (failed,) = (row for row in rows if row["state"] == "FAILED")
    assert {key: failed[key] for key in FAILS} == FAILS and failed["problem"] == "ended FAILED"
    for row in rows:
        if row is not failed:
            assert (row["square"], row["used"], row["problem"]) == (row["env.N"] ** 2, row["mem"], "")
    assert completed_once(place, sweep) == 59

    said = place.westward("results", sweep, "--format", "csv")
    read = list(csv.DictReader(io.StringIO(said.out)))
    assert said.status == 1 and len(read) == 60
    assert [row["square (m2)"] for row in read if row["state"] == "COMPLETED"] == [
        str(row["square"]) for row in rows if row["state"] == "COMPLETED"
    ]
    # what is here needs no site any more
    place.lab.exec(f"{place.cluster}-ctl", "sh", "-c", "rm -rf /shared/researcher/command~*")
    assert place.table(sweep)[1] == rows


def completed_once(place: Place, sweep: str) -> int:
    """How many tasks the cluster itself says have completed, in all jobs of the sweep."""
    jobs = [job for job in place.westward("jobs", "--all", "--json").json if job["sweep"] == sweep]
    records = [record for job in jobs for record in place.lab.accounted(place.cluster, job["slurm_name"])]
    return sum(state == "COMPLETED" for _, state in records)


def test_more_jobs_than_its_account_may_have(place: Place) -> None:
    """What the cluster refuses at first is submitted by `retry`, when there is room."""
    root = (
        f"{place.cluster}-ctl",
        "sacctmgr",
        "-i",
        "modify",
        "user",
        "researcher",
        "where",
        "account=research",
        "set",
    )
    place.lab.exec(*root, "maxsubmitjobs=4")
    try:
        said = place.westward(
            "submit", "command", "-m", "command=[sleep,1]", "mem=50M", "env.N=range(0,7)", "--site", place.site, "--json"
        )  # fmt: skip
        assert said.status == 2 and "westward retry" in said.err, said
        sweep = said.json["sweep"]
        rows = place.table(sweep)[1]
        states = Counter(row["state"] for row in rows)
        # the limit is known by either door: an array of 4 and one of 3, and either may come first
        assert states["NOT_SUBMITTED"] in (3, 4), states
    finally:
        place.lab.exec(*root, "maxsubmitjobs=-1")
    assert place.westward("retry", sweep).status == 0
    rows = place.wait_until_ended(sweep, 90)
    assert {row["state"] for row in rows} == {"COMPLETED"} and completed_once(place, sweep) == 7
