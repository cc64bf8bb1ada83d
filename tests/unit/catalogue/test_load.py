"""Site descriptions and chips: what is shipped loads, and what is wrong is named by file and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import westward
from westward.catalogue.chips import load_accelerators
from westward.catalogue.load import known_sites, load_catalogue, load_site, load_sites
from westward.errors import InputError, NotFound
from westward.model.site import RestDoor

PACKAGE = Path(westward.__file__).parent
SHIPPED = sorted((PACKAGE / "conf" / "site").glob("*.yaml"))
WEST = Path(__file__).parents[2] / "data" / "sites" / "west.yaml"
ACCESS = {
    "name": "somewhere",
    "cluster": "somewhere",
    "root": "/shared",
    "access": {"doors": [{"door": "rest", "url": "http://127.0.0.1:9", "user": "me", "token_file": "/nowhere/token"}]},
}
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the western site, changed, and give the file."""

    def write(change: Change = lambda site: None, name: str = "site.yaml") -> Path:
        content = yaml.safe_load(WEST.read_text())
        change(content)
        file = tmp_path / name
        file.write_text(yaml.safe_dump(content))
        return file

    return write


def figures(content: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every mapping with a value in it, by key path."""
    if not isinstance(content, dict):
        return []
    here = [(path, content)] if "value" in content else []
    return here + [found for key, value in content.items() for found in figures(value, f"{path}.{key}")]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_site_loads_and_shows_the_origin_of_every_figure(file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(file.read_text())
    whole = tmp_path / file.name
    whole.write_text(yaml.safe_dump({**content, **ACCESS}))
    site = load_site(whole)
    assert site.power.pue and site.power.pue.value >= 1
    assert len(figures(content)) >= 7
    for path, figure in figures(content):
        assert set(figure) == {"value", "source", "as_of", "estimated"}, path
        assert len(figure["source"]) > 10, path


def test_every_chip_a_shipped_site_charges_for_is_in_the_catalogue() -> None:
    chips = load_accelerators()
    for file in SHIPPED:
        assert set(yaml.safe_load(file.read_text())["prices"]["accelerator_hour"]) <= set(chips)


def test_the_lab_s_description_loads() -> None:
    site = load_site(WEST)
    assert (site.name, site.region, site.mpi, site.root) == ("west", "ningxia", "pmix", "/shared/researcher")
    assert site.prices.accelerator_hour["h100"].value == 8.9
    assert site.doors == (
        RestDoor("http://127.0.0.1:9", "researcher", Path("/nowhere/labs/east-west/west/researcher.jwt")),
    )
    assert site.files == {"/shared": Path("/nowhere/labs/east-west/west/shared")}


def lose(path: str) -> Change:
    *above, last = path.split(".")

    def change(site: dict[str, Any]) -> None:
        for key in above:
            site = site[key]
        del site[last]

    return change


def put(path: str, value: Any) -> Change:
    *above, last = path.split(".")

    def change(site: dict[str, Any]) -> None:
        for key in above:
            site = site[key]
        site[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "key", "problem"),
    [
        (lose("root"), "root", "is missing"),
        (lose("prices.currency"), "prices.currency", "is missing"),
        (put("prices", "unknown"), "prices.currency", "in which currency is power.price_per_kwh"),
        (put("prices", None), "prices", "expected"),
        (put("power.pue", None), "power.pue", "expected"),
        (put("power.pue", "unknwon"), "power.pue", "expected"),
        (lose("power.pue.source"), "power.pue.source", "is missing"),
        (lose("prices.cpu_hour.estimated"), "prices.cpu_hour.estimated", "is missing"),
        (lose("links.ningxia.rtt_ms.as_of"), "links.ningxia.rtt_ms.as_of", "is missing"),
        (lose("access"), "access", "is missing"),
        (put("regoin", "x"), "regoin", "not known"),
        (put("power.peu", 1.2), "power.peu", "not known"),
        (put("power.pue.sauce", "x"), "power.pue.sauce", "not known"),
        (put("access.filse", {}), "access.filse", "not known"),
        (put("region", 5), "region", "expected"),
        (put("power", [1, 2]), "power", "expected"),
        (put("power.pue", 1.2), "power.pue", "expected"),
        (put("power.pue.value", "low"), "power.pue.value", "expected"),
        (put("power.pue.value", True), "power.pue.value", "expected"),
        (put("power.pue.estimated", "yes"), "power.pue.estimated", "expected"),
        (put("power.pue.as_of", 2024), "power.pue.as_of", "expected"),
        (put("links", None), "links", "expected"),
        (put("access.doors", [{"door": "telnet"}]), "access.doors[0].door", "telnet"),
        (put("access.doors", ["rest"]), "access.doors[0]", "expected"),
        (put("access.files", {"/shared": 5}), "access.files", "expected"),
        (put("environment", {"A B": "1"}), "environment", "A B"),
        (put("prices.cpu_hour.value", -0.1), "prices.cpu_hour.value", "negative"),
        (put("prices.accelerator_hour.h100.value", -1), "prices.accelerator_hour.h100.value", "negative"),
        (put("prices.cpu_hour.value", float("nan")), "prices.cpu_hour.value", ""),
        (put("power.price_per_kwh.value", float("inf")), "power.price_per_kwh.value", ""),
        (put("power.pue.value", 0.9), "power.pue", "below 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_by_file_and_key(
    write: Callable[..., Path], change: Change, key: str, problem: str
) -> None:
    file = write(change)
    with pytest.raises(InputError) as caught:
        load_site(file)
    assert str(file) in str(caught.value)
    assert key in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"- a list\n", b"", b"just words", b"\xff\xfe\x00", b"a: \x01"], ids=repr)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "site.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"site\.yaml"):
        load_site(file)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("2026-02-30", "day is out of range"),
        ("2026-01-01T25:00:00", "hour"),
        ("9" * 5000, "digits"),
        ("0x_", "base 16"),
        ("!!timestamp soon", "a text belongs in quotes"),
        ("!!int ''", "a text belongs in quotes"),
        ("!!bool perhaps", "perhaps"),
    ],
)
def test_a_value_that_yaml_trips_over_is_named_with_its_line(tmp_path: Path, value: str, problem: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(f"name: x\nplace: {value}\n")
    with pytest.raises(InputError, match=r"site\.yaml") as caught:
        load_site(file)
    assert problem in str(caught.value)
    assert "line 2" in str(caught.value)


def test_a_file_that_is_nested_beyond_reason_is_named(tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text("[" * 5000)
    with pytest.raises(InputError, match=r"site\.yaml.*nested too deeply"):
        load_site(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml.*No such file"):
        load_site(tmp_path / "nothing.yaml")


def test_a_token_goes_over_no_network_in_the_clear(write: Callable[..., Path]) -> None:
    def change(site: dict[str, Any]) -> None:
        site["access"]["doors"][0]["url"] = "http://login.example.org:6820"

    with pytest.raises(InputError, match=r"doors\[0\]\.url.*in the clear"):
        load_site(write(change))


def test_a_currency_is_that_of_the_sites_that_name_one(sites_dir: Path) -> None:
    west = yaml.safe_load(WEST.read_text())
    (sites_dir / "bare.yaml").write_text(
        yaml.safe_dump({**west, "name": "bare", "prices": "unknown", "power": "unknown"})
    )
    assert load_catalogue().currency is None
    (sites_dir / "west.yaml").write_text(yaml.safe_dump(west))
    assert load_catalogue().currency == "CNY"


def test_two_files_of_one_site_are_refused(write: Callable[..., Path]) -> None:
    one, two = write(name="one.yaml"), write(name="two.yaml")
    with pytest.raises(InputError) as caught:
        load_sites([one, two])
    for word in ("one.yaml", "two.yaml", "west"):
        assert word in str(caught.value)
    assert "rename or remove one" in caught.value.next_step


def test_no_site_at_all_says_what_to_do() -> None:
    with pytest.raises(NotFound) as caught:
        load_sites([])
    assert "westward lab up" in caught.value.next_step
    assert "westward site add" in caught.value.next_step


@pytest.fixture
def sites_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("WESTWARD_STATE_DIR", str(tmp_path / "state"))
    made = tmp_path / "config" / "westward" / "sites"
    made.mkdir(parents=True)
    return made


def test_two_currencies_are_refused_with_the_sites_that_use_them(sites_dir: Path) -> None:
    west = yaml.safe_load(WEST.read_text())
    (sites_dir / "west.yaml").write_text(yaml.safe_dump(west))
    dollar = {**west, "name": "abroad", "prices": {**west["prices"], "currency": "USD"}}
    (sites_dir / "abroad.yaml").write_text(yaml.safe_dump(dollar))
    with pytest.raises(InputError) as caught:
        load_catalogue()
    for word in ("CNY", "USD", "west", "abroad"):
        assert word in str(caught.value)


def test_sites_by_hand_and_of_labs_are_one_catalogue_whose_digest_follows_them(sites_dir: Path, tmp_path: Path) -> None:
    west = yaml.safe_load(WEST.read_text())
    lab = tmp_path / "state" / "labs" / "mine" / "sites"
    lab.mkdir(parents=True)
    (sites_dir / "a.yaml").write_text(yaml.safe_dump({**west, "name": "by-hand"}))
    (lab / "b.yaml").write_text(yaml.safe_dump({**west, "name": "of-a-lab"}))
    first = load_catalogue()
    assert set(first.sites) == {"by-hand", "of-a-lab"}
    assert first.currency == "CNY"
    assert load_catalogue().digest == first.digest
    (lab / "b.yaml").write_text(yaml.safe_dump({**west, "name": "of-a-lab", "place": "elsewhere"}))
    assert load_catalogue().digest != first.digest


def test_of_two_descriptions_of_one_name_neither_is_used_and_both_are_named(
    sites_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    west = yaml.safe_load(WEST.read_text())
    lab = tmp_path / "state" / "labs" / "east-west" / "sites"
    lab.mkdir(parents=True)
    (sites_dir / "mine.yaml").write_text(yaml.safe_dump({**west, "cluster": "another"}))
    (lab / "west.yaml").write_text(WEST.read_text())
    (sites_dir / "east.yaml").write_text(yaml.safe_dump({**west, "name": "east"}))
    assert set(known_sites()) == {"east"}
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("westward", "WARNING")
    for word in ("'west'", str(sites_dir / "mine.yaml"), str(lab / "west.yaml"), "rename or remove one"):
        assert word in record.getMessage()


@pytest.mark.parametrize("broken", ["place: 2026-02-30\n", "a: [", "", "name: west\n"])
def test_a_description_that_cannot_be_read_costs_no_other_site(
    sites_dir: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    (sites_dir / "broken.yaml").write_text(broken)
    (sites_dir / "west.yaml").write_text(WEST.read_text())
    assert set(known_sites()) == {"west"}
    (record,) = caplog.records
    assert "broken.yaml" in record.getMessage()
    with pytest.raises(InputError, match=r"broken\.yaml"):
        load_catalogue()
