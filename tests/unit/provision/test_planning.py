"""From differences and jobs to what is refused; and what a cluster runs with that its file does not say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from westward.errors import InputError, Unreachable
from westward.provision.planning import Change, as_it_runs, changes_of, parse_jobs, render
from westward.slurm.confcluster import Configuration, of_texts
from westward.slurm.confcompare import compare

DATA = Path(__file__).parents[2] / "data"
SLURM = """ClusterName=c
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
KillWait=30
NodeName=n[1-2] CPUs=4 Gres=gpu:4
NodeName=n3 CPUs=4
PartitionName=gpu Nodes=n[1-2]
PartitionName=all Nodes=n[1-3]
"""
GRES = "NodeName=n[1-2] Name=gpu File=/dev/nvidia[0-3]\n"
QUEUE = "7|RUNNING|gpu|n1\n8|RUNNING|all|n[2-3]\n9|PENDING|gpu,all|\n"
DEVICES = "7                   cpu=1,gres/gpu=1    gres/gpu:1\n8                   cpu=2\n"


def cluster(slurm: str = SLURM, gres: str = GRES) -> Configuration:
    return of_texts({"slurm.conf": slurm, "gres.conf": gres}, (24, 11))


def changes(before: str, after: str, *allow: str, queue: str = QUEUE) -> list[Change]:
    assert (SLURM + GRES).count(before) == 1
    found = compare(cluster(), cluster(SLURM.replace(before, after), GRES.replace(before, after)))
    return list(changes_of(found, (24, 11), parse_jobs(queue, DEVICES), allow))


def test_jobs_as_squeue_has_them() -> None:
    seven, eight, nine = parse_jobs(QUEUE, DEVICES)
    assert (seven.job, seven.active, seven.gres, seven.nodes) == ("7", True, True, {"n1"})
    assert (eight.gres, eight.nodes) == (False, {"n2", "n3"})
    assert (nine.active, nine.nodes, nine.partitions) == (False, frozenset(), {"gpu", "all"})


@pytest.mark.parametrize(
    ("before", "after", "jobs", "refused"),
    [
        ("KillWait=30", "KillWait=31", (), False),
        ("/var/lib/slurm/slurmctld", "/srv/state", ("7", "8", "9"), True),
        ("/var/lib/slurm/slurmd\n", "/srv/spool\n", ("7", "8"), True),
        ("n[1-2] CPUs=4", "n[1-2] CPUs=8", ("7", "8"), True),
        ("NodeName=n3 CPUs=4", "NodeName=n3 CPUs=8", ("8",), True),
        ("Gres=gpu:4", "Gres=gpu:2", ("7",), True),
        ("nvidia[0-3]", "nvidia[0-1]", ("7",), True),
        ("PartitionName=gpu Nodes=n[1-2]\n", "", ("7", "9"), True),
    ],
)
def test_what_harms_jobs_names_them(before: str, after: str, jobs: tuple[str, ...], refused: bool) -> None:
    (change,) = changes(before, after)
    assert (change.jobs, change.refused) == (jobs, refused)


def test_without_jobs_only_what_is_lost_in_any_case_is_refused() -> None:
    assert not changes("/var/lib/slurm/slurmd\n", "/srv/spool\n", queue="")[0].refused
    assert not changes("n[1-2] CPUs=4", "n[1-2] CPUs=8", queue="")[0].refused
    assert changes("/var/lib/slurm/slurmctld", "/srv/state", queue="")[0].refused
    assert changes("ClusterName=c", "ClusterName=d", queue="")[0].refused


def test_what_is_allowed_has_to_be_named_right() -> None:
    assert not changes("/var/lib/slurm/slurmctld", "/srv/state", "statesavelocation")[0].refused
    assert not changes("PartitionName=gpu Nodes=n[1-2]\n", "", "PartitionName=gpu")[0].refused
    with pytest.raises(InputError, match="statesave: that does not change; what changes: KillWait"):
        changes("KillWait=30", "KillWait=31", "StateSave")


def test_the_deepest_change_comes_first() -> None:
    after = cluster(SLURM.replace("KillWait=30", "KillWait=31").replace("ClusterName=c", "ClusterName=d"))
    found = changes_of(compare(cluster(), after), (24, 11), ())
    assert [change.name for change in found] == ["ClusterName", "KillWait"]


def test_what_was_never_taken_up_is_part_of_what_changes() -> None:
    files = of_texts({"slurm.conf": (DATA.parent / "golden" / "lab" / "v2411.slurm.conf").read_text()}, (24, 11))
    config = (DATA / "slurm-24.11-text" / "config.txt").read_text()
    runs, late = as_it_runs(
        files, config.replace("KillWait                = 5 sec", "KillWait                = 99 sec")
    )
    assert dict(late) == {"KillWait": "5"}
    assert [str(one) for one in compare(runs, files)] == ["slurm.conf KillWait: 99 -> 5"]
    assert as_it_runs(files, config)[0] == files


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("ctl : ok=1 changed=0 unreachable=1 failed=0", Unreachable, "no answer from ctl"),
        (
            "fatal: [ctl]: FAILED!\n    msg: slurm_cluster_name is missing\n",
            InputError,
            "slurm_cluster_name is missing",
        ),
    ],
)
def test_what_cannot_be_rendered_says_why(
    said: str, error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\nexit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(error, match=words):
        render([tmp_path])
