"""An existing batch script and the options that it is submitted with, as sbatch would read them; where each was said is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# of two options that contradict each other the last one counts
_RIVALS = {"requeue": "no-requeue", "no-requeue": "requeue", "exclusive": "oversubscribe", "oversubscribe": "exclusive"}


@dataclass(frozen=True, slots=True)
class Given:
    """One option of sbatch as somebody gave it.

    Attributes:
        name: the long option's full name, without dashes.
        value: None for an option without a value.
        origin: who gave it, in words that follow "from": "line 12", "SBATCH_TIMELIMIT", "the command line".
        line: of the script; None where it is not from there.
    """

    name: str
    value: str | None
    origin: str
    line: int | None = None

    def __str__(self) -> str:
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class BatchScript:
    """A script, unchanged, and what it is submitted with.

    Attributes:
        file: its path as the user named it.
        text: the whole of it, to the byte.
        given: every option, the weakest first: the script's, then the environment's, then the command line's.
        arguments: what the script itself is called with.
        submitted_from: the directory of this host in which the command was given, as sbatch takes it for the job's directory.
        environment: variables that --export names, with their values here.
    """

    file: str
    text: str
    given: tuple[Given, ...] = ()
    arguments: tuple[str, ...] = ()
    submitted_from: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Given]:
        """What counts of each option: the last that was said of it."""
        found: dict[str, Given] = {}
        for given in self.given:
            found.pop(_RIVALS.get(given.name, ""), None)
            found[given.name] = given
        return found

    def value(self, name: str) -> str | None:
        """The value of an option; None where it is not given."""
        found = self.options.get(name)
        return found.value if found else None
