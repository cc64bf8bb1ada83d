"""Which releases of Slurm can be upgraded to which."""

from __future__ import annotations

import pytest

from westward.provision import ansiblecode

RELEASES = ansiblecode.slurm_releases()


@pytest.mark.parametrize(
    ("before", "after"),
    [("24.11.5", "26.05.5"), ("24.11.5", "24.11.6"), ("22.05.8", "23.11.1"), ("23.02.1", "24.05.0"), ("23.02.1", "24.11.5"), ("25.11.0", "26.05.5")],
)  # fmt: skip
def test_an_upgrade_within_the_window(before: str, after: str) -> None:
    assert RELEASES.upgrade_refusal(before, after) == ""


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("22.05.8", "24.11.5", "here is 22.05: upgrade to 23.11 first"),
        ("22.05.8", "24.05.0", "takes up the state and the jobs of 2 releases before it, 23.02 at the oldest"),
        ("24.05.1", "26.05.5", "here is 24.05: upgrade to 25.11 first"),
        ("26.05.5", "24.11.5", "24.11 is older than 26.05"),
        ("none", "26.05.5", "'none' is no release"),
    ],
)
def test_an_upgrade_that_is_refused_says_why(before: str, after: str, says: str) -> None:
    assert says in RELEASES.upgrade_refusal(before, after)
