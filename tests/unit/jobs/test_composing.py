"""A job is composed by changing what Hydra composed once: that has to give what Hydra itself gives, in values as in refusals."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from westward.errors import WestwardError
from westward.jobs import composing, template, templatefiles

# everything that an interpolation can be: indirect, relative, of a resolver, of a whole node, escaped, in a list or a mapping
TRICKY = """
# @package _global_
description: interpolations of every kind
name: tricky-${size}
size: 4
half: 0.5
which: size
chosen: ${${which}}
pair: [1, "${size}"]
same: ${pair}
other: ${.chosen}
home: ${oc.env:WESTWARD_TEST,none}
flag: true
joined: "${words:a,${pair},${size},[x,'y z'],${other}}"
mixed: "a ${size}/${half}=${flag}, '${which}' ${nodes}"
odd: ["$1 ${size}", "\\\\${size} ${half}", "${half}", "${flag}${flag}", "${ size }"]
inner: {a: "${size}", b: "${.a}", c: "${inner.a}", d: plain}
command: [echo, "${size}", "${chosen}", "${pair[1]}", "${inner.b}", "\\\\${size}", plain]
nodes: ${size}
env: {SIZE: "${size}", HOME_OF: "${home}"}
choices:
  which: [size, nodes]
"""
CHANGES = [
    "size=3", "size='${cpus_per_task}'", "size='${nope}'", "size=two", "size=null", "size=???", "+size=3", "++size=5", "~setup",
    "cpus_per_task=4", "nodes=2.0", "nodes='2'", "nodes=true", "nodes=null", "mem=3", "mem=2G", "mem=null", "account=12", "name=x", "name=",
    r"name='\${x}'", "name='a${size}'", "name=[1]", "command=[a,1,true,null]", "command=[a,'${size}']", "command=[]", "outputs=[]",
    "env={A:1}", "env.X=null", "env.X=1", "+env.Y=2", "env.Z='${size}'", "++env.Q=1", "env.X.Y=1", "env=null", "options.constraint=x",
    "options.a={b:1}", "options={c:true}", "walltime=90:00", "requeue=yes", "requeue=1", "idempotent=true", "array=0-3", "array=7",
    "checkpoint.signal=USR1", "checkpoint.before_s=x", "checkpoint={signal:USR2}", "checkpoint=null", "checkpoint.x=1", "+checkpoint.x=1",
    "carbon_price_per_kg=1", "carbon_price_per_kg='0.5'", "policy.weights={}", "policy.weights.energy=2", "policy.name=x", "policy={name:x}",
    "policy=greenest", "policy=nope", "policy@x=greenest", "choices={}", "region=1", "launcher=none", "job=gemm", "hydra.run.dir=x",
]  # fmt: skip
OF_TRICKY = [
    "which=nodes",
    "which=half",
    "which=nope",
    "pair=[5,6]",
    "pair=[7]",
    "inner.a=9",
    "inner.d='${size}'",
    "home=x",
    "half=1",
    "half=x",
    "half=1e-7",
    "half=-inf",
    "half='$'",
    "half='???'",
    r"half='a\b'",
    "half=[1]",
    "flag=false",
    "flag=null",
    "flag=1",
]


@pytest.fixture(autouse=True)
def templates_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    shutil.copytree(templatefiles.CONF, tmp_path / "conf")
    (tmp_path / "conf" / "job" / "tricky.yaml").write_text(TRICKY.lstrip())
    monkeypatch.setattr(templatefiles, "CONF", tmp_path / "conf")
    monkeypatch.setenv("WESTWARD_TEST", "before")
    composing._base.cache_clear()
    yield
    composing._base.cache_clear()


def _outcome(name: str, overrides: list[str]) -> Any:
    try:
        return template.compose_job(name, overrides)
    except WestwardError as error:
        return type(error), str(error), error.next_step


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        *(("gemm", [one]) for one in CHANGES),
        *(("tricky", [one]) for one in [*OF_TRICKY, *CHANGES[:25]]),
        *(("tricky", list(two)) for two in itertools.combinations(["size=3", "which=nodes", "inner.a='${half}'", "nodes=8", "pair=[5,'${size}']"], 2)),
    ],
)  # fmt: skip
def test_it_is_what_hydra_composes(name: str, overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged = _outcome(name, [])
    changed = _outcome(name, overrides)
    assert _outcome(name, []) == unchanged, "what was changed for one job is taken back"
    with monkeypatch.context() as patched:
        patched.setattr(composing._Base, "changed", lambda *_: None)
        assert _outcome(name, overrides) == changed


def test_a_resolver_is_asked_for_each_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert template.compose_job("tricky", []).spec.env["HOME_OF"] == "before"
    monkeypatch.setenv("WESTWARD_TEST", "after")
    assert template.compose_job("tricky", ["size=3"]).spec.env["HOME_OF"] == "after"


def test_a_value_takes_no_second_composition(monkeypatch: pytest.MonkeyPatch) -> None:
    template.compose_job("tricky", [])
    monkeypatch.setattr(composing, "compose", lambda *_, **__: pytest.fail("Hydra was asked again"))
    spec = template.compose_job("tricky", ["size=3", "env.X=1", "mem=2G"]).spec
    assert spec.command == ("echo", "3", "3", "3", "3", "${size}", "plain")
    assert (spec.name, spec.resources.nodes, spec.env["SIZE"], spec.env["X"]) == ("tricky-3", 3, "3", "1")
