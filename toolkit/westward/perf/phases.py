"""Where the time of a road goes: the calls of things that take part in it, timed from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Phases:
    """Where the time went, in seconds."""

    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def go(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                result = call(*args, **kwargs)
            finally:
                self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - began
            return _TimedContext(self, phase, result) if hasattr(result, "__exit__") else result

        return go


@dataclass
class _TimedContext:
    phases: Phases
    phase: str
    context: Any

    def __enter__(self) -> Any:
        return self.phases.timed(self.phase, self.context.__enter__)()

    def __exit__(self, *error: object) -> Any:
        return self.phases.timed(self.phase, self.context.__exit__)(*error)


class Timed:
    """Something whose calls are timed: all of them under one name, or each under its own."""

    def __init__(self, phases: Phases, inner: Any, phase: str | None = None) -> None:
        self._phases, self._inner, self._phase = phases, inner, phase

    def __getattr__(self, name: str) -> Any:
        return self._phases.timed(self._phase or name, getattr(self._inner, name))
