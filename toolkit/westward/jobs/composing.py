"""A template and `key=value` overrides -> one configuration, typed and resolved, as Hydra composes it.

Hydra composes a template once in a process; the overrides of each job are then applied to what it composed, and taken back. So a file under
`conf/` that changes on disk is noticed by the next process. Whatever is more than the change of a value, or is refused, goes through
Hydra in full: its grammar and its words are the only ones.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache, lru_cache, reduce
from operator import getitem
from types import UnionType
from typing import Any, get_args, get_origin

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from westward.errors import InputError
from westward.jobs import templatefiles
from westward.jobs.jobconfig import COMMON, OPEN, TYPES, JobConfig
from westward.jobs.sweep import first_line
from westward.jobs.templatefiles import GROUPS, SHIPPED, Folder, names
from westward.jobs.templatesource import TemplateSource


def _words(*parts: Any) -> list[Any]:
    """The resolver `${words:...}`: its arguments as one list, those that are lists item by item."""
    return [word for part in parts for word in (part if isinstance(part, list | ListConfig) else [part])]


OmegaConf.register_new_resolver("words", _words, replace=True)
_SCALARS = (int, float, bool, str)
_INTERPOLATION = re.compile(r"\$\{([A-Za-z_]\w*)\}", re.ASCII)


def as_written(template: str, overrides: Sequence[Override] = ()) -> Mapping[str, Any]:
    """A template with its own values, but for the policy that the overrides choose.

    Raises:
        InputError: it does not compose, in Hydra's words.
    """
    return _base(template, _choices(overrides), templatefiles.folders()).checked


def overridden(template: str, overrides: Sequence[Override]) -> dict[str, Any]:
    """A template with the values of the overrides.

    Raises:
        InputError: it does not compose with them, in Hydra's words.
    """
    base = _base(template, _choices(overrides), templatefiles.folders())
    changed = base.changed([override for override in overrides if not _chooses_policy(override)])
    if changed is not None:
        return changed
    return _checked(template, _plain(template, _compose(template, [_appending(override) for override in overrides])))


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
        if key not in COMMON or _is(value, TYPES[key]):
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
def _base(template: str, choices: tuple[str, ...], searched: tuple[Folder, ...]) -> _Base:
    return _Base(template, choices)


@cache
def _alone(key: str) -> DictConfig:
    """The structured config with this key of JobConfig only: so small that one value is checked in a moment."""
    (declared,) = (item for item in fields(JobConfig) if item.name == key)
    default = field(default=declared.default, default_factory=declared.default_factory)
    made = OmegaConf.structured(make_dataclass("JobConfig", [(key, TYPES[key], default)]))
    assert isinstance(made, DictConfig)
    return made


def _choices(overrides: Sequence[Override]) -> tuple[str, ...]:
    return tuple(override.input_line or "" for override in overrides if _chooses_policy(override))


def _chooses_policy(override: Override) -> bool:
    """It names one of the policies there are, in the plain form policy=NAME."""
    return override.key_or_group == "policy" and override.input_line in [f"policy={name}" for name in names("policy")]


def _only_sets(override: Override) -> bool:
    """It sets the value of a key, and neither chooses from a group nor deletes or moves anything."""
    key = override.key_or_group
    plain = not (override.is_add() or override.is_delete()) and override.package is None
    return plain and "/" not in key and key not in (*GROUPS, SHIPPED)


def _compose(template: str, overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes, nothing in it resolved yet."""
    Plugins.instance().register(TemplateSource)
    try:
        with _apart(), initialize_config_dir(str(templatefiles.CONF / "root"), version_base="1.3"):
            return compose("westward", overrides=[f"job={template}", *overrides])
    except (HydraException, OmegaConfBaseException) as error:
        raise _told(template, error) from error
    except RecursionError as error:  # Hydra follows defaults without looking where it has been
        raise _endless(template) from error
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        # what Hydra trips over in a file that is no configuration of its kind
        raise InputError(f"{_place(template)}: Hydra cannot compose it: {first_line(error)}") from error


def _endless(template: str) -> InputError:
    circle = templatefiles.cycle("job", template)
    return InputError(
        f"{_place(template)}: it extends itself: {' -> '.join(circle)}"
        if circle
        else f"{_place(template)}: its defaults lead nowhere",
        f"to extend the template that ships under a name, write it as /{SHIPPED}/job/NAME in its defaults",
    )


def _place(template: str) -> str:
    """The template as an error names it: with its file, where it is the user's own."""
    try:
        found = templatefiles.entry("job", template)
    except KeyError:
        return f"template '{template}'"
    return f"template '{template}'" + ("" if found.origin == "Westward" else f" ({found.file})")


@contextmanager
def _apart() -> Iterator[None]:
    """Meanwhile Hydra is as in a process that has not used it: an application of Hydra's that calls Westward goes on as it was."""
    kinds: tuple[type, ...] = (GlobalHydra, JobRuntime, VersionBase)
    theirs = {kind: Singleton._instances.pop(kind) for kind in kinds if kind in Singleton._instances}
    try:
        yield
    finally:
        for kind in kinds:
            Singleton._instances.pop(kind, None)
        Singleton._instances.update(theirs)


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
        common = OmegaConf.merge(OmegaConf.structured(JobConfig), {key: plain[key] for key in plain if key in COMMON})
        checked = OmegaConf.to_container(common, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _told(template, error) from error
    assert isinstance(checked, dict)
    return {**plain, **{str(key): value for key, value in checked.items()}}


def _told(template: str, error: Exception) -> InputError:
    """Hydra's and OmegaConf's own words, shortened to what a user needs."""
    key = getattr(error, "full_key", None)
    first = first_line(error)
    match = re.match(r"Value '(?P<value>.*)' of type '\w+' could not be converted to (?P<kind>\w+)", first)
    if key and match:
        kinds = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false"}
        return InputError(
            f"{_place(template)}: {key}={match['value']}: {kinds.get(match['kind'], match['kind'])} was expected"
        )
    if key and first.endswith("is not a ListConfig, list or tuple."):
        return InputError(f"{_place(template)}: {key}: a list was expected; write it as {key}=[...]")
    if first.startswith("Merge error: ") and (value := re.search(r"Config\. value: (?P<value>.*)$", first)):
        return InputError(
            f"{_place(template)}: '{value['value']}' stands where keys of its own belong, as in checkpoint.signal=USR1"
        )
    return InputError(f"{_place(template)}: {key + ': ' if key else ''}{first}")


def _appending(override: Override) -> str:
    """The override as Hydra takes it."""
    line = override.input_line or ""
    return f"++{line}" if _opens(override) else line


def _opens(override: Override) -> bool:
    """A new name under env or options is no misspelt key, and is taken without Hydra's "+"."""
    top, _, name = override.key_or_group.partition(".")
    return top in OPEN and bool(name) and (override.input_line or "")[:1] not in "+~"
