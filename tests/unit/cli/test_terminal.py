"""What a remote text may do to a terminal: be read, in colour."""

from __future__ import annotations

import pytest

from westward.cli.terminal import Harmless


def shown(*pieces: bytes) -> str:
    harmless = Harmless()
    return "".join(harmless.take(piece) for piece in pieces)


@pytest.mark.parametrize(
    "text", ["plain\n", "a\tb\r\n", "\x1b[1;31mred\x1b[0m", "\x1b[38:5:200mpink\x1b[m", "ü 算 🙂", ""]
)
def test_what_gets_through_as_it_is(text: str) -> None:
    assert shown(text.encode()) == text


@pytest.mark.parametrize(
    ("hostile", "left"),
    [
        ("a\x1b[2Jb", "ab"),  # clears the screen
        ("a\x1b[10;10Hb", "ab"),
        ("a\x1b[?1049hb", "ab"),
        ("a\x1b[6nb", "ab"),  # makes the terminal answer, as if the user had typed
        ("a\x1b]0;title\x07b", "ab"),
        ("a\x1b]52;c;cm0gLXJmCg==\x1b\\b", "ab"),  # the clipboard
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1bP1$r\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),  # reset
        ("a\x1b(0b", "ab"),  # another character set
        ("a\x08\x07\x00\x7fb", "ab"),
        ("a\x9b2Jb", "ab"),
        ("a\x9d0;title\x9cb", "ab"),
        ("a\x1b[?31mb", "ab"),
        ("a\x1b[31!mb", "a\x1b[31mb"),
    ],
)
def test_what_does_not(hostile: str, left: str) -> None:
    assert shown(hostile.encode()) == left
    assert shown(*(bytes([byte]) for byte in hostile.encode())) == left


def test_what_is_no_text_is_shown_as_such() -> None:
    assert shown(b"a\xffb", b"\xc3", b"\xbc") == "a\ufffdbü"


def test_what_begins_like_a_sequence_and_never_ends_is_not_kept_for_ever() -> None:
    assert shown(b"\x1b]0;", b"x" * 10_000, b" and now the log").endswith(" and now the log")
