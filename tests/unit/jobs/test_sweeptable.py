"""The table of a sweep: its columns and rows, and what becomes of them in a file."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from westward.errors import InputError, StorageError, Unsafe
from westward.jobs.sweeptable import Column, SweepTable, Told, sweep_table
from westward.jobs.tablefile import as_csv, as_json, as_parquet, write_file
from westward.model.job import Task
from westward.model.sweep import SweepPoint

HOSTILE = ["a,b", 'say "hi"', "two\nlines", "cr\r\nlf", "", "训练", "it's", "a\0b", " spaces "]
FORMULAS = ['=HYPERLINK("http://x")', "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "\tx", "=1"]


def point(number: int, *overrides: str) -> SweepPoint:
    return SweepPoint(number, " ".join(overrides), overrides, 0, Task(("true",)), "a" * 12, number)


def told(number: int, *overrides: str, record: dict[str, Any] | None = None, **more: Any) -> Told:
    return Told(point(number, *overrides), more.pop("state", "COMPLETED"), "west", number, record=record, **more)


def record(*rows: dict[str, Any], **units: str) -> dict[str, Any]:
    columns = [{"name": name, "unit": units.get(name, "")} for name in rows[0]]
    return {"status": "ok", "columns": columns, "rows": list(rows)}


class TestColumns:
    def test_swept_keys_then_what_became_of_it_then_the_record_s(self) -> None:
        table = sweep_table(
            [
                told(0, "size=16", "dtype=f32", record=record({"gflops": 1.5}, gflops="GFLOP/s")),
                told(1, "size=32", "dtype=f32", state="FAILED", problem="ended FAILED"),
            ]
        )
        names = ["point", "size", "state", "site", "job", "task", "problem", "gflops"]
        assert [column.name for column in table.columns] == names
        assert table.columns[-1] == Column("gflops", "GFLOP/s") and table.columns[-1].title == "gflops (GFLOP/s)"
        assert [list(row.values()) for row in table.rows] == [
            [0, 16, "COMPLETED", "west", "a" * 12, 0, "", 1.5],
            [1, 32, "FAILED", "west", "a" * 12, 1, "ended FAILED", None],
        ]

    def test_a_record_s_rows_are_rows_each(self) -> None:
        table = sweep_table([told(0, "a=1", record=record({"x": 1}, {"x": 2})), told(1, "a=2")])
        assert [(row["point"], row["x"]) for row in table.rows] == [(0, 1), (0, 2), (1, None)]

    def test_where_the_points_differ_in_nothing_all_keys_are_shown(self) -> None:
        assert [column.name for column in sweep_table([told(0, "a=1", "b=2")]).columns][:3] == ["point", "a", "b"]

    def test_a_key_that_not_all_have_is_one_in_which_they_differ(self) -> None:
        table = sweep_table([told(0, "a=1", "+b=2"), told(1, "a=1")])
        assert [row["b"] for row in table.rows] == [2, None]

    def test_names_that_are_taken_are_told_apart(self) -> None:
        rows = [told(n, f"state={n}", f"size={n}", record=record({"size": 7, "job": "x"})) for n in (1, 2)]
        names = [column.name for column in sweep_table(rows).columns]
        assert names == [
            "point",
            "sweep.state",
            "size",
            "state",
            "site",
            "job",
            "task",
            "problem",
            "result.size",
            "result.job",
        ]

    def test_what_only_repeats_a_swept_value_is_left_out(self) -> None:
        table = sweep_table([told(n, f"size={n}", record=record({"size": n, "y": 1})) for n in (1, 2)])
        assert "result.size" not in [column.name for column in table.columns]

    @pytest.mark.parametrize(
        ("text", "value"),
        [("1", 1), ("-0.5", -0.5), ("1e-3", 0.001), ("true", True), ("null", None), ("f32", "f32"), ("1_000", "1_000"),
         ("'a b'", "a b"), ('"it\\"s"', 'it"s'), ("[1,2]", "[1,2]"), ("a=b", "a=b"), ("", ""), ("9" * 30, "9" * 30)],
    )  # fmt: skip
    def test_values_are_what_they_say(self, text: str, value: object) -> None:
        found = sweep_table([told(0, f"x={text}")]).rows[0]["x"]
        assert (found, type(found)) == (value, type(value))

    def test_a_record_of_another_kind_is_one_row_of_its_values(self) -> None:
        table = sweep_table([told(0, "a=1", record={"loss": 0.5, "list": [1, 2], "status": "ok"})])
        assert (table.rows[0]["loss"], table.rows[0]["list"]) == (0.5, "[1, 2]")

    @pytest.mark.parametrize(
        "broken", [{"columns": [1], "rows": ["x"]}, {"columns": [], "rows": []}, {"columns": {}, "rows": 3}]
    )
    def test_a_broken_record_breaks_nothing(self, broken: dict[str, Any]) -> None:
        assert len(sweep_table([told(0, "a=1", record=broken)]).rows) == 1


def texts(values: list[Any]) -> SweepTable:
    return SweepTable((Column("value"), Column("t", "us")), tuple({"value": value, "t": 1.5} for value in values))


class TestCsv:
    def test_hostile_texts_come_back(self) -> None:
        found = list(csv.reader(io.StringIO(as_csv(texts(HOSTILE)), newline="")))
        assert found[0] == ["value", "t (us)"]
        assert [row[0] for row in found[1:]] == [text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in HOSTILE]

    def test_no_spreadsheet_runs_what_a_job_wrote(self) -> None:
        found = list(csv.reader(io.StringIO(as_csv(texts(FORMULAS)), newline="")))[1:]
        assert [row[0] for row in found] == [f"'{text}" for text in FORMULAS]

    @pytest.mark.parametrize("value", ["-O3", "+x", "a=b", "1e-5", "-", "--size=3/4", "x@y"])
    def test_what_none_would_run_stays(self, value: str) -> None:
        shown = f"'{value}" if value == "--size=3/4" else value
        assert list(csv.reader(io.StringIO(as_csv(texts([value])))))[1][0] == shown

    def test_numbers_and_nothing(self) -> None:
        found = list(csv.reader(io.StringIO(as_csv(texts([-1, -1.5, None, True, 10**30])))))[1:]
        assert [row[0] for row in found] == ["-1", "-1.5", "", "true", str(10**30)]


class TestJson:
    def test_values_are_exact_and_what_is_no_number_is_null(self) -> None:
        found = json.loads(as_json(texts([*HOSTILE, *FORMULAS, math.nan, math.inf]), sweep="x"))
        assert [row["value"] for row in found["rows"]] == [*HOSTILE, *FORMULAS, None, None]
        assert (found["sweep"], found["columns"][1]) == ("x", {"name": "t", "unit": "us"})


class TestParquet:
    def test_it_comes_back_with_types_and_units(self, tmp_path: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")
        columns = (*map(Column, ("i", "f", "mixed", "text", "none", "big", "flag")), Column("t", "us"))
        rows = (
            {"i": 1, "f": 1, "mixed": 1, "text": HOSTILE[2], "none": None, "big": 2**70, "flag": True, "t": 0.5},
            {"i": None, "f": 2.5, "mixed": "a", "text": None, "none": None, "big": 1, "flag": None, "t": None},
        )
        file = tmp_path / "a.parquet"
        file.write_bytes(as_parquet(SweepTable(columns, rows)))
        found = parquet.read_table(file)
        assert found.to_pylist() == [
            {**rows[0], "f": 1.0, "mixed": "1", "big": str(2**70)}, {**rows[1], "big": "1"},
        ]  # fmt: skip
        assert found.schema.field("t").metadata == {b"unit": b"us"}
        assert str(found.schema.field("i").type) == "int64"

    def test_without_its_library_it_is_said_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(InputError, match="Parquet needs pyarrow") as caught:
            as_parquet(texts(["a"]))
        assert "pip install 'westward[parquet]'" in caught.value.next_step


class TestFile:
    def test_nothing_is_overwritten_unless_told(self, tmp_path: Path) -> None:
        file = tmp_path / "a b.csv"
        write_file("one", file, force=False)
        with pytest.raises(Unsafe, match="is there already"):
            write_file("two", file, force=False)
        assert file.read_text() == "one"
        write_file(b"two", file, force=True)
        assert file.read_text() == "two" and [path.name for path in tmp_path.iterdir()] == ["a b.csv"]

    def test_where_it_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="cannot write"):
            write_file("x", tmp_path / "no" / "folder.csv", force=False)
