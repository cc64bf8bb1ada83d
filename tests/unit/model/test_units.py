"""Time limits and sizes: Slurm's own notations."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from westward.errors import QuantityError
from westward.model.units import (
    format_bytes,
    format_duration,
    format_walltime,
    from_epoch,
    parse_memory,
    parse_moment,
    parse_walltime,
)

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90 * MINUTE),
        ("90:30", 90 * MINUTE + 30),
        ("2:03:04", 2 * HOUR + 3 * MINUTE + 4),
        ("1-12", DAY + 12 * HOUR),
        ("1-12:30", DAY + 12 * HOUR + 30 * MINUTE),
        ("1-12:30:15", DAY + 12 * HOUR + 30 * MINUTE + 15),
        (" 00:05:00 ", 5 * MINUTE),
    ],
)
def test_each_form_of_sbatch_is_read(text: str, seconds: int) -> None:
    assert parse_walltime(text) == seconds


@settings(deadline=None)
@given(some.integers(min_value=1, max_value=10_000 * DAY))
def test_a_printed_time_limit_reads_back(seconds: int) -> None:
    assert parse_walltime(format_walltime(seconds)) == seconds


@pytest.mark.parametrize(("seconds", "text"), [(59, "00:00:59"), (HOUR, "01:00:00"), (DAY, "1-00:00:00")])
def test_time_limits_print_as_slurm_prints_them(seconds: int, text: str) -> None:
    assert format_walltime(seconds) == text


@pytest.mark.parametrize(
    "text", ["", "soon", "1h", "1:2:3:4", "-5", "1-", "5 min", "UNLIMITED", "1.5", "1-2-3", "5\n;"]
)
def test_a_bad_time_limit_names_the_part(text: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_walltime(text)
    assert caught.value.part == text
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["0", "00:00:00", "0-0"])
def test_zero_is_refused_because_slurm_reads_it_as_no_limit(text: str) -> None:
    with pytest.raises(QuantityError, match="no limit"):
        parse_walltime(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512 * 1024**2),
        ("512M", 512 * 1024**2),
        ("4G", 4 * 1024**3),
        ("4g", 4 * 1024**3),
        ("4GB", 4 * 1024**3),
        ("4GiB", 4 * 1024**3),
        ("1.5G", 3 * 1024**3 // 2),
        ("2T", 2 * 1024**4),
        ("64K", 64 * 1024),
    ],
)
def test_memory_is_read_as_sbatch_reads_it(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "lots", "4X", "-1G", "4 G B", "G"])
def test_a_bad_memory_size_names_the_part(text: str) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_memory(text)
    assert caught.value.part == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (3 * 1024**3, "3 GiB"),
        (2 * 1024**6, "2048.0 PiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (42, "42 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (2 * HOUR + 600, "2 h 10 min"),
        (4 * DAY + 3 * HOUR, "4 d 3 h"),
    ],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_slurms_zero_is_no_time() -> None:
    assert from_epoch(0) is None
    assert from_epoch(None) is None
    assert from_epoch(1_700_000_000) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("+90", NOW + timedelta(minutes=90)),
        ("90", NOW + timedelta(minutes=90)),
        ("+2:00:00", NOW + timedelta(hours=2)),
        ("+1-12", NOW + timedelta(days=1, hours=12)),
        ("2026-02-01T08:00+01:00", datetime(2026, 2, 1, 7, tzinfo=UTC)),
        ("2026-02-01T08:00Z", datetime(2026, 2, 1, 8, tzinfo=UTC)),
        ("2026-02-01 08:00:30+00:00", datetime(2026, 2, 1, 8, 0, 30, tzinfo=UTC)),
    ],
)
def test_points_in_time(text: str, moment: datetime) -> None:
    assert parse_moment(text, NOW) == moment
    assert parse_moment(text, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-07-01T08:00", 6), ("2026-02-01T08:00", 7), ("2026-02-01", 23), ("20260201", 23)]
)
def test_without_an_offset_it_is_this_host_s_own_time(text: str, hour: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert parse_moment(text, NOW).hour == hour
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    ["", "+", "tomorrow", "+0", "0", "now+1hour", "08:00", "2026-13-01", "+99999999999-0", "9999-12-31T23:59-14:00", "+soon", "-90"],
)  # fmt: skip
def test_what_is_no_point_in_time_names_both_forms(text: str) -> None:
    with pytest.raises(QuantityError, match=r"2026-01-31T08:00\+01:00, or \+2:00:00") as caught:
        parse_moment(text, NOW)
    assert caught.value.part == text
    assert f"'{text}'" in str(caught.value)
