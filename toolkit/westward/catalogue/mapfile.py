"""The part `map` of a site's description: read strictly, and written so that reading gives the same again."""

from __future__ import annotations

import posixpath

from westward.model.sitemap import KINDS, MODULE, ONE_WORD, SiteMap
from westward.yamlfile import Reader


def read_map(names: Reader) -> SiteMap:
    """What a site calls things.

    Raises:
        InputError: something in it is no name, or no path.
    """
    value = SiteMap(
        **{kind: _one_word(names.section(kind, {})) for kind in ("accounts", "qos", "partitions")},
        modules=_module_names(names.section("modules", {})),
        paths=_directories(names.section("paths", {})),
    )
    names.done()
    return value


def _one_word(names: Reader) -> dict[str, str]:
    for name in names.names():
        if not ONE_WORD.fullmatch(name):
            raise names.error(name, "is not one word")
    return {name: names.word(name, ONE_WORD, "one word") for name in names.names()}


def _module_names(names: Reader) -> dict[str, tuple[str, ...]]:
    made = {}
    for name in names.names():
        words = tuple(names.take(name, str).split())
        if not words or not all(MODULE.fullmatch(word) for word in (name, *words)):
            raise names.error(name, "names of modules were expected, several with blanks between")
        made[name] = words
    return made


def _directories(paths: Reader) -> dict[str, str]:
    found = {path: paths.take(path, str) for path in paths.names()}
    for path, here in found.items():
        if not all(each.startswith("/") and each.isprintable() for each in (path, here)):
            raise paths.error(path, "paths from / on were expected, on both sides")
    return {posixpath.normpath(path): posixpath.normpath(here) for path, here in found.items()}


def map_fields(names: SiteMap) -> dict[str, dict[str, str]]:
    """The map as its description has it."""
    said = {kind: {name: names.said(kind, name) or "" for name in getattr(names, kind)} for kind in KINDS}
    return {kind: known for kind, known in said.items() if known}
