"""A script made for one site, at another one: which of the names that tie it there the two sites' maps know. Pure.

A script's body is never changed. So a name in an option is given anew in the other site's words, and a name in the body has to be the same at both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from westward.model.batchscript import BatchScript, Given
from westward.model.site import Site
from westward.slurm.obstacles import Obstacle


def left_at(found: Iterable[Obstacle], home: Site, other: Site) -> list[Obstacle]:
    """The obstacles that the maps of the two sites do not take out of the way."""
    return [obstacle for obstacle in found if not _resolved(obstacle, home, other)]


def _resolved(obstacle: Obstacle, home: Site, other: Site) -> bool:
    if not obstacle.kind:
        return False
    said = [translated(obstacle.kind, name, home, other) for name in obstacle.names]
    if obstacle.option:
        return None not in said
    return said == list(obstacle.names)


def translated(kind: str, name: str, home: Site, other: Site) -> str | None:
    """What the other site calls what `home` calls `name`, or what its user calls so; None where the maps do not say."""
    if kind == "paths":
        return _located(name, home, other)
    if kind == "modules":
        return _module(name, home, other)
    own = [word for word, called in getattr(home.sitemap, kind).items() if called == name]
    there = getattr(other.sitemap, kind)
    return next((there[word] for word in (*own, name) if word in there), None)


def _module(name: str, home: Site, other: Site) -> str | None:
    """The same module at the other site: known by one word at both, as one module or one of several that are loaded together."""
    for word, modules in home.sitemap.modules.items():
        if name in modules and word in other.sitemap.modules:
            same = other.sitemap.modules[word]
            if name in same or (len(same) == len(modules) == 1):
                return name if name in same else same[0]
    return None


def _located(path: str, home: Site, other: Site) -> str | None:
    """The same path at the other site: what home's map makes of a directory of it undone, and then as the other's map says."""
    inside = [(word, here) for word, here in home.sitemap.paths.items() if PurePosixPath(path).is_relative_to(here)]
    common = path
    if inside:
        word, here = max(inside, key=lambda known: len(known[1]))
        common = str(PurePosixPath(word) / PurePosixPath(path).relative_to(here))
    if any(PurePosixPath(common).is_relative_to(known) for known in other.sitemap.paths):
        return other.sitemap.located(common)
    return None


def adapted(script: BatchScript, found: Sequence[Obstacle], home: Site, other: Site) -> BatchScript:
    """The script with those of its options that the maps know in the other site's words: given anew, so that they go before its own lines."""
    anew = []
    for obstacle in found:
        if not obstacle.option:
            continue
        (name,) = obstacle.names
        said = translated(obstacle.kind, name, home, other)
        if said is not None and said != name:
            anew.append(Given(obstacle.option, said, f"the map of site '{other.name}'"))
    return replace(script, given=(*script.given, *anew))
