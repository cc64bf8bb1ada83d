"""A script of the user's own, as it is submitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unit.federation.worlds import NOW, site
from unit.slurm.test_sbatchfile import directives, read
from westward.federation.pinned import pinned
from westward.model.batchscript import BatchScript
from westward.model.job import Dependency, Submission
from westward.model.site import Catalogue, ShellDoor, Site
from westward.slurm import restdata
from westward.slurm.filenames import filled
from westward.slurm.obstacles import obstacles
from westward.slurm.options import refused_option
from westward.slurm.routed import sbatch_words, spec_of
from westward.slurm.script import render

KEY = "abcdefghijkl"
WEST = replace(site("west"), root="/project/u17", account=None, qos=None, environment={"PROXY": "p"})


def submitted(script: BatchScript, where: Site = WEST) -> Submission:
    spec = spec_of(script, NOW)
    assert spec.script is not None
    offer = pinned(spec.script, where, Catalogue({}, {}, None, ""), NOW).chosen
    assert offer is not None
    return render(spec, offer, where, KEY)


def test_options_go_along_as_they_are() -> None:
    script = read(directives("-J 'my job' -N 2 --mem=1G --exclusive", "-o %x-%j.out -e err-%4x"), "-p", "long")
    told = submitted(script)
    assert sbatch_words(told) == [
        "--job-name=my_job~abcdefghijkl",
        "--partition=long",
        "--chdir=/project/u17",
        "--output=/project/u17/my job-%j.out",
        "--nodes=2",
        "--mem=1G",
        "--exclusive",
        "--error=err-my job",
        "--ignore-pbs",
    ]
    assert told.script == script.text and told.hold


def test_arguments_reach_the_script() -> None:
    script = replace(read(directives()), arguments=("a", "--nodes=9", "b c"))
    assert sbatch_words(submitted(script))[-4:] == ["/dev/stdin", "a", "--nodes=9", "b c"]
    assert restdata.job_fields(submitted(script))["argv"][1:] == ["a", "--nodes=9", "b c"]


def test_fields_for_slurmrestd() -> None:
    script = read(directives("-N 1-2 -n4 --gres=gpu:a100:2 --mem=1G -t 90 --no-requeue --chdir=sub --begin=now+1hour"))
    fields = restdata.job_fields(submitted(script), "u17")
    expected = {
        "nodes": "1-2",
        "tasks": 4,
        "tres_per_node": "gres/gpu:a100:2",
        "requeue": False,
        "current_working_directory": "/project/u17/sub",
        "standard_output": "/project/u17/sub/slurm-%j.out",
        "hold": True,
    }
    assert {name: fields[name] for name in expected} == expected
    assert fields["begin_time"]["number"] == int(NOW.timestamp()) + 3600
    assert fields["time_limit"]["number"] == 90 and fields["memory_per_node"]["number"] == 1024
    assert {"PROXY=p", "USER=u17", "SLURM_SUBMIT_DIR=/project/u17", "SLURM_NTASKS=4"} <= set(fields["environment"])
    assert {"account", "qos", "partition", "dependency"}.isdisjoint(fields)


@pytest.mark.parametrize(
    "line", ["--begin=16:00", "--deadline=2027-01-01", "--hint=nomultithread", "--gres=a/b", "--nodes=2,4"]
)
def test_what_slurmrestd_cannot_take_is_named(line: str) -> None:
    told = submitted(read(directives(line)))
    assert line.partition("=")[0] in refused_option(told.options, "slurmrestd")
    assert line in sbatch_words(told)


def test_the_sites_own_account_is_taken_where_the_script_names_none() -> None:
    where = replace(WEST, account="physics", qos="long")
    assert submitted(read(directives()), where).account == "physics"
    assert submitted(read(directives("-A chemistry")), where).account == "chemistry"


def test_where_it_starts(tmp_path: Path) -> None:
    mounted = replace(WEST, files={"/shared": tmp_path})
    script = replace(read(directives()), submitted_from=str(tmp_path / "a" / "b"))
    assert submitted(script, mounted).directory == "/shared/a/b"
    assert submitted(script, WEST).directory == "/project/u17"
    assert submitted(script, replace(WEST, doors=(ShellDoor(),))).directory == str(tmp_path / "a" / "b")


def test_a_job_of_westwards_is_waited_for_by_its_key() -> None:
    assert spec_of(read(directives(f"-d afterok:{KEY}")), NOW).depends_on == (Dependency.parse(f"afterok:{KEY}"),)
    told = submitted(read(directives("-d afterok:17")))
    assert told.dependency == "afterok:17"


@pytest.mark.parametrize(
    ("pattern", "name", "missing"),
    [
        ("a-%j.out", "a-17.out", []),
        ("a-%6j-%%-%20j", "a-000017-%-0000000017", []),
        ("%A_%a", "17_3", []),
        ("%N.out", "%N.out", ["%N"]),
        ("a\\%j", "a%j", []),
    ],
)
def test_patterns_of_file_names(pattern: str, name: str, missing: list[str]) -> None:
    assert filled(pattern, {"j": 17, "A": 17, "a": 3}) == (name, missing)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("module load gcc/13\n", ["module load gcc/13"]),
        ("source ~/venv/bin/activate\n", ["source ~/venv/bin/activate"]),
        ("conda activate geo && python3 -c pass\n", ["conda activate geo"]),
        ("cat /gpfs/data/in.txt /etc/hosts >/dev/null\n", ["/gpfs/data/in.txt"]),
        ("cp $SCRATCH/x ${PROXY}/y\n", ["$SCRATCH"]),
        ("./solver in.dat\n", ["./solver", "in.dat"]),
        ("# module load x\n", []),
        ("curl https://example.org/data/x\n", []),
        ("apptainer exec docker://x/y:1 /opt/run /data\n", []),
        ("singularity exec -B /gpfs/d:/d \\\n tools.sif \\\n /opt/x /d/in\n", ["/gpfs/d", "tools.sif"]),
        ('cd "$SLURM_SUBMIT_DIR"\n', ["$SLURM_SUBMIT_DIR"]),
        ("srun --mpi=pmix hostname\n", ["--mpi=pmix"]),
        ("sbatch next.sh\n", ["sbatch next.sh"]),
    ],
)
def test_what_ties_a_script_to_its_site(text: str, found: list[str]) -> None:
    script = read(f"#!/bin/sh\n#SBATCH --time=5\n{text}")
    told = obstacles(script, WEST)
    assert [obstacle.what for obstacle in told] == found
    assert all(obstacle.line and obstacle.line >= 3 and obstacle.remedy for obstacle in told)


@pytest.mark.parametrize(
    "option",
    [
        "account=a",
        "partition=p",
        "qos=q",
        "reservation=r",
        "nodelist=n1",
        "licenses=l",
        "chdir=/x",
        "output=/gpfs/o",
        "dependency=afterok:1",
    ],
)
def test_options_that_tie_it_to_its_site(option: str) -> None:
    (told,) = obstacles(read(directives("-t 5", f"--{option}")), WEST)
    assert (told.line, told.what) == (3, f"--{option}")


def test_a_container_brings_what_the_script_names() -> None:
    assert obstacles(read("#!/bin/sh\n#SBATCH -t 5 --container-image=x\nmodule load y\n/opt/z\n"), WEST) == []
