"""Hydra groups -> JobSpec: a template and the user's overrides, checked key by key.

A template is `conf/job/NAME.yaml`. The keys of `JobConfig` mean the same in all of them and are a Hydra structured config; every other
key is the template's own parameter, and its default says of which type it is. `choices` lists the values a parameter can take.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from westward.errors import InputError, NotFound
from westward.model.decision import TERMS, Policy
from westward.model.job import VARIABLE, AcceleratorRequest, JobSpec, Launcher, Resources
from westward.model.units import parse_memory, parse_walltime

CONF = Path(__file__).parents[1] / "conf"


@dataclass
class PolicyConfig:
    """conf/policy/*.yaml: what each term of the cost weighs."""

    name: str = MISSING
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class JobConfig:
    """What every template says; the types are checked by Hydra's structured configs."""

    description: str = MISSING
    name: str = MISSING
    command: list[str] = MISSING
    nodes: int = 1
    ntasks_per_node: int = 1
    cpus_per_task: int = 1
    mem: str | None = None
    accelerators: str | None = None
    walltime: str = "00:10:00"
    launcher: str = Launcher.SRUN.value
    setup: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    account: str | None = None
    qos: str | None = None
    choices: dict[str, list[Any]] = field(default_factory=dict)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    region: str = MISSING
    carbon_price_per_kg: float = 0.0
    waiting_price_per_h: float = 0.0


_COMMON = {item.name for item in fields(JobConfig)}
# Every template starts from these defaults, so that a common key can be set where the template does not mention it. As plain
# values: a structured root would refuse the template's own parameters.
ConfigStore.instance().store("job_defaults", OmegaConf.to_container(OmegaConf.structured(JobConfig)))
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
    """One template as a list shows it; `parameters` are its own, with their defaults."""

    name: str
    description: str
    parameters: Mapping[str, Any]


def templates() -> list[Template]:
    """Every template there is, by name."""
    found = []
    for name in _names("job"):
        config = _compose(name, ())
        found.append(
            Template(
                name, str(config["description"]), {key: value for key, value in config.items() if key not in _COMMON}
            )
        )
    return found


def compose_job(template: str, overrides: Sequence[str]) -> Composed:
    """The job that a template and `key=value` overrides describe.

    Raises:
        NotFound: there is no such template.
        InputError: an override names no key (the nearest ones are said), or has a value that cannot be meant.
    """
    if template not in _names("job"):
        raise NotFound(
            f"there is no job template '{template}'{_nearest(template, _names('job'))}",
            "list them with 'westward templates'",
        )
    default = _compose(template, ())
    _check_keys(template, default, _parse(overrides))
    composed = _compose(template, overrides)
    _check_types(template, default, composed)
    return Composed(_to_spec(template, composed), _to_policy(composed), composed["region"])


def _compose(template: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The composed configuration as plain containers; the common keys are validated against JobConfig."""
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("westward", overrides=[f"job={template}", *overrides])
        plain = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(plain, dict)
        common = OmegaConf.merge(OmegaConf.structured(JobConfig), {key: plain[key] for key in plain if key in _COMMON})
        checked = OmegaConf.to_container(common, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _told(template, error) from error
    assert isinstance(checked, dict)
    return {**{str(key): value for key, value in plain.items()}, **{str(key): value for key, value in checked.items()}}


def _told(template: str, error: Exception) -> InputError:
    """Hydra's and OmegaConf's own words, shortened to what a user needs."""
    key = getattr(error, "full_key", None)
    first = str(error).splitlines()[0]
    match = re.match(r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<kind>\w+)", first)
    if key and match:
        kinds = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}
        return InputError(
            f"template '{template}': {key}={match['value']}: {kinds.get(match['kind'], match['kind'])} was expected"
        )
    return InputError(f"template '{template}': {key + ': ' if key else ''}{first}")


def _parse(overrides: Sequence[str]) -> list[Override]:
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        wrong = next((text for text in overrides if "=" not in text), None)
        what = f"'{wrong}' is not of the form key=value" if wrong else str(error).splitlines()[0]
        raise InputError(what, "quote a value with spaces or special characters twice: 'name=\"my job\"'") from error
    for override in parsed:
        if override.is_sweep_override():
            raise InputError(f"'{override.input_line}' names several values; one submission takes one")
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
            and top != "env"
            and inner not in (default[top] if isinstance(default[top], dict) else ())
            and top != "policy"
        ):
            raise InputError(f"template '{template}': '{top}' has no key '{inner}'")
        if key == "policy" and override.value() not in _names("policy"):
            raise InputError(f"there is no policy '{override.value()}'; known: {', '.join(_names('policy'))}")


def _check_types(template: str, default: Mapping[str, Any], composed: Mapping[str, Any]) -> None:
    """The template's own parameters have the type of their default, and a value that `choices` allows."""
    for key, expected in default.items():
        value = composed[key]
        if key not in _COMMON and expected is not None:
            number = isinstance(expected, float) and isinstance(value, int) and not isinstance(value, bool)
            if type(value) is not type(expected) and not number:
                raise InputError(f"template '{template}': {key}={value}: {_TYPE_NAMES[type(expected)]} was expected")
        allowed = default["choices"].get(key)
        if allowed and value not in allowed:
            raise InputError(
                f"template '{template}': {key}={value}: one of {', '.join(map(str, allowed))} was expected"
            )


def _to_spec(template: str, config: Mapping[str, Any]) -> JobSpec:
    resources = Resources(
        nodes=config["nodes"],
        ntasks_per_node=config["ntasks_per_node"],
        cpus_per_task=config["cpus_per_task"],
        mem_bytes=parse_memory(config["mem"]) if config["mem"] else None,
        accelerators=AcceleratorRequest.parse(config["accelerators"]) if config["accelerators"] else None,
        walltime_s=parse_walltime(config["walltime"]),
    )
    if config["launcher"] not in list(Launcher):
        raise InputError(
            f"template '{template}': launcher={config['launcher']}: one of {', '.join(Launcher)} was expected"
        )
    if not config["command"]:
        raise InputError(f"template '{template}': command= is empty; it names the program to run")
    for key in ("account", "qos"):
        if config[key] is not None and not re.fullmatch(r"[\w.@+-]+", config[key], re.ASCII):
            raise InputError(f"template '{template}': {key}={config[key]!r} is not one word")
    for variable in config["env"]:
        if not VARIABLE.fullmatch(variable):
            raise InputError(f"template '{template}': env: '{variable}' is not the name of a variable")
    return JobSpec(
        name=config["name"],
        command=tuple(str(word) for word in config["command"]),
        resources=resources,
        launcher=Launcher(config["launcher"]),
        setup=tuple(config["setup"]),
        env=config["env"],
        outputs=tuple(config["outputs"]),
        account=config["account"],
        qos=config["qos"],
        template=template,
    )


def _to_policy(config: Mapping[str, Any]) -> Policy:
    policy = config["policy"]
    unknown = sorted(set(policy["weights"]) - set(TERMS))
    if unknown:
        raise InputError(
            f"policy '{policy['name']}': '{unknown[0]}' is not a term of the cost; known: {', '.join(TERMS)}"
        )
    prices = {key: config[key] for key in ("carbon_price_per_kg", "waiting_price_per_h")}
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
    )


def _names(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
