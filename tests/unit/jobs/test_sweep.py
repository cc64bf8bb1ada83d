"""A sweep has the points that Hydra's own BasicSweeper would run, in its order."""

from __future__ import annotations

import math

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as some

from westward.errors import InputError
from westward.jobs.sweep import MOST_POINTS, labels, parse_overrides, sweep_points
from westward.jobs.template import compose_job

KEYS = ["size", "dtype", "nodes", "+env.A", "++env.B", "~setup", "policy"]
VALUES = some.one_of(
    some.integers(-9, 10**6).map(str),
    some.floats(-1e6, 1e6).map(repr),
    some.sampled_from(["f32", "true", "[1,2]", "{a:1}", "'a,b'", '"it\'s"', "a\\,b", "two words", "${nodes}", "'x\\\\'"]),
)  # fmt: skip


@some.composite
def lines(draw: some.DrawFn) -> tuple[str, int]:
    """An override, and how many values it names."""
    key, kind = draw(some.sampled_from(KEYS)), draw(some.sampled_from(["one", "list", "choice", "range", "floats"]))
    values = draw(some.lists(VALUES, min_size=2, max_size=3))
    first, count, step = draw(some.integers(-5, 5)), draw(some.integers(1, 5)), draw(some.sampled_from([-3, -1, 1, 4]))
    match kind:
        case "one":
            return f"{key}={values[0]}", 1
        case "list":
            return f"{key}={','.join(values)}", len(values)
        case "choice":
            return f"{key}=choice({','.join(values)})", len(values)
        case "range":
            return f"{key}=range({first},{first + count * step},{step})", count
        case _:
            return f"{key}=range({first}.0,{first + count}.0,0.5)", 2 * count


def meant(point: list[str]) -> list[tuple[str, object]] | None:
    """None where Hydra cannot read what its own sweep says: it leaves out the quotes of choice(0,"it's")."""
    try:
        parsed = parse_overrides(point)
    except InputError:
        return None
    assert not any(override.is_sweep_override() for override in parsed)
    return [(override.get_key_element(), override.value()) for override in parsed]


@settings(max_examples=30, deadline=None)
@given(some.lists(lines(), max_size=3))
def test_the_points_are_those_of_hydra(drawn: list[tuple[str, int]]) -> None:
    overrides = [line for line, _ in drawn]
    counts = {parse_overrides([line])[0].get_key_element(): count for line, count in drawn}
    points = sweep_points(overrides)
    assert len(points) == math.prod(counts.values())
    (theirs,) = BasicSweeper.split_arguments(parse_overrides(overrides), None)
    assert [meant(point) for point in points] == [meant(list(point)) for point in theirs]


@pytest.mark.parametrize(
    "value", ["1", "1024", "9" * 18, "9" * 19, "0", "-1", "+1", "1_0", "01", "1.0", "1 ", "1,2", "²", "{a:1}", "x"]
)
@pytest.mark.parametrize("key", ["size", "+size", "++env.X", "policy@a", "a/b", "size ", "", "~size", "0", "a b"])
def test_an_override_is_read_as_hydra_reads_it(key: str, value: str) -> None:
    text = f"{key}={value}"
    try:
        (theirs,) = OverridesParser.create().parse_overrides([text])
    except HydraException:
        with pytest.raises(InputError):
            parse_overrides([text])
        return
    assert parse_overrides([text]) == parse_overrides([text]) == [theirs]


def test_the_last_key_changes_fastest() -> None:
    assert sweep_points(["size=1,2", "dtype=f32", "nodes=range(1,3)"]) == [
        ["size=1", "dtype=f32", "nodes=1"],
        ["size=1", "dtype=f32", "nodes=2"],
        ["size=2", "dtype=f32", "nodes=1"],
        ["size=2", "dtype=f32", "nodes=2"],
    ]


def test_without_several_values_there_is_one_point() -> None:
    assert sweep_points([]) == [[]]
    assert sweep_points(["mem=null"]) == [["mem=null"]]
    assert sweep_points(["size=1", "name='a,b'"]) == [["size=1", "name='a,b'"]]


def test_a_key_named_twice_has_the_later_values_in_the_earlier_place() -> None:
    assert sweep_points(["size=1,2", "nodes=1", "size=3"]) == [["size=3", "nodes=1"]]


def test_shuffled_are_the_same_points() -> None:
    assert sorted(sweep_points(["size=shuffle(range(0,50))"])) == sorted(sweep_points(["size=range(50)"]))


def test_each_point_can_be_composed() -> None:
    points = sweep_points(["mem=null,1G", "size=16,32", "name='a b',c", "policy=greenest,soonest", "env.X=1,2"])
    specs = [compose_job("gemm", point).spec for point in points]
    assert [(spec.name, spec.env["X"]) for spec in specs[:4]] == [("a b", "1"), ("a b", "2")] * 2
    assert len({(spec.command, spec.resources.mem_bytes) for spec in specs}) == 4


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("policy=glob(*)", "cannot be listed"),
        ("size=interval(0,1)", "cannot be listed"),
        ("size=range(5,1)", "names no value at all"),
        ("size=range(1,5,0)", "names no values: range"),
        ("size=range(0,1,0.0)", "names no values: Invalid range"),
        ("size=range(nan,1)", "names no values"),
        ("size=1,", "mismatched input"),
        ("size", "not of the form key=value"),
    ],
)
def test_what_is_no_sweep_is_refused_by_its_name(override: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        sweep_points(["dtype=f32,f64", override])


@pytest.mark.parametrize(
    "overrides",
    [
        ["size=range(0,1000)", "nodes=range(0,1000)"],
        ["size=range(0,1000000000000)"],
        ["size=shuffle(range(0,1000000000000))"],
        ["size=range(0,inf)"],
        ["size=range(1e30,2e30,1e-30)"],
        [f"k{number}=0,1" for number in range(60)],
    ],
)
def test_an_absurd_number_of_points_is_refused_at_once(overrides: list[str]) -> None:
    with pytest.raises(InputError, match=f"a sweep may have {MOST_POINTS:,}"):
        sweep_points(overrides)


def test_the_most_there_may_be() -> None:
    assert len(sweep_points(["size=range(0,100)", f"nodes=range(0,{MOST_POINTS // 100})"])) == MOST_POINTS


class TestLabels:
    def test_by_what_differs(self) -> None:
        assert labels(sweep_points(["size=1,2", "dtype=f32", "nodes=1,2"]))[1:3] == ["size=1 nodes=2", "size=2 nodes=1"]

    def test_of_a_single_point_by_all_there_is(self) -> None:
        assert labels(sweep_points(["size=1", "dtype=f32"])) == ["size=1 dtype=f32"]
        assert labels(sweep_points([])) == [""]
