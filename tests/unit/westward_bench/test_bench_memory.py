"""The memory benchmark: what a pass counts as moved, and that a wrong element is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from westward_bench.memory import __main__ as command
from westward_bench.memory import measure as measuring
from westward_bench.memory.kernels import KERNELS
from westward_bench.memory.measure import Arrays, Result
from westward_bench.record import Record


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_right_loop_has_nothing_wrong_and_is_what_numpy_computes(name: str, dtype: str) -> None:
    arrays = Arrays(1001, dtype)
    assert arrays.wrong(KERNELS[name]) == 0
    by_hand = {
        "copy": arrays.b, "scale": 3 * arrays.b, "add": arrays.b + arrays.c, "triad": arrays.b + 3 * arrays.c,
    }[name]  # fmt: skip
    assert np.array_equal(arrays.a, by_hand) and arrays.a.dtype == measuring.DTYPES[dtype]


def test_a_wrong_element_and_one_left_out_are_seen() -> None:
    arrays = Arrays(1000, "f64")
    lazy = replace(KERNELS["copy"], loop=lambda a, b, c: None)
    assert arrays.wrong(lazy) == 1000
    one = replace(KERNELS["copy"], loop=lambda a, b, c: np.copyto(a[:-1], b[:-1]))
    assert arrays.wrong(one) == 1


@pytest.mark.parametrize(("name", "arrays"), [("copy", 2), ("scale", 2), ("add", 3), ("triad", 3)])
def test_a_rate_counts_what_stream_counts(name: str, arrays: int) -> None:
    row = Result(KERNELS[name], "f64", 10**9, 4, (1.0, 2.0, 4.0), 1, 0).row()
    assert (row["moved"], row["median"], row["best"]) == (arrays * 10**9, arrays / 2, arrays)


def test_a_run_is_recorded(tmp_path: Path) -> None:
    output = tmp_path / "r.json"
    assert command.main(["--array", "64K", "--repeats", "3", "--kernel", "triad", "copy", "--output", str(output)]) == 0
    record = Record.from_json(output.read_text())
    assert (record.benchmark, record.status) == ("memory", "ok")
    assert [(row["kernel"], row["array"], row["wrong"]) for row in record.rows] == [
        ("triad", 65536, 0),
        ("copy", 65536, 0),
    ]
    assert [len(seconds) for seconds in record.samples] == [3, 3]
    assert {(metric.name, metric.unit, metric.direction) for metric in record.metrics} == {
        ("bandwidth_median", "GB/s", "higher"), ("bandwidth_best", "GB/s", "higher"),
    }  # fmt: skip
    assert record.verification is not None and record.verification.checked == 2 * 8192


def test_a_wrong_element_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.Arrays, "wrong", lambda self, kernel: 5)
    assert command.main(["--array", "64K", "--repeats", "1", "--output", str(tmp_path / "r.json")]) == 1
    assert Record.from_json((tmp_path / "r.json").read_text()).message == "20 of 32768 elements were wrong"
