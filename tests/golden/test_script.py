"""The sbatch scripts, whole. WESTWARD_UPDATE_GOLDEN=1 pytest tests/golden/test_script.py writes them anew: read the difference then."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from golden.kept import as_kept, bash_reads
from westward.catalogue.load import load_site
from westward.errors import InputError
from westward.jobs.template import compose_job
from westward.model.accelerators import Granted
from westward.model.decision import Cost, Offer
from westward.model.job import Array, JobSpec, Launcher, Submission, Task
from westward.model.resources import Resources
from westward.model.site import Site
from westward.slurm import nativedata, restdata
from westward.slurm.script import RESERVED, render

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


# one line, as an #SBATCH line is; sbatch splits it like a shell, and runs nothing in it
HOSTILE_OPTION = f'it\'s "mine" $(touch {MARK}-7) `touch {MARK}-8`; touch {MARK}-9 --uid=0 \\ # 训练'


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


def compute_at_three_h100() -> Submission:
    """2 PFLOPS of bf16, one task for each accelerator."""
    spec = compose_job("gemm", ["compute=2PFLOPS@bf16", "ntasks_per_accelerator=1"]).spec
    granted = Granted("2PFLOPS@bf16", "h100", 3, 1, "bf16", 989.5e12)
    return render(spec, replace(offer("west", "h100"), granted=granted), a_site(), KEY)


def compute_at_dcus() -> Submission:
    """A site that calls its cards by a GRES of their own, on two nodes."""
    spec = compose_job("gemm", ["compute=2PFLOPS@bf16", "cpus_per_task=4"]).spec
    granted = Granted("2PFLOPS@bf16", "dcu:K100_AI", 6, 2, "bf16", 192e12, True)
    return render(spec, replace(offer("west", "dcu:K100_AI"), granted=granted), a_site(), KEY)


def gemm_on_cpus() -> Submission:
    spec = compose_job("gemm", ["cpus_per_task=8", "walltime=1-00:00:00", "qos=short", "+env.OMP_NUM_THREADS=8"]).spec
    return render(spec, offer("east", None, "cpu"), a_site("east"), KEY)


def array_with_everything() -> Submission:
    spec = JobSpec(
        name="sweep",
        command=("python3", "point.py"),
        resources=Resources(nodes=1, cpus_per_task=4, walltime_s=90),
        array=Array.parse("0-99:10,7%4"),
        begin_at=datetime(2026, 1, 31, 8, tzinfo=UTC),
        requeue=True,
        options={"constraint": "skylake&ib", "exclusive": None, "comment": HOSTILE_OPTION, "mail-type": "END,FAIL"},
    )
    return render(spec, offer("west", None, "cpu"), a_site(), KEY, "afterok:17,afterany:18")


def points_of_a_sweep() -> Submission:
    """Each task has a command of its own, and one of them variables too."""
    first, second = (compose_job("gemm", [f"size={size}", "cpus_per_task=4"]).spec for size in (64, 128))
    tasks = (Task(first.command), Task(second.command, {"OMP_PLACES": "cores", "NOTE": "it's $HOME"}))
    return render(
        replace(first, array=Array.parse("0-1"), tasks=tasks, command=()),
        offer("east", None, "cpu"),
        a_site("east"),
        KEY,
    )


def checkpointing() -> Submission:
    overrides = [
        "command=[python3,train.py]",
        "launcher=srun",
        "walltime=08:00:00",
        "checkpoint.signal=USR1",
        "setup=[module load cuda]",
    ]
    return render(compose_job("command", overrides).spec, offer("west", None, "cpu"), a_site(), KEY)


def checkpointing_array() -> Submission:
    overrides = [
        "checkpoint.signal=USR2",
        "checkpoint.before_s=300",
        "checkpoint.restarts=9",
        "checkpoint.exit_code=3",
        "array=0-3",
    ]
    return render(compose_job("command", overrides).spec, offer("west", None, "cpu"), a_site(), KEY)


def hostile_at_a_site_with_spaces() -> Submission:
    return render(hostile(), offer("west", None, "cpu"), replace(a_site(), root="/shared/my files/it's"), KEY)


GOLDEN = {
    "allreduce-h100.sbatch": allreduce_at_h100,
    "compute-h100.sbatch": compute_at_three_h100,
    "compute-dcu.sbatch": compute_at_dcus,
    "gemm-cpu.sbatch": gemm_on_cpus,
    "array.sbatch": array_with_everything,
    "sweep.sbatch": points_of_a_sweep,
    "checkpoint.sbatch": checkpointing,
    "checkpoint-array.sbatch": checkpointing_array,
    "hostile.sbatch": hostile_at_a_site_with_spaces,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_script_is_what_it_was(name: str) -> None:
    assert as_kept(GOLDEN[name]().script, HERE / name)


@pytest.mark.parametrize("name", GOLDEN)
def test_bash_can_read_it(name: str) -> None:
    assert bash_reads(GOLDEN[name]().script)


def run(script: str, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a job's script as slurmd would: in an empty environment, in the job's working directory."""
    return subprocess.run(
        ["bash"],
        input=script.encode(),
        capture_output=True,
        cwd=tmp_path,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), **more},
        check=False,
    )


def left_behind(place: Path) -> list[str]:
    """What a command inside one of the values would have made."""
    return [path.name for path in place.rglob("*") if path.is_file() and path.parent.name != ".westward"]


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


def test_each_task_of_a_sweep_runs_its_own_command_with_its_own_variables(tmp_path: Path) -> None:
    words = [["it's", "$(id)", ";;", "esac"], ["a\nb\n1)", "", "two words"], list(HOSTILE.values())]
    tasks = tuple(
        Task(
            ("bash", "-c", 'printf "%s\\0" "${NOTE-none}" "$@"', "bash", *each),
            {"NOTE": HOSTILE["SEVERAL"]} if i else {},
        )
        for i, each in enumerate(words)
    )
    spec = replace(hostile(), env={}, array=Array.parse("3,5,7"), tasks=tasks)
    script = render(spec, offer("west", None, "cpu"), replace(a_site(), root=str(tmp_path / "root")), KEY).script
    for index, each in zip((3, 5, 7), words, strict=True):
        done = run(script, tmp_path, SLURM_ARRAY_TASK_ID=str(index))
        note = "none" if index == 3 else HOSTILE["SEVERAL"]
        assert (done.returncode, done.stdout.decode().split("\0")[:-1]) == (0, [note, *each])
    none = run(script, tmp_path, SLURM_ARRAY_TASK_ID="4")
    assert (none.returncode, none.stdout) == (2, b"")
    assert b"no task 4" in none.stderr
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


@pytest.mark.parametrize(
    ("make", "gres", "nodes", "tasks"),
    [(compute_at_three_h100, "gpu:h100:3", 1, 3), (compute_at_dcus, "dcu:K100_AI:6", 2, 1), (allreduce_at_h100, "gpu:h100:4", 2, 1)],
)  # fmt: skip
def test_what_a_request_became_is_the_same_through_every_door(
    make: Callable[[], Submission], gres: str, nodes: int, tasks: int
) -> None:
    submission = make()
    said = options_of(submission.script)
    assert {f"--gres={gres}", f"--nodes={nodes}", f"--ntasks-per-node={tasks}"} <= set(said)
    rest = restdata.job_fields(submission)
    assert (rest["tres_per_node"], rest["nodes"], rest["tasks_per_node"]) == (f"gres/{gres}", str(nodes), tasks)
    assert rest["tasks"] == nodes * tasks
    native = nativedata.job_fields(submission)
    assert (native["gres_per_node"], native["nodes"], native["ntasks_per_node"]) == (gres, nodes, tasks)


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


def options_of(script: str) -> list[str]:
    """What sbatch reads from a script: the words of its #SBATCH lines. Seen on 22.05 to 26.05: a backslash counts in all quotes."""
    words = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            split = shlex.shlex(line.removeprefix("#SBATCH"), posix=True, punctuation_chars=False)
            split.whitespace_split, split.escapedquotes = True, "\"'"
            words += list(split)
    return words


class TestOptions:
    def test_everything_is_in_the_fields_and_in_the_script(self) -> None:
        submission = array_with_everything()
        assert (submission.array, submission.dependency, submission.requeue, submission.hold) == (
            "0-99:10,7%4", "afterok:17,afterany:18", True, True,
        )  # fmt: skip
        assert submission.begin_at == 1769846400
        assert submission.stdout == f"/shared/researcher/sweep~{KEY}.%a.out"
        said = options_of(submission.script)
        for word in (
            "--array=0-99:10,7%4",
            "--dependency=afterok:17,afterany:18",
            "--begin=uts1769846400",
            "--requeue",
        ):
            assert word in said
        for name, value in submission.options.items():
            assert (f"--{name}" if value is None else f"--{name}={value}") in said
        assert len(said) == len({word.partition("=")[0] for word in said}), "none twice"

    def test_hostile_values_are_one_word_of_one_option_and_run_nothing(self, tmp_path: Path) -> None:
        assert f"--comment={HOSTILE_OPTION}" in options_of(array_with_everything().script)
        spec = replace(hostile(), command=("true",), options={"comment": HOSTILE_OPTION, "constraint": "a&b|c;d"})
        done = run(
            render(spec, offer("west", None, "cpu"), replace(a_site(), root=str(tmp_path)), KEY).script, tmp_path
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert left_behind(tmp_path) == []

    @pytest.mark.parametrize("value", ["two\nlines", "x\r", "\x00", "esc\x1b[0m", "\u2028"])
    def test_a_value_that_is_not_one_line_is_refused(self, value: str) -> None:
        with pytest.raises(InputError, match="option --comment has a line break or a control character"):
            render(replace(hostile(), options={"comment": value}), offer("west", None), a_site(), KEY)

    @pytest.mark.parametrize("name", ["", "--x", "-x", "Q", "gpu_bind", "a b", "x=y", "x\n#SBATCH --uid", "größe"])
    def test_what_is_no_option_is_refused(self, name: str) -> None:
        with pytest.raises(InputError, match="is not a long option of sbatch"):
            render(replace(hostile(), options={name: "1"}), offer("west", None), a_site(), KEY)

    @pytest.mark.parametrize("name", sorted(RESERVED))
    def test_what_we_set_is_refused_with_what_to_use_instead(self, name: str) -> None:
        with pytest.raises(InputError, match=rf"option --{name}.* is set by Westward itself") as caught:
            render(replace(hostile(), options={name: "1"}), offer("west", None), a_site(), KEY)
        assert caught.value.next_step

    @pytest.mark.parametrize("name", ["hol", "chd", "job-nam", "n", "tim", "ntasks"])
    def test_so_is_its_beginning_which_sbatch_would_take_for_it(self, name: str) -> None:
        with pytest.raises(InputError, match="is set by Westward itself"):
            render(replace(hostile(), options={name: "1"}), offer("west", None), a_site(), KEY)

    def test_each_task_has_a_directory_of_its_own(self, tmp_path: Path) -> None:
        spec = replace(hostile(), command=("pwd",), env={"SLURM_ARRAY_TASK_ID": "7"}, array=Array.parse("0-9"))
        submission = render(spec, offer("west", None, "cpu"), replace(a_site(), root=str(tmp_path)), KEY)
        assert run(submission.script, tmp_path).stdout.decode().strip() == f"{submission.directory}/7"

    def test_a_job_that_may_run_twice_is_not_held(self) -> None:
        submission = render(replace(hostile(), idempotent=True), offer("west", None, "cpu"), a_site(), KEY)
        assert not submission.hold
        assert "--hold" not in submission.script
