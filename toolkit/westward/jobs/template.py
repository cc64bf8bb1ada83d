"""Hydra groups -> JobSpec: a template and the user's overrides, checked key by key.

A template is `conf/job/NAME.yaml`. The keys of `JobConfig` mean the same in all of them and are a Hydra structured config; every other
key is the template's own parameter, and its default says of which type it is. `choices` lists the values a parameter can take.

Hydra composes a template once in a process; the overrides of each job are then applied to what it composed, and taken back. So a file under
`conf/` that changes on disk is noticed by the next process. Whatever is more than the change of a value, or is refused, goes through
Hydra in full: its grammar and its words are the only ones.
"""

from __future__ import annotations

import difflib
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache, reduce
from operator import getitem
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from westward.errors import InputError, NotFound
from westward.jobs.occupying import to_resources
from westward.jobs.sweep import parse_overrides
from westward.model.decision import PRICED_BY_POLICY, TERMS, Policy
from westward.model.job import VARIABLE, Array, Dependency, JobSpec, Launcher
from westward.model.units import parse_moment

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
    compute: str | None = None
    accelerator_mem: str | None = None
    ntasks_per_accelerator: int | None = None
    walltime: str = "00:10:00"
    launcher: str = Launcher.SRUN.value
    setup: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    account: str | None = None
    qos: str | None = None
    array: str | None = None
    depends_on: list[str] = field(default_factory=list)
    begin: str | None = None
    requeue: bool = False
    idempotent: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, list[Any]] = field(default_factory=dict)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    region: str = MISSING
    currency: str | None = None
    carbon_price_per_kg: float = 0.0
    waiting_price_per_h: float = 0.0


_SCALARS = (int, float, bool, str)
_INTERPOLATION = re.compile(r"\$\{([A-Za-z_]\w*)\}", re.ASCII)
_OPEN = ("env", "options")  # mappings whose keys are the user's own
_COMMON = {item.name for item in fields(JobConfig)}
_TYPES = get_type_hints(JobConfig)
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
        config = _base(name, ()).checked
        found.append(
            Template(
                name, str(config["description"]), {key: value for key, value in config.items() if key not in _COMMON}
            )
        )
    return found


def common_keys() -> list[str]:
    """The keys that every template takes, but for those that only its author writes."""
    return [item.name for item in fields(JobConfig) if item.name not in ("description", "choices")]


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
    parsed = _parse(overrides)
    choices = tuple(override.input_line or "" for override in parsed if _chooses_policy(override))
    base = _base(template, choices)
    _check_keys(template, base.checked, parsed)
    values = [override for override in parsed if not _chooses_policy(override)]
    composed = base.changed(values)
    if composed is None:
        config = _compose(template, [_appending(override) for override in parsed])
        composed = _checked(template, _plain(template, config))
    _check_types(template, base.checked, composed)
    _check_texts(template, composed)
    return Composed(
        _to_spec(template, composed, {override.key_or_group for override in parsed}),
        _to_policy(composed),
        composed["region"],
    )


class _Base:
    """A template and the groups chosen for it, as Hydra composed them."""

    def __init__(self, template: str, choices: Sequence[str]) -> None:
        self._config = _compose(template, choices)
        self._lock = threading.Lock()
        raw = OmegaConf.to_container(self._config, resolve=False)
        assert isinstance(raw, dict)
        self._raw = {str(key): value for key, value in raw.items()}
        self._texts = {key: repr(value) for key, value in self._raw.items()}
        self._plain = _plain(template, self._config)
        self._printed = {key: repr(value) for key, value in self._plain.items()}
        self._of_tops: dict[frozenset[str], set[str]] = {}
        self.checked = _checked(template, self._plain)

    def changed(self, overrides: Sequence[Override]) -> dict[str, Any] | None:
        """It with these values instead; None where that is refused, or takes all of Hydra."""
        if not all(map(_only_sets, overrides)):
            return None
        tops = {override.key_or_group.partition(".")[0] for override in overrides}
        with self._lock:
            try:
                for override in overrides:
                    key, adds = override.key_or_group, _opens(override) or override.is_force_add()
                    OmegaConf.update(self._config, key, override.value(), merge=True, force_add=adds)
                names = self._concerned(frozenset(tops))
                anew = _Anew(self._config, names, _given(overrides), self._plain)
                again = {key: self._typed(key, self._resolved(key, tops, anew)) for key in self._raw if key in names}
                return {**self.checked, **again}
            except OmegaConfBaseException:
                return None
            finally:
                for top in tops:
                    OmegaConf.update(self._config, top, self._raw[top], merge=False)

    def _concerned(self, tops: frozenset[str]) -> set[str]:
        """The keys whose values may be others when those of `tops` are: an interpolation spells what it refers to, or calls a resolver."""
        if tops not in self._of_tops:
            self._of_tops[tops] = self._mentioning(tops)
        return self._of_tops[tops]

    def _mentioning(self, tops: AbstractSet[str]) -> set[str]:
        names = {*tops, *(key for key, text in self._texts.items() if "${" in text and ":" in text)}
        while more := {key for key, text in self._texts.items() if key not in names and _mentions(text, names)}:
            names |= more
        return names

    def _resolved(self, key: str, tops: AbstractSet[str], anew: _Anew) -> Any:
        """The value of a key, of which only what may be another is resolved anew."""
        if key in tops:
            return _contents(self._config[key])
        return anew.at((key,), self._raw[key], self._plain[key])

    def _typed(self, key: str, value: Any) -> Any:
        """The value, which is of the key's type or refused. What was not changed is right already; 1, 1.0 and True differ in print only."""
        if self._printed[key] == repr(value):
            return self.checked[key]
        if key not in _COMMON or _is(value, _TYPES[key]):
            return value
        checked = OmegaConf.to_container(OmegaConf.merge(_alone(key), {key: value}), throw_on_missing=True)
        assert isinstance(checked, dict)
        return checked[key]


def _mentions(text: str, names: AbstractSet[str]) -> bool:
    return any(name in text for name in names)


@dataclass(frozen=True, slots=True)
class _Anew:
    """What is resolved again after a change.

    Attributes:
        config: what was changed.
        names: the keys that may have another value than before.
        given: those of them whose new value is given, and is no container and no interpolation.
        before: what each key was before the change.
    """

    config: DictConfig
    names: AbstractSet[str]
    given: Mapping[str, Any]
    before: Mapping[str, Any]

    def at(self, path: tuple[Any, ...], raw: Any, plain: Any) -> Any:
        """`plain`, the value there, with what in it mentions one of the names, or is relative, resolved anew."""
        if isinstance(raw, dict):
            return {key: self.at((*path, key), text, plain[key]) for key, text in raw.items()}
        if isinstance(raw, list):
            return [self.at((*path, place), text, plain[place]) for place, text in enumerate(raw)]
        if not isinstance(raw, str) or "${" not in raw:
            return plain
        if not ("${." in raw or ":" in raw or _mentions(raw, self.names)):
            return plain
        filled = self._filled(raw)
        return _contents(reduce(getitem, path, self.config)) if filled is None else filled

    def _filled(self, text: str) -> Any:
        """A text of which OmegaConf makes nothing but this, and takes long: `${KEY}` of known values. None for any other."""
        keys = _INTERPOLATION.findall(text)
        values = {key: self._known(key) for key in keys}
        if "\\" in text or len(keys) < text.count("$") or None in values.values():
            return None
        alone = _INTERPOLATION.fullmatch(text)
        return values[alone[1]] if alone else _INTERPOLATION.sub(lambda found: str(values[found[1]]), text)

    def _known(self, key: str) -> Any:
        if key in self.names:
            return self.given.get(key)
        value = self.before.get(key)
        return value if type(value) in _SCALARS else None


def _given(overrides: Sequence[Override]) -> dict[str, Any]:
    """The new values, by key, of keys that are given one as a whole; None for what has to be resolved first."""
    given: dict[str, Any] = {}
    for override in overrides:
        top, _, inner = override.key_or_group.partition(".")
        value = None if inner else override.value()
        resolved = type(value) in _SCALARS and not (isinstance(value, str) and ("$" in value or value == MISSING))
        given[top] = value if resolved else None
    return given


def _contents(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _is(value: Any, declared: Any) -> bool:
    """Whether the value is what a structured config would make of it anyway."""
    inner = get_args(declared)
    if get_origin(declared) is list:
        return type(value) is list and all(_is(item, inner[0]) for item in value)
    if get_origin(declared) is dict:
        return type(value) is dict and all(_is(name, inner[0]) and _is(item, inner[1]) for name, item in value.items())
    if get_origin(declared) is UnionType:
        return any(_is(value, one) for one in inner)
    return type(value) is declared and value != MISSING


@lru_cache(maxsize=64)
def _base(template: str, choices: tuple[str, ...]) -> _Base:
    return _Base(template, choices)


@cache
def _alone(key: str) -> DictConfig:
    """The structured config with this key of JobConfig only: so small that one value is checked in a moment."""
    (declared,) = (item for item in fields(JobConfig) if item.name == key)
    default = field(default=declared.default, default_factory=declared.default_factory)
    made = OmegaConf.structured(make_dataclass("JobConfig", [(key, _TYPES[key], default)]))
    assert isinstance(made, DictConfig)
    return made


def _chooses_policy(override: Override) -> bool:
    """It names one of the policies there are, in the plain form policy=NAME."""
    return override.key_or_group == "policy" and override.input_line in [f"policy={name}" for name in _names("policy")]


def _only_sets(override: Override) -> bool:
    """It sets the value of a key, and neither chooses from a group nor deletes or moves anything."""
    key = override.key_or_group
    plain = not (override.is_add() or override.is_delete()) and override.package is None
    return plain and "/" not in key and key not in _groups()


def _compose(template: str, overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes, nothing in it resolved yet."""
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("westward", overrides=[f"job={template}", *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise _told(template, error) from error


def _plain(template: str, config: DictConfig) -> dict[str, Any]:
    """Everything in it resolved, as plain containers."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise _told(template, error) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _checked(template: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with the common keys validated against JobConfig."""
    try:
        common = OmegaConf.merge(OmegaConf.structured(JobConfig), {key: plain[key] for key in plain if key in _COMMON})
        checked = OmegaConf.to_container(common, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _told(template, error) from error
    assert isinstance(checked, dict)
    return {**plain, **{str(key): value for key, value in checked.items()}}


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
    if key and first.endswith("is not a ListConfig, list or tuple."):
        return InputError(f"template '{template}': {key}: a list was expected; write it as {key}=[...]")
    return InputError(f"template '{template}': {key + ': ' if key else ''}{first}")


def _parse(overrides: Sequence[str]) -> list[Override]:
    parsed = parse_overrides(overrides)
    for override in parsed:
        if override.is_sweep_override():
            raise InputError(
                f"'{override.input_line}' names several values; one submission takes one",
                f"add -m for a job for each; one value that has commas in it is quoted twice: '{override.key_or_group}=\"1,3,7\"'",
            )
    return parsed


def _appending(override: Override) -> str:
    """The override as Hydra takes it."""
    line = override.input_line or ""
    return f"++{line}" if _opens(override) else line


def _opens(override: Override) -> bool:
    """A new name under env or options is no misspelt key, and is taken without Hydra's "+"."""
    top, _, name = override.key_or_group.partition(".")
    return top in _OPEN and bool(name) and (override.input_line or "")[:1] not in "+~"


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
            and top not in _OPEN
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


def _to_spec(template: str, config: Mapping[str, Any], named: AbstractSet[str]) -> JobSpec:
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
        begin_at=parse_moment(config["begin"], datetime.now(UTC)) if config["begin"] else None,
        requeue=config["requeue"],
        idempotent=config["idempotent"],
        options=_options(template, config["options"]),
    )


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


@cache
def _names(group: str) -> Sequence[str]:
    return tuple(sorted(file.stem for file in (CONF / group).glob("*.yaml")))


@cache
def _groups() -> frozenset[str]:
    return frozenset(folder.name for folder in CONF.iterdir() if folder.is_dir())


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
