"""What of a remote text reaches a terminal: characters and colours, and nothing else that would do something to it."""

from __future__ import annotations

import codecs
import re

# ECMA-48: control sequences, strings up to their end, other escapes, and control characters; in the form with ESC and in that of C1 characters
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]).{0,4096}?(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]",
    re.DOTALL,
)
# what has begun and not ended in this piece
_BEGUN = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])(?:(?!\x07|\x1b\\|\x9c).)*|\x1b[ -/]*)\Z",
    re.DOTALL,
)
_COLOUR = re.compile(r"[0-9;:]*")
_LONGEST = 4096


class Harmless:
    """A text that comes in pieces, without what would do something to a terminal: colours, tabs and ends of lines stay.

    A carriage return stays too, since progress bars are made of it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""

    def take(self, piece: bytes) -> str:
        """The next piece, as far as it is complete; a sequence that has only begun is kept for the next."""
        text = self._begun + self._decoder.decode(piece)
        begun = _BEGUN.search(text[-_LONGEST:])  # what is longer is no sequence that a program writes
        self._begun = begun[0] if begun else ""
        text = text[: len(text) - len(self._begun)]
        return _SEQUENCE.sub(_kept, text)


def _kept(found: re.Match[str]) -> str:
    if found["final"] == "m" and _COLOUR.fullmatch(found["parameters"] or ""):
        return f"\x1b[{found['parameters']}m"
    return ""
