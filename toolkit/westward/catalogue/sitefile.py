"""The form of a site's description: the one place that knows it, read strictly and written so that reading gives the same again.

What nobody knows is left out or says `unknown`; it is never taken for zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from westward.catalogue.address import HOST, USER, rest_url_problem
from westward.catalogue.mapfile import map_fields, read_map
from westward.errors import QuantityError
from westward.model.container import Runtime
from westward.model.job import VARIABLE
from westward.model.site import (
    Association,
    Door,
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
from westward.model.tres import chip_type
from westward.model.units import format_walltime, parse_walltime
from westward.yamlfile import Reader

UNKNOWN = "unknown"
_FIGURES = tuple(figure.name for figure in fields(Power))
_FILL_IN = """\
# A cluster cannot say what it costs and emits. Unknown is never taken for zero: a site whose cost is unknown is ranked after those whose
# cost is known. To fill in a figure, put in place of the word 'unknown' (prices without electricity, per hour; cpu_w is watts of one busy CPU):
#   {value: 0.05, source: "our tariff", as_of: "2026-10", estimated: false}"""
_OBSERVED = "# What the cluster said that day, for a reader and for 'westward site check'. Decisions rest on what it says when they are made."


def read_site(top: Reader) -> Site:
    """One site from its description.

    Raises:
        InputError: something is missing, of another kind, or not known here.
    """
    access = top.section("access")
    site = Site(
        name=top.take("name", str),
        cluster=top.take("cluster", str),
        region=top.take("region", str, UNKNOWN),
        place=top.take("place", str, UNKNOWN),
        doors=tuple(_door(door) for door in access.list_of("doors")),
        files={there: Path(here) for there, here in _texts(access.section("files", {})).items()},
        root=top.take("root", str),
        prices=_prices(top.section("prices")) if _is_known(top, "prices") else Prices(),
        power=_power(top.section("power")) if _is_known(top, "power") else Power(),
        links=_links(top.section("links", {})) if _is_known(top, "links") else {},
        account=_known_text(top, "account"),
        qos=_known_text(top, "qos"),
        mpi=_known_text(top, "mpi"),
        environment=_environment(top.section("environment", {})),
        observed=_observed(top.section("observed")) if _is_known(top, "observed") else None,
        inventory=tuple(
            _absolute(top, "inventory", path)
            for path in _words(top, "inventory", "paths was expected, as for ansible-playbook -i")
        ),
        home=top.take("home", bool, False),
        max_array_size=top.count("max_array_size") if _named(top, "max_array_size") else None,
        containers=_runtime(top),
        sitemap=read_map(top.section("map", {})),
    )
    if site.power.price_per_kwh and site.prices.currency is None:
        raise top.error("prices.currency", "is missing: in which currency is power.price_per_kwh?")
    access.done()
    top.done()
    return site


def _runtime(top: Reader) -> Runtime | None:
    said = _known_text(top, "containers")
    if said is not None and said not in list(Runtime):
        raise top.error("containers", f"'{said}' starts no containers; known: {', '.join(Runtime)}")
    return Runtime(said) if said is not None else None


def _is_known(above: Reader, key: str) -> bool:
    return above.take(key, object, UNKNOWN) != UNKNOWN


def _named(above: Reader, key: str) -> bool:
    return key in above.names() and _is_known(above, key)


def _known_text(above: Reader, key: str) -> str | None:
    return above.take(key, str, None) if _is_known(above, key) else None


def _texts(mapping: Reader) -> dict[str, str]:
    return {name: mapping.take(name, str) for name in mapping.names()}


def _environment(variables: Reader) -> dict[str, str]:
    for name in variables.names():
        if not VARIABLE.fullmatch(name):
            raise variables.error(name, "is not the name of a variable")
    return {name: str(variables.take(name, object)) for name in variables.names()}


def _door(door: Reader) -> Door:
    kinds: dict[str, Callable[[Reader], Door]] = {"rest": _rest, "shell": _shell, "native": lambda door: NativeDoor()}
    kind = door.take("door", str)
    if kind not in kinds:
        raise door.error("door", f"'{kind}' is not a way to a cluster; known: {', '.join(kinds)}")
    value = kinds[kind](door)
    door.done()
    return value


def _rest(door: Reader) -> RestDoor:
    url = door.take("url", str)
    problem = rest_url_problem(url)
    if problem:
        raise door.error("url", problem)
    user = door.word("user", USER, "the name of a user")
    value = RestDoor(url, user, _path(door, "token_file"), _argv(door, "token_command"))
    if not value.token_file and not value.token_command:
        raise door.error("token_file", "is missing (or give a token_command)")
    return value


def _shell(door: Reader) -> ShellDoor:
    value = ShellDoor(
        host=door.take("host", str, None),
        user=door.take("user", str, None),
        port=door.count("port") if "port" in door.names() else None,
        identity_file=_path(door, "identity_file"),
        known_hosts=_path(door, "known_hosts"),
        commands=door.take("commands", str, None),
        renew_command=_argv(door, "renew_command"),
    )
    if value.host is None and value != ShellDoor(commands=value.commands):
        raise door.error("host", "is missing (a shell door without a host is this host, and takes only 'commands')")
    for key, form in (("host", HOST), ("user", USER)):
        if getattr(value, key) is not None and not form.fullmatch(getattr(value, key)):
            raise door.error(key, f"'{getattr(value, key)}' is not the name of a {key}")
    if value.commands is not None and not value.commands.startswith("/"):
        raise door.error("commands", "a directory from / on was expected")
    return value


def _argv(door: Reader, key: str) -> tuple[str, ...]:
    return _words(door, key, "words was expected: the program and its arguments")


def _words(above: Reader, key: str, what: str) -> tuple[str, ...]:
    words = above.take(key, list, [])
    if not all(isinstance(word, str) for word in words):
        raise above.error(key, f"a list of {what}")
    return tuple(words)


def _path(door: Reader, key: str) -> Path | None:
    text = door.take(key, str, "")
    return _absolute(door, key, text) if text else None


def _absolute(above: Reader, key: str, text: str) -> Path:
    path = Path.home() / text[2:] if text.startswith("~/") else Path(text)
    if not path.is_absolute():
        raise above.error(key, "a path from / or ~/ on was expected")
    return path


def _prices(prices: Reader) -> Prices:
    chips = prices.section("accelerator_hour") if _is_known(prices, "accelerator_hour") else None
    value = Prices(
        currency=prices.take("currency", str) if _is_known(prices, "currency") else None,
        accelerator_hour=_rents(chips) if chips else {},
        cpu_hour=_known_figure(prices, "cpu_hour"),
    )
    prices.done()
    if value.currency is None and (value.accelerator_hour or value.cpu_hour):
        raise prices.error("currency", "is missing")
    return value


def _rents(chips: Reader) -> dict[str, Figure]:
    return {chip_type(chip): _figure(chips.section(chip)) for chip in chips.names() if _is_known(chips, chip)}


def _power(power: Reader) -> Power:
    value = Power(**{name: _known_figure(power, name) for name in _FIGURES})
    power.done()
    if value.pue and value.pue.value < 1:
        raise power.error("pue", f"{value.pue.value:g} is below 1, which no facility can reach")
    return value


def _links(links: Reader) -> dict[str, Link]:
    made = {}
    for region in links.names():
        if not _is_known(links, region):
            continue
        link = links.section(region)
        rtt = _known_figure(link, "rtt_ms")
        link.done()
        if rtt:
            made[region] = Link(rtt)
    return made


def _known_figure(above: Reader, key: str) -> Figure | None:
    return _figure(above.section(key)) if _is_known(above, key) else None


def _figure(figure: Reader) -> Figure:
    value = Figure(
        value=figure.take("value", float),
        source=figure.take("source", str),
        as_of=figure.take("as_of", str),
        estimated=figure.take("estimated", bool),
    )
    figure.done()
    if value.value < 0:
        raise figure.error("value", "is negative")
    return value


def _observed(seen: Reader) -> Observed:
    value = Observed(
        at=_moment(seen, "at"),
        version=seen.take("slurm", str),
        user=seen.take("user", str),
        partitions=tuple(_partition(partition) for partition in seen.list_of("partitions", [])),
        accounts=tuple(_association(account) for account in seen.list_of("accounts", [])),
        clock_skew_s=seen.take("clock_skew_s", float, None),
    )
    seen.done()
    return value


def _moment(above: Reader, key: str) -> datetime:
    try:
        moment = datetime.fromisoformat(above.take(key, str))
    except ValueError as error:
        raise above.error(key, f"is no time: {error}") from error
    if moment.tzinfo is None:
        raise above.error(key, "names no time zone; write it as '2026-10-01T12:00:00Z'")
    return moment.astimezone(UTC)


def _partition(partition: Reader) -> ObservedPartition:
    chips = partition.section("accelerators", {})
    limit = partition.take("max_walltime", str, None)
    try:
        max_walltime_s = parse_walltime(limit) if limit is not None else None
    except QuantityError as error:
        raise partition.error("max_walltime", str(error)) from error
    value = ObservedPartition(
        name=partition.take("name", str),
        nodes=partition.take("nodes", int),
        max_walltime_s=max_walltime_s,
        max_nodes=partition.take("max_nodes", int, None),
        default=partition.take("default", bool, None),
        accelerators={chip: chips.take(chip, int) for chip in chips.names()},
    )
    partition.done()
    return value


def _association(account: Reader) -> Association:
    value = Association(
        account=account.take("account", str),
        partition=account.take("partition", str, None),
        qos=tuple(str(qos) for qos in account.take("qos", list, [])),
        default_qos=account.take("default_qos", str, None),
    )
    account.done()
    return value


def site_text(site: Site) -> str:
    """The description of a site: what `read_site` reads. Its chips without a price are listed as unknown, to be filled in."""
    partitions = site.observed.partitions if site.observed else ()
    chips = {chip_type(chip) for partition in partitions for chip in partition.accelerators}
    prices: dict[str, Any] = {
        "currency": site.prices.currency or UNKNOWN,
        "accelerator_hour": {
            chip: _figure_fields(site.prices.accelerator_hour.get(chip))
            for chip in sorted({*chips, *site.prices.accelerator_hour})
        },
        "cpu_hour": _figure_fields(site.prices.cpu_hour),
    }
    power = {name: _figure_fields(getattr(site.power, name)) for name in _FIGURES}
    some_unknown = UNKNOWN in (*prices.values(), *prices["accelerator_hour"].values(), *power.values())
    access: dict[str, Any] = {"doors": [_door_fields(door) for door in site.doors]}
    if site.files:
        access["files"] = {there: str(here) for there, here in site.files.items()}
    parts = [
        _dump({"name": site.name, "cluster": site.cluster, "region": site.region, "place": site.place}),
        _dump({"access": access, **_given(site, "root", "account", "qos", "mpi")}),
        _dump({"environment": dict(site.environment)}) if site.environment else "",
        _dump({"inventory": [str(path) for path in site.inventory]}) if site.inventory else "",
        _dump({"home": True}) if site.home else "",
        _dump({"max_array_size": site.max_array_size}) if site.max_array_size else "",
        _dump({"containers": str(site.containers)}) if site.containers else "",
        _dump({"map": map_fields(site.sitemap)}) if site.sitemap else "",
        _dump({"links": {region: {"rtt_ms": _figure_fields(link.rtt_ms)} for region, link in site.links.items()}}),
        *([_FILL_IN + "\n"] if some_unknown else []),
        _dump({"prices": prices, "power": power}),
        f"{_OBSERVED}\n{_dump({'observed': _observed_fields(site.observed)})}" if site.observed else "",
    ]
    return "".join(parts)


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes what does not print: left to itself, PyYAML writes some line ends so that they are read as blanks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)


def _given(value: object, *names: str) -> dict[str, Any]:
    """The attributes of those names that are not None, nor empty."""
    return {name: getattr(value, name) for name in names if getattr(value, name) not in (None, (), "")}


def _door_fields(door: Door) -> dict[str, Any]:
    match door:
        case RestDoor():
            made = {"door": "rest", **_given(door, "url", "user", "token_file", "token_command")}
        case ShellDoor():
            made = {"door": "shell", **_given(door, *(field.name for field in fields(door)))}
        case NativeDoor():
            made = {"door": "native"}
    return {name: _plain(value) for name, value in made.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _figure_fields(figure: Figure | None) -> Any:
    return UNKNOWN if figure is None else _given(figure, *(field.name for field in fields(figure)))


def _observed_fields(seen: Observed) -> dict[str, Any]:
    return {
        "at": seen.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "slurm": seen.version,
        "user": seen.user,
        **_given(seen, "clock_skew_s"),
        "partitions": [_partition_fields(partition) for partition in seen.partitions],
        "accounts": [_association_fields(account) for account in seen.accounts],
    }


def _partition_fields(partition: ObservedPartition) -> dict[str, Any]:
    limit = partition.max_walltime_s
    return {
        "name": partition.name,
        **_given(partition, "default"),
        "nodes": partition.nodes,
        **({"max_walltime": format_walltime(limit)} if limit is not None else {}),
        **_given(partition, "max_nodes"),
        **({"accelerators": dict(partition.accelerators)} if partition.accelerators else {}),
    }


def _association_fields(account: Association) -> dict[str, Any]:
    return {
        "account": account.account,
        **_given(account, "partition"),
        "qos": list(account.qos),
        **_given(account, "default_qos"),
    }
