"""How the lab's work tells what it is at."""

from __future__ import annotations

from collections.abc import Callable

# called with what is being done to one thing
Say = Callable[[str], None]
# called from several threads, with a subject (the lab, `image 24.11`, `packages`, a cluster) and what it is at
Progress = Callable[[str, str], None]


def quiet(subject: str, text: str) -> None:
    """Progress for nobody."""
