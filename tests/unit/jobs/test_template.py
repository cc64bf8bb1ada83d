"""Job templates: what is shipped, what a user may write, and what is said where that cannot be meant."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from westward.catalogue.load import load_site
from westward.errors import InputError, NotFound
from westward.jobs.template import common_keys, compose_job, templates
from westward.jobs.templatefiles import CONF
from westward.model.accelerators import AcceleratorRequest
from westward.model.checkpoint import Checkpoint
from westward.model.decision import TERMS, Cost, Offer
from westward.model.job import After, Array, Dependency, Launcher, slurm_name
from westward.slurm.script import render

SHIPPED = sorted(file.stem for file in (CONF / "job").glob("*.yaml"))
POLICIES = sorted(file.stem for file in (CONF / "policy").glob("*.yaml"))
WEST = Path(__file__).parents[2] / "data" / "sites" / "west.yaml"
IN_FULL = Path(__file__).parents[3] / "docs" / "jobs.md"


def test_every_template_is_listed_with_its_own_parameters() -> None:
    listed = {template.name: template for template in templates()}
    assert sorted(listed) == SHIPPED
    assert listed["allreduce"].parameters["dtype"] == "f32"
    assert "nodes" not in listed["allreduce"].parameters
    assert all(template.description for template in listed.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_template_composes_and_renders_as_it_is(name: str) -> None:
    composed = compose_job(name, [])
    assert composed.spec.template == name
    outputs = {"command": (), "torchrun": (), "apptainer": (), "analysis": ("report.txt",)}.get(name, ("result.json",))
    assert composed.spec.outputs == outputs
    offer = Offer("west", "gpu", "h100", 0.0, 1.0, 1.0, None, Cost())
    submission = render(composed.spec, offer, load_site(WEST), "k" * 12)
    assert f"#SBATCH --job-name={composed.spec.name}~kkkkkkkkkkkk" in submission.script
    assert ("westward_bench" in submission.script) is (outputs == ("result.json",))
    assert "${" not in submission.script.splitlines()[-1], "every parameter is filled in"


@pytest.mark.parametrize("key", common_keys())
def test_each_key_that_all_templates_take_is_in_the_researcher_s_table(key: str) -> None:
    table = [line.split("|")[1] for line in IN_FULL.read_text().splitlines() if line.startswith("| `")]
    assert any(f"`{key}`" in cell for cell in table)


def test_defaults_of_allreduce() -> None:
    composed = compose_job("allreduce", [])
    spec, resources = composed.spec, composed.spec.resources
    assert (spec.name, spec.launcher, spec.env) == ("allreduce", Launcher.MPI, {})
    assert (resources.nodes, resources.ntasks_per_node, resources.walltime_s) == (2, 1, 300)
    assert resources.accelerators == AcceleratorRequest("any", 4)
    assert resources.mem_bytes == 1024**3
    assert (composed.policy.name, composed.region) == ("cheapest", "yangtze-river-delta")


def test_defaults_of_gemm() -> None:
    spec = compose_job("gemm", []).spec
    assert (spec.launcher, spec.resources.nodes, spec.resources.accelerators) == (Launcher.SRUN, 1, None)
    assert "--size=1024" in spec.command


def test_overrides_reach_resources_and_command() -> None:
    spec = compose_job(
        "allreduce", ["nodes=4", "accelerators=h100:2", "walltime=1-12:00:00", "mem=4G", "dtype=f64"]
    ).spec
    assert (spec.resources.nodes, spec.resources.accelerators) == (4, AcceleratorRequest("h100", 2))
    assert (spec.resources.walltime_s, spec.resources.mem_bytes) == (36 * 3600, 4 * 1024**3)
    assert "--dtype=f64" in spec.command
    assert compose_job("gemm", ["cpus_per_task=8"]).spec.command.count("--threads=8") == 1


@pytest.mark.parametrize(("text", "seconds"), [("90", 5400), ("90:00", 5400), ("01:30:00", 5400), ("0-01:30", 5400)])
def test_a_time_limit_on_the_command_line_is_slurms_not_yamls(text: str, seconds: int) -> None:
    """YAML 1.1 reads 90:00 as a number in base 60."""
    assert compose_job("gemm", [f"walltime={text}"]).spec.resources.walltime_s == seconds


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(
    ("override", "field", "value"),
    [("account=physics", "account", "physics"), ("qos=short", "qos", "short"), ("name=mine", "name", "mine")],
)
def test_what_all_templates_take_is_taken(name: str, override: str, field: str, value: str) -> None:
    """As `westward templates` says, and whether or not the template's author wrote the key down."""
    assert getattr(compose_job(name, [override]).spec, field) == value


def test_variables_are_added() -> None:
    spec = compose_job("gemm", ["+env.OMP_NUM_THREADS=8", "+env.GREETING='it is \"me\"'", "+env.EMPTY=''"]).spec
    assert spec.env == {"OMP_NUM_THREADS": "8", "GREETING": 'it is "me"', "EMPTY": ""}


@pytest.mark.parametrize("name", ["A-B", "A B", "1A", "A;touch x", "$(id)", "é"])
def test_what_is_no_name_of_a_variable_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        compose_job("gemm", [f"+env={{'{name}': 1}}"])


@pytest.mark.parametrize(
    "name",
    ["it's mine", 'say "hi"', "two\nlines", "$(touch x)", "`id`; rm -rf /", "训练", "a=b,c", "x" * 300, "[bold]", "\\"],
)
def test_a_hostile_name_is_kept_for_the_user(name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    spec = compose_job("gemm", [f'name="{quoted}"']).spec
    assert spec.name == name
    assert re.fullmatch(r"[A-Za-z0-9._-]+~k{12}", slurm_name(spec.name, "k" * 12))


def test_bytes_that_are_no_text_are_refused_where_they_come_in() -> None:
    """What a shell hands over from a file in another encoding; neither ledger nor JSON could take it later."""
    with pytest.raises(InputError):
        compose_job("gemm", ["name=\udcff"])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ('name="gr\udcfc\udcdfe"', "name"),
        ('command=[echo,"\udcff"]', "command"),
        ('+env.GREETING="\udcff"', "env"),
        ('+options.comment="\udcff"', "options"),
        ('outputs=["\udcff"]', "outputs"),
        ('setup=["\udcff"]', "setup"),
        ('region="\udcff"', "region"),
    ],
)
def test_nor_is_such_a_byte_in_quotes(override: str, key: str) -> None:
    with pytest.raises(InputError, match=rf"^template 'gemm': {key}: '.*\\udc[df]") as caught:
        compose_job("gemm", [override])
    str(caught.value).encode()


def test_nor_one_that_the_environment_brings_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODD", "\udcff")
    with pytest.raises(InputError, match="name: "):
        compose_job("gemm", ["name=${oc.env:ODD}"])


class TestWrong:
    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("node=2", ["'node'", "nodes"]),
            ("walltme=5", ["'walltme'", "walltime"]),
            ("min_byte=8", ["'min_byte'", "min_bytes"]),
            ("max_bites=8", ["'max_bites'", "max_bytes"]),
        ],
    )
    def test_an_unknown_key_names_the_nearest(self, override: str, words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            compose_job("allreduce", [override])
        for word in words:
            assert word in str(caught.value)

    @pytest.mark.parametrize(
        "override", ["hydra.run.dir=/tmp", "+nodez=2", "zzzzzz=1", "policy.weight.energy=1", "nodes.a=1"]
    )
    def test_a_key_of_nobody_s_is_refused(self, override: str) -> None:
        with pytest.raises(InputError, match=re.escape(override.lstrip("+").partition(".")[0].partition("=")[0])):
            compose_job("allreduce", [override])

    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("nodes=two", "an integer"),
            ("nodes=2.5", "an integer"),
            ("min_bytes=small", "an integer"),
            ("min_bytes=1.5", "an integer"),
            ("iterations=true", "an integer"),
            ("iterations=[1]", "an integer"),
            ("carbon_price_per_kg=dear", "a number"),
            ("dtype=f16", "f32, f64, i32, i64"),
            ("launcher=fork", "srun, mpi, none"),
            ("walltime=soon", "D-HH:MM:SS"),
            ("mem=lots", "512M"),
            ("accelerators=four", "CHIP:COUNT"),
            ("accelerators=h100:0", "CHIP:COUNT"),
            ("nodes=0", "at least 1"),
            ("nodes=-1", "at least 1"),
            ("cpus_per_task=0", "at least 1"),
            ("walltime=0", "no limit"),
            ("policy=fastest", ", ".join(POLICIES)),
        ],
    )
    def test_a_value_of_the_wrong_kind_says_what_was_expected(self, override: str, expected: str) -> None:
        with pytest.raises(InputError) as caught:
            compose_job("allreduce", [override])
        assert expected in str(caught.value)
        assert override.partition("=")[2].strip("[]") in str(caught.value).lower()

    @pytest.mark.parametrize(
        "override", ["nodes=1,2", "nodes=range(1,4)", "dtype=choice(f32,f64)", "policy=cheapest,soonest"]
    )
    def test_a_sweep_is_refused(self, override: str) -> None:
        with pytest.raises(InputError, match="several values"):
            compose_job("allreduce", [override])

    @pytest.mark.parametrize("override", ["", "nodes", "nodes=(", "name='", "a b=1"])
    def test_what_is_no_override_says_the_form(self, override: str) -> None:
        with pytest.raises(InputError) as caught:
            compose_job("allreduce", [override])
        assert "key=value" in str(caught.value) + caught.value.next_step or "name=" in caught.value.next_step

    def test_an_unknown_template_names_the_nearest(self) -> None:
        with pytest.raises(NotFound, match="allreduce") as caught:
            compose_job("alreduce", [])
        assert "westward templates" in caught.value.next_step

    @pytest.mark.parametrize("name", ["../policy/cheapest", "", "allreduce,gemm", "job/allreduce", "*"])
    def test_no_other_file_is_taken_for_a_template(self, name: str) -> None:
        with pytest.raises(NotFound):
            compose_job(name, [])

    def test_the_template_cannot_be_changed_by_an_override(self) -> None:
        with pytest.raises(InputError, match="before the overrides"):
            compose_job("allreduce", ["job=gemm"])

    def test_a_term_that_no_cost_has_is_refused(self) -> None:
        with pytest.raises(InputError, match="luck"):
            compose_job("allreduce", ["+policy.weights.luck=1"])

    @pytest.mark.parametrize("value", ["nan", "inf", "-1"])
    @pytest.mark.parametrize("key", ["policy.weights.energy", "carbon_price_per_kg", "waiting_price_per_h"])
    def test_a_weight_that_ranks_nothing_is_refused(self, key: str, value: str) -> None:
        """With not-a-number no offer is better than another; below zero, the worst site would win."""
        with pytest.raises(InputError, match=key.rpartition(".")[2]):
            compose_job("allreduce", [f"{key}={value}"])

    def test_a_job_without_a_command_is_refused(self) -> None:
        with pytest.raises(InputError, match="command"):
            compose_job("allreduce", ["command=[]"])


class TestPolicy:
    @pytest.mark.parametrize("name", POLICIES)
    def test_a_shipped_policy_weighs_known_terms(self, name: str) -> None:
        policy = compose_job("gemm", [f"policy={name}"]).policy
        assert policy.name == name
        assert set(policy.weights) == set(TERMS)
        assert all(weight >= 0 for weight in policy.weights.values())
        assert any(weight > 0 for weight in policy.weights.values())

    def test_weights_and_prices_can_be_changed(self) -> None:
        policy = compose_job("gemm", ["policy=balanced", "policy.weights.energy=2", "carbon_price_per_kg=1"]).policy
        assert policy.weights["energy"] == 2.0
        assert policy.carbon_price_per_kg == 1.0

    def test_the_shipped_prices_say_their_currency_and_it_can_be_changed(self) -> None:
        assert compose_job("gemm", []).policy.currency == "CNY"
        assert compose_job("gemm", ["currency=EUR"]).policy.currency == "EUR"
        assert compose_job("gemm", ["currency=null"]).policy.currency is None

    def test_the_user_s_region_can_be_changed(self) -> None:
        assert compose_job("gemm", ["region=ningxia"]).region == "ningxia"


class TestArraysAndTheLike:
    """Keys that every template takes, though none mentions them."""

    @pytest.mark.parametrize(
        ("override", "field", "value"),
        [
            ("array=0-9%2", "array", Array("0-9", 2)),
            ('array="1,3,7"', "array", Array("1,3,7")),
            ("array=5", "array", Array("5")),
            ("array=null", "array", None),
            ("begin=2026-02-01T08:00Z", "begin_at", datetime(2026, 2, 1, 8, tzinfo=UTC)),
            ("begin=null", "begin_at", None),
            ("depends_on=[afterok:aaaaaaaaaaaa]", "depends_on", (Dependency(After.OK, "a" * 12),)),
            ("depends_on=[aaaaaaaaaaaa,afterany:bbbbbbbbbbbb]", "depends_on", (Dependency(After.OK, "a" * 12), Dependency(After.ANY, "b" * 12))),
            ("requeue=true", "requeue", True),
            ("checkpoint.signal=USR1", "checkpoint", Checkpoint("USR1", 120, 3, 85)),
            ("checkpoint={signal:sigusr2,before_s:60,restarts:0,exit_code:1}", "checkpoint", Checkpoint("USR2", 60, 0, 1)),
            ("checkpoint.signal=null", "checkpoint", None),
            ("idempotent=true", "idempotent", True),
            ("options.constraint=skylake", "options", {"constraint": "skylake"}),
            ("options.mail-type=END", "options", {"mail-type": "END"}),
            ("options.signal=USR1@60", "options", {"signal": "USR1@60"}),
            ("options.nice=100", "options", {"nice": "100"}),
            ("options.exclusive=true", "options", {"exclusive": None}),
            ("options.exclusive=false", "options", {}),
            ("options.exclusive=null", "options", {}),
            ("env.A=1", "env", {"A": "1"}),
            ("env.A='two words'", "env", {"A": "two words"}),
            ("+env.A=1", "env", {"A": "1"}),
        ],
    )  # fmt: skip
    def test_what_can_be_said(self, override: str, field: str, value: object) -> None:
        assert getattr(compose_job("gemm", [override]).spec, field) == value

    @pytest.mark.parametrize(("override", "wait"), [("begin=+90", 90), ("begin=+2:00:00", 120), ("begin=90", 90)])
    def test_a_begin_from_now(self, override: str, wait: int) -> None:
        begin = compose_job("gemm", [override]).spec.begin_at
        assert begin is not None
        assert abs(begin - datetime.now(UTC) - timedelta(minutes=wait)) < timedelta(seconds=30)

    def test_two_jobs_do_not_share_what_one_of_them_says(self) -> None:
        compose_job("gemm", ["env.A=1", "options.nice=1", "array=0-3"])
        spec = compose_job("gemm", ["env.B=2"]).spec
        assert (spec.env, spec.options, spec.array) == ({"B": "2"}, {}, None)

    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("array=1,3,7", "names several values; one submission takes one"),
            ("array=9-0", "'9-0' names no array tasks"),
            ("array=x", "'x' is not a list of array tasks"),
            ("array=", "is not a list of array tasks"),
            ("array=[1,2]", "array:"),
            ("begin=tomorrow", "'tomorrow' is not a point in time"),
            ("begin=+0", "is not a point in time"),
            ("depends_on=aaaaaaaaaaaa", r"depends_on: a list was expected; write it as depends_on=\[...\]"),
            ("depends_on=[later:aaaaaaaaaaaa]", "'later:aaaaaaaaaaaa' is no dependency"),
            ("depends_on=[42]", "'42' is no dependency"),
            ("requeue=maybe", "requeue"),
            ("checkpoint.signal=KILL", "checkpoint.signal=KILL: one of USR1, USR2 was expected"),
            ("checkpoint.before_s=60", "checkpoint.before_s means nothing without a signal"),
            (
                "checkpoint={signal:USR1,before_s:240}",
                "checkpoint.before_s=240 leaves nothing of the job's time, 00:05:00",
            ),
            ("checkpoint={signal:USR1,exit_code:0}", "checkpoint.exit_code=0: 1 to 255 was expected"),
            ("checkpoint={signal:USR1,restarts:-1}", "checkpoint.restarts=-1: 0 to 10000 was expected"),
            ("checkpoint.before=60", "'checkpoint' has no key 'before'"),
            ("checkpoint=USR1", "'USR1' stands where keys of its own belong, as in checkpoint.signal=USR1"),
            ("options=skylake", "options"),
            ("options.a.b=1", "options.a={'b': 1}: one value was expected"),
            ("options.a=[1,2]", r"options.a=\[1, 2\]: one value was expected"),
            ("env.A=[1]", "env"),
            ("env.A=null", "env"),
            ("env.A-B=x", "'A-B' is not the name of a variable"),
            ("arry=0-9", "has no key 'arry'; nearest: array"),
        ],
    )
    def test_what_cannot_be_meant(self, override: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            compose_job("gemm", [override])

    def test_a_signal_is_asked_for_once(self) -> None:
        with pytest.raises(InputError, match=r"options\.sig and checkpoint\.signal both ask for a signal"):
            compose_job("gemm", ["checkpoint.signal=USR1", "options.sig=USR2@60"])

    def test_a_list_of_tasks_is_quoted_and_the_message_shows_how(self) -> None:
        with pytest.raises(InputError) as caught:
            compose_job("gemm", ["array=1,3,7"])
        assert caught.value.next_step.startswith("add -m for a job for each; ")
        assert caught.value.next_step.endswith("""quoted twice: 'array="1,3,7"'""")
