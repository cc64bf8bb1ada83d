"""One table of what went wrong, by number and by words."""

from __future__ import annotations

import errno
import os

import pytest

from westward.slurm.faults import Fault, numbered, worded


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)),
        (errno.ECONNRESET, os.strerror(errno.ECONNRESET)),
        (errno.EPIPE, os.strerror(errno.EPIPE)),
        (errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)),
        (1001, "Communication connection failure"),
        (1002, "Message send failure"),
        (1005, "Incompatible versions of client and server code"),
        (1007, "Protocol authentication error"),
        (1008, "Insane message length"),
        (1021, "Connection timed out establishing"),
        (1023, "Connection timed out reading"),
        (1800, "Unable to contact slurm controller (connect failure)"),
        (1802, "Unable to contact slurm controller (receive failure)"),
        (1804, "Rate limit exceeded, please retry momentarily"),
        (2000, "Invalid partition name specified"),
        (2027, "Slurm backup controller in standby mode"),
        (2050, "Job violates accounting/QOS policy"),
        (5003, "Header lengths are longer than data received"),
        (5004, "Socket timed out on send/recv operation"),
        (5005, "Zero Bytes were transmitted or received"),
        (6000, "Invalid authentication credential"),
        (7000, "Unable to connect to database"),
        (9001, "Failed to parse"),
    ],
)
def test_a_number_and_its_words_say_the_same(number: int, words: str) -> None:
    assert numbered(number) is worded(f"sbatch: error: Batch job submission failed: {words}")


@pytest.mark.parametrize("number", [1, 104, 1000, 1002, 5004, 20000, -5])
def test_what_is_no_known_refusal_is_a_silence(number: int) -> None:
    assert numbered(number) is Fault.SILENT


def test_a_silence_counts_more_than_a_later_try_that_did_not_connect() -> None:
    assert worded("error: Socket timed out on send/recv operation\nerror: Connection refused") is Fault.SILENT
    assert worded("Socket timed out\nfatal: Could not establish a configuration source") is Fault.NOT_DONE
