"""Scripts read as sbatch reads them. What the corpus is said to mean was compared with sbatch itself: contract/test_route.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unit.federation.worlds import NOW
from westward.errors import InputError
from westward.model.batchscript import BatchScript
from westward.slurm.routed import spec_of
from westward.slurm.sbatchfile import as_script, load, read_script, split_command_line
from westward.slurm.sbatchoptions import OPTIONS, SHORT, Takes

CORPUS = Path(__file__).parents[2] / "data" / "sbatch"
EXPECTED: dict[str, Any] = yaml.safe_load((CORPUS / "expected.yaml").read_text())


def read(text: str, *words: str, **variables: str) -> BatchScript:
    options, rest = split_command_line([*words, "job.sh"], {})
    return read_script(
        "job.sh", as_script(text.encode(), "job.sh"), environment=variables, command_line=options, arguments=rest[1:]
    )


def directives(*lines: str) -> str:
    return "#!/bin/sh\n" + "".join(f"#SBATCH {line}\n" for line in lines) + "hostname\n"


def options(script: BatchScript) -> dict[str, str | None]:
    return {name: given.value for name, given in script.options.items()}


def test_every_script_of_the_corpus_has_its_reading() -> None:
    assert sorted(EXPECTED) == sorted(file.stem for file in CORPUS.glob("*.sbatch"))
    assert len(EXPECTED) >= 40


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_corpus_is_read_as_it_is_meant(name: str) -> None:
    file = CORPUS / f"{name}.sbatch"
    refused = EXPECTED[name].get("refused")
    if refused:
        with pytest.raises(InputError, match=re.escape(refused.partition(": ")[2])) as caught:
            spec_of(read_script(file.name, load(file)), NOW)
        assert caught.value.exit_code == 2
        return
    script = read_script(file.name, load(file))
    assert {name: True if value is None else value for name, value in options(script).items()} == EXPECTED[name]
    assert script.text.encode() == file.read_bytes()


def test_command_line_over_environment_over_script() -> None:
    text = directives("--time=1 --comment=script --job-name=script")
    script = read(text, "-J", "line", SBATCH_TIMELIMIT="2", SBATCH_JOB_NAME="environment")
    assert options(script) == {"time": "2", "comment": "script", "job-name": "line"}
    assert [script.options[name].origin for name in ("time", "comment", "job-name")] == [
        "SBATCH_TIMELIMIT",
        "line 2",
        "the command line",
    ]


@pytest.mark.parametrize(
    ("value", "on"), [("", True), ("yes", True), ("1", True), ("0", False), ("no", False), ("on", False)]
)
def test_an_option_without_a_value_is_switched_by_its_variable(value: str, on: bool) -> None:
    assert ("overcommit" in read(directives(), SBATCH_OVERCOMMIT=value).options) is on


def test_variables_that_sbatch_does_not_know_are_nothing() -> None:
    assert read(directives(), SBATCH_NODES="2", SBATCH_NTASKS="4", SLURM_NNODES="3").options == {}


def test_two_variables_are_one_option() -> None:
    assert options(read(directives(), SBATCH_REQ_SWITCH="2", SBATCH_WAIT4SWITCH="5:00")) == {"switches": "2@5:00"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("-N4", {"nodes": "4"}),
        ("-N 4", {"nodes": "4"}),
        ("-sOn4", {"oversubscribe": None, "overcommit": None, "ntasks": "4"}),
        ("--nodes 4", {"nodes": "4"}),
        ("--exclusive", {"exclusive": None}),
        ("--exclusive=user", {"exclusive": "user"}),
        ("--comment=", {"comment": ""}),
        ('--comment="" -J x', {"comment": "", "job-name": "x"}),
        ('-n2 "" -J x', {"ntasks": "2"}),
        ("-J a:b", {"job-name": "a:b"}),
        ('-J ":x"', {"job-name": ":x"}),
        ("-J x --", {"job-name": "x"}),
        ("-J x\\", {"job-name": "x"}),
        ("--comment=v\v-J\fx", {"comment": "v", "job-name": "x"}),
        ("--tasks-per-node=3", {"ntasks-per-node": "3"}),
        ("--exclusive --oversubscribe", {"oversubscribe": None}),
        ("--container-image=docker://x", {"container-image": "docker://x"}),
    ],
)
def test_forms_of_options(line: str, found: dict[str, str | None]) -> None:
    assert options(read(directives(line))) == found


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--exclusive user", "line 2: 'user' is no option"),
        ("--nice 5", "line 2: '5' is no option"),
        ("-N1 -- -J x", "line 2: '-J' is no option"),
        ("-kn4 -", "line 2: '-' is no option"),
        ("--requeue=1", "line 2: --requeue takes no value"),
        ("--comment", "line 2: --comment needs a value"),
        ("-J", "line 2: -J (--job-name) needs a value"),
        ("-Z", "line 2: '-Z' is no option"),
        ("--mem-p=2", "'--mem-p' is ambiguous: --mem-per-cpu, --mem-per-gpu"),
        ("-J x :", "line 2: a ':' there separates the parts of a heterogeneous job"),
        ("packjob", "line 2: 'packjob' begins another part"),
        ("--uid=root", "line 2: --uid: it is for root only"),
        ("--export=ALL,1X=2", "line 2: --export: '1X' is not the name of a variable"),
        ("--array=0-", "line 2: --array: '0-' is not a list of array tasks"),
        ("--time=soon", "line 2: --time: 'soon' is not a time limit"),
        ("--dependency=afterok:1?singleton", "line 2: --dependency=singleton"),
    ],
)
def test_what_cannot_be_meant_names_its_line_and_the_next_step(line: str, why: str) -> None:
    with pytest.raises(InputError, match=re.escape(why)) as caught:
        spec_of(read(directives(line)), NOW)
    assert caught.value.next_step


def test_pbs_lines_count_behind_the_first_command_too() -> None:
    with pytest.raises(InputError, match="line 3: a #PBS line"):
        read("#!/bin/sh\nhostname\n#PBS -N late\n")
    assert options(read("#!/bin/sh\nhostname\n#PBS -N late\n", "--ignore-pbs")) == {"ignore-pbs": None}


def test_a_zero_byte_is_found() -> None:
    with pytest.raises(InputError, match="line 2: it has a zero byte"):
        as_script(b"#!/bin/sh\n\0", "x")


def test_a_script_that_is_not_there() -> None:
    with pytest.raises(InputError, match="cannot read the script '/nowhere/x': No such file"):
        load(Path("/nowhere/x"))


def test_exported_variables_come_from_here_or_from_the_option() -> None:
    script = read(directives("--export=ALL,A=1=2,B,C"), B="two words")
    assert script.environment == {"A": "1=2", "B": "two words"}


def test_arguments_are_the_scripts_own() -> None:
    found, rest = split_command_line(["-N", "2", "job.sh", "-N", "3", "--site=x"], {"site": Takes.VALUE})
    assert ([(given.name, given.value) for given in found], rest) == (
        [("nodes", "2")],
        ["job.sh", "-N", "3", "--site=x"],
    )


PRINTABLE = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=40)


@given(
    st.dictionaries(st.sampled_from(["comment", "job-name", "output", "account", "mail-user"]), PRINTABLE, max_size=5)
)
def test_a_quoted_value_is_read_back(values: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    assert options(read(directives(*(f"--{name}={quoted(value)}" for name, value in values.items())))) == values


@given(st.sampled_from(sorted(OPTIONS)), st.integers(1, 30))
def test_a_beginning_means_its_option_or_is_refused(name: str, length: int) -> None:
    begun = name[:length]
    fitting = {option.replace("tasks-per-node", "ntasks-per-node") if option.startswith("tasks") else option
               for option in OPTIONS if option.startswith(begun)}  # fmt: skip
    words = [f"--{begun}", "1", "x"]
    if begun in OPTIONS or len(fitting) == 1:
        (given_, *_), _ = split_command_line(words, {})
        assert given_.name in fitting or given_.name == begun
    else:
        with pytest.raises(InputError, match="ambiguous"):
            split_command_line(words, {})


@given(st.sampled_from(sorted(SHORT)))
def test_a_short_option_is_its_long_one(letter: str) -> None:
    short, _ = split_command_line([f"-{letter}", "1"], {})
    long, _ = split_command_line([f"--{SHORT[letter]}", "1"], {})
    assert short == long


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        script = read_script("x", as_script(b"#!/bin/sh\n#SBATCH " + content, "x"))
    except InputError as error:
        assert str(error)
    else:
        assert script.text.encode() == b"#!/bin/sh\n#SBATCH " + content
