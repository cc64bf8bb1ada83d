"""What slurmctld runs with beside what its file says: of real clusters of each release, whose files were taken up."""

from __future__ import annotations

from pathlib import Path

import pytest

from westward.slurm.confcluster import Configuration, of_texts
from westward.slurm.confmeaning import release_of
from westward.slurm.confrunning import not_taken_up, running

TESTS = Path(__file__).parents[2]
RELEASES = ("22.05", "24.11", "26.05")


def config(release: str) -> str:
    return (TESTS / "data" / f"slurm-{release}-text" / "config.txt").read_text()


def written(release: str, *changes: tuple[str, str]) -> Configuration:
    text = (TESTS / "golden" / "lab" / f"v{release.replace('.', '')}.slurm.conf").read_text()
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    return of_texts({"slurm.conf": text}, release_of(release))


@pytest.mark.parametrize("release", RELEASES)
def test_a_file_that_was_taken_up_says_the_same(release: str) -> None:
    assert not_taken_up(written(release), config(release)) == []


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("KillWait=5\n", "KillWait=30\n", "slurm.conf KillWait: 5 -> 30"),
        ("KillWait=5\n", "", "slurm.conf KillWait: 5 -> (not set)"),
        ("MinJobAge=10\n", "MinJobAge=10\nHealthCheckInterval=60\n", "slurm.conf HealthCheckInterval: 0 -> 60"),
        (
            "StateSaveLocation=/var/lib/slurm/slurmctld\n",
            "StateSaveLocation=/srv/state\n",
            "slurm.conf StateSaveLocation: /var/lib/slurm/slurmctld -> /srv/state",
        ),
    ],
)
def test_what_was_written_and_not_taken_up_is_told(release: str, before: str, after: str, told: str) -> None:
    assert [str(each) for each in not_taken_up(written(release, (before, after)), config(release))] == [told]


def test_hooks_of_which_there_are_several_and_what_is_not_set() -> None:
    found = running(
        "Prolog[0] = /a\nProlog[1] = /b\nEpilog = (null)\nSlurmUser = slurm(64030)\nKillWait = 5 sec\n\nX = 1\n"
    )
    assert dict(found) == {"Prolog": "/a,/b", "SlurmUser": "slurm", "KillWait": "5"}
