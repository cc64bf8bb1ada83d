"""Many sites at the same time: one that does not answer keeps no other one waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 16
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What `work` gives for each, in their order; as long as the longest. The first that raises ends it, once all have ended."""
    todo = list(items)
    if len(todo) < 2:
        return [work(item) for item in todo]
    with ThreadPoolExecutor(min(AT_ONCE, len(todo))) as pool:
        return list(pool.map(work, todo))
