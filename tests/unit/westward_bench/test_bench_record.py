"""The result record: what is written is read back, what is wrong is refused, and a file is whole or absent."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from westward_bench import record as record_module
from westward_bench.record import (
    DIRECTIONS,
    Column,
    Metric,
    Provenance,
    Record,
    RecordError,
    RecordWriteError,
    Verification,
    write_atomic,
)

PROVENANCE = Provenance("2025-01-01T00:00:00+00:00", "2025-01-01T00:00:01+00:00", ("python3",), ("n1",), None, 2, {})
RECORD = Record("gemm", "ok", {"size": 8}, PROVENANCE)

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | finite | words
labels = st.dictionaries(words, scalars, max_size=3)
metrics = st.builds(Metric, words, finite, words, st.sampled_from(DIRECTIONS), labels)
provenances = st.builds(
    Provenance, words, words, st.lists(words).map(tuple), st.lists(words).map(tuple), st.none() | words,
    st.integers(), st.dictionaries(words, words), st.none() | words, st.none() | words,
)  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> Record:
    names = draw(st.lists(words, unique=True, max_size=3))
    rows = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, scalars)), max_size=3))
    samples = [tuple(draw(st.lists(finite, max_size=3))) for _ in rows]
    checked = draw(st.integers(0, 100))
    return Record(
        benchmark=draw(words), status="failed", message=draw(st.text(min_size=1)),
        parameters=draw(st.dictionaries(words, scalars | st.lists(scalars, max_size=2), max_size=3)),
        provenance=draw(provenances), metrics=tuple(draw(st.lists(metrics, max_size=2))),
        columns=tuple(Column(name, draw(words)) for name in names), rows=tuple(rows), samples=tuple(samples),
        verification=draw(st.none() | st.just(Verification(checked, draw(st.integers(0, checked)), "exact", 0.5, None))),
    )  # fmt: skip


@given(records())
def test_reads_back_what_it_wrote(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


def test_an_undecodable_argument_survives() -> None:
    argument = os.fsdecode(b"result-\xff.json")
    record = Record("gemm", "ok", {"file": argument}, PROVENANCE)
    assert Record.from_json(record.to_json()) == record


def changed(path: str, value: object) -> str:
    data = json.loads(RECORD.to_json())
    *parents, last = path.split(".")
    target = data
    for parent in parents:
        target = target[parent]
    target[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "expected an object, got a list"),
        ('{"schema": "westward-result/2"}', "schema: expected 'westward-result/1', got 'westward-result/2'"),
        (changed("colour", "red"), "unknown field 'colour'"),
        (changed("provenance.home", "/root"), r"record.provenance: unknown field 'home'"),
        (changed("benchmark", 3), "record.benchmark: expected text, got a number"),
        (changed("provenance.cores_visible", True), "cores_visible: expected a whole number, got true or false"),
        (changed("samples", [["x"]]), r"record.samples\[0\]\[0\]: expected a number, got text"),
        (changed("metrics", [{"name": "t"}]), r"record.metrics\[0\]: missing field"),
        (changed("status", "passed"), "status: expected one of ok, failed"),
        (RECORD.to_json().replace('"size": 8', '"size": NaN'), "NaN is not a JSON number"),
        (RECORD.to_json().replace('"size": 8', '"size": 8, "size": 9'), "field 'size' occurs twice"),
    ],
)
def test_refuses_what_is_not_a_record(text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        Record.from_json(text)


def test_a_run_with_wrong_values_cannot_be_ok() -> None:
    with pytest.raises(RecordError, match="3 values were wrong"):
        Record("gemm", "ok", {}, PROVENANCE, verification=Verification(9, 3, "exact"))


def test_a_failed_run_says_why() -> None:
    with pytest.raises(RecordError, match="must say why"):
        Record("gemm", "failed", {}, PROVENANCE)


def test_an_infinite_figure_is_refused() -> None:
    with pytest.raises(RecordError, match="metric 'busbw'"):
        Metric("busbw", float("inf"), "GB/s", "higher")
    with pytest.raises(RecordError, match="infinite"):
        Record("gemm", "ok", {"size": float("nan")}, PROVENANCE).to_json()


@pytest.mark.parametrize("name", ["result.json", "a b\n'c\".json", "-r", "é" * 100])
def test_writes_to_any_path(tmp_path: Path, name: str) -> None:
    write_atomic(tmp_path / name, RECORD)
    assert Record.from_json((tmp_path / name).read_text()) == RECORD
    assert os.listdir(tmp_path) == [name]


def test_replaces_an_earlier_file_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "link.json").symlink_to("old.json")
    write_atomic(tmp_path / "link.json", RECORD)
    assert (tmp_path / "link.json").is_symlink()
    assert Record.from_json((tmp_path / "old.json").read_text()) == RECORD


def full_disk(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_earlier_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "result.json").write_text("earlier")
    monkeypatch.setattr(record_module.os, "fsync", full_disk)
    with pytest.raises(RecordWriteError, match=r"No space left on device.*result\.json"):
        write_atomic(tmp_path / "result.json", RECORD)
    assert os.listdir(tmp_path) == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "earlier"


def test_a_write_that_is_interrupted_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(record_module.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "result.json", RECORD)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["missing/result.json", "."])
def test_a_place_that_takes_no_file_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(RecordWriteError, match="result not written"):
        write_atomic(tmp_path / path, RECORD)
    assert os.listdir(tmp_path) == []


def test_needs_only_the_standard_library() -> None:
    names = {line.split()[1].partition(".")[0] for line in Path(record_module.__file__).read_text().splitlines()
             if line.startswith(("import ", "from "))}  # fmt: skip
    assert names <= {"__future__", "collections", "contextlib", "dataclasses", "json", "math", "os", "pathlib",
                     "secrets", "typing"}  # fmt: skip
