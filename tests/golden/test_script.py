"""The sbatch scripts, whole. WESTWARD_UPDATE_GOLDEN=1 pytest tests/golden/test_script.py writes them anew: read the difference then."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from westward.catalogue.load import load_site
from westward.errors import InputError
from westward.jobs.template import compose_job
from westward.model.decision import Cost, Offer
from westward.model.job import JobSpec, Launcher, Resources, Submission
from westward.model.site import Site
from westward.slurm.script import render

HERE = Path(__file__).parent / "data"
SITES = Path(__file__).parents[1] / "data" / "sites"
KEY = "abcdefghijkl"
MARK = "westward-was-here"

# values that a shell would change or run, if it ever saw them bare
HOSTILE = {
    "QUOTES": 'it\'s "quoted" and `ticked`',
    "COMMAND": f"$(touch {MARK}-1) `touch {MARK}-2`; touch {MARK}-3 & touch {MARK}-4",
    "SEVERAL": f"one\ntouch {MARK}-5\n#SBATCH --time=1-0\n",
    "EXPANSION": "$HOME ${PATH} ~ * ? [a] {1..3} !! $'\\x41' \\",
    "SPACES": "  two  spaces\tand a tab  ",
    "UNICODE": "训练 größe 🚀",
    "EMPTY": "",
    "DASH": "-n",
    "JINJA": "{{ key }} {% if x %} {# y #}",
}


def offer(site: str, chip: str | None, partition: str = "gpu") -> Offer:
    return Offer(site, partition, chip, 0.0, 1.0, 0.6, 24.3, Cost())


def a_site(name: str = "west") -> Site:
    """The site as the lab describes it, without the parts that change with each build."""
    site = load_site(SITES / f"{name}.yaml")
    return replace(site, environment={"OMPI_MCA_smsc": "^cma", "PYTHONPATH": "/opt/westward/bench"})


def hostile() -> JobSpec:
    return JobSpec(
        name=f'it\'s "my" job\n$(touch {MARK}-6) 训练',
        command=("printf", "%s\\n", "it's", "$(id)", "two words", "", "a\nb", *HOSTILE.values()),
        resources=Resources(nodes=1, mem_bytes=1, walltime_s=61),
        launcher=Launcher.NONE,
        env=HOSTILE,
        outputs=("result.json",),
    )


def allreduce_at_h100() -> Submission:
    spec = compose_job("allreduce", ["nodes=2", "accelerators=any:4"]).spec
    return render(spec, offer("west", "h100"), a_site(), KEY)


def gemm_on_cpus() -> Submission:
    spec = compose_job("gemm", ["cpus_per_task=8", "walltime=1-00:00:00", "qos=short", "+env.OMP_NUM_THREADS=8"]).spec
    return render(spec, offer("east", None, "cpu"), a_site("east"), KEY)


def hostile_at_a_site_with_spaces() -> Submission:
    return render(hostile(), offer("west", None, "cpu"), replace(a_site(), root="/shared/my files/it's"), KEY)


GOLDEN = {
    "allreduce-h100.sbatch": allreduce_at_h100,
    "gemm-cpu.sbatch": gemm_on_cpus,
    "hostile.sbatch": hostile_at_a_site_with_spaces,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_script_is_what_it_was(name: str) -> None:
    script = GOLDEN[name]().script
    file = HERE / name
    if os.environ.get("WESTWARD_UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(script)
    assert script == file.read_text()


@pytest.mark.parametrize("name", GOLDEN)
def test_bash_can_read_it(name: str) -> None:
    done = subprocess.run(["bash", "-n"], input=GOLDEN[name]().script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def run(script: str, tmp_path: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a job's script as slurmd would: in an empty environment, in the job's working directory."""
    return subprocess.run(
        ["bash"],
        input=script.encode(),
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)},
        check=False,
    )


def left_behind(place: Path) -> list[str]:
    """What a command inside one of the values would have made."""
    return [path.name for path in place.rglob("*") if path.is_file()]


def test_hostile_values_survive_to_the_byte_and_run_nothing(tmp_path: Path) -> None:
    root = tmp_path / "my files" / "it's"
    site = replace(a_site(), root=str(root))
    spec = replace(hostile(), command=("env", "-0"))
    submission = render(spec, offer("west", None, "cpu"), site, KEY)
    done = run(submission.script, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    seen = dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)
    assert {name: seen[name] for name in HOSTILE} == HOSTILE
    assert seen["PWD"] == submission.directory
    assert Path(submission.directory).is_dir()
    assert left_behind(tmp_path) == []


def test_hostile_arguments_reach_the_program_to_the_byte(tmp_path: Path) -> None:
    words = ["it's", "$(id)", "two words", "", "a\nb", *HOSTILE.values()]
    spec = replace(hostile(), command=("printf", "%s\\0", *words))
    done = run(render(spec, offer("west", None, "cpu"), replace(a_site(), root=str(tmp_path)), KEY).script, tmp_path)
    assert done.stdout.decode().split("\0")[:-1] == words
    assert left_behind(tmp_path) == []


def test_a_failing_line_ends_the_job(tmp_path: Path) -> None:
    spec = replace(hostile(), setup=("false",), command=("echo", "went on"))
    done = run(render(spec, offer("west", None, "cpu"), replace(a_site(), root=str(tmp_path)), KEY).script, tmp_path)
    assert done.returncode != 0
    assert done.stdout == b""


@pytest.mark.parametrize("field", ["account", "qos"])
@pytest.mark.parametrize("value", [f"research\ntouch {MARK}", "two words", "-x --uid=0"])
def test_an_account_is_one_word_of_one_option_or_refused(tmp_path: Path, field: str, value: str) -> None:
    """What stands in an #SBATCH line is split like a shell's, and a new line there would be a command."""
    spec = replace(hostile(), command=("true",), **{field: value})
    try:
        script = render(spec, offer("west", None, "cpu"), replace(a_site(), root=str(tmp_path)), KEY).script
    except InputError:
        return
    run(script, tmp_path)
    assert not (tmp_path / MARK).exists()
    options = [word for line in script.splitlines() if line.startswith("#SBATCH") for word in shlex.split(line)[1:]]
    assert f"--{field}={value}" in options


def test_what_slurmrestd_is_told_is_what_the_script_says() -> None:
    """slurmrestd ignores #SBATCH lines, so the two must agree."""
    submission = allreduce_at_h100()
    lines = re.findall(r"^#SBATCH --([^=\n]+=.*)$", submission.script, re.MULTILINE)
    options = dict(shlex.split(line)[0].split("=", 1) for line in lines)
    assert options["job-name"] == submission.name == f"allreduce~{KEY}"
    assert options["partition"] == submission.partition
    assert options["account"] == submission.account == "research"
    assert options["nodes"] == str(submission.nodes) == "2"
    assert options["ntasks-per-node"] == str(submission.ntasks_per_node)
    assert options["mem"] == f"{submission.mem_per_node_mib}M" == "1024M"
    assert options["gres"] == submission.gres == "gpu:h100:4"
    assert options["time"] == "00:05:00"
    assert options["output"] == submission.stdout
    assert submission.walltime_s == 300
    assert submission.environment["OMPI_MCA_smsc"] == "^cma"


def test_slurm_s_units_are_rounded_up() -> None:
    submission = hostile_at_a_site_with_spaces()
    assert submission.mem_per_node_mib == 1
    assert submission.walltime_s == 120


def test_an_mpi_job_needs_a_site_that_says_how() -> None:
    spec = compose_job("allreduce", []).spec
    with pytest.raises(InputError, match="site 'west'") as caught:
        render(spec, offer("west", "h100"), replace(a_site(), mpi=None), KEY)
    assert "mpi: pmix" in caught.value.next_step


def test_the_user_s_own_values_win_over_the_site_s() -> None:
    spec = replace(hostile(), env={"PYTHONPATH": "/mine"}, account="mine")
    submission = render(spec, offer("west", None, "cpu"), a_site(), KEY)
    assert submission.environment["PYTHONPATH"] == "/mine"
    assert "export PYTHONPATH=/mine\n" in submission.script
    assert submission.account == "mine"
