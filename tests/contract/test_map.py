"""What each site calls things, on real clusters: jobs of templates and of scripts go by it, and it is checked at the site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.clusters import Lab, westward
from westward.catalogue.load import site_files

pytestmark = pytest.mark.lab

# A lab has no modules: this knows `tool/1.0` and what else it is told of, as Environment Modules and Lmod answer
MODULES = r"""
module() {
    [ "$1" = -t ] && shift
    case "$1 $2" in
        "is-avail tool/1.0"|"is-avail extra/2") return 0;;
        "load tool/1.0"|"load extra/2") export LOADED="${LOADED:-}+$2"; : "$not_set";;
        *) echo "no module $2" >&2; return 1;;
    esac
}
"""
MAPS = {
    "east": "home: true\nmap:\n  accounts: {physics: research}\n  modules: {tool: tool/1.0}\n  paths: {/project/p: /shared/researcher}\n",
    "west": "map:\n  accounts: {physics: phys-west}\n  partitions: {big: gpu}\n  modules: {tool: tool/1.0, both: tool/1.0 extra/2}\n"
    "  paths: {/project/p: /shared/researcher/p}\n",
}
SCRIPT = """#!/bin/bash
#SBATCH --account=research --time=00:02:00 --gres=gpu:1 --output=/shared/researcher/%x.out
. /etc/profile.d/modules.sh
module load tool/1.0
echo "$SLURM_CLUSTER_NAME $SLURM_JOB_ACCOUNT $LOADED"
"""


@pytest.fixture(scope="module")
def mapped(clusters: Lab) -> Iterator[Lab]:
    before = {}
    for cluster, text in MAPS.items():
        (file,) = (file for file in site_files() if file.name == f"{cluster}.yaml" or file.stem.endswith(f"-{cluster}"))
        before[file] = file.read_text()
        file.write_text(before[file] + text)
        for node in (f"{cluster}-ctl", f"{cluster}-n1", f"{cluster}-n2"):
            clusters.exec(node, "sh", "-c", 'printf %s "$1" > /etc/profile.d/modules.sh', "sh", MODULES)
    for argv in (["add", "account", "phys-west"], ["add", "user", "researcher", "account=phys-west"]):
        clusters.run("west-ctl", "sacctmgr", "-i", *argv)
    clusters.exec("west-ctl", "sh", "-c", "mkdir -p /shared/researcher/p && echo 7 > /shared/researcher/p/a.txt && chmod -R a+rX /shared/researcher/p && chown -R researcher /shared/researcher/p")  # fmt: skip
    yield clusters
    for file, text in before.items():
        file.write_text(text)


def charged(clusters: Lab, name: str) -> str:
    return clusters.exec("west-ctl", "sacct", "-aXnP", "-S", "now-1hour", "-o", "account", "--name", name).strip()


def test_the_map_is_one_table(mapped: Lab) -> None:
    said = westward("map", "--json").json
    called = {one["site"]: {(each["kind"], each["name"]): each["called"] for each in one["names"]} for one in said}
    assert called[mapped.site("west")]["modules", "both"] == "tool/1.0 extra/2"
    assert called[mapped.site("east")]["modules", "both"] is None
    assert called[mapped.site("east")]["accounts", "physics"] == "research"
    (row,) = (line for line in westward("map").out.splitlines() if "/project/p" in line)
    assert row.split() == ["directory", "/project/p", "/shared/researcher", "/shared/researcher/p"]


def test_each_site_is_asked_whether_it_is_so(mapped: Lab) -> None:
    said = westward("map", "--check", "--json")
    found = {
        one["site"]: {(each["kind"], each["name"]): each.get("found") for each in one["names"]} for one in said.json
    }
    west, east = found[mapped.site("west")], found[mapped.site("east")]
    assert {west[kind, name] for kind, name in [("accounts", "physics"), ("modules", "tool"), ("modules", "both"), ("paths", "/project/p"), ("root", None), ("partitions", "big")]} == {"yes"}  # fmt: skip
    assert east["modules", "tool"] == "yes"
    # east knows neither: they go by their own names there, and are not to be found
    assert (east["modules", "both"], east["partitions", "big"]) == ("no", "no")
    assert said.status == 0, "what its own map does not name is no fault of a site"
    shown = westward("map", "--check")
    assert "there is no partition 'big'; there are: gpu" in shown.out and "module 'both' is not there" in shown.out
    assert westward("map", "--check", mapped.site("west")).status == 0


def test_a_template_goes_by_the_map(mapped: Lab) -> None:
    said = westward(
        "submit", "command", "--wait", "account=physics", "modules=[both]", "inputs=[/project/p/a.txt]",
        "command=[bash,-c,'echo $LOADED $(cat $WESTWARD_INPUT_1)']", "--site", mapped.site("west"), "--json",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert westward("logs", said.json["key"]).out.strip() == "+tool/1.0+extra/2 7"
    assert charged(mapped, said.json["slurm_name"]) == "phys-west"


def test_a_script_goes_where_the_maps_know_all_that_ties_it_home(mapped: Lab, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT)
    plan = westward("route", "--plan", "--json", str(script)).json
    assert plan["decision"]["chosen"]["site"] == mapped.site("west"), "the cheaper one"
    assert plan["left_at"] == {mapped.site("west"): []} and len(plan["obstacles"]) == 3
    said = westward("route", "--wait", "--json", str(script))
    assert said.status == 0, said.err
    assert charged(mapped, said.json["slurm_name"]) == "phys-west"
    assert westward("logs", said.json["key"]).out.split() == ["west", "phys-west", "+tool/1.0"]
    assert "/shared/researcher/p/job.sh.out" in plan["stdout"]


def test_one_more_path_keeps_it_at_home(mapped: Lab, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT + "cat /shared/researcher/a.txt\n")
    plan = westward("route", "--plan", "--json", str(script)).json
    assert plan["site"] == mapped.site("east")
    assert [found["what"] for found in plan["left_at"][mapped.site("west")]] == ["/shared/researcher/a.txt"]
