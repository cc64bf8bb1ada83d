"""The map of all sites, and what they say of it: accounts and partitions by any door, directories and modules by a shell."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unit.federation.worlds import cluster, site
from westward.errors import Unreachable
from westward.federation import names as asking
from westward.federation.names import Found, Name, called, check, names_of
from westward.model.site import Account, Association, RestDoor, ShellDoor, Site
from westward.model.sitemap import SiteMap

MAP = SiteMap(
    accounts={"physics": "phys-123", "chem": "chem-9"}, qos={"long": "weekly"}, partitions={"gpu": "gpu", "cpu": "skylake"},
    modules={"cuda": ("cuda/12.4",), "python": ("GCC/13", "Python/3.11")},
)  # fmt: skip
ME = Account("west", "me", None, "phys-123", (Association("phys-123", None, ("normal",), None),), None, None)


def told(where: Site, names: list[Name] | None = None, account: Account = ME) -> dict[Name, asking.Checked]:
    def connect(_: Site) -> AbstractContextManager[Any]:
        return nullcontext(SimpleNamespace(account=lambda: account, state=cluster))

    found = check(names or names_of([where]), [where], connect)[where.name]
    assert isinstance(found, dict)
    return found


def test_rows_are_all_names_of_all_sites_and_cells_what_each_calls_them() -> None:
    west, east = (
        replace(site("west"), sitemap=MAP),
        replace(site("east"), sitemap=SiteMap(accounts={"bio": "b"}), qos="q"),
    )
    rows = names_of([west, east])
    assert rows[:3] == [Name("account"), Name("qos"), Name("root")]
    assert [name.word for name in rows if name.kind == "accounts"] == ["bio", "chem", "physics"]
    assert (
        called(Name("modules", "python"), west) == "GCC/13 Python/3.11"
        and called(Name("modules", "python"), east) is None
    )
    assert (called(Name("qos"), west), called(Name("qos"), east)) == (None, "q")


def test_slurm_tells_of_accounts_qos_and_partitions() -> None:
    found = told(replace(site("west"), sitemap=MAP, account="phys-123", doors=(RestDoor("http://h:1", "me"),)))
    assert found[Name("accounts", "physics")].found is Found.YES and found[Name("account")].found is Found.YES
    assert found[Name("accounts", "chem")].why == "account 'chem-9' is not yours there; yours: phys-123"
    assert found[Name("qos", "long")].why == "QOS 'weekly' is not yours there; yours: normal"
    assert found[Name("partitions", "gpu")].found is Found.YES
    assert found[Name("partitions", "cpu")].why == "there is no partition 'skylake'; there are: gpu"


def test_through_slurmrestd_alone_files_and_modules_cannot_be_told() -> None:
    found = told(replace(site("west"), sitemap=MAP, doors=(RestDoor("http://h:1", "me"),)))
    assert {found[Name("modules", "cuda")], found[Name("root")]} == {
        asking.Checked(Found.UNKNOWN, "this takes a shell door")
    }


def test_a_cluster_without_accounts_is_not_said_to_lack_them() -> None:
    found = told(replace(site("west"), sitemap=MAP), account=replace(ME, associations=()))
    assert found[Name("accounts", "physics")].found is Found.UNKNOWN


def test_directories_are_looked_at_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "it's mine").mkdir()
    paths = {"/a": str(tmp_path / "it's mine"), "/b": str(tmp_path / "gone")}
    here = replace(site("west"), root=str(tmp_path), doors=(ShellDoor(),), sitemap=SiteMap(paths=paths))
    found = told(here)
    assert found[Name("paths", "/a")].found is Found.YES and found[Name("root")].found is Found.YES
    assert found[Name("paths", "/b")] == asking.Checked(Found.NO, f"there is no directory '{tmp_path / 'gone'}'")


@pytest.mark.parametrize(
    ("defined", "names", "status"),
    [
        ("", ["a/1"], 5),
        ('module() { [ "$1 $2" = "is-avail a/1" ]; }', ["a/1"], 0),
        ('module() { [ "$1 $2" = "is-avail a/1" ]; }', ["a/1", "b/2"], 3),
        ('module() { [ "$1" = -t ] && echo "/apps:" >&2 && echo "a/1 (default)" >&2; }', ["a/1"], 0),
        ('module() { [ "$1" = -t ] && echo "a/10" >&2; }', ["a/1"], 3),
    ],
)
def test_modules_are_asked_as_every_kind_of_module_command_can_answer(
    defined: str, names: list[str], status: int
) -> None:
    """is-avail where it is known, else the list of what there is."""
    script = f"{defined}\n{asking._MODULE}"
    if (
        not defined
        and subprocess.run(["bash", "-c", asking._MODULE, "bash", "x"], check=False, capture_output=True).returncode
        != 5
    ):
        pytest.skip("this host has modules")
    assert subprocess.run(["bash", "-c", script, "bash", *names], check=False, capture_output=True).returncode == status


def test_a_silent_site_is_told_and_stops_no_other() -> None:
    west, east = (replace(site(name), doors=(RestDoor("http://h:1", "me"),)) for name in ("west", "east"))

    def connect(where: Site) -> Any:
        if where.name == "west":
            raise Unreachable("site 'west': nobody answers")
        return nullcontext(SimpleNamespace(account=lambda: ME, state=cluster))

    found = check(names_of([west, east]), [west, east], connect)
    assert isinstance(found["west"], Unreachable) and isinstance(found["east"], dict)
