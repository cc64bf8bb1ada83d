"""Whatever a value holds, Hydra reads back that value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from westward.errors import InputError
from westward.faces.quoting import Value, overrides_of, quoted, swept_of
from westward.jobs.sweep import parse_overrides, sweep_points
from westward.jobs.template import compose_job

TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30) | st.text(
    alphabet="a,'\"\\${}[]():= \n\t#", max_size=12
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | TEXTS
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)


def read_back(override: str) -> Any:
    """What Hydra and OmegaConf make of it."""
    (parsed,) = parse_overrides([override])
    return OmegaConf.to_container(OmegaConf.create({"it": parsed.value()}), resolve=True)["it"]  # type: ignore[index,call-overload]


def is_said(value: Any) -> bool:
    """Names that mean something else in Hydra, and the word for a missing value, cannot be said."""
    if isinstance(value, dict):
        otherwise = {"null", "none", "true", "false", "inf", "nan"}
        return all(name.lower() not in otherwise and is_said(inner) for name, inner in value.items())
    return all(map(is_said, value)) if isinstance(value, list) else value != "???"


@given(VALUES.filter(is_said))
def test_every_value_comes_back(value: Any) -> None:
    (override,) = overrides_of({"key": value})
    assert read_back(override) == value
    assert type(read_back(override)) is type(value)


@given(st.lists(SCALARS.filter(is_said), min_size=1, max_size=4))
def test_every_axis_has_its_values_in_order(values: list[Any]) -> None:
    points = sweep_points(swept_of({"key": values}))
    assert [read_back(override) for (override,) in points] == values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("f32", "f32"),
        ("/scratch/u17", "'/scratch/u17'"),
        ("h100:4", "'h100:4'"),
        ("two words", "'two words'"),
        ("true", "'true'"),
        ("10", "'10'"),
        (Path("a/b"), "a/b"),
        (math.inf, "inf"),
        (True, "true"),
        ((1, "x"), "[1,x]"),
        ({"a": None}, "{a:null}"),
    ],
)
def test_what_a_reader_sees(value: Value, text: str) -> None:
    assert quoted(value) == text


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}, "???", {"a b": 1}, {1: 2}])
def test_what_cannot_be_said_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InputError, match="size"):
        overrides_of({"size": value})


@pytest.mark.parametrize("key", ["", "a=b", "a b", "+a", "~a", "a,b", "a@b"])
def test_a_key_is_a_key(key: str) -> None:
    with pytest.raises(InputError, match="is not the key"):
        overrides_of({key: 1})


def test_an_axis_without_values_is_refused() -> None:
    with pytest.raises(InputError, match="names no value"):
        swept_of({"size": []})


def test_a_list_as_one_value_of_an_axis() -> None:
    assert sweep_points(swept_of({"command": [["hostname"], ["sleep", "1"]]})) == [
        ["command=[hostname]"],
        ["command=[sleep,'1']"],
    ]


def test_the_names_of_a_mapping_that_templates_have_are_set_one_by_one() -> None:
    values: dict[str, Value] = {"budget": {"money": 3, "currency": "CNY"}, "env": {"A": "1"}}
    assert overrides_of(values) == ["budget.money=3", "budget.currency=CNY", "env.A='1'"]
    assert compose_job("command", overrides_of(values)).spec.env == {"A": "1"}


def test_hostile_values_reach_the_job_as_they_are() -> None:
    hostile = ["$(touch /tmp/owned)", "a'b\"c", "two\nlines", "${name}", "\\${name}", "1,2", "x=y", ""]
    values: dict[str, Value] = {"command": ["echo", *hostile], "env": {"A": "it's, 1\n2"}, "name": "a, ${b}"}
    spec = compose_job("command", overrides_of(values)).spec
    assert spec.command == ("echo", *hostile)
    assert spec.env == {"A": "it's, 1\n2"}
    assert spec.name == "a, ${b}"
