"""Host lists in the order in which they stand there."""

from __future__ import annotations

import pytest

from westward.errors import InputError
from westward.slurm.hostlist import expand, fold, in_order


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[3,1-2],m", ["n3", "n1", "n2", "m"]),
        ("n[08-10]", ["n08", "n09", "n10"]),
        ("n1,n1", ["n1", "n1"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("/dev/nvidia[0-1],/dev/x", ["/dev/nvidia0", "/dev/nvidia1", "/dev/x"]),
    ],
)
def test_names_in_their_order(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("text", ["n[1-", "n[1-a]", "n[2-1]"])
def test_what_is_no_host_list_is_named(text: str) -> None:
    with pytest.raises(InputError, match="is no host list"):
        expand(text)


def test_names_together() -> None:
    assert fold(["n2", "n1", "n3", "m", "n1"]) == "m,n[1-3]"
    assert in_order(["n10", "n9", "n9"]) == ["n9", "n10"]
