"""Programs that a host runs on itself, fed to its `python3` by stdin: one round trip for all that is asked of it. Nothing is installed there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ARGV = ("python3", "-")
# what the files have of each other stands in the same text
_OURS = re.compile(r"^from westward\..* import .*\n", re.MULTILINE)
LOOK, GATHER = ("look.py",), ("masks.py", "gather.py")


def program(files: tuple[str, ...], question: Mapping[str, Any]) -> str:
    """The text for `python3 -`: it prints as one line of JSON what the last file's `main` returns for the question."""
    texts = [Path(__file__).with_name(name).read_text() for name in files]
    head = "from __future__ import annotations\n"
    body = "".join(_OURS.sub("", text.replace(head, "")) for text in texts)
    return f"{head}import json\n{body}\nprint(json.dumps(main(json.loads({json.dumps(question)!r}))))\n"
