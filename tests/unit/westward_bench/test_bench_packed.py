"""Many small tasks in one job: shared out, bounded, each for itself."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from westward_bench import packed
from westward_bench.packed import Place
from westward_bench.record import Record


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "TASK", "ITEM"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*words: str, status: int = 0) -> Record:
    assert packed.main(["--output", "r.json", *words]) == status
    return Record.from_json(Path("r.json").read_text())


def test_each_task_has_its_number_item_output_and_exit_code() -> None:
    record = run(
        "--at-once", "3", "--", 'echo "$TASK:$ITEM"; echo err >&2', "a", "b c", "$(touch owned)", "-x", "", status=0
    )
    assert [Path(f"tasks/{task}.out").read_text() for task in range(5)] == [
        "0:a\nerr\n", "1:b c\nerr\n", "2:$(touch owned)\nerr\n", "3:-x\nerr\n", "4:\nerr\n",
    ]  # fmt: skip
    assert [(row["task"], row["item"], row["exit_code"], row["signal"]) for row in record.rows][1] == (
        1,
        "b c",
        0,
        None,
    )
    assert not Path("owned").exists()


def test_one_that_fails_or_is_killed_stops_no_other_and_fails_the_run() -> None:
    line = "case $TASK in 1) exit 7;; 2) kill -9 $$;; esac; echo well"
    record = run("--tasks", "5", line, status=1)
    assert [(row["exit_code"], row["signal"]) for row in record.rows] == [
        (0, None),
        (7, None),
        (None, 9),
        (0, None),
        (0, None),
    ]
    assert record.message == "2 of 5 tasks failed: 1, 2"
    assert Path("tasks/4.out").read_text() == "well\n"


def test_no_more_at_once_than_asked_for() -> None:
    line = "mkdir running-$TASK; set -- running-*; echo $#; sleep 0.2; rmdir running-$TASK"
    run("--tasks", "8", "--at-once", "2", line)
    seen = {Path(f"tasks/{task}.out").read_text().strip() for task in range(8)}
    assert seen <= {"1", "2"} and "2" in seen


def test_the_processes_of_a_step_share_the_tasks_and_the_first_tells_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    environments = [
        {**os.environ, "SLURM_PROCID": str(rank), "SLURM_NTASKS": "3", "SLURM_JOB_ID": "7"} for rank in range(3)
    ]
    Path("tasks").mkdir()
    Path("tasks/.part-6.0-1.json").write_text("what another start of the job has left")
    shares = {}

    def other(rank: int) -> None:
        place = Place.of(environments[rank])
        time.sleep(0.2 * rank)
        shares[rank] = packed.run_share([str(task) for task in range(8)], "true", 2, place)
        packed.leave(place, shares[rank])

    others = [threading.Thread(target=other, args=(rank,)) for rank in (1, 2)]
    for thread in others:
        thread.start()
    for name, value in environments[0].items():
        monkeypatch.setenv(name, value)
    record = run("--tasks", "8", "true")
    for thread in others:
        thread.join()
    assert [row["task"] for row in record.rows] == list(range(8))
    assert [each.task for each in shares[2]] == [2, 5]
    assert [file.name for file in Path("tasks").glob(".part*")] == [".part-6.0-1.json"]


@pytest.mark.parametrize("words", [["echo"], ["--tasks", "3", "echo", "a"]])
def test_tasks_or_items_and_not_both(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        packed.parse(words)
    assert ended.value.code == 2
    assert "either a number above 0 or items after the line, and not both" in capsys.readouterr().err
