"""The form of a site's description: what is written is read as the same; what nobody knows may be left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from westward.catalogue.load import load_site
from westward.catalogue.sitefile import read_site, site_text
from westward.errors import InputError
from westward.model.container import Runtime
from westward.model.site import (
    Association,
    Figure,
    Link,
    NativeDoor,
    Observed,
    ObservedPartition,
    Power,
    Prices,
    RestDoor,
    ShellDoor,
    Site,
)
from westward.model.sitemap import MODULE, SiteMap
from westward.yamlfile import read_yaml

SITES = Path(__file__).parents[2] / "data" / "sites"
FILE = Path("site.yaml")

texts = some.text(some.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)
words = some.from_regex(r"[a-z][a-z0-9._-]{0,8}", fullmatch=True)
paths = words.map(lambda word: Path("/home") / word)
figures = some.builds(
    Figure, some.floats(min_value=1, max_value=1e6), source=texts, as_of=texts, estimated=some.booleans()
)
maybe_figures = some.none() | figures
counts = some.integers(min_value=1, max_value=10**6)
rest_doors = some.builds(
    RestDoor, some.sampled_from(["https://h:6820", "http://127.0.0.1:1", "unix:///run/s"]), words, paths, some.lists(texts, max_size=3).map(tuple)
)  # fmt: skip
command_doors = some.builds(
    RestDoor, some.just("https://h:6820"), words, some.none(), some.lists(texts, min_size=1).map(tuple)
)
far_doors = some.builds(
    ShellDoor, words, some.none() | words, some.none() | some.integers(1, 65535), some.none() | paths, some.none() | paths,
    some.none() | paths.map(str), some.lists(texts, max_size=3).map(tuple),
)  # fmt: skip
near_doors = some.builds(ShellDoor, commands=some.none() | paths.map(str))
prices = some.builds(
    Prices, some.just("CNY"), some.dictionaries(words.filter(lambda word: word != "unknown"), figures, max_size=2), maybe_figures
)  # fmt: skip
associations = some.builds(
    Association, texts, some.none() | texts, some.lists(texts, max_size=3).map(tuple), some.none() | texts
)
partitions = some.builds(
    ObservedPartition, texts, counts, some.none() | counts, some.none() | counts, some.none() | some.booleans(),
    some.dictionaries(texts, counts, max_size=2),
)  # fmt: skip
observed = some.builds(
    Observed, some.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1), timezones=some.just(UTC)),
    texts, texts, some.lists(partitions, max_size=2).map(tuple), some.lists(associations, max_size=2).map(tuple),
    some.none() | some.floats(-1e6, 1e6),
)  # fmt: skip
names = some.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,8}", fullmatch=True)
one_word = some.dictionaries(names, names, max_size=2)
places = (
    some.lists(names, min_size=1, max_size=3)
    .map(lambda parts: "/" + "/".join(parts))
    .filter(lambda path: ".." not in path and "/." not in path)
)
maps = some.builds(
    SiteMap, one_word, one_word, one_word, some.dictionaries(names.filter(MODULE.fullmatch), some.lists(names.filter(MODULE.fullmatch), min_size=1, max_size=3).map(tuple), max_size=2),
    some.dictionaries(places, places, max_size=2),
)  # fmt: skip
sites = some.builds(
    Site, texts, texts, texts, texts,
    some.lists(rest_doors | command_doors | far_doors | near_doors | some.just(NativeDoor()), min_size=1, max_size=3).map(tuple),
    some.dictionaries(texts, paths, max_size=2), texts, prices,
    some.builds(Power, maybe_figures, maybe_figures, maybe_figures, maybe_figures),
    some.dictionaries(texts, some.builds(Link, figures), max_size=2),
    some.none() | texts, some.none() | texts, some.none() | texts, some.dictionaries(some.sampled_from(["PATH", "A_B"]), texts),
    some.none() | observed, some.lists(paths, max_size=2).map(tuple), some.booleans(), some.none() | counts,
    some.none() | some.sampled_from(Runtime), maps,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(site=sites)
def test_what_is_written_is_read_as_the_same(site: Site) -> None:
    assert read_site(read_yaml(site_text(site), FILE)) == site


@pytest.mark.parametrize("name", ["east", "west"])
def test_a_description_of_a_lab_survives_writing(name: str) -> None:
    site = load_site(SITES / f"{name}.yaml")
    assert read_site(read_yaml(site_text(site), FILE)) == site


LEAST: dict[str, Any] = {
    "name": "mine",
    "cluster": "c",
    "root": "/home/me",
    "access": {"doors": [{"door": "shell", "host": "login"}]},
}


def read(**more: Any) -> Site:
    return read_site(read_yaml(yaml.safe_dump({**LEAST, **more}), FILE))


def door(**keys: Any) -> Site:
    return read(access={"doors": [keys]})


FIGURE = {"value": 1.5, "source": "a tariff", "as_of": "2026", "estimated": False}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"region": "unknown", "place": "unknown", "prices": "unknown", "power": "unknown", "observed": "unknown"},
        {"prices": {}, "power": {}},
        {"prices": {"currency": "unknown", "accelerator_hour": "unknown", "cpu_hour": "unknown"}},
        {"prices": {"accelerator_hour": {"h100": "unknown"}}, "power": {"pue": "unknown", "cpu_w": "unknown"}},
        {"links": "unknown", "account": "unknown", "qos": "unknown", "mpi": "unknown"},
        {"links": {"here": "unknown", "there": {"rtt_ms": "unknown"}}},
    ],
)
def test_what_nobody_knows_is_left_out_or_unknown(more: dict[str, Any]) -> None:
    assert read(**more) == read()
    assert (read().region, read().prices, read().power) == ("unknown", Prices(), Power())


def test_how_long_an_array_may_be_can_be_said() -> None:
    assert (read().max_array_size, read(max_array_size=4001).max_array_size) == (None, 4001)
    assert read(max_array_size="unknown").max_array_size is None
    with pytest.raises(InputError, match="max_array_size"):
        read(max_array_size=0)


def test_one_figure_may_be_known_and_another_not() -> None:
    site = read(
        prices={"currency": "CNY", "accelerator_hour": {"H100": FIGURE, "a100": "unknown"}}, power={"pue": FIGURE}
    )
    assert site.prices.accelerator_hour == {"h100": Figure(1.5, "a tariff", "2026", False)}
    assert site.prices.cpu_hour is None
    assert site.power == Power(pue=Figure(1.5, "a tariff", "2026", False))


def test_an_inventory_is_paths_as_for_ansible_playbook() -> None:
    site = read(inventory=["~/mysite", "/etc/site/ways.yml"])
    assert site.inventory == (Path.home() / "mysite", Path("/etc/site/ways.yml"))
    assert read().inventory == ()
    for wrong, problem in ((["mysite"], "a path from / or ~/ on"), ([1], "a list of paths"), ("~/mysite", "inventory")):
        with pytest.raises(InputError, match=problem):
            read(inventory=wrong)


def test_paths_of_this_host_may_begin_with_the_home_directory() -> None:
    (shell,) = door(door="shell", host="login", identity_file="~/.ssh/key").doors
    assert shell == ShellDoor("login", identity_file=Path.home() / ".ssh/key")


@pytest.mark.parametrize(
    ("keys", "key", "problem"),
    [
        ({"door": "shell", "user": "u"}, "host", "is missing"),
        ({"door": "shell", "renew_command": ["renew"]}, "host", "is missing"),
        ({"door": "shell", "host": "h", "renew_command": [1]}, "renew_command", "a list of words"),
        ({"door": "shell", "host": "-oProxyCommand=x"}, "host", "is not the name"),
        ({"door": "shell", "host": "h", "user": "-l"}, "user", "is not the name"),
        ({"door": "shell", "host": "h", "port": 0}, "port", "1 or more"),
        ({"door": "shell", "host": "h", "port": "22"}, "port", "whole number"),
        ({"door": "shell", "host": "h", "commands": "bin"}, "commands", "from /"),
        ({"door": "shell", "host": "h", "known_hosts": "hosts"}, "known_hosts", "from /"),
        ({"door": "shell", "host": "h", "url": "x"}, "url", "not known"),
        ({"door": "native", "host": "h"}, "host", "not known"),
        ({"door": "rest", "url": "https://h", "user": "u"}, "token_file", "is missing"),
        ({"door": "rest", "url": "https://h", "user": "u", "token_command": "renew"}, "token_command", "a list"),
        ({"door": "rest", "url": "https://h", "user": "u", "token_command": [1]}, "token_command", "a list of words"),
        ({"door": "rest", "url": "http://h", "user": "u", "token_file": "/t"}, "url", "in the clear"),
        ({"door": "rest", "url": "https://h", "user": "a b", "token_file": "/t"}, "user", "the name of a user"),
        ({"door": "rest", "url": "ftp://h", "user": "u", "token_file": "/t"}, "url", "not a way"),
    ],
)
def test_what_is_wrong_with_a_door_is_named(keys: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        door(**keys)
    assert f"site.yaml: access.doors[0].{key}" in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("seen", "key"),
    [
        ({"at": "yesterday"}, "observed.at"),
        ({"at": "2026-01-01T00:00:00"}, "observed.at"),
        ({"at": "2026-01-01T00:00:00Z", "partitions": [{"name": "p", "nodes": 1, "max_walltime": "long"}]}, "max_walltime"),
        ({"at": "2026-01-01T00:00:00Z", "colour": "red"}, "observed.colour"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_observed_facts_is_named(seen: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        read(observed={"slurm": "24.11.5", "user": "me", **seen})


def test_a_new_description_says_how_to_fill_it_in() -> None:
    text = site_text(read())
    assert "unknown" in text
    comment = next(line for line in text.splitlines() if "{value:" in line)
    figure = yaml.safe_load(comment.lstrip("# "))
    assert read(prices={"currency": "CNY", "cpu_hour": figure}).prices.cpu_hour == Figure(**figure)


def test_a_site_may_be_the_home_of_a_users_scripts() -> None:
    assert read(home=True).home and not read().home
    with pytest.raises(InputError, match="home: true or false was expected"):
        read(home="yes please")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"map": {"accounts": {"physics": "a b"}}}, "map.accounts.physics: one word was expected"),
        ({"map": {"accounts": {"a b": "x"}}}, "map.accounts.a b: is not one word"),
        ({"map": {"partitions": {"gpu": "-x"}}}, "map.partitions.gpu: one word was expected"),
        ({"map": {"modules": {"cuda": ""}}}, "map.modules.cuda: names of modules were expected"),
        ({"map": {"modules": {"cuda": "cuda; rm"}}}, "map.modules.cuda: names of modules were expected"),
        ({"map": {"modules": {"$(x)": "cuda"}}}, "map.modules.$(x): names of modules were expected"),
        ({"map": {"paths": {"project": "/work"}}}, "map.paths.project: paths from / on were expected"),
        ({"map": {"paths": {"/project": "work"}}}, "map.paths./project: paths from / on were expected"),
        ({"map": {"moduls": {}}}, "map.moduls: is not known here"),
        ({"containers": "docker"}, "containers: 'docker' starts no containers; known: apptainer, pyxis"),
    ],
)
def test_what_is_wrong_with_a_map_is_named(more: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(**more)
    assert told in str(caught.value)


def test_a_map_has_several_modules_in_one_text() -> None:
    found = read(map={"modules": {"python": "GCC/13  Python/3.11"}, "paths": {"/a/": "/b//c"}}, containers="pyxis")
    assert found.sitemap.modules == {"python": ("GCC/13", "Python/3.11")}
    assert found.sitemap.paths == {"/a": "/b/c"} and found.containers is Runtime.PYXIS
