"""Hydra groups -> JobSpec: a template and the user's overrides, checked key by key.

A template is `conf/job/NAME.yaml`. The keys of `JobConfig` mean the same in all of them and are a Hydra structured config; every other
key is the template's own parameter, and its default says of which type it is. `choices` lists the values a parameter can take.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from hydra.core.override_parser.types import Override

from westward.errors import InputError, NotFound, WestwardError
from westward.jobs.checkpointing import to_checkpoint
from westward.jobs.composing import as_written, overridden
from westward.jobs.jobconfig import COMMON, OPEN, JobConfig
from westward.jobs.occupying import to_resources
from westward.jobs.sweep import parse_overrides
from westward.jobs.templatefiles import Entry, entries, entry, names, refuse_unsafe
from westward.model.budget import KINDS, Caps
from westward.model.container import Container, Runtime
from westward.model.decision import PRICED_BY_POLICY, TERMS, Policy
from westward.model.job import VARIABLE, Array, Dependency, JobSpec, Launcher
from westward.model.sitemap import MODULE
from westward.model.units import parse_moment

_TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True, slots=True)
class Composed:
    """A template with the user's overrides: the job, the policy to route it by, and the region the user sits in."""

    spec: JobSpec
    policy: Policy
    region: str


@dataclass(frozen=True, slots=True)
class Template:
    """One template as a list shows it; `parameters` are its own, with their defaults.

    Attributes:
        origin: "Westward", "./conf" or "WESTWARD_CONF".
        replaces: the origins of the templates of the same name that it goes before.
        problem: why it cannot be used; empty where it can.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    file: str
    origin: str
    replaces: tuple[str, ...] = ()
    problem: str = ""


def templates() -> list[Template]:
    """Every template there is, by name; what is wrong with one is said of that one."""
    found = entries("job")
    return sorted((_listed(one, found) for one in found if _is_shown(one)), key=lambda template: template.name)


def _is_shown(one: Entry) -> bool:
    """It is used, or would be if nothing were wrong with it."""
    return bool(one.problem) or entry("job", one.name) is one


def _listed(one: Entry, others: Sequence[Entry]) -> Template:
    replaced = tuple(
        other.origin for other in others if other.name == one.name and other is not one and not other.problem
    )
    place = Template(one.name, "", {}, str(one.file), one.origin, () if one.problem else replaced, one.problem)
    if one.problem:
        return place
    try:
        config = as_written(one.name)
    except WestwardError as error:
        return replace(place, problem=str(error))
    own = {key: value for key, value in config.items() if key not in COMMON}
    return replace(place, description=str(config["description"]), parameters=own)


def common_keys() -> list[str]:
    """The keys that every template takes, but for those that only its author writes."""
    return [item.name for item in fields(JobConfig) if item.name not in ("description", "choices")]


def compose_job(template: str, overrides: Sequence[str], now: datetime | None = None) -> Composed:
    """The job that a template and `key=value` overrides describe. Times are counted from `now`, which is the same for jobs that go together.

    Raises:
        NotFound: there is no such template.
        InputError: an override names no key (the nearest ones are said), or has a value that cannot be meant.
        Unsafe: somebody else can write the template that `./conf` has.
    """
    refuse_unsafe("job", template)
    if template not in names("job"):
        near = _unused(template) or _nearest(template, names("job"))
        raise NotFound(f"there is no job template '{template}'{near}", "list them with 'westward templates'")
    parsed = _parse(overrides)
    default = as_written(template, parsed)
    _check_keys(template, default, parsed)
    composed = overridden(template, parsed)
    _check_types(template, default, composed)
    _check_texts(template, composed)
    return Composed(
        _to_spec(template, composed, {override.key_or_group for override in parsed}, now or datetime.now(UTC)),
        _to_policy(composed),
        composed["region"],
    )


def _unused(template: str) -> str:
    """Why a file of that name is no template; empty where there is none."""
    problems = [f"; {one.file}: {one.problem}" for one in entries("job") if one.name == template]
    return problems[0] if problems else ""


def _parse(overrides: Sequence[str]) -> list[Override]:
    parsed = parse_overrides(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise InputError(
                f"'{override.input_line}' names several values; one submission takes one",
                f"add -m for a job for each; one value that has commas in it is quoted twice: '{override.key_or_group}=\"1,3,7\"'",
            )
    return parsed


def _check_keys(template: str, default: Mapping[str, Any], overrides: Sequence[Override]) -> None:
    for override in overrides:
        key = override.key_or_group
        top, _, inner = key.partition(".")
        if top == "job":
            raise InputError("the template is named before the overrides, not by job=")
        if top not in default:
            raise InputError(
                f"template '{template}' has no key '{key}'{_nearest(key, [name for name in default if name != 'choices'])}",
                "show its keys with 'westward templates'",
            )
        if (
            inner
            and top not in OPEN
            and inner not in (default[top] if isinstance(default[top], dict) else ())
            and top != "policy"
        ):
            raise InputError(f"template '{template}': '{top}' has no key '{inner}'")
        if key == "policy" and override.value() not in names("policy"):
            raise InputError(f"there is no policy '{override.value()}'; known: {', '.join(names('policy'))}")


def _check_types(template: str, default: Mapping[str, Any], composed: Mapping[str, Any]) -> None:
    """The template's own parameters have the type of their default, and a value that `choices` allows."""
    for key, expected in default.items():
        value = composed[key]
        if key not in COMMON and expected is not None:
            number = isinstance(expected, float) and isinstance(value, int) and not isinstance(value, bool)
            if type(value) is not type(expected) and not number:
                raise InputError(f"template '{template}': {key}={value}: {_TYPE_NAMES[type(expected)]} was expected")
        allowed = default["choices"].get(key)
        if allowed and value not in allowed:
            raise InputError(
                f"template '{template}': {key}={value}: one of {', '.join(map(str, allowed))} was expected"
            )


def _check_texts(template: str, composed: Mapping[str, Any]) -> None:
    """What a shell hands over from a file in another encoding: neither the ledger nor a cluster could take it later."""
    for key, value in composed.items():
        for text in _texts(value):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"template '{template}': {key}: {text!r} holds a byte that is no UTF-8 text",
                    "convert it first: iconv -f latin1 -t utf8",
                ) from error


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, names and values alike."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _to_spec(template: str, config: Mapping[str, Any], named: AbstractSet[str], now: datetime) -> JobSpec:
    resources = to_resources(template, config, named)
    if config["launcher"] not in list(Launcher):
        raise InputError(
            f"template '{template}': launcher={config['launcher']}: one of {', '.join(Launcher)} was expected"
        )
    if not config["command"]:
        raise InputError(f"template '{template}': command= is empty; it names the program to run")
    for key in ("account", "qos"):
        if config[key] is not None and not re.fullmatch(r"[\w.@+-]+", config[key], re.ASCII):
            raise InputError(f"template '{template}': {key}={config[key]!r} is not one word")
    for variable, value in config["env"].items():
        if not VARIABLE.fullmatch(variable):
            raise InputError(f"template '{template}': env: '{variable}' is not the name of a variable")
        if not isinstance(value, str):
            raise InputError(f"template '{template}': env.{variable}={value}: a text was expected")
    return JobSpec(
        name=config["name"],
        command=tuple(str(word) for word in config["command"]),
        resources=resources,
        launcher=Launcher(config["launcher"]),
        setup=tuple(config["setup"]),
        env=dict(config["env"]),
        outputs=tuple(config["outputs"]),
        account=config["account"],
        qos=config["qos"],
        template=template,
        array=Array.parse(config["array"]) if config["array"] is not None else None,
        depends_on=tuple(Dependency.parse(text) for text in config["depends_on"]),
        begin_at=parse_moment(config["begin"], now) if config["begin"] else None,
        requeue=config["requeue"],
        idempotent=config["idempotent"],
        options=_options(template, config["options"]),
        budget=_to_caps(template, config["budget"]),
        project=config["project"],
        checkpoint=to_checkpoint(template, config, named, resources.walltime_s),
        container=_container(template, config["container"]),
        modules=_modules(template, config["modules"]),
        inputs=tuple(config["inputs"]),
        max_rtt_ms=_latency(template, config["max_rtt_ms"]),
        config=dict(config),
    )


def _to_caps(template: str, config: Mapping[str, Any]) -> Caps:
    for kind in KINDS:
        cap = config[kind]
        if cap is not None and not (math.isfinite(cap) and cap >= 0):
            raise InputError(f"template '{template}': budget.{kind}={cap}: a number from zero up was expected")
    caps = {kind: config[kind] for kind in KINDS}
    return Caps(**caps, currency=config["currency"], allow_unknown=config["allow_unknown_cost"])


def _container(template: str, said: Mapping[str, Any]) -> Container | None:
    """None without an image, and with runtime=none, which runs the same job without it."""
    if said["runtime"] not in (None, "none", *Runtime):
        raise InputError(
            f"template '{template}': container.runtime={said['runtime']}: one of {', '.join(Runtime)}, none was expected"
        )
    if said["image"] is None or said["runtime"] == "none":
        return None
    runtime = Runtime(said["runtime"]) if said["runtime"] else None
    return Container(said["image"], runtime, tuple(said["binds"]), tuple(said["options"]))


def _modules(template: str, wanted: Sequence[str]) -> tuple[str, ...]:
    for module in wanted:
        if not MODULE.fullmatch(module):
            raise InputError(f"template '{template}': modules: {module!r} is not the name of a module")
    return tuple(wanted)


def _latency(template: str, most_ms: float | None) -> float | None:
    if most_ms is not None and not (math.isfinite(most_ms) and most_ms > 0):
        raise InputError(
            f"template '{template}': max_rtt_ms={most_ms}: a number of milliseconds above zero was expected"
        )
    return most_ms


def _options(template: str, wanted: Mapping[str, Any]) -> dict[str, str | None]:
    """true for an option that takes no value; false and null leave out what the template would set."""
    for name, value in wanted.items():
        if isinstance(value, dict | list):
            raise InputError(f"template '{template}': options.{name}={value}: one value was expected")
    given = {name: value for name, value in wanted.items() if value is not None and value is not False}
    return {str(name): None if value is True else str(value) for name, value in given.items()}


def _to_policy(config: Mapping[str, Any]) -> Policy:
    policy = config["policy"]
    unknown = sorted(set(policy["weights"]) - set(TERMS))
    if unknown:
        raise InputError(
            f"policy '{policy['name']}': '{unknown[0]}' is not a term of the cost; known: {', '.join(TERMS)}"
        )
    prices = {key: config[key] for key in PRICED_BY_POLICY.values()}
    for key, number in {**policy["weights"], **prices}.items():
        if not (math.isfinite(number) and number >= 0):
            raise InputError(
                f"policy '{policy['name']}': {key}={number} ranks nothing: a number from zero up was expected"
            )
    return Policy(
        name=policy["name"],
        weights={term: policy["weights"].get(term, 0.0) for term in TERMS},
        carbon_price_per_kg=config["carbon_price_per_kg"],
        waiting_price_per_h=config["waiting_price_per_h"],
        currency=config["currency"],
    )


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
