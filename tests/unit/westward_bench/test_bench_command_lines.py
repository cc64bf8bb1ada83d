"""Options, one-line errors, and what ends up on the screen and on disk."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from westward_bench import provenance
from westward_bench.arguments import launched_rank, message_bytes
from westward_bench.collectives import __main__ as collectives
from westward_bench.gemm import __main__ as gemm
from westward_bench.memory import __main__ as memory
from westward_bench.output import Progress, deliver, format_table
from westward_bench.record import Column, Record

RECORD = Record(
    "gemm", "ok", {}, provenance.collect("2025-01-01T00:00:00+00:00", {"openblas": "0.3 Zen"}, ["n2", "n1", "n2"], {}),
    columns=(Column("size", "n"), Column("rate", "GFLOP/s")), rows=({"size": 512, "rate": 47.123}, {"size": 8, "rate": None}),
    samples=((), ()),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("text", "expected"), [("8", 8), ("64K", 65536), ("1m", 2**20), ("2G", 2**31)])
def test_sizes_take_binary_suffixes(text: str, expected: int) -> None:
    assert message_bytes(text) == expected


@pytest.mark.parametrize(
    ("parse", "arguments", "message"),
    [
        (
            collectives.parse,
            ["--min-bytes", "8X"],
            "--min-bytes: expected a number of bytes such as 8, 64K, 1M or 2G, got '8X'",
        ),
        (collectives.parse, ["--min-bytes", "2M"], "--min-bytes: expected at most --max-bytes (1048576), got 2097152"),
        (collectives.parse, ["--iterations", "0"], "--iterations: expected a whole number of at least 1, got '0'"),
        (collectives.parse, ["--factor", "1"], "--factor: expected a whole number of at least 2, got '1'"),
        (collectives.parse, ["--op", "scan"], "--op: invalid choice: 'scan'"),
        (collectives.parse, ["--output", "/proc/none/r.json"], "--output: expected a file in an existing directory"),
        (collectives.parse, ["--output", "/dev/null"], "--output: expected a regular file"),
        (gemm.parse, ["--size", "-3"], "--size: expected a whole number of at least 1, got '-3'"),
        (gemm.parse, ["--size", "²"], "--size: expected a whole number"),
        (gemm.parse, ["--threads", "100000"], "--threads: expected at most the"),
        (gemm.parse, ["--dtype", "f16"], "--dtype: invalid choice: 'f16'"),
    ],
)
def test_a_bad_option_is_one_line_that_names_it(parse, arguments, message, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    text = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in text
    assert text.count("\n") == 1


def test_only_the_first_process_complains(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    with pytest.raises(SystemExit) as ended:
        collectives.parse(["--factor", "1"])
    assert (ended.value.code, capsys.readouterr().err) == (2, "")


def test_mpiruns_rank_counts_before_that_of_the_batch_script() -> None:
    assert launched_rank({"SLURM_PROCID": "0", "OMPI_COMM_WORLD_RANK": "5"}) == 5


@pytest.mark.parametrize("module", [collectives, gemm, memory])
def test_help_explains_columns_and_exit_codes(module) -> None:  # type: ignore[no-untyped-def]
    text = module.build_parser().format_help()
    assert "columns:" in text
    assert "exit codes:" in text


def test_the_table_shows_units_and_absent_values() -> None:
    assert format_table(RECORD).splitlines() == [
        "# gemm on n1, n2 at 2025-01-01T00:00:00+00:00",
        "size     rate",
        "   n  GFLOP/s",
        " 512    47.12",
        "   8        -",
        "# status: ok",
    ]


def test_a_record_that_cannot_be_stored_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deliver(RECORD, tmp_path / "gone" / "r.json", as_json=True) == 1
    printed = capsys.readouterr()
    assert Record.from_json(printed.out) == RECORD
    assert "No such file or directory" in printed.err


def test_provenance_takes_only_what_is_allowed() -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_JWT": "secret", "WESTWARD_GIT_SHA": "abc"}
    collected = provenance.collect("now", {}, ["n1"], environ)
    assert (collected.slurm_job_id, collected.git_sha, collected.slurm_cluster_name) == ("7", "abc", None)
    assert "secret" not in repr(collected)
    assert collected.versions.keys() >= {"python", "numpy"}


def test_progress_in_a_file_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    progress = Progress("gemm", 3, stream)
    progress.step("first")
    assert stream.getvalue() == ""
    monkeypatch.setattr(Progress, "INTERVAL_S", 0.0)
    progress.step("second")
    assert stream.getvalue() == "gemm: 2/3 second\n"
