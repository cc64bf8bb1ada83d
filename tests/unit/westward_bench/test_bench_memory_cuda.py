"""The memory benchmark on GPUs: which device is called slow, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from westward_bench import gpu
from westward_bench.memory import __main__ as command
from westward_bench.memory.cuda import ARRAYS_MOVED, Result, measure, metrics_of, rows_of
from westward_bench.record import Record


def on(device: int, seconds: float, test: str = "triad") -> Result:
    return Result(device, test, "f32", 10**9, (seconds,), 1, 0)


def test_a_device_below_the_others_is_slow_and_one_at_the_limit_is_not() -> None:
    rows = rows_of([on(0, 1.0), on(1, 1 / 0.96), on(2, 1.0), on(3, 1 / 0.94), on(4, 1.0), on(3, 0.5, "copy")])
    assert [row["slow"] for row in rows] == [False, False, False, True, False, None]
    assert rows[0]["median"] == rows[0]["moved"] / 1e9 == 3 and rows[5]["median"] == 4
    assert {metric.value for metric in metrics_of(rows[0])} == {3.0}


def test_of_two_devices_neither_is_called_slow() -> None:
    assert [row["slow"] for row in rows_of([on(0, 1.0), on(1, 9.0)])] == [None, None]


def test_without_a_gpu_the_record_says_so_and_holds_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if gpu.why_none() is None:
        pytest.skip("there is a GPU here")
    output = tmp_path / "r.json"
    assert command.main(["--device", "cuda", "--output", str(output)]) == 1
    record = Record.from_json(output.read_text())
    assert record.status == "failed" and record.metrics == () and record.verification is None
    assert [row["test"] for row in record.rows] == list(ARRAYS_MOVED)
    assert all(row[name] is None for row in record.rows for name in ("median", "best", "slow", "wrong"))
    assert "not run: " in capsys.readouterr().err


def test_loops_of_the_cpu_are_refused_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse(["--device", "cuda", "--kernel", "scale"])
    assert ended.value.code == 2 and "--kernel: expected --device cpu" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(gpu.why_none() is not None, reason="copies and triad on the GPU: no CUDA device")
def test_every_copy_is_right_on_the_gpu() -> None:
    assert {result.test: result.wrong for result in measure(0, 100_003, "f64", 2, 1)} == dict.fromkeys(ARRAYS_MOVED, 0)
