"""A pause that a key ends."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pauses(key: str) -> Iterator[Callable[[float], bool]]:
    """Gives a function that waits so many seconds and says whether that key was pressed meanwhile.

    Where there is no terminal to press keys at, or another program has it, it only waits.
    """
    if not _at_our_terminal():
        yield _only_wait
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSANOW)  # Ctrl-C stays what it is
        yield lambda seconds: _pressed(key, seconds)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _at_our_terminal() -> bool:
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _only_wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _pressed(key: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            said = os.read(sys.stdin.fileno(), 64)
            if not said:  # the terminal is gone
                time.sleep(max(0.0, until - time.monotonic()))
                return False
            if key.encode() in said.lower():
                return True
    return False
