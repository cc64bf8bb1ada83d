"""What a site calls the accounts, QOS, partitions, modules and directories that stand for each other at several sites."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

MODULE = re.compile(r"[A-Za-z0-9_][\w./+@-]*", re.ASCII)  # the name of a module: one word that no shell changes
ONE_WORD = re.compile(
    r"\w[\w.@+-]*", re.ASCII
)  # the name of an account, a QOS or a partition, which an #SBATCH line can hold
# the kinds of names, in the order in which they are shown
KINDS = ("accounts", "qos", "partitions", "modules", "paths")


@dataclass(frozen=True, slots=True)
class SiteMap:
    """A user's own words -> what one site calls it. What is not in it goes by its own name there.

    Attributes:
        modules: one name may stand for several modules, loaded in that order.
        paths: directories, each with everything below it.
    """

    accounts: Mapping[str, str] = field(default_factory=dict)
    qos: Mapping[str, str] = field(default_factory=dict)
    partitions: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any((self.accounts, self.qos, self.partitions, self.modules, self.paths))

    def loaded(self, module: str) -> tuple[str, ...]:
        """The modules that stand for a name."""
        return self.modules.get(module, (module,))

    def located(self, path: str) -> str:
        """Where a path lies at the site: the longest directory of the map that it is in or below decides."""
        inside = [known for known in self.paths if PurePosixPath(path).is_relative_to(known)]
        if not inside:
            return path
        longest = max(inside, key=len)
        return posixpath.normpath(posixpath.join(self.paths[longest], posixpath.relpath(path, longest)))

    def said(self, kind: str, name: str) -> str | None:
        """What the site calls something, in one text; None where its map says nothing of it."""
        found: str | tuple[str, ...] | None = getattr(self, kind).get(name)
        return " ".join(found) if isinstance(found, tuple) else found
